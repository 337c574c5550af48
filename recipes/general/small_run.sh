#!/usr/bin/env bash
# A small real run of all three stages: SmolLM2-135M with the embedded model's towers learns what happens in rendered scenes,
# with temporal tokens and without, and is asked about others. Features are cached; the same command goes on where it was
# stopped. Figures: python benchmarks/general_small_run.py --out benchmarks/results/general_small_run.json
# Usage: [KINDS="motion order ..."] recipes/general/small_run.sh [STEPS_ALIGN] [STEPS_INSTRUCT] [STEPS_QUALITY]
set -euo pipefail
align=${1:-200} instruct=${2:-200} quality=${3:-100}
kinds=${KINDS:-motion order count damage half}
python=${PYTHON:-.venv/bin/python}
scenes=data/scenes features=data/features-general

# What the towers see of a scene, a linear model reads from their features; letters are too much for so few steps
if [ ! -f $scenes/train.json ]; then
    rm -rf $scenes
    $python -m recipes.general.render_scenes --out $scenes --num_clips 1000 --num_rated 240 \
        --kinds motion order count damage half --lettered_share 0
fi
# One question about each clip, of these kinds; and to be mixed with ratings, as many as there are of these
if [ ! -f $scenes/asked_test.json ]; then
    $python - $scenes $kinds <<'END'
import json, sys
folder, kinds = sys.argv[1], sys.argv[2:]
train, test = (json.load(open(f"{folder}/{name}.json")) for name in ("train", "test"))
train = [of | {"conversations": of["conversations"][:2]} for of in train if of["kind"] in kinds]
test = [of for of in test if of["kind"] in kinds]
for name, records in (("train", train), ("mixed", train[:180]), ("test", test)):
    json.dump(records, open(f"{folder}/asked_{name}.json", "w"), indent=1)
END
fi
[ -f data/scenes-rows/report.json ] || $python -m lmmvqa.commands prepare instruction_json --out data/scenes-rows \
    --labels $scenes/asked_train.json --name scenes
[ -f data/mixed-rows/report.json ] || $python -m lmmvqa.commands prepare instruction_json --out data/mixed-rows \
    --labels $scenes/asked_mixed.json --name scenes
[ -f data/rated-rows/report.json ] || $python -m lmmvqa.commands prepare csv --labels $scenes/rated.csv --out data/rated-rows

stage() { # name start out steps options...
    local name=$1 start=$2 out=$3 steps=$4
    shift 4
    $python train.py --stage "$name" --model "$start" --output_dir "runs/$out" --export_dir "data/$out" --max_steps "$steps" \
        --per_device_train_batch_size 8 --feature_cache $features --use_cpu --bf16 --dataloader_num_workers 0 \
        --logging_steps 10 --save_strategy steps --save_steps 20 --save_total_limit 1 --report_to none "$@"
}

choices() { # model: questions with choices, and ten open ones
    [ -f "runs/choices-$1/metrics.json" ] || $python -m lmmvqa.commands multiple_choice --model "data/$1" --in_words \
        --feature_cache $features --questions $scenes/asked_test.json --videos $scenes --out "runs/choices-$1"
    [ -f "runs/open-$1/metrics.json" ] || $python -m lmmvqa.commands vcgbench --model "data/$1" --max_new_tokens 32 \
        --questions $scenes/generic_qa.json --videos $scenes --out "runs/open-$1"
}

for kind in temporal wo_temporal; do
    start=data/small-$kind
    if [ $kind = temporal ]; then
        option=() projectors=(spatial_projector temporal_projector)
    else
        option=(--wo_temporal) projectors=(spatial_projector)
    fi
    if [ ! -f "$start/processor_config.json" ]; then
        rm -rf "$start" "$start-plain" "$start-towers"
        $python -m recipes.general.small_general --rows data/scenes-rows --out "$start" --feature_cache $features \
            ${option[@]+"${option[@]}"}
    fi
    stage align "$start" "align-$kind" "$align" --data data/scenes-rows --train_parts "${projectors[@]}" \
        --chat_template human_assistant
    stage instruct "data/align-$kind" "instruct-$kind" "$instruct" --data data/scenes-rows --train_parts "${projectors[@]}" \
        --lora_rank 8 --learning_rate 1e-3
    choices "instruct-$kind"
done
# Mixed with conversations, and alone; five answers cost less than a hundred and one
rated=(--data data/rated-rows --train_parts spatial_projector temporal_projector --tasks score --template_sizes 1 1 1 \
    --inference_share 1 --score_form categories --readout_weight 1)
stage quality data/instruct-temporal quality-mixed "$quality" "${rated[@]}" --mix data/mixed-rows
choices quality-mixed
stage quality data/instruct-temporal quality-alone "$quality" "${rated[@]}"
# What alignment alone has reached
choices align-temporal
choices align-wo_temporal
