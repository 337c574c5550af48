#!/usr/bin/env bash
# Trains the embedded default checkpoint on the data of data.sh: towers, projectors and decoder, then the figures
# of README and model card. Every longer step resumes.
set -euo pipefail
python=${PYTHON:-.venv/bin/python}
processes=${PROCESSES:-2}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
clips=data/chains/dataset second_clips=data/second_chains/dataset stills=data/stills/dataset
photographs=data/rated_images mirrored=data/mirrored_photographs/rows

# The tenth default goes on from the ninth, made by the recipe of commit ffa53ae. All that it trained on is in the train
# split of recipes/default/contents/real_clips.csv, or no content here
ninth=runs/default/ninth/default_checkpoint
[ -d $ninth ] || { mkdir -p runs/default/ninth && git archive ffa53ae default_checkpoint | tar x -C runs/default/ninth; }

# The temporal tower learns from what was done to frames, no labels; it is then frozen as the vision tower is
[ -f runs/default/temporal_tower.safetensors ] || $python -m recipes.default.pretrain_temporal_tower \
    --clips $clips --photographs $photographs --start $ninth --windows 3000 --steps 700 --learning_rate 1e-3 \
    --work runs/default/temporal --out runs/default/temporal_tower.safetensors
# The vision tower learns from single pictures; frozen from here on too
[ -f runs/default/vision_tower.safetensors ] || $python -m recipes.default.pretrain_vision_tower \
    --clips $clips $second_clips $stills --photographs $photographs --start $ninth --steps 600 --learning_rate 2e-4 \
    --work runs/default/vision --out runs/default/vision_tower.safetensors
[ -f runs/default/init/model.safetensors ] || $python -m recipes.default.small_model --pictures $photographs \
    --clips $clips --vision_tower runs/default/vision_tower.safetensors \
    --temporal_tower runs/default/temporal_tower.safetensors --start $ninth --tower_data $stills --out runs/default/init

# Both towers are frozen, as in the paper: projectors and decoder learn on clips and photographs, mirrored ones too.
# Versions of one content come together
# processes of one thread each: on two cores more than one process of two threads does
OMP_NUM_THREADS=1 $python -m torch.distributed.run --standalone --nproc_per_node "$processes" train.py \
    --model runs/default/init --data $clips $second_clips $photographs $mirrored --tasks score level damage \
    --feature_cache data/feature_cache --train_parts temporal_projector spatial_projector language_model \
    --template_sizes 1 8 5 --score_noise 4 --readout_weight 1 --one_second_share 0.2 --versions_a_batch 4 --within_weight 3 \
    --num_train_epochs 3 --learning_rate 5e-4 --per_device_train_batch_size $((32 / processes)) --weight_decay 0.05 \
    --lr_scheduler_type cosine --warmup_steps 0.05 --save_strategy epoch --save_total_limit 1 --disable_tqdm True \
    --use_cpu True --output_dir runs/default/trained

# Seven parts of the ninth's weights and three of these: real clips keep their order, others and photographs gain
$python -m recipes.default.average_weights --start $ninth --model runs/default/trained --share 0.3 --out runs/default/averaged
$python -m recipes.default.calibrate_deviations --model runs/default/averaged --data $clips $photographs \
    --report benchmarks/results/default_calibration.json
$python -m recipes.default.embed_checkpoint --model runs/default/averaged --out default_checkpoint
$python -m lmmvqa.commands selfcheck --update --model default_checkpoint
# The tables of README and model card, on the test splits; the other results of new weights are in the same file
PYTHON=$python recipes/default/figures.sh default_clips default_ladders
