"""The page in browser/ sees the same frames, chunks and answers as the video processor."""

import base64
import copy
import json
import platform
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import write_clip

from lmmvqa.checkpoints.onnx_export import export_onnx
from lmmvqa.modeling_lmmvqa.answer_tree_lmmvqa import AnswerTree
from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS, LEVELS
from lmmvqa.processing.frame_scaler_lmmvqa import FrameScaler
from lmmvqa.processing.video_decoding_lmmvqa import FrameSettings, decode_video
from lmmvqa.scoring.scorer import load_scorer, score_videos


BROWSER = Path(__file__).parents[1] / "browser"
SHARED = Path(__file__).parents[2] / "shared/clips"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def run_node(script: str, given: object):
    """What a script prints as JSON; `given` is its input, and the modules of the page stand beside it."""
    lines = f'import {{ readFileSync }} from "node:fs";\nconst given = JSON.parse(readFileSync(0, "utf8"));\n{script}'
    printed = subprocess.run(
        ["node", "--input-type=module", "--eval", lines],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=BROWSER,
        check=True,
        timeout=60,
    )
    return json.loads(printed.stdout)


SQUARES = """
import { square } from "./frames.mjs";
const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const planes = given.planes.map(({ width, height, values }) => ({ width, height, values: bytes(values) }));
const squares = given.squares.map((options) => square({ ...given, planes }, ...options));
console.log(JSON.stringify(squares.map((pixels) => Buffer.from(pixels).toString("base64"))));
"""


def picture_of(frame: av.VideoFrame, **colours) -> dict:
    """What readPlanes makes of a frame, as JSON."""
    planes = []
    for plane in frame.planes:
        values = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        text = base64.b64encode(values.tobytes()).decode()
        planes.append({"width": plane.width, "height": plane.height, "values": text})
    return {"planes": planes, "matrix": None, "isFullRange": False, "rotation": 0} | colours


