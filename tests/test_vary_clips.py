"""Varied clips: the training split alone, the same picture mirrored, later and cropped, and made once."""

import sys

import av
import numpy as np
from conftest import write_clip

from lmmvqa.datasets_scripts.degraded.chained_clips import COLUMNS, DAMAGES
from lmmvqa.datasets_scripts.rows import load_rows, save_rows
from recipes.default import vary_clips


def frames_of(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]).astype(int)


def test_training_clips_are_varied_with_their_labels(monkeypatch, tmp_path):
    clips = []
    for index, split in enumerate(["train", "train", "test"]):
        clip = tmp_path / f"{index}.mkv"
        write_clip(clip, num_frames=12, seed=index)
        row = {"video": str(clip), "mos": 30.0 + index, "dataset": "clips", "split": split, "group": "street"}
        facts = {"content": "street-0", "kind": "street", "is_real": True, "version": f"chain {index}", "chain": "[]"}
        damage = {"damage": dict.fromkeys(DAMAGES, 1.0), "vmaf": 40.0, "width": 96, "height": 64, "fps": 30.0}
        clips.append(row | facts | damage)
    save_rows(clips, [], "clips", tmp_path / "rows", COLUMNS)
    monkeypatch.setattr(sys, "argv", ["vary", "--clips", str(tmp_path / "rows"), "--out", str(tmp_path / "varied")])

    vary_clips.main()

    varied = load_rows(tmp_path / "varied" / "rows")
    assert varied.keys() == {"train"} and len(varied["train"]) == 2
    drawn = set()
    for clip, row in zip(clips, varied["train"], strict=False):
        assert {**row, "video": clip["video"]} == clip
        original, copy = frames_of(clip["video"]), frames_of(row["video"])
        later = len(original) - len(copy)
        rows, columns = (a - b for a, b in zip(original.shape[1:], copy.shape[1:], strict=True))
        assert 0 <= later <= vary_clips.MOST_FRAMES and max(rows, columns) <= vary_clips.MOST_PIXELS
        mirrored = original[later:, :, ::-1]
        errors = {
            (top, left): np.abs(mirrored[:, top : top + copy.shape[1], left : left + copy.shape[2]] - copy).mean()
            for top in range(rows + 1)
            for left in range(columns + 1)
        }
        assert min(errors.values()) < 4
        drawn.add((later, rows, columns, *min(errors, key=errors.get)))
    assert len(drawn) == 2

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "varied" / "clips").iterdir()}
    vary_clips.main()
    assert {path: path.stat().st_mtime_ns for path in written} == written
