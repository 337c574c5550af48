#!/usr/bin/env bash
# The stored results that hang on the weights of the embedded default, all of them or those that are named.
# Usage: [SHARED=../shared] recipes/default/figures.sh [NAME ...]   (after data.sh; SHARED holds clips/, clips_real/ and images/)
# Minutes of one core with AVX-512 stand beside each, estimated from the time of a clip (0.16 s for a second of 540p)
set -euo pipefail
python=${PYTHON:-.venv/bin/python}
shared=${SHARED:-../shared}
results=benchmarks/results
clips=data/chains/dataset ladders=data/ladders/dataset photographs=data/rated_images

evaluate() {
    $python -m lmmvqa.commands evaluate --protocol in_sample --data "${@:2}" --out "runs/default/evaluation_$1"
    cp "runs/default/evaluation_$1/metrics.json" "$results/default_$1.json"
    cp "runs/default/evaluation_$1/table.md" "$results/default_$1.md"
}
# 820 real and 596 other clips, 885 photographs: the tables of README and model card. 12 minutes
default_clips() { evaluate clips $clips $photographs; }
# 456 clips of up to 1080 lines. 8 minutes
default_ladders() { evaluate ladders $ladders; }
# Pairs of versions from the predictions of default_clips, and eight pairs of ladders. 5 minutes
compare() {
    $python benchmarks/compare.py --predictions runs/default/evaluation_clips/predictions.jsonl --out $results/compare.json
}
# Of its figures only the cost of looking hangs on the weights. 20 minutes
problems() {
    $python benchmarks/problems.py --clips "$shared/clips" "$shared/clips_real" --work runs/problems --out $results/problems.json
}
# The embedded model's part alone, from the predictions of default_clips. Seconds
classical_baselines() {
    $python benchmarks/classical_baselines.py --degraded_clips $clips --rated_images $photographs --num_videos 400 \
        --methods --ours runs/default/evaluation_clips --work runs/classical
}
# 100 clips in seven precisions, extra `quantization`. 3 minutes
precision_default() {
    $python benchmarks/precision.py --models default_checkpoint --videos data/chains/clips --num_videos 100 \
        --out $results/precision_default.json
}
# Ten clips in eight versions. 5 minutes
invariance() { $python benchmarks/invariance.py --shared "$shared" --out $results/invariance.json; }
# Two clips, 30 draws each. 4 minutes; docs/guard_a_pipeline.md has its table
reward_hacking() {
    rm -rf runs/reward_hacking
    $python benchmarks/reward_hacking.py --shared "$shared" --steps 30 --work runs/reward_hacking --clips \
        clips_real/animal__ffmpeg-concat__cat-portrait.mp4 clips_real/street__ffmpeg-concat__skateboard-street.mp4 \
        --out $results/reward_hacking.json
}
# 30 seconds
default_speed() {
    $python benchmarks/default_speed.py --clip "$shared/clips/sam2__04_coffee.mp4" --out $results/default_speed.json
}
# 173 s of video by three engines, of one thread. 2 minutes
onnx() {
    $python -m lmmvqa.commands export --onnx --out browser/model
    OMP_WAIT_POLICY=passive $python benchmarks/onnx_graphs.py --onnx browser/model --shared "$shared" --seconds 3 \
        --quantized 'int8 decoder' --out $results/onnx.json
}
# Every sample and picture in README.md and docs/. 5 minutes
documents() { $python benchmarks/document_samples.py; }
# Three trainings of 400 steps, after the steps of weights.sh up to `small_model`, and the extraction of all features. Hours
ablations_default() {
    $python benchmarks/ablations.py --model runs/default/init --data $clips $photographs data/mirrored_photographs/rows \
        --splits validation --train_parts spatial_projector temporal_projector language_model \
        --only base use_temporal_tokens=False spatial_projector_type=vit --feature_cache data/feature_cache \
        --work runs/ablations_default --out $results/ablations_default.json -- \
        --max_steps 400 --per_device_train_batch_size 32 --learning_rate 1e-3 --weight_decay 0.05 --lr_scheduler_type cosine \
        --warmup_steps 0.05 --template_sizes 1 8 5 --score_noise 4 --readout_weight 1 --one_second_share 0.2 \
        --save_strategy no --disable_tqdm True --use_cpu True
}

[ $# -gt 0 ] || set -- default_clips default_ladders compare problems classical_baselines precision_default invariance \
    reward_hacking default_speed onnx documents ablations_default
for name in "$@"; do "$name"; done
