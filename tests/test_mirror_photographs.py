"""Mirrored photographs: the training split alone, pixel by pixel, and made once."""

import sys

import numpy as np
from PIL import Image

from lmmvqa.datasets_scripts.rows import load_rows, save_rows
from recipes.default import mirror_photographs


def test_training_photographs_are_mirrored_with_their_opinions(monkeypatch, tmp_path):
    rng, photographs = np.random.default_rng(0), []
    for index, split in enumerate(["train", "train", "test"]):
        picture = tmp_path / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(picture)
        row = {"video": str(picture), "mos": 30.0 + index, "dataset": "photographs", "split": split}
        photographs.append(row | {"group": picture.name})
    save_rows(photographs, [], "photographs", tmp_path / "rows")
    monkeypatch.setattr(
        sys, "argv", ["mirror", "--photographs", str(tmp_path / "rows"), "--out", str(tmp_path / "mirrored")]
    )

    mirror_photographs.main()

    mirrored = load_rows(tmp_path / "mirrored" / "rows")
    assert mirrored.keys() == {"train"}
    for photograph, row in zip(photographs, mirrored["train"], strict=False):
        assert {**row, "video": photograph["video"]} == photograph
        with Image.open(photograph["video"]) as original, Image.open(row["video"]) as copy:
            assert np.array_equal(np.asarray(original)[:, ::-1], np.asarray(copy))
    assert len(mirrored["train"]) == 2

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "mirrored" / "pictures").iterdir()}
    mirror_photographs.main()
    assert {path: path.stat().st_mtime_ns for path in written} == written
