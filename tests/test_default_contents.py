"""Contents: a build that is killed goes on, no group lies in two splits, and black, still and repeated clips are left out."""

import csv
import os
import random
import signal
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import write_clip
from PIL import Image

from lmmvqa.datasets_scripts.degraded.reference_clips import probe
from recipes.default import default_contents
from recipes.default.contents import real_clips, stepped_games, still_pans
from recipes.default.contents.checks import measure
from recipes.default.contents.content import COLUMNS, REAL_CLIPS, Content, MissingSource, split_of
from recipes.default.contents.storing import store


def noise_pan(seed, output, level=128, contrast=60, speed=2):
    """A window that moves over blurred noise, 32 frames at 25 frames a second."""
    noise = np.random.default_rng(seed).normal(size=(12, 24))
    ground = np.asarray(Image.fromarray(noise.astype(np.float32)).resize((240, 64), Image.Resampling.BICUBIC))
    ground = np.clip(level + contrast * ground, 0, 255).astype(np.uint8)
    windows = (ground[:, speed * k : speed * k + 96] for k in range(32))
    store((np.stack([window] * 3, -1) for window in windows), (96, 64), "25", output)


def killed_once(marker, output):
    """Dies as by `kill -9` in the middle of the first run."""
    output.write_bytes(b"half a clip")
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    noise_pan(99, output)


def content(name, make, group=None, **options):
    return Content(name, group or name, "camera", "a test", "CC0-1.0", make, **options)


def build(monkeypatch, out, plan, *options):
    monkeypatch.setattr(default_contents, "SOURCES", {"tiny": plan, "missing": missing_source})
    monkeypatch.setattr(sys, "argv", ["contents", "--out", str(out), *options])
    default_contents.main()


def missing_source(shared):
    raise MissingSource("The program gource is not installed: apt-get install gource.")


def read_table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_build_goes_on_and_makes_only_what_is_missing(monkeypatch, tmp_path, capfd):
    def plan(shared):
        makes = [partial(noise_pan, 0), partial(killed_once, tmp_path / "marker"), partial(noise_pan, 1)]
        return [content(name, make, group="one film") for name, make in zip("abc", makes, strict=True)]

    out = tmp_path / "out"
    with pytest.raises(SystemExit):
        build(monkeypatch, out, plan, "--kinds", "tiny")
    assert [line["content"] for line in read_table(out / "contents.csv")] == ["a", "c"]
    assert "b ended with status -9" in capfd.readouterr().err
    before = {clip: clip.stat().st_mtime_ns for clip in (out / "clips").iterdir()}

    build(monkeypatch, out, plan, "--kinds", "tiny")

    lines = read_table(out / "contents.csv")
    assert tuple(lines[0]) == COLUMNS
    assert [line["content"] for line in lines] == ["a", "b", "c"]
    assert len({line["split"] for line in lines}) == 1
    assert {clip: clip.stat().st_mtime_ns for clip in before} == before
    for line in lines:
        clip = probe(out / line["path"])
        assert (clip.width, clip.height, clip.frames) == (96, 64, 32)
        assert (line["width"], line["height"], float(line["fps"]), float(line["seconds"])) == ("96", "64", 25, 1.28)


def test_a_missing_source_is_named_and_takes_no_other_with_it(monkeypatch, tmp_path, capfd):
    with pytest.raises(SystemExit):
        build(monkeypatch, tmp_path, lambda shared: [content("a", partial(noise_pan, 0))])

    assert [line["content"] for line in read_table(tmp_path / "contents.csv")] == ["a"]
    assert "missing: The program gource is not installed: apt-get install gource." in capfd.readouterr().err


def test_black_empty_still_and_repeated_clips_are_left_out(monkeypatch, tmp_path):
    def plan(shared):
        return [
            content("good", partial(noise_pan, 0)),
            content("night", partial(noise_pan, 1, level=30, contrast=20)),
            content("black", partial(noise_pan, 2, level=1, contrast=2)),
            content("empty", partial(noise_pan, 3, contrast=3)),
            content("still", partial(noise_pan, 4, speed=0)),
            content("repeated", partial(noise_pan, 0)),
            content("judged by eye", partial(noise_pan, 0), is_real=True, cleanliness=5),
        ]

    build(monkeypatch, tmp_path, plan, "--kinds", "tiny")

    lines = {line["content"]: line for line in read_table(tmp_path / "contents.csv")}
    assert list(lines) == ["good", "judged by eye", "night"]
    assert [line["dark"] for line in lines.values()] == ["0", "0", "1"]
    assert [line["is_real"] for line in lines.values()] == ["0", "1", "0"]
    reasons = {line["content"]: line["reason"] for line in read_table(tmp_path / "left_out.csv")}
    assert {name: reason.split()[0:2] for name, reason in reasons.items()} == {
        "black": ["is", "black:"],
        "empty": ["is", "empty:"],
        "still": ["stands", "still:"],
        "repeated": ["looks", "like"],
    }


def test_two_contents_of_one_name_are_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="1 contents have a name that another one has, a first"):
        build(monkeypatch, tmp_path, lambda shared: [content("a", None), content("a", None)], "--kinds", "tiny")


