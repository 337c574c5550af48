"""Degradation chains: what a seed draws, how chains are rendered and labelled, and the set that they make."""

import csv
import json
import random
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lmmvqa.commands.command_line import main
from lmmvqa.datasets_scripts.degraded import chain_draws, chain_labels, chain_rendering, chain_steps, chained_clips
from lmmvqa.datasets_scripts.degraded.chain_rendering import Source, render
from lmmvqa.datasets_scripts.degraded.chain_steps import step
from lmmvqa.datasets_scripts.degraded.ffmpeg_process import encode_frames, luma_change, luma_difference, measure_vmaf
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.processing.answers_lmmvqa import DAMAGES


SIZE, FRAMES = (256, 192), 15
STAGES = list(chain_draws.WEIGHTS)
STAGE_OF = {kind: number for number, stage in enumerate(STAGES) for kind in chain_draws.WEIGHTS[stage]}


def moving_texture(seed: int, still: bool = False) -> np.ndarray:
    """(FRAMES, height, width, 3) uint8: a window that drifts over smoothed noise."""
    rng = np.random.default_rng(seed)
    large = rng.normal(size=(300, 400, 3))
    for axis in (0, 1):
        large = sum(np.roll(large, shift, axis) for shift in range(-3, 4))
    large = (127 + 90 * large / np.abs(large).max() * 2).clip(0, 255).astype(np.uint8)
    steps = [0 if still else 3 * k for k in range(FRAMES)]
    return np.stack([large[k : k + SIZE[1], k : k + SIZE[0]] for k in steps])


def write_contents(folder: Path, lines: list[tuple]) -> Path:
    """A table of contents (name, group, kind, is_real, role, split) and its clips."""
    (folder / "clips").mkdir(parents=True)
    table = folder / "contents.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("content", "group", "kind", "is_real", "role", "path", "split"))
        for number, (name, group, kind, is_real, role, split) in enumerate(lines):
            encode_frames(moving_texture(number), "rgb24", SIZE, "10", folder / "clips" / f"{name}.mkv")
            writer.writerow((name, group, kind, is_real, role, f"clips/{name}.mkv", split))
    return table


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    path = tmp_path_factory.mktemp("source") / "clip.mkv"
    encode_frames(moving_texture(0), "rgb24", SIZE, "30", path)
    return Source(path, 0, FRAMES, SIZE, Fraction(30))


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]).astype(float)


def drawn(name: str, count: int = 11, seed: int = 0, stored: tuple[int, int] = SIZE, soft: bool = False) -> dict:
    return chain_draws.draw_versions(name, count, seed, SIZE, stored, soft)


# drawing


def test_a_content_draws_the_same_versions_whatever_else_there_is():
    assert drawn("a") == drawn("a") != drawn("b")
    assert drawn("a", seed=1) != drawn("a")
    assert json.loads(json.dumps(drawn("a"))) == drawn("a")
    assert [len(drawn("a", count)) for count in (7, 11)] == [7, 11]


def test_versions_are_a_ladder_steps_alone_and_chains():
    for name in map(str, range(40)):
        versions = drawn(name)
        ladder = [chain[0] for version, chain in versions.items() if version.startswith("ladder")]
        assert len(ladder) == 3 and len({of["kind"] for of in ladder}) == 1
        strengths = [of["strength"] for of in ladder]
        assert strengths == sorted(strengths) and strengths[-1] - strengths[0] > 1
        alone = [chain for version, chain in versions.items() if version.startswith("alone")]
        assert len({tuple(of["kind"] for of in chain) for chain in alone}) == 4
        assert not any(of["kind"] in chain_steps.CODECS for chain in alone for of in chain)


def test_steps_of_a_chain_come_in_the_order_of_its_stages():
    rng = random.Random(0)
    for _ in range(200):
        chain = chain_draws.draw_chain(rng, 640 * 360)
        stages = [STAGES.index(of["stage"]) for of in chain]
        assert stages == sorted(stages) and 2 <= len(set(stages)) <= 3
        assert all(chain_draws.LOWEST / 2 <= of["strength"] <= chain_draws.HIGHEST for of in chain)


