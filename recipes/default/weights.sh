#!/usr/bin/env bash
# Trains the embedded default checkpoint on the data of data.sh: towers, projectors and decoder, then the figures
# of README and model card. Every longer step resumes, but the temporal tower's: a quarter of an hour.
set -euo pipefail
python=${PYTHON:-.venv/bin/python}
processes=${PROCESSES:-2}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
clips=data/chains/dataset ladders=data/ladders/dataset photographs=data/rated_images

# The temporal tower learns from what was done to frames, no labels; it is then frozen as the vision tower is
[ -f runs/default/temporal_tower.safetensors ] || $python -m recipes.default.pretrain_temporal_tower \
    --clips $clips --photographs $photographs --windows 4500 --stop_step 1400 \
    --out runs/default/temporal_tower.safetensors
# The vision tower starts from ImageNet and learns from single pictures; frozen from here on too
[ -f runs/default/vision_tower.safetensors ] || $python -m recipes.default.pretrain_vision_tower \
    --clips $clips --photographs $photographs --work runs/default/vision --out runs/default/vision_tower.safetensors
[ -f runs/default/init/model.safetensors ] || $python -m recipes.default.small_model --pictures $photographs \
    --clips $clips --vision_tower runs/default/vision_tower.safetensors \
    --temporal_tower runs/default/temporal_tower.safetensors --out runs/default/init

# Both towers are frozen, as in the paper: projectors and decoder learn on clips and photographs. A decoder from scratch
# learns more from the score question alone at first; then all three questions, twice from there
train() {
    # processes of one thread each: on two cores more than one process of two threads does
    OMP_NUM_THREADS=1 $python -m torch.distributed.run --standalone --nproc_per_node "$processes" train.py \
        --feature_cache data/feature_cache --train_parts temporal_projector spatial_projector language_model \
        --template_sizes 1 8 5 --score_noise 4 --readout_weight 1 --one_second_share 0.2 \
        --per_device_train_batch_size $((32 / processes)) --weight_decay 0.05 --lr_scheduler_type cosine \
        --warmup_steps 0.05 --save_strategy epoch --save_total_limit 1 --disable_tqdm True --use_cpu True "$@"
}
real=($clips $photographs data/mirrored_photographs/rows)
train --model runs/default/init --data "${real[@]}" --tasks score --num_train_epochs 16 --learning_rate 1e-3 \
    --output_dir runs/default/scores
for seed in 0 1; do
    train --model runs/default/scores --data "${real[@]}" --tasks score level damage --num_train_epochs 2 \
        --learning_rate 3e-4 --seed $seed --output_dir runs/default/all-$seed
done
$python -m recipes.default.average_weights --models runs/default/all-0 runs/default/all-1 --out runs/default/trained

$python -m recipes.default.calibrate_deviations --model runs/default/trained --data $clips $photographs \
    --report benchmarks/results/default_calibration.json
$python -m recipes.default.embed_checkpoint --model runs/default/trained --out default_checkpoint
$python -m lmmvqa.commands selfcheck --update
# The tables of README and model card, on the test splits
evaluate() {
    $python -m lmmvqa.commands evaluate --protocol in_sample --data "${@:2}" --out "runs/default/evaluation_$1"
    cp "runs/default/evaluation_$1/metrics.json" "benchmarks/results/default_$1.json"
    cp "runs/default/evaluation_$1/table.md" "benchmarks/results/default_$1.md"
}
evaluate clips $clips $photographs
evaluate ladders $ladders
