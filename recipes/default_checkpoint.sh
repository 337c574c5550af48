#!/usr/bin/env bash
# Rebuilds the embedded default checkpoint: data, towers, training, figures. Every long step resumes.
# Usage: recipes/default_checkpoint.sh SHARED   (a folder with clips/ and images/, see model_card.md)
set -euo pipefail
shared=$1
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

$python -m lmmvqa.scoring.cli prepare rated_images --labels "$shared/images/mos.csv" --mos_range 0 1 --out data/rated_images
prepare_clips() {
    $python -m lmmvqa.scoring.cli prepare degraded_clips --labels "$shared/images/mos.csv" --mos_range 0 1 \
        --videos "$shared/clips" --photographs 480 --out data/degraded_clips "$@"
}
prepare_clips
# The temporal tower learns from what was done to frames, no labels; it is then frozen as the vision tower is
[ -f runs/default/temporal_tower.safetensors ] || $python -m lmmvqa.recipes.pretrain_temporal_tower \
    --clips data/degraded_clips/dataset --photographs data/rated_images --stop_step 1400 \
    --out runs/default/temporal_tower.safetensors
# All else learns from more contents, whose moving windows would not fit into 24 GiB beside these
prepare_clips --training_photographs 400
# The vision tower starts from ImageNet and learns from single pictures; frozen from here on too
[ -f runs/default/vision_tower.safetensors ] || $python -m lmmvqa.recipes.pretrain_vision_tower \
    --clips data/degraded_clips/dataset --photographs data/rated_images --work runs/default/vision \
    --out runs/default/vision_tower.safetensors
$python -m lmmvqa.recipes.mirror_photographs --photographs data/rated_images --out data/mirrored_photographs
[ -f runs/default/init/model.safetensors ] || $python -m lmmvqa.recipes.small_model --pictures data/rated_images \
    --clips data/degraded_clips/dataset --vision_tower runs/default/vision_tower.safetensors \
    --temporal_tower runs/default/temporal_tower.safetensors --out runs/default/init

# Both towers are frozen, as in the paper: projectors and decoder learn on clips and photographs. A decoder from scratch
# learns more from the score question alone at first; then both questions, as in the paper
train() {
    $python train.py --data data/degraded_clips/dataset data/rated_images data/mirrored_photographs/rows \
        --feature_cache data/feature_cache \
        --train_parts temporal_projector spatial_projector language_model --template_sizes 1 8 5 --score_noise 4 \
        --readout_weight 1 --one_second_share 0.2 --per_device_train_batch_size 32 --weight_decay 0.05 \
        --lr_scheduler_type cosine --warmup_steps 0.05 --save_strategy epoch --save_total_limit 1 --disable_tqdm True \
        --use_cpu True "$@"
}
train --model runs/default/init --tasks score --num_train_epochs 16 --learning_rate 1e-3 --output_dir runs/default/scores
train --model runs/default/scores --tasks score level --num_train_epochs 1 --learning_rate 3e-4 \
    --output_dir runs/default/trained

$python -m lmmvqa.recipes.calibrate_deviations --model runs/default/trained \
    --data data/degraded_clips/dataset data/rated_images --report benchmarks/results/default_calibration.json
$python -m lmmvqa.recipes.embed_checkpoint --model runs/default/trained --out default_checkpoint
$python -m lmmvqa.scoring.cli selfcheck --update
# The table of README and model card, on the test splits
$python -m lmmvqa.scoring.cli evaluate --data data/degraded_clips/dataset data/rated_images --out runs/default/evaluation
cp runs/default/evaluation/metrics.json benchmarks/results/default_evaluation.json
cp runs/default/evaluation/table.md benchmarks/results/default_evaluation.md
