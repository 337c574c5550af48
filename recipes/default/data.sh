#!/usr/bin/env bash
# Makes the data of the embedded default checkpoint: clean contents, clips that went through degradation chains, ladders of
# one codec, rated photographs. Resumes. Usage: recipes/default/data.sh SHARED   (a folder with clips/, clips_real/, images/)
set -euo pipefail
shared=$1
python=${PYTHON:-.venv/bin/python}
contents=data/contents/contents.csv

lines() { { head -1 $contents; grep "${@:2}" $contents; } > "data/contents/$1.csv"; }

$python -m recipes.default.default_contents --out data/contents --shared "$shared"
lines moving -v -e '^content,' -e '^still-'
$python -m lmmvqa.commands prepare degraded_contents --contents data/contents/moving.csv --versions 3 --out data/chains
# Photographs that stand still: more contents for the vision tower
lines stills '^still-'
$python -m lmmvqa.commands prepare degraded_contents --contents data/contents/stills.csv --versions 4 --out data/stills
# Of training contents that a camera recorded, another cut at another size in other versions
lines real_train -E '^([^,]*,){3}1,.*,train$'
$python -m lmmvqa.commands prepare degraded_contents --contents data/contents/real_train.csv --seed 1 --out data/second_chains
$python -m lmmvqa.commands prepare ladders --contents $contents --out data/ladders
$python -m lmmvqa.commands prepare rated_images --labels "$shared/images/mos.csv" --mos_range 0 1 --out data/rated_images
$python -m recipes.default.mirror_photographs --photographs data/rated_images --out data/mirrored_photographs
