"""The list of training videos that travels with a checkpoint."""

import json

import pytest

from lmmvqa.checkpoints.training_videos import (
    EARLIER_FILE,
    TrainingVideo,
    TrainingVideos,
    load_training_videos,
    save_training_videos,
)


LISTED = TrainingVideos(
    [TrainingVideo("mine", "a", "garden", "00ff" * 4), TrainingVideo("mine", "ü/b", "street", None)], ["another"]
)


@pytest.mark.parametrize("listed", [LISTED, TrainingVideos([], [])])
def test_a_list_comes_back_as_it_was(tmp_path, listed):
    save_training_videos(listed, tmp_path)
    assert load_training_videos(tmp_path) == listed


def test_a_list_of_an_earlier_checkpoint_is_read(tmp_path):
    assert load_training_videos(tmp_path) is None
    content = {"unlisted": LISTED.unlisted, "videos": [list(video) for video in LISTED.videos]}
    (tmp_path / EARLIER_FILE).write_text(json.dumps(content), encoding="utf-8")
    assert load_training_videos(tmp_path) == LISTED
