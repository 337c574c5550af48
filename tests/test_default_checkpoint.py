"""The embedded default: small, known to load, and right about what nobody disputes."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from lmmvqa.commands.command_line import main
from lmmvqa.scoring.scorer import default_checkpoint, load_scorer
from lmmvqa.scoring.selfcheck import CLIP


MEGABYTE = 2**20


@pytest.fixture(scope="module")
def scorer():
    return load_scorer()


def decoded_clip() -> np.ndarray:  # (frames, height, width, 3)
    with av.open(str(CLIP)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_it_is_small_and_holds_no_code():
    files = [path for path in Path(default_checkpoint()).iterdir() if path.is_file() and path.name != "__init__.py"]
    assert sum(path.stat().st_size for path in files) < 25 * MEGABYTE
    assert not [path.name for path in files if path.suffix == ".py"]


def test_selfcheck_passes(capsys):
    assert main(["selfcheck"]) == 0
    assert "ok" in capsys.readouterr().out


def test_blur_scores_lower_than_the_clip(scorer):
    frames = decoded_clip()
    pictures = [Image.fromarray(frame) for frame in frames]
    blurred = np.stack([picture.reduce(8).resize(picture.size) for picture in pictures])
    assert scorer(blurred)["score"] < scorer(frames)["score"] - 10


def test_pixelation_scores_lower_than_the_clip(scorer):
    frames = decoded_clip()
    small = frames[:, ::8, ::8]
    enlarged = small.repeat(8, axis=1).repeat(8, axis=2)[:, : frames.shape[1], : frames.shape[2]]
    assert scorer(enlarged)["score"] < scorer(frames)["score"]


def test_the_result_does_not_contradict_itself(scorer):
    result = scorer(str(CLIP))
    assert 0 <= result["score"] <= 100 and result["score_std"] > 0
    assert result["level"] == scorer.processor.level(result["score"])
    assert sum(result["level_probabilities"].values()) == pytest.approx(1)


def test_a_video_scores_alike_in_any_batch(scorer):
    frames = decoded_clip()
    videos = [str(CLIP), frames[:30], str(CLIP), frames[:10], str(CLIP), frames[0], frames[:60], str(CLIP)]
    together = scorer(videos, batch_size=8)
    for video, result in zip(videos, together, strict=True):
        assert scorer(video)["score"] == pytest.approx(result["score"], abs=0.01)


def test_bfloat16_moves_scores_by_less_than_one(scorer):
    half = load_scorer(device="cpu", dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    assert half.model.model.vision_tower.dtype == torch.float32
    frames = decoded_clip()
    for video in (str(CLIP), frames[:10], frames[0], frames // 2):
        assert half(video)["score"] == pytest.approx(scorer(video)["score"], abs=1)


def test_the_decoder_answers_in_numbers(scorer):
    assert 0 <= scorer(str(CLIP), readout="generate")["score"] <= 100
