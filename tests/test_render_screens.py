"""Rendered screens: the same ones for the same seed, each moving, long and large enough to be a reference."""

import random
import sys

import numpy as np
import pytest
from PIL import Image

from lmmvqa.datasets_scripts.degraded.reference_clips import SECONDS, probe, reference_size, segment_starts
from recipes.default import render_screens
from recipes.default.render_screens import SCREENS, Layer, paste_layers


def test_a_layer_waits_moves_and_stays():
    layer = Layer(Image.new("RGB", (4, 4)), (10, 0), (0, 5), begin=0.25, finish=0.75)

    assert [layer.position(time) for time in (0, 0.25, 0.5, 0.75, 1)] == [(10, 0), (10, 0), (5, 2), (0, 5), (0, 5)]


@pytest.mark.parametrize("kind", range(len(SCREENS)))
def test_every_kind_fills_the_screen_and_moves(kind):
    layers = SCREENS[kind](random.Random(0), 320, 240)

    first, last = (np.asarray(paste_layers(layers, (320, 240), time)) for time in (0, 1))

    assert first.shape == (240, 320, 3)
    assert first.std() > 10  # something is written on it
    assert (first != last).any()


def test_screens_become_references_and_are_made_once(monkeypatch, tmp_path):
    monkeypatch.setattr(render_screens, "SIZES", ((960, 720),))
    monkeypatch.setattr(sys, "argv", ["render", "--out", str(tmp_path), "--count", "2"])

    render_screens.main()

    clips = sorted(tmp_path.iterdir())
    assert [clip.name for clip in clips] == ["screen-0000.mkv", "screen-0001.mkv"]
    for clip in clips:
        source = probe(clip)
        assert reference_size(source) == (480, 360)
        assert source.seconds >= SECONDS
        assert len(segment_starts(source.seconds)) == 1
    written = {clip: clip.stat().st_mtime_ns for clip in clips}
    bytes_of_first = clips[0].read_bytes()
    render_screens.main()
    assert {clip: clip.stat().st_mtime_ns for clip in clips} == written
    clips[0].unlink()
    render_screens.main()
    assert clips[0].read_bytes() == bytes_of_first