def test_every_group_has_one_split_and_nineteen_real_ones_at_least_validate_and_test():
    lines = read_table(REAL_CLIPS)
    splits, real = defaultdict(set), defaultdict(set)
    for line in lines:
        splits[line["group"]].add(line["split"])
        if line["is_real"] == "1" and line["use"] != "soft":
            real[line["split"]].add(line["group"])

    assert len({line["file"] for line in lines}) == len(lines)
    assert all(len(of_group) == 1 for of_group in splits.values())
    assert min(len(real["validation"]), len(real["test"])) >= 19
    assert all(split_of(group) in of_group for group, of_group in splits.items())


def test_the_split_of_other_groups_is_a_hash_with_the_stated_shares():
    splits = [split_of(f"scene {k}") for k in range(2000)]

    assert splits.count("test") / 2000 == pytest.approx(0.12, abs=0.02)
    assert splits.count("validation") / 2000 == pytest.approx(0.08, abs=0.02)


def test_levels_of_doom_share_the_groups_of_the_clips_that_show_them():
    levels = {f"{wad}_{level}" for wad, of_wad in stepped_games.DOOM_LEVELS.items() for level in of_wad}
    recorded = {line["group"] for line in read_table(REAL_CLIPS) if line["file"].startswith("gen__gaming")}

    assert recorded <= levels


def test_real_clips_are_stored_whole_halved_or_soft(monkeypatch, tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("whole", "halved", "soft"):
        write_clip(tmp_path / "clips" / f"{name}.mp4", num_frames=40, fps=20)
    names = [f"clips/{name}.mp4,from {name},CC0-1.0" for name in ("whole", "halved", "soft")]
    (tmp_path / "MANIFEST.csv").write_text("\n".join(["file,source,licence", *names]) + "\n")
    table = ["file,group,kind,is_real,use,cleanliness,split"]
    table += [f"{name}.mp4,{name},camera,1,{name},4,test" for name in ("whole", "halved", "soft")]
    monkeypatch.setattr(real_clips, "REAL_CLIPS", tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("\n".join(table) + "\n")

    contents = real_clips.plan(tmp_path)

    got = {}
    for planned in contents:
        planned.make(tmp_path / f"{planned.name}.mkv")
        measures = measure(tmp_path / f"{planned.name}.mkv")
        got[planned.name] = (planned.role, measures.width, measures.height, measures.fps, measures.seconds)
    assert got == {
        "whole_mp4-0": ("pristine", 96, 64, 20, 2),
        "halved_mp4-0": ("pristine", 48, 32, 20, 2),
        "halved_mp4-0-soft": ("soft", 96, 64, 20, 2),
        "soft_mp4-0-soft": ("soft", 96, 64, 20, 2),
    }
    (tmp_path / "clips" / "soft.mp4").unlink()
    with pytest.raises(MissingSource, match="lacks 1 clips, soft.mp4 first"):
        real_clips.plan(tmp_path)


@pytest.mark.parametrize("motion", sorted(set(still_pans.MOTIONS)))
def test_a_camera_stays_inside_the_picture_and_moves_by_fractions_of_a_pixel(motion):
    for seed in range(20):
        boxes = still_pans.camera_path(random.Random(seed), motion, 60, 25, (96, 64), (300, 200))

        assert (
            (boxes[:, :2] >= -1e-6).all() and (boxes[:, 2] <= 300 + 1e-6).all() and (boxes[:, 3] <= 200 + 1e-6).all()
        )
        assert np.allclose((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]), 96 / 64)
        assert (boxes[:, 2] - boxes[:, 0] >= 96 - 1e-6).all()  # never enlarged
        steps = np.diff(boxes[:, 0])
        assert np.any(np.abs(steps - np.round(steps)) > 1e-3) or np.allclose(steps, 0)


def test_a_pan_is_the_same_for_the_same_seed(tmp_path):
    noise_of = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    Image.fromarray(noise_of).save(tmp_path / "picture.png")

    clips = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.mkv"
        still_pans.pan(tmp_path / "picture.png", (96, 64), 25, "seed", True, path)
        clips.append(Path(path).read_bytes())

    assert clips[0] == clips[1]
    assert measure(tmp_path / "one.mkv").luma < 128 * 0.75  # graded dark


def test_stills_are_training_photographs_that_no_pan_shows(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    lines = ["file,mos"]
    for k in range(60):
        Image.fromarray(rng.integers(0, 255, (51, 50, 3), np.uint8)).save(images / f"{k:02d}.png")
        lines.append(f"{k:02d}.png,{0.7 if k < 5 else 0.77 if k < 30 else 0.9}")
    (images / "mos.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(still_pans, "PHOTOGRAPHS", 10)
    monkeypatch.setattr(still_pans, "STILLS", 20)

    stills, panned = still_pans.plan_stills(tmp_path), still_pans.plan_photographs(tmp_path)

    groups = {content.group for content in stills}
    assert len(groups) == 20 and not groups & {content.group for content in panned}
    assert {content.split for content in stills} == {"train"}
    assert not groups & {f"{k:02d}.png" for k in range(5)}  # of a lower MOS
    stills[0].make(tmp_path / "still.mkv")
    measures = measure(tmp_path / "still.mkv")
    assert (measures.width, measures.height, measures.seconds, measures.moving) == (50, 50, 1, 0)
