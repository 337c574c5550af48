"""Rendered screens: the same ones for the same seed, each moving, long and large enough to be a reference."""

import random

import numpy as np
import pytest
from PIL import Image

from lmmvqa.datasets_scripts.degraded.reference_clips import SECONDS, probe, reference_size
from recipes.default.contents import rendered_screens
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


def test_a_screen_becomes_a_reference_and_is_the_same_again(monkeypatch, tmp_path):
    monkeypatch.setattr(rendered_screens, "SIZES", ((960, 720),))
    clips = [tmp_path / "one.mkv", tmp_path / "two.mkv"]
    for clip in clips:
        rendered_screens.record_rendered(0, clip)
    source = probe(clips[0])
    assert reference_size(source) == (480, 360)
    assert source.seconds >= SECONDS
    assert clips[0].read_bytes() == clips[1].read_bytes()
