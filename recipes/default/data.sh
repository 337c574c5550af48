#!/usr/bin/env bash
# Makes the data of the embedded default checkpoint: rated photographs, degraded clips and degraded screens. Resumes.
# Usage: recipes/default/default_data.sh SHARED   (a folder with clips/ and images/, see model_card.md)
set -euo pipefail
shared=$1
python=${PYTHON:-.venv/bin/python}
rated_images=(--labels "$shared/images/mos.csv" --mos_range 0 1)

$python -m lmmvqa.commands prepare rated_images "${rated_images[@]}" --out data/rated_images
$python -m recipes.default.mirror_photographs --photographs data/rated_images --out data/mirrored_photographs
$python -m lmmvqa.commands prepare degraded_clips "${rated_images[@]}" --videos "$shared/clips" \
    --photographs 480 --training_photographs 400 --out data/degraded_clips

# Screens are clips of their own folder: towers learn without them, and the figures of clips stay those of real contents
$python -m recipes.default.render_screens --out data/screens
$python -m lmmvqa.commands prepare degraded_clips "${rated_images[@]}" --videos data/screens \
    --photographs 0 --variants 6 --out data/degraded_screens
