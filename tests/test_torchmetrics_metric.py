"""The score as a torchmetrics metric: the mean over updates and processes, by the one way from frames to scores."""

import importlib
import sys

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from lmmvqa.processing import VideoDecodingError
from lmmvqa.scoring.torchmetrics_metric import NoReferenceVideoQuality


@pytest.fixture(scope="module")
def frames():
    """Two videos of 15 frames: (2, 15, 3, 24, 32)."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 15, 3, 24, 32), dtype=np.uint8))


def test_the_mean_over_updates(scorer, frames, clips):
    metric = NoReferenceVideoQuality(scorer)
    metric.update(frames, fps=15)
    metric.update(clips[0])
    metric.update([clips[1]])
    expected = [*scorer([frames[0], frames[1]], fps=15), scorer(clips[0]), scorer(clips[1])]
    mean = np.mean([result["score"] for result in expected])
    assert metric.compute().item() == pytest.approx(mean, abs=1e-3)
    metric.reset()
    assert metric(frames[:1].float() / 255, fps=15).item() == pytest.approx(expected[0]["score"], abs=1e-3)


def test_processes_add_up(scorer, frames, clips):
    """What the other one holds comes by torchmetrics' own way to gather."""
    other = NoReferenceVideoQuality(scorer)
    other.update(clips[:2])
    names = iter(["score_sum", "num_videos"])  # in the order that they were added

    def gather(state, group=None):
        return [state, getattr(other, next(names))]

    metric = NoReferenceVideoQuality(scorer, dist_sync_fn=gather, distributed_available_fn=lambda: True)
    metric.update(frames, fps=15)
    own = metric.score_sum.item()
    assert metric.compute().item() == pytest.approx((own + other.score_sum.item()) / 4)
    assert (metric.score_sum.item(), metric.num_videos.item()) == (own, 2)  # its own again


def test_what_cannot_be_read_is_not_counted(scorer, clips):
    metric = NoReferenceVideoQuality(scorer)
    metric.update(clips[0])
    before = metric.score_sum.item()
    with pytest.raises(VideoDecodingError):
        metric.update([clips[1], b"no video"])
    assert (metric.score_sum.item(), metric.num_videos.item()) == (before, 1)
    with pytest.raises(ValueError, match=r"got videos of shape \(15, 3, 24, 32\), expected \(batch, frames, 3"):
        metric.update(torch.zeros(15, 3, 24, 32, dtype=torch.uint8))


def test_it_keeps_to_what_metrics_do(scorer, frames):
    metrics = MetricCollection({"quality": NoReferenceVideoQuality(scorer)})
    metrics.update(frames, fps=15)
    assert metrics.compute().keys() == {"quality"}
    assert not metrics.state_dict()
    assert not list(metrics.parameters())  # the model is the scorer's


def test_without_torchmetrics_it_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "lmmvqa.scoring.torchmetrics_metric")
    with pytest.raises(ImportError, match=r"pip install 'lmmvqa\[torchmetrics\]'"):
        importlib.import_module("lmmvqa.scoring.torchmetrics_metric")
