"""`lmmvqa inspect`: what is measured, and that it is drawn."""

import sys
from itertools import pairwise

import av
import numpy as np
import pytest
from conftest import tiny_pair, write_clip
from transformers import pipeline

from lmmvqa.commands.command_line import main


pytest.importorskip("matplotlib")
pytest.importorskip("skimage")

from lmmvqa.scoring import inspection as inspection_module  # noqa: E402
from lmmvqa.scoring.inspection import inspect  # noqa: E402


WIDTH, HEIGHT, FPS = 320, 80, 10


@pytest.fixture(autouse=True)
def hardly_any_flow(monkeypatch, request):
    """It takes most of the time, and is looked at in the tests of motion alone."""
    if "panning" not in request.fixturenames:
        monkeypatch.setattr(inspection_module, "MAX_PAIRS", 2)


def scorer_of(model, processor):
    return pipeline("video-quality-assessment", model=model, processor=processor, device="cpu")


@pytest.fixture(scope="module")
def panning(tmp_path_factory):
    """A second of standing still, then one of 4 pixels a frame to the left, lossless."""
    path = str(tmp_path_factory.mktemp("inspection") / "panning.mkv")
    y, x = np.mgrid[:HEIGHT, : WIDTH + 60]
    wide = (127 + 60 * np.sin(x / 7) * np.cos(y / 9) + 50 * np.sin(x / 23 + y / 31)).astype(np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray"
        for index in range(2 * FPS):
            left = 4 * max(0, index - FPS)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, left : left + WIDTH]), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_motion_is_in_pixels_of_the_video_a_second(scorer, panning):
    inspection = inspect(scorer, panning)
    motion = inspection.motion
    assert motion.times == pytest.approx(np.arange(1, 20) / FPS)
    assert motion.is_complete
    assert (motion.speeds[: FPS - 1] == 0).all()
    assert np.median(motion.speeds[FPS:]) == pytest.approx(4 * FPS, rel=0.15)
    assert (inspection.size, inspection.num_frames) == ((WIDTH, HEIGHT), 20)
    assert inspection.duration == pytest.approx(2)


def test_long_videos_are_measured_evenly(scorer, panning, monkeypatch):
    monkeypatch.setattr(inspection_module, "MAX_PAIRS", 4)
    motion = inspect(scorer, panning).motion
    assert not motion.is_complete
    assert motion.times == pytest.approx([0.1, 0.6, 1.1, 1.6])


def test_readings_are_the_models(scorer, clips):
    inspection = inspect(scorer, clips[2])
    expected = scorer(clips[2])
    reading = inspection.with_temporal_tokens
    assert vars(reading.result) == expected
    assert reading.probabilities @ reading.values == pytest.approx(expected["score"], abs=1e-3)
    assert reading.values == pytest.approx(np.arange(101), abs=1e-9)
    assert inspection.sections.tolist() == [0, 3]
    assert reading.scores == pytest.approx([expected["score"]])
    assert list(inspection.key_frames) == [0, 1, 2]
    assert inspection.key_frames[1].shape == (64, 96, 3)


@pytest.mark.parametrize("fusion", ["decoder", "vision"])
def test_without_is_the_same_weights_with_temporal_tokens_left_out(clips, fusion):
    """The scores of a model without temporal tower that has the other weights of this one."""
    model, processor = tiny_pair(temporal_fusion=fusion)
    bare_model, bare_processor = tiny_pair(temporal_fusion=fusion, use_temporal_tokens=False)
    missing, left_over = bare_model.load_state_dict(model.state_dict(), strict=False)
    assert not missing and all(".temporal_" in name for name in left_over)
    inspection = inspect(scorer_of(model, processor), clips[1])
    expected = scorer_of(bare_model, bare_processor)(clips[1])
    assert inspection.without_temporal_tokens.result.score == pytest.approx(expected["score"], abs=1e-4)
    assert inspection.with_temporal_tokens.result.score != pytest.approx(expected["score"], abs=1e-3)
    assert model.config.use_temporal_tokens and processor.use_temporal_tokens


