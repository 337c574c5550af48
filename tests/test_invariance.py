"""The changes of benchmarks/invariance.py are the ones that it names, and it finds the frames that a rule does not see."""

import importlib
import json
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import write_clip

from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline


@pytest.fixture
def invariance(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("invariance")


def decoded(path) -> tuple[np.ndarray, list[float]]:
    """Pixels as they are stored, and time stamps."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.stack([frame.to_ndarray() for frame in frames]), [frame.time for frame in frames]


@pytest.fixture
def changed(invariance, tmp_path):
    """A clip with uneven time stamps and what a change makes of it."""
    times = [0, 0.04, 0.08, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4]
    clip = write_clip(tmp_path / "clip.mp4", fps=25, size=(64, 48), times=times)

    def change(name: str):
        path = tmp_path / "changed"
        invariance.rewrite(clip, path, invariance.CHANGES[name])
        return decoded(path)

    return decoded(clip), change


def test_rewriting_is_lossless(changed):
    (before, times), change = changed
    after, new_times = change("lossless")
    np.testing.assert_array_equal(after, before)
    assert new_times == pytest.approx(times)


def test_doubled_frames_stand_half_as_long(changed):
    (before, times), change = changed
    after, new_times = change("doubled frames")
    np.testing.assert_array_equal(after, before.repeat(2, axis=0))
    assert new_times[::2] == pytest.approx(times)
    assert np.all(np.diff(new_times) > 0.01)


@pytest.mark.parametrize("count", [1, 5])
def test_later_frames_start_at_zero(changed, count):
    (before, times), change = changed
    after, new_times = change("1 frame later" if count == 1 else "5 frames later")
    np.testing.assert_array_equal(after, before[count:])
    assert new_times == pytest.approx(np.array(times[count:]) - times[count])


def test_pictures_are_mirrored_cropped_and_enlarged(changed):
    (before, _), change = changed
    luma = before[:, :48]
    np.testing.assert_array_equal(change("mirrored")[0][:, :48], luma[:, :, ::-1])
    np.testing.assert_array_equal(change("2 pixels cropped")[0][:, :46], luma[:, 2:, 2:])
    assert change("twice the size")[0].shape == (10, 144, 128)


def test_packets_are_copied(invariance, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", num_frames=10)
    invariance.remux(clip, tmp_path / "copy")
    (before, times), (after, new_times) = decoded(clip), decoded(tmp_path / "copy")
    np.testing.assert_array_equal(after, before)
    assert new_times == pytest.approx(times, abs=1e-3)


def test_unseen_frames_are_found_under_each_rule(invariance, tiny, clips, tmp_path):
    model, processor = tiny
    scorer = VideoQualityAssessmentPipeline(model=model, processor=processor, device="cpu")
    first_frames = {"chunk_sampling": "first_frames", "keep_incomplete_second": False}
    found = invariance.unseen_frames(
        invariance.Rules(scorer, [first_frames]), clips[0], 10, tmp_path
    )  # clips are of 8 frames
    for name in first_frames:  # back to the processor's own
        assert getattr(processor.video_processor, name) != first_frames[name]
    assert list(found) == ["own", json.dumps(first_frames)]
    for of_rule, of_second, of_rest in zip(found.values(), (0.0, 0.2), (0.0, 1.0), strict=True):
        assert of_rule["of a whole second"] == {"unseen": pytest.approx(of_second), "frames": 10}
        assert of_rule["of the last half second"] == {"unseen": pytest.approx(of_rest), "frames": 5}
        assert of_rule["agree"] == "6 of 6"
