#!/usr/bin/env bash
# Makes the data of the embedded default checkpoint: clean contents, clips that went through degradation chains, ladders of
# one codec, rated photographs. Resumes. Usage: recipes/default/data.sh SHARED   (a folder with clips/, clips_real/, images/)
set -euo pipefail
shared=$1
python=${PYTHON:-.venv/bin/python}

$python -m recipes.default.default_contents --out data/contents --shared "$shared"
$python -m lmmvqa.commands prepare degraded_contents --contents data/contents/contents.csv --out data/chains
# Of training contents that a camera recorded, another cut at another size in other versions
{ head -1 data/contents/contents.csv; grep -E '^([^,]*,){3}1,.*,train$' data/contents/contents.csv; } > data/contents/real_train.csv
$python -m lmmvqa.commands prepare degraded_contents --contents data/contents/real_train.csv --seed 1 --out data/second_chains
$python -m lmmvqa.commands prepare ladders --contents data/contents/contents.csv --out data/ladders
$python -m lmmvqa.commands prepare rated_images --labels "$shared/images/mos.csv" --mos_range 0 1 --out data/rated_images
$python -m recipes.default.mirror_photographs --photographs data/rated_images --out data/mirrored_photographs