@pytest.mark.parametrize(
    "options, with_tokens, without_tokens",
    [
        ({"use_temporal_tokens": False}, False, True),
        ({"spatial_projector_type": "perceiver"}, True, True),
        ({"spatial_projector_type": "perceiver", "temporal_fusion": "vision"}, True, False),
    ],
)
def test_models_that_have_one_reading_only(clips, options, with_tokens, without_tokens):
    inspection = inspect(scorer_of(*tiny_pair(**options)), clips[0])
    assert (inspection.with_temporal_tokens is not None) == with_tokens
    assert (inspection.without_temporal_tokens is not None) == without_tokens


@pytest.mark.parametrize(
    "seconds, most, borders", [(1, 9, [0, 1]), (4, 9, [0, 2, 4]), (5, 9, [0, 2, 5]), (6, 2, [0, 3, 6])]
)
def test_sections_are_scored_alone(scorer, tmp_path, monkeypatch, seconds, most, borders):
    monkeypatch.setattr(inspection_module, "MAX_SECTIONS", most)
    monkeypatch.setattr(inspection_module, "MAX_KEY_FRAMES", 2)
    clip = write_clip(tmp_path / "clip.mp4", num_frames=10 * seconds, fps=10)
    inspection = inspect(scorer, clip)
    assert inspection.sections.tolist() == borders
    (encoded,) = scorer.preprocess(clip)
    expected = [scorer(encoded.part(*of_section))["score"] for of_section in pairwise(borders)]
    assert inspection.with_temporal_tokens.scores == pytest.approx(expected, abs=0.01)
    assert list(inspection.key_frames) == sorted({0, seconds - 1})


def test_frames_with_a_matrix_that_ffmpeg_does_not_know_are_shown(scorer, tmp_path):
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.colorspace = 10  # BT.2020 with constant luminance
        for _ in range(3):
            grey = np.full((64, 96, 3), 90, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    inspection = inspect(scorer, str(tmp_path / "clip.mp4"))
    assert inspection.key_frames[0].mean() == pytest.approx(90, abs=2)


def test_values_of_a_calibrated_model(clips):
    model, processor = tiny_pair()
    processor.score_map, processor.score_std_scale = [1 + 4 * (score / 100) ** 2 for score in range(101)], 0.06
    inspection = inspect(scorer_of(model, processor), clips[0])
    reading = inspection.with_temporal_tokens
    assert reading.probabilities @ reading.values == pytest.approx(reading.result.score, abs=1e-6)
    assert np.diff(reading.values) == pytest.approx(0.06)
    assert inspection.level_thresholds == pytest.approx([1 + 4 * 0.16, 1 + 4 * 0.36])


@pytest.mark.parametrize("options", [{}, {"use_temporal_tokens": False}])
def test_the_command_draws_a_picture(options, tmp_path, capsys):
    for part in tiny_pair(**options):
        part.save_pretrained(tmp_path)
    clip = write_clip(tmp_path / f"$odd$ {'name ' * 30}.mp4", num_frames=12)
    out = tmp_path / "figure.png"
    assert main(["inspect", clip, "--model", str(tmp_path), "--device", "cpu", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    with av.open(str(out)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (1000, 1200, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_a_still_picture(scorer, tmp_path):
    from PIL import Image

    from lmmvqa.scoring.inspection_figure import draw

    path = str(tmp_path / "still.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    inspection = inspect(scorer, path)
    assert len(inspection.motion.times) == 0 and inspection.num_frames == 1
    draw(inspection, tmp_path / "figure.png")


def test_wrong_use_is_one_sentence_and_status_2(tmp_path, capsys, monkeypatch, checkpoint):
    command = ["inspect", str(tmp_path / "missing.mp4"), "--device", "cpu", "--model", str(checkpoint)]
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 2
    assert "no such file" in capsys.readouterr().err.splitlines()[-1]

    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(SystemExit):
        main(command)
    assert "pip install 'lmmvqa[inspect]'" in capsys.readouterr().err
