#!/usr/bin/env bash
# A small real run of all three stages: SmolLM2-135M with the embedded model's towers learns what happens in rendered scenes,
# with temporal tokens and without, and is asked about others. A few hundred steps, features cached; resumes.
# Usage: recipes/general/small_run.sh [STEPS]
set -euo pipefail
steps=${1:-400}
python=${PYTHON:-.venv/bin/python}
scenes=data/scenes

[ -d $scenes ] || $python -m recipes.general.render_scenes --out $scenes
$python -m lmmvqa.commands prepare instruction_json --labels $scenes/train.json --out data/scenes-rows --name scenes
for kind in temporal wo_temporal; do
    start=data/small-$kind
    option=$([ $kind = temporal ] || echo --wo_temporal)
    # shellcheck disable=SC2086
    [ -d $start ] || $python -m recipes.general.small_general --out $start $option
    parts="spatial_projector $([ $kind = temporal ] && echo temporal_projector || true)"
    # shellcheck disable=SC2086
    $python train.py --stage align --model $start --data data/scenes-rows --output_dir runs/align-$kind --export_dir data/align-$kind \
        --train_parts $parts --max_steps $((steps / 2)) --per_device_train_batch_size 16 --feature_cache data/features-general
    # shellcheck disable=SC2086
    $python train.py --stage instruct --model data/align-$kind --data data/scenes-rows --output_dir runs/instruct-$kind \
        --export_dir data/instruct-$kind --train_parts $parts language_model --max_steps "$steps" \
        --per_device_train_batch_size 16 --feature_cache data/features-general
    $python -m lmmvqa.commands multiple_choice --model data/instruct-$kind --questions $scenes/test.json --videos $scenes \
        --out runs/choices-$kind | tail -n 1 >runs/choices-$kind.json
done