def test_as_many_steps_are_mild_as_strong():
    strengths = [
        of["strength"]
        for k in range(200)
        for chain in drawn(str(k)).values()
        for of in chain
        if of["kind"] != "shrink"
    ]
    assert 0.5 < np.mean(np.array(strengths) < 2.5) < 0.7


def test_a_soft_content_goes_through_its_chain_before_it_is_shrunk():
    for chain in drawn("a", stored=(512, 384), soft=True).values():
        kinds = [of["kind"] for of in chain]
        assert kinds.count("shrink") == 1
        assert all(of.get("stage") == "display" for of in chain[kinds.index("shrink") + 1 :])
    # a pristine one at times, and never where the stored clip is as small as the display
    begun = [
        any(of["kind"] == "shrink" for of in chain)
        for k in range(30)
        for chain in drawn(str(k), stored=(512, 384)).values()
    ]
    assert 0 < sum(begun) < len(begun) / 3
    assert not any(of["kind"] == "shrink" for chain in drawn("a").values() for of in chain)


def test_a_number_and_its_strength_belong_together():
    assert step("h264", 3)["value"] == 36 and chain_steps.step_of_value("h264", 36)["strength"] == 3
    assert step("underexposure", 2.5)["value"] == pytest.approx(0.5)
    assert chain_steps.step_of_value("underexposure", 0.5)["strength"] == 2.5
    assert step("defocus", 2.4) == {"kind": "defocus", "strength": 3.0, "value": 2}  # whole pixels


def test_real_test_clips_have_every_kind_at_medium_strength_and_the_published_versions():
    versions = chain_draws.measured_versions("a", 4, 0, SIZE, Fraction(25))
    kinds = {kind for stage in chain_draws.WEIGHTS.values() for kind in stage}
    assert {version for version in versions if version.startswith("medium")} == {f"medium {kind}" for kind in kinds}
    assert versions.keys() >= {*chain_draws.FIXED, "6 of 12 frames frozen", "chain 3"}
    for version, (kind, value) in chain_draws.FIXED.items():
        assert [(of["kind"], of["value"]) for of in versions[version]] == [(kind, value)]


def test_damage_names_what_people_see():
    chain = [
        step("noise", 2),
        step("sharpen", 4),
        step("mpeg2", 3) | {"smaller": 1.9},
        {"kind": "shrink", "strength": 0.0, "value": 0},
    ]
    seen = {name: strength for name, strength in chain_steps.damage(chain).items() if strength}
    assert seen == {"noise": 2, "compression": 3, "blocking": 2, "low_resolution": 2}
    assert step("mpeg2", 5)["value"] == 31  # more than 31 it does not take
    assert not any(chain_steps.damage([]).values()) and tuple(chain_steps.damage([])) == DAMAGES


# rendering


@pytest.mark.parametrize("kind", [kind for kind in chain_steps.KINDS if kind != "shrink"])
def test_every_step_keeps_size_and_frames_and_changes_the_picture(kind, source, tmp_path):
    chain = chain_draws.draw_step(random.Random(0), kind, 4, 256 * 192)
    render(chain, source, SIZE, tmp_path / "out.mkv")
    frames = decoded(tmp_path / "out.mkv")
    assert frames.shape == (FRAMES, SIZE[1], SIZE[0])
    assert np.abs(frames - decoded(source.path)).mean() > 0.5
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mkv"]


def test_a_chain_runs_a_codec_after_what_comes_before_it(source):
    chain = [
        step("lens_blur", 2),
        step("h264", 2) | {"smaller": 2},
        {"kind": "shrink", "strength": 0.0, "value": 0},
        step("mpeg4", 2),
    ]
    (first, upload), (second, display) = chain_rendering.plan_passes(chain, source, (128, 96))
    assert first[1:] == ["gblur=sigma=0.75", "scale=128:96:flags=area"] and "libx264" in upload
    assert second == ["scale=256:192:flags=bicubic", "scale=128:96:flags=area"] and "mpeg4" in display
    # what ends without a codec is stored
    assert chain_rendering.plan_passes(chain[:1], source, SIZE)[-1][1] == chain_rendering.STORE