def pixels_of(text: str, size: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(size, size, 3)


@needs_node
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="FFmpeg's scaler rounds otherwise elsewhere")
@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020-ncl", None])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p"])
def test_squares_are_those_of_ffmpegs_scaler(pixel_format, matrix, is_full_range):
    """To the last bit: one level more or less in a hundredth of the pixels can move a score by points."""
    numbers = {"bt709": 1, "smpte170m": 6, "bt2020-ncl": 9, None: 2}  # of ITU-T H.273
    wanted = [(96, 1, "overlap"), (96, 4, "enlarge"), (96, 4, "overlap"), (56, 4, "enlarge")]
    for width, height in ((200, 152), (90, 66), (101, 77), (48, 300)):
        coarse = np.random.default_rng(width).integers(0, 256, (height // 6 + 1, width // 6 + 1, 3), dtype=np.uint8)
        pixels = np.ascontiguousarray(coarse.repeat(6, 0).repeat(6, 1)[:height, :width])
        frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pixel_format)
        frame.colorspace, frame.color_range = numbers[matrix], 2 if is_full_range else 1
        squares = run_node(SQUARES, {"squares": wanted, **picture_of(frame, matrix=matrix, isFullRange=is_full_range)})
        for text, (side, fragments, small) in zip(squares, wanted, strict=True):
            assert np.array_equal(pixels_of(text, side), FrameScaler(side, fragments, small_frames=small)(frame))


CHUNKS = """
import { Chunks, clipsOf } from "./chunks.mjs";
const text = (pixels) => Buffer.from(pixels).toString("base64");
const chunks = new Chunks(given.settings);
const found = [];
for (const [time, { planes, ...picture }] of given.frames) {
  const decoded = planes.map((plane) => ({ ...plane, values: Uint8Array.from(Buffer.from(plane.values, "base64")) }));
  found.push(...chunks.add(time, { ...picture, planes: decoded }));
}
found.push(...chunks.end());
console.log(JSON.stringify(found.map((chunk) => ({
  second: chunk.second,
  keyFrame: chunk.keyFrame.map(text),
  clips: clipsOf(chunk, given.settings.chunk_frames).map((clip) => clip.map(text)),
}))));
"""
SETTINGS = {
    "key_frame_size": 32,
    "key_frame_fragments": [1, 2],
    "chunk_size": 16,
    "chunk_fragments": 2,
    "chunk_frames": 4,
    "small_frames": "overlap",
}


@needs_node
@pytest.mark.parametrize(
    "times",
    [
        [index / 8 for index in range(16)],  # two clips a second
        [index / 10 for index in range(23)],  # a short second at the end, of the chunk before
        [index / 10 for index in range(27)],  # a longer one, with a chunk of its own
        [*np.arange(40) / 40, 1.5, 2.4],  # more frames in a second than clips hold
        [0.0],
    ],
)
def test_chunks_are_those_of_the_video_processor(tmp_path, times):
    path = write_clip(tmp_path / "clip.mp4", size=(48, 40), fps=8, times=times)
    with av.open(path) as container:
        frames = [(frame.time, picture_of(frame)) for frame in container.decode(video=0)]
    start = frames[0][0]
    frames = [(time - start, picture) for time, picture in frames]
    chunks = run_node(CHUNKS, {"settings": SETTINGS, "frames": frames})
    expected = decode_video(path, FrameSettings(**SETTINGS))

    assert [chunk["second"] for chunk in chunks] == expected.seconds.tolist()
    assert [len(chunk["clips"]) for chunk in chunks] == expected.num_clips.tolist()
    clips = [clip for chunk in chunks for clip in chunk["clips"]]
    assert [len(clip) for clip in clips] == expected.num_frames.tolist()
    for clip, whole in zip(clips, expected.clips, strict=True):
        for text, pixels in zip(clip, whole, strict=False):
            assert np.abs(pixels_of(text, 16) - pixels.astype(int)).max() <= 2
    key_frames = [text for chunk in chunks for text in chunk["keyFrame"]]
    for text, pixels in zip(key_frames, expected.key_frames, strict=True):
        assert np.abs(pixels_of(text, 32) - pixels.astype(int)).max() <= 4


ANSWERS = """
import { answerProbabilities, damageShares, mixed, readScore, windowsOf } from "./answers.mjs";
const windows = windowsOf(given.seconds, given.most);
const logits = given.logits.slice(0, windows.length);
const probabilities = (ids) => logits.map((ofWindow) => answerProbabilities(ofWindow, ids));
const damages = probabilities(given.damageIds).map((of) => damageShares(of, given));
const result = readScore(mixed(windows, probabilities(given.answerIds)), given);
console.log(JSON.stringify({ windows, result, damage: mixed(windows, damages) }));
"""


@needs_node
@pytest.mark.parametrize("seconds", [[0], [0, 1, 2], [0, 2, 3, 7, 8]])
@pytest.mark.parametrize("is_calibrated", [False, True])
def test_answers_are_read_as_by_the_processor(tiny, seconds, is_calibrated):
    model, processor = tiny
    processor = copy.copy(processor)
    processor.max_window_seconds = 2
    if is_calibrated:
        processor.score_map, processor.score_std_scale = [1 + 4 * (score / 100) ** 2 for score in range(101)], 0.06
        processor.damage_frequencies = [1 / (kind + 2) for kind in range(len(DAMAGE_ANSWERS))]
    damage_ids = [[token] for token in range(len(DAMAGE_ANSWERS))]
    answer_ids = processor.score_answer_ids
    vocabulary = model.config.text_config.vocab_size
    logits = 4 * torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(len(seconds)))
    given = {
        **{
            name: getattr(processor, name)
            for name in ("score_map", "score_std_scale", "level_thresholds", "damage_frequencies")
        },
        "levels": LEVELS,
        "seconds": seconds,
        "most": 2,
        "logits": logits.tolist(),
        "answerIds": [token for (token,) in answer_ids],
        "damageIds": [token for (token,) in damage_ids],
    }
    found = run_node(ANSWERS, given)

    windows = processor.windows(np.array(seconds), processor.prompt(), 4096)
    assert found["windows"] == [
        {"firstChunk": window.first_chunk, "endChunk": window.end_chunk, "start": window.start, "end": window.end}
        for window in windows
    ]
    scores, damages = (
        AnswerTree(ids).log_probabilities(logits[: len(windows), None]) for ids in (answer_ids, damage_ids)
    )
    expected = processor.post_process_window_scores(windows, scores, None, damages)
    assert found["damage"] == pytest.approx(list(expected.damage.values()), abs=1e-6)
    result = found["result"]
    assert result.pop("level") == expected.level
    assert result.pop("level_probabilities") == pytest.approx(expected.level_probabilities, abs=1e-6)
    assert result == pytest.approx({"score": expected.score, "score_std": expected.score_std}, abs=1e-4)


CLIPS = [
    "exoplayer__bear-vp9.webm",
    "exoplayer__sample.mp4",
    "gradio__b.mp4",
    "moviepy__example2.mp4",
    "moviepy__example3.mp4",
    "sample-videos__bird.mkv",
    "scikitvideo__bigbuckbunny.mp4",
    "scikitvideo__carphone_distorted.mp4",
    "shared-assets__flower.mp4",
    "shared-assets__flower.webm",
]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/clips is not here")
@pytest.mark.skipif(not (BROWSER / "node_modules").is_dir(), reason="npm install --prefix browser was not run")
def test_the_page_scores_as_the_command_line(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BROWSER.parent / "benchmarks")
    from browser import find_chromium, score_in_browser

    if find_chromium() is None:
        pytest.skip("Chromium is not installed")
    scorer = load_scorer(device="cpu")
    export_onnx(scorer.model, scorer.processor, tmp_path)
    videos = [str(SHARED / name) for name in CLIPS]
    of_page = list(score_in_browser(tmp_path, videos))
    assert [result.get("error") for result in of_page] == [None] * len(videos)
    for row, result in zip(score_videos(scorer, videos), of_page, strict=True):
        assert result["score"] == pytest.approx(row["score"], abs=1)
        assert (result["missed_frames"], result["frames"]) == (0, row["frames"])
