"""The figures of the model card, on rows small enough to count by hand."""

import pytest

from lmmvqa.evaluation.held_out import ordered_pairs, reference_of, source_of, within


def row(reference: str, distortion: str, strength: int, mos: float) -> dict:
    name = f"{reference}-{distortion}{strength}.mkv"
    return {"video": name, "source": "clip.mp4", "distortion": distortion, "strength": strength, "mos": mos}


ROWS = [
    row("clip-0", "none", 0, 99.0),
    row("clip-0", "h264", 5, 10.0),
    row("clip-0", "h264", 1, 80.0),
    row("clip-1", "none", 0, 98.0),
    row("clip-1", "h264", 5, 12.0),
    row("clip-1", "blur", 2, 50.0),
]


def test_each_degraded_clip_is_compared_with_its_own_reference():
    shares = ordered_pairs(ROWS, [90.0, 80.0, 95.0, 60.0, 50.0, 70.0])
    assert shares["h264"] == {"n": 3, "share": pytest.approx(2 / 3)}
    assert shares["h264 at its strongest"] == {"n": 2, "share": 1.0}
    assert shares["blur"] == {"n": 1, "share": 0.0}


def test_correlation_within_a_reference_is_averaged_over_references():
    scores = [90.0, 10.0, 80.0, 60.0, 50.0, 70.0]
    figures = within(reference_of, ROWS, scores, "mos")
    # Ranks agree in the first; in the second 1, 2, 3 against 2, 1, 3 in the order of scores
    assert figures == {"n": 2, "srcc": pytest.approx((1 + 0.5) / 2)}
    # Both are of one source: the scores' ranks 6, 1, 5, 3, 2, 4 against 6, 1, 4, 5, 2, 3
    assert within(source_of, ROWS, scores, "mos") == {"n": 1, "srcc": pytest.approx(1 - 6 * 6 / (6 * 35))}