def test_steps_in_time_show_frames_again(source, tmp_path):
    clean = decoded(source.path)
    shown = {
        "stutter": [k // 3 * 3 for k in range(FRAMES)],
        "freeze": [*range(5), *[5] * 6, *range(11, FRAMES)],
        "drop": [0, 1, 2, 3, 4, 4, 4, 4, 8, 9, 10, 11, 12, 12, 12],
    }
    for kind, value, start in (("stutter", 0.1, 0), ("freeze", 0.4, 0.56), ("drop", 0.1333, 0)):
        chain = [{"kind": kind, "strength": 3, "value": value, "start": start}]
        render(chain, source, SIZE, tmp_path / "out.mkv")
        nearest = [
            int(np.argmin([np.abs(frame - other).mean() for other in clean]))
            for frame in decoded(tmp_path / "out.mkv")
        ]
        assert nearest == shown[kind], kind


def test_a_segment_begins_at_its_first_frame(source, tmp_path):
    part = Source(source.path, 4, 6, SIZE, source.rate)
    render([], part, SIZE, tmp_path / "out.mkv")
    assert np.abs(decoded(tmp_path / "out.mkv") - decoded(source.path)[4:10]).mean() < 1


# labels


def test_label_is_vmaf_where_vmaf_sees_the_damage():
    chain = [step("lens_blur", 2), step("h264", 3)]
    assert chain_labels.label(chain, {"vmaf_aligned": 61.5, "changes": []}) == 61.5
    assert chain_labels.label([], {"vmaf_aligned": 99, "changes": []}) == 99


def test_rule_steps_keep_shares_that_multiply():
    freeze, dim = step("freeze", 3), step("underexposure", 2)
    measures = {"vmaf_aligned": 80, "changes": [1e9]}
    assert chain_labels.label([freeze], measures) == pytest.approx(80 * 0.44)
    assert chain_labels.label([dim], measures) == pytest.approx(80 * 0.76)
    both = {"vmaf_aligned": 80, "changes": [1e9, 1e9]}
    assert chain_labels.label([dim, freeze], both) == pytest.approx(80 * 0.76 * 0.44)


def test_what_changes_nothing_costs_nothing():
    freeze = step("freeze", 5)
    measures = {"vmaf_aligned": 97, "changes": [0.0]}
    assert chain_labels.label([freeze], measures) == 97
    assert chain_labels.seen([freeze, step("h264", 2)], measures) == [step("h264", 2)]
    half = {"vmaf_aligned": 100, "changes": [chain_labels.HALF_SEEN["freeze"]]}
    assert chain_labels.label([freeze], half) == pytest.approx(100 - 88 / 2)


def test_no_damage_of_the_picture_is_stronger_than_what_the_picture_has_lost():
    chain = [step("freeze", 3), step("h264", 4)]
    for vmaf, strength in ((98, 0), (80, 2), (65, 3), (10, 4)):
        found = chain_labels.seen_damage(chain, {"vmaf_aligned": vmaf, "changes": [30.0]})
        assert (found["compression"], found["freeze"]) == (strength, 3)


def test_noise_is_judged_by_the_lower_of_vmaf_and_its_share():
    chain = [step("noise", 3)]
    measures = {"vmaf_aligned": 90, "vmaf_without_noise": 100, "noise": 10, "bareness": 1.0, "changes": []}
    assert chain_labels.label(chain, measures) == pytest.approx(62)
    assert chain_labels.label(chain, measures | {"bareness": 0.6}) == pytest.approx(76)  # texture hides it
    assert chain_labels.label(chain, measures | {"vmaf_aligned": 30}) == 30
    assert chain_labels.label(chain, measures | {"vmaf_without_noise": 50}) == pytest.approx(31)  # blurred besides


def test_a_flat_picture_hides_no_noise(source, tmp_path):
    encode_frames(np.full((4, 64, 64, 3), 120, np.uint8), "rgb24", (64, 64), "10", tmp_path / "flat.mkv")
    assert chain_labels.bareness(tmp_path / "flat.mkv") > 0.98
    assert chain_labels.bareness(source.path) < 0.9


def test_measures_of_a_frozen_and_compressed_clip(source, tmp_path):
    chain = [step("freeze", 4, start=0.5), step("h264", 2)]
    render(chain, source, SIZE, tmp_path / "out.mkv")
    measures = chain_labels.measure(tmp_path / "out.mkv", chain, source, source, SIZE, tmp_path / "work.mkv")
    # with the same frames frozen in the reference, compression alone is left
    assert measures["vmaf"] < measures["vmaf_aligned"] - 10
    assert measures["changes"][0] > 5
    render(chain[1:], source, SIZE, tmp_path / "thawed.mkv")
    assert measures["vmaf_aligned"] == pytest.approx(measure_vmaf(tmp_path / "thawed.mkv", source.path), abs=8)


def test_a_gain_is_judged_by_what_it_clips(tmp_path):
    for name, level in (("dark", 40), ("bright", 200)):
        frames = (moving_texture(1) // 8 + level).astype(np.uint8)
        encode_frames(frames, "rgb24", SIZE, "10", tmp_path / f"{name}.mkv")
    changes = {}
    for name in ("dark", "bright"):
        clip = Source(tmp_path / f"{name}.mkv", 0, FRAMES, SIZE, Fraction(10))
        chain = [step("overexposure", 3)]
        changes[name] = chain_labels.measure(clip.path, chain, clip, clip, SIZE, tmp_path / "work.mkv")["changes"][0]
    assert changes["dark"] < 4 < 20 < changes["bright"]


def test_luma_changes_are_root_mean_squares(source, tmp_path):
    assert luma_change(source.path, "lutyuv=y=val+6") == pytest.approx(6, abs=0.5)
    assert luma_difference(source.path, source.path) == 0
    render([step("noise", 3, preset="c0s", seed=1)], source, SIZE, tmp_path / "out.mkv")
    assert luma_difference(tmp_path / "out.mkv", source.path) == pytest.approx(20 / np.sqrt(3), abs=2)


# the set


@pytest.mark.parametrize("soft", [False, True])
def test_each_kind_comes_once_alone_and_other_seeds_draw_other_strengths(soft):
    versions = chain_draws.versions_of_each_kind("street-0", 0, SIZE, soft)
    assert {version.removeprefix("each ") for version in versions} == {
        kind for stage in chain_draws.WEIGHTS.values() for kind in stage
    }
    kinds = [{a_step["kind"] for a_step in chain} - {"shrink"} for chain in versions.values()]
    assert {kind for of_version in kinds for kind in of_version} == set(chain_draws.STEP_KINDS) - {"low_light"}
    assert [len(of_version) for of_version in kinds].count(1) == len(versions) - 1  # a dark picture is noisy too
    assert all(any(a_step["kind"] == "shrink" for a_step in chain) == soft for chain in versions.values())
    assert versions == chain_draws.versions_of_each_kind("street-0", 0, SIZE, soft)
    assert versions != chain_draws.versions_of_each_kind("street-0", 1, SIZE, soft)


def test_sizes_are_those_in_use_and_never_above_the_content():
    assert list(chained_clips.display_sizes((1920, 1080), soft=False)) == [180, 360, 480, 540, 720, 1080]
    assert list(chained_clips.display_sizes((1080, 1920), soft=True)) == [180, 360, 480, 540]
    assert list(chained_clips.display_sizes((640, 272), soft=False)) == [180, 272]
    assert list(chained_clips.display_sizes((384, 288), soft=False)) == [180, 288]
    assert chained_clips.display_sizes((320, 240), soft=True) == {}
    assert chained_clips.scaled((1080, 1920), 360) == (360, 640)
    assert chained_clips.scaled((854, 480), 360) == (640, 360)


LINES = [
    ("street-0", "street", "street", 1, "pristine", "train"),
    ("street-1", "street", "street", 1, "pristine", "train"),
    ("game-0", "game", "game", 0, "pristine", "train"),
    ("room-0", "room", "people", 1, "pristine", "test"),
    ("room-0-soft", "room", "people", 1, "soft", "test"),
]


def test_a_table_of_contents_becomes_rows_and_a_stopped_build_goes_on(tmp_path, monkeypatch, capsys):
    table = write_contents(tmp_path / "contents", LINES)
    with open(table, "a", encoding="utf-8") as file:
        file.write("gone-0,gone,street,1,pristine,clips/gone-0.mkv,validation\n")
    monkeypatch.setattr(chained_clips, "SIZES", {180: 1.0})
    monkeypatch.setattr(chained_clips, "measured_versions", lambda *_: {"medium h264": [step("h264", 3)]})
    command = ["prepare", "degraded_contents", "--contents", str(table), "--out", str(tmp_path / "built")]
    assert main([*command, "--versions", "4", "--real_versions", "5"]) == 0
    reports = {report["split"]: report for report in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (reports["train"]["n"], reports["test"]["n"]) == (6 + 6 + 5, 2)
    # the soft one and the one that is not there
    assert (reports["test"]["missing"], reports["validation"]["missing"]) == (1, 1)

    shutil.move(tmp_path / "built", tmp_path / "moved")
    rows = [row for part in load_rows(tmp_path / "moved" / "dataset").values() for row in part]
    assert all(Path(row["video"]).is_file() for row in rows)
    splits = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert splits == {"street": {"train"}, "game": {"train"}, "room": {"test"}}
    untouched = [row for row in rows if row["version"] == "untouched"]
    assert len(untouched) == 4 and all(row["mos"] > 90 and not any(row["damage"].values()) for row in untouched)
    tested = next(row for row in rows if row["version"] == "medium h264")
    assert 0 < tested["damage"]["compression"] <= 3 and tested["mos"] == pytest.approx(tested["vmaf"], abs=0.01)
    assert json.loads(tested["chain"]) == [step("h264", 3)]
    assert (tested["content"], tested["kind"], tested["is_real"]) == ("room-0", "people", True)
    assert (tested["width"], tested["height"], tested["fps"]) == (*SIZE, 10)

    made = []
    render = chained_clips.render
    monkeypatch.setattr(chained_clips, "render", lambda *task: made.append(task[-1].name) or render(*task))
    label = tmp_path / "moved" / "labels" / "room-0-medium_h264.json"
    label.unlink()  # as if it was stopped there
    # another chain: its label is not of this clip
    other = tmp_path / "moved" / "labels" / "street-0-ladder_0.json"
    other.write_text(json.dumps(json.loads(other.read_text()) | {"chain": []}))
    again, _ = chained_clips.prepare_chains(table, tmp_path / "moved", versions=4, real_versions=5)
    assert sorted(made) == ["room-0-medium_h264.mkv", "street-0-ladder_0.mkv"]
    assert sorted(row["mos"] for row in again) == sorted(row["mos"] for row in rows)


def test_a_build_that_is_stopped_among_its_clean_clips_makes_none_of_them_twice(tmp_path, monkeypatch):
    table = write_contents(tmp_path / "contents", LINES)
    made, encode = [], chained_clips.encode

    def stopped_at_the_third(source, output, encoder):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(output.name)
        encode(source, output, encoder)

    monkeypatch.setattr(chained_clips, "encode", stopped_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        chained_clips.prepare_chains(table, tmp_path / "built", versions=4, real_versions=5, workers=1)
    monkeypatch.setattr(chained_clips, "encode", lambda *task: made.append(task[1].name) or encode(*task))
    chained_clips.prepare_chains(table, tmp_path / "built", versions=4, real_versions=5, workers=1)
    assert len(made) == len(set(made)) == 4


def test_ladders_are_of_real_test_contents_at_each_size_they_have(tmp_path, monkeypatch):
    table = write_contents(tmp_path / "contents", LINES)
    monkeypatch.setattr(chain_draws, "LADDER_CRFS", (18, 48))
    rows, left_out = chained_clips.prepare_ladders(table, tmp_path / "ladders", num_contents=3)
    assert [(row["content"], row["version"], row["height"]) for row in rows] == [
        ("room-0", "untouched", 180),
        ("room-0", "h264 crf 18", 180),
        ("room-0", "h264 crf 48", 180),
    ]
    assert rows[0]["mos"] > rows[1]["mos"] > rows[2]["mos"] and not left_out
