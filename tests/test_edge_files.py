"""Odd, damaged and wrong files from outside the checkout: each gives a score or one line that says why not."""

import json
from pathlib import Path

import pytest

from lmmvqa.scoring.cli import main


FOLDER = Path(__file__).parents[2] / "shared/edge"
NO_VIDEO_STREAM = {
    "exoplayer__full_blocks.mkv",
    "exoplayer__sample_eac3.mp4",
    "exoplayer__sample_opus.mp4",
}
NOTHING_DECODES = {"exoplayer__invalid-bitstream.webm", "exoplayer__subsample_encrypted_noaltref.webm"}
NOT_A_VIDEO = {"streamio-ffmpeg__broken.mp4", "streamio-ffmpeg__empty.flv", "syn_empty.mp4", "syn_not_a_video.mp4"}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/edge is not here")


def test_every_edge_file_gives_a_score_or_the_reason_why_not(capsys, tiny, tmp_path):
    for part in tiny:
        part.save_pretrained(tmp_path)
    status = main(["score", "--json", "--model", str(tmp_path), str(FOLDER)])
    rows = {Path(row["video"]).name: row for row in map(json.loads, capsys.readouterr().out.splitlines())}

    assert status == 1
    assert set(rows) == {path.name for path in FOLDER.iterdir()}
    errors = {name: row["error"] for name, row in rows.items() if row["error"] is not None}
    assert set(errors) == NO_VIDEO_STREAM | NOTHING_DECODES | NOT_A_VIDEO
    for reason, names in {
        "it has no video stream": NO_VIDEO_STREAM,
        "no frame decodes": NOTHING_DECODES,
        "Invalid data found": NOT_A_VIDEO,
    }.items():
        for name in names:
            assert errors[name].startswith("Could not read ")
            assert name in errors[name]
            assert reason in errors[name]
            assert "\n" not in errors[name]
    assert all(0 <= row["score"] <= 100 for row in rows.values() if row["error"] is None)
