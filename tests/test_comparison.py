"""Versions of one content: probabilities, their fit, Bjøntegaard deltas, and `lmmvqa compare`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import full_disk, write_clip
from PIL import Image
from transformers import AutoProcessor

from lmmvqa.commands.command_line import main
from lmmvqa.evaluation.comparison import (
    bd_rate,
    fit_pair_std_scale,
    front,
    pairs_of_contents,
    probability_better,
    reliability,
)
from lmmvqa.scoring import scorer as scorer_module
from lmmvqa.scoring.report import OUTSIDE_NOTE, ROW_KEYS


def test_the_probability_of_a_difference():
    assert probability_better(50, 10, 50, 3) == 0.5
    assert probability_better(60, 6, 50, 8) == pytest.approx(0.8413, abs=1e-4)  # one deviation of 10
    assert probability_better(50, 8, 60, 6) == pytest.approx(1 - 0.8413, abs=1e-4)
    assert probability_better(60, 6, 50, 8, 0.5) == pytest.approx(0.9772, abs=1e-4)
    assert probability_better(60, 6, [50, 70], [8, 8]).tolist() == pytest.approx([0.8413, 0.1587], abs=1e-4)


def draw_versions(error_of_pairs, seed=0):
    """300 contents of 6 versions with opinions about their scores, off by errors that the versions share and by their own."""
    rng = np.random.default_rng(seed)
    scores, shared = rng.uniform(0, 100, (300, 6)), rng.normal(scale=20, size=(300, 1))
    mos = scores + shared + rng.normal(scale=error_of_pairs, size=scores.shape)
    contents = np.repeat(np.arange(300), 6).astype(str)
    return pairs_of_contents(scores.ravel(), np.full(1800, 20.0), mos.ravel(), contents)


@pytest.mark.parametrize("error", [5, 30])
def test_the_fit_finds_how_far_differences_are_off(error):
    """Errors shared by a content cancel; what is left may be less than the deviations say, or more."""
    pairs = draw_versions(error)
    scale = fit_pair_std_scale(pairs)
    assert scale == pytest.approx(error / 20, rel=0.1)
    for row in reliability(draw_versions(error, seed=1), scale):
        assert row["share"] == pytest.approx(row["probability"], abs=0.05)
        assert row["from"] <= row["probability"] <= row["to"]


def test_pairs_are_of_one_content_and_of_different_opinions():
    pairs = pairs_of_contents([1, 2, 3, 4, 5], [1, 1, 2, 2, 2], [10, 30, 20, 20, 7], ["a", "a", "b", "b", "alone"])
    assert {content: of.tolist() for content, of in pairs.items()} == {"a": [[1, 1, 2, 1, -20]]}


def test_reliability_counts_what_is_right():
    pairs = {"a": np.array([[60, 6, 50, 8, 5.0], [60, 6, 50, 8, -5.0], [50, 8, 60, 6, -1.0], [50, 5, 51, 5, 1.0]])}
    assert reliability(pairs, 1.0) == [
        {"from": 0.5, "to": 0.6, "n": 1, "probability": pytest.approx(0.556, abs=1e-3), "share": 0.0},
        {
            "from": 0.8,
            "to": 0.85,
            "n": 3,
            "probability": pytest.approx(0.8413, abs=1e-4),
            "share": pytest.approx(2 / 3),
        },
    ]


RATES, QUALITIES = [100, 200, 400, 800, 1600], [20.0, 40.0, 57.0, 70.0, 78.0]


def test_the_front_leaves_out_what_a_cheaper_version_beats():
    assert front([400, 100, 200, 200, 300], [50, 20, 40, 45, 44]) == [1, 3, 0]


def test_bd_rate():
    half = [rate / 2 for rate in RATES]
    assert bd_rate(RATES, QUALITIES, RATES, QUALITIES) == pytest.approx(0)
    assert bd_rate(RATES, QUALITIES, half, QUALITIES) == pytest.approx(-50)
    assert bd_rate(half, QUALITIES, RATES, QUALITIES) == pytest.approx(100)
    assert bd_rate(RATES, QUALITIES, half[::-1], QUALITIES[::-1]) == pytest.approx(-50)
    # A straight line in log rate: 10 points are a doubling, so that 2 points more save 2^0.2 everywhere
    line, better = ([10 * step + more for step in range(5)] for more in (0, 2))
    assert bd_rate(RATES, line, RATES, better) == pytest.approx(100 * (2**-0.2 - 1))
    dominated = [*RATES, 1700], [*QUALITIES, 50.0]
    assert bd_rate(*dominated, half, QUALITIES) == pytest.approx(-50)


def test_ladders_without_a_curve_or_a_common_quality_are_refused():
    with pytest.raises(
        ValueError, match="got 2 of 3 versions in the other ladder that are better than all cheaper ones"
    ):
        bd_rate(RATES, QUALITIES, [1, 2, 3], [50, 60, 55])
    with pytest.raises(ValueError, match="got ladders of qualities 20 to 78 and 120 to 178"):
        bd_rate(RATES, QUALITIES, RATES, [quality + 100 for quality in QUALITIES])


# the command


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    return [
        write_clip(folder / f"{name}.mp4", size=(size, size), seed=0)
        for name, size in zip("abcdef", range(48, 96, 8), strict=True)
    ]


@pytest.fixture
def scored(monkeypatch, versions):
    """The model's scores are 50, 40, ... with deviations of 10; of other files there is none."""

    def score_videos(scorer, videos):
        for video in videos:
            if video not in versions:
                yield {"video": video, "error": f"Could not read {video}: no such file; check the path"}
                continue
            result = {"score": 50.0 - 10 * versions.index(video), "score_std": 10.0, "level": "fair", "outside": []}
            facts = {"duration": 1.0, "frames": 30, "damaged_frames": 0, "width": 64, "height": 64, "fps": 30.0}
            yield dict.fromkeys(ROW_KEYS) | {"video": video, **result, **facts, **SEEN.get(Path(video).stem, {})}

    monkeypatch.setattr(scorer_module, "score_videos", score_videos)


# Of versions that are not what they seem
SEEN = {
    "d": {"expected_duration": 2.0, "frames": 10, "damaged_frames": 21, "lost_frames": 20},
    "e": {"hdr": "pq", "outside": ["hdr"]},
}


def compare(capsys, checkpoint, *arguments):
    status = main(["compare", "--model", str(checkpoint), *map(str, arguments)])
    return status, capsys.readouterr()


def test_the_command_orders_versions(capsys, checkpoint, versions, scored, tmp_path):
    status, printed = compare(capsys, checkpoint, "--within", "10", versions[1], versions[0], versions[2])
    header, *lines, within = printed.out.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines] == versions[:3]
    assert header.split()[:3] == ["version", "score", "level"]
    assert [line.split()[-1] for line in lines[1:]] == ["76%", "92%"]
    assert within.endswith(versions[1]) or within.endswith(versions[0])


def test_the_object_holds_all_pairs_and_what_failed(capsys, checkpoint, versions, scored, tmp_path):
    processor = AutoProcessor.from_pretrained(checkpoint)
    processor.pair_std_scale = 2.0
    missing = str(tmp_path / "missing.mp4")
    status, printed = compare(capsys, checkpoint, "--json", *versions[:3], missing)
    found = json.loads(printed.out)
    assert status == 1
    assert found["best"] == versions[0]
    assert [failure["video"] for failure in found["failures"]] == [missing]
    assert "warning: no score, left out" in printed.err
    best = found["versions"][0]
    assert list(best["better"].values()) == pytest.approx([0.760, 0.921], abs=1e-3)
    assert best["kbps"] == pytest.approx(8 * best["bytes"] / 1000)
    for row in found["versions"]:
        for other in found["versions"]:
            if other is not row:
                assert row["better"][other["video"]] + other["better"][row["video"]] == pytest.approx(1)


def test_what_is_damaged_or_outside_is_said_of_each_version(capsys, checkpoint, versions, scored):
    status, printed = compare(capsys, checkpoint, *versions[2:5])
    first, second, third = printed.out.splitlines()[1:]
    assert status == 0 and "(" not in first
    assert second.endswith("%  (1.0 of 2.0 s)  (21 of 30 frames damaged or lost)") and third.endswith(
        "%  (outside: hdr)"
    )
    assert printed.err.splitlines()[-1] == OUTSIDE_NOTE
    _, printed = compare(capsys, checkpoint, "--json", *versions[2:5])
    first, second, third = json.loads(printed.out)["versions"]
    assert {**second, **SEEN["d"]} == second and {**third, **SEEN["e"]} == third
    assert (first["outside"], first["damaged_frames"]) == ([], 0) and OUTSIDE_NOTE not in printed.err
    _, printed = compare(capsys, checkpoint, *versions[:2])
    assert OUTSIDE_NOTE not in printed.err


def test_ladders_and_the_plot(capsys, checkpoint, versions, scored, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    # All on one line of score over log rate, but the other ladder at half of the rate
    sizes = {video: 1000 * 2 ** (6 - index - index % 2) for index, video in enumerate(versions)}
    monkeypatch.setattr("lmmvqa.commands.compare.os.path.getsize", lambda path: sizes[path])
    plot = tmp_path / "plot.png"
    status, printed = compare(capsys, checkpoint, *versions[::2], "--ladder", *versions[1::2], "--plot", plot)
    *_, rate, wrote = printed.out.splitlines()
    assert status == 0
    assert rate == "BD-rate of --ladder: -50.0 % bits for the same score"
    assert wrote == f"wrote {plot}"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_what_was_scored_is_printed_before_anything_can_fail(capsys, checkpoint, versions, scored, tmp_path):
    pytest.importorskip("matplotlib")
    ladders = [*versions[:3], "--ladder", *versions[3:]]  # of which none is a curve
    for form in ([], ["--json"]):
        with pytest.raises(SystemExit):
            compare(capsys, checkpoint, *form, *ladders)
        printed = capsys.readouterr()
        assert all(video in printed.out for video in versions) and "better than all cheaper ones" in printed.err
    with full_disk(100), pytest.raises(SystemExit):
        compare(capsys, checkpoint, *versions[:2], "--plot", tmp_path / "new/plot.png")
    printed = capsys.readouterr()
    assert versions[0] in printed.out
    assert f"got the output {tmp_path}/new/plot.png, expected a file to write to: File too large" in printed.err


def test_pictures_have_no_bit_rate(capsys, checkpoint, versions, tmp_path):
    for name, colour in (("a.png", 90), ("b.png", 200)):
        Image.new("RGB", (64, 48), (colour, 80, 40)).save(tmp_path / name)
    status, printed = compare(capsys, checkpoint, tmp_path / "a.png", tmp_path / "b.png")
    assert status == 0
    assert all(re.search(r" (poor|fair|good) +- +0\.000", line) for line in printed.out.splitlines()[1:])


def test_pictures_are_on_no_curve(capsys, checkpoint, versions, scored, tmp_path, monkeypatch):
    sizes = {video: 1000 * 2 ** (6 - index - index % 2) for index, video in enumerate(versions)}
    monkeypatch.setattr("lmmvqa.commands.compare.os.path.getsize", lambda path: sizes[path])
    monkeypatch.setitem(SEEN, "f", {"fps": None, "duration": 0.04})
    report = tmp_path / "report.html"
    with pytest.raises(SystemExit) as exit_:
        compare(capsys, checkpoint, "--json", "--report", report, *versions[::2], "--ladder", *versions[1::2])
    printed = capsys.readouterr()
    assert exit_.value.code == 2
    assert f"got {versions[5]}, expected no picture with --ladder or --plot" in printed.err
    found = json.loads(printed.out)
    assert found["bd_rate"] is None and [row["kbps"] is None for row in found["versions"]] == [False] * 5 + [True]
    assert report.read_text("utf-8").count("<circle") == 5
    for video in versions[:5]:
        monkeypatch.setitem(SEEN, Path(video).stem, {"fps": None, "duration": 0.04})
    status, _ = compare(capsys, checkpoint, "--report", tmp_path / "pictures.html", *versions)
    assert status == 0 and "bit rate" not in (tmp_path / "pictures.html").read_text("utf-8")
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit):
        compare(capsys, checkpoint, "--plot", tmp_path / "plot.png", *versions)
    printed = capsys.readouterr()
    assert versions[5] in printed.out and f"{versions[5]}, expected no picture" in printed.err


def test_versions_that_are_not_found_are_said(capsys, checkpoint, versions, scored, tmp_path):
    (tmp_path / "empty").mkdir()
    status, printed = compare(capsys, checkpoint, *versions[:2], tmp_path / "empty", "nothing*.mp4")
    assert status == 1
    assert printed.err.splitlines()[-2:] == [
        f"warning: no video in {tmp_path}/empty",
        "warning: no score, left out: Could not read nothing*.mp4: no such file; check the path",
    ]


def test_pairs_are_calibrated_where_the_table_has_contents(capsys, checkpoint, versions, tmp_path):
    table = tmp_path / "ratings.csv"
    rows = [
        f"{video},{mos},{'one' if mos % 2 else 'two'}" for mos, video in enumerate([*versions, *clips_of(tmp_path)])
    ]
    table.write_text("\n".join(["video,mos,content", *rows]) + "\n")
    calibrate = ["calibrate", "--model", str(checkpoint), "--csv", str(table), "--std_only", "--out"]
    assert main([*calibrate, str(tmp_path / "mine")]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["pairs"] == 42  # of two contents of 7
    assert sum(row["n"] for row in report["pairs, by probability"]) == 42
    scale = AutoProcessor.from_pretrained(tmp_path / "mine").pair_std_scale
    assert scale == report["pair_std_scale"] != 1

    table.write_text(table.read_text().replace(",one", ",").replace(",two", ","))
    with pytest.raises(SystemExit):
        main([*calibrate, str(tmp_path / "none")])
    assert "got 0 pairs of videos with one content" in capsys.readouterr().err


def clips_of(folder):
    return [write_clip(folder / f"{seed}.mp4", num_frames=8, seed=seed) for seed in range(8)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one.mp4"], "got 1 video(s), expected two versions"),
        (["one.mp4", "two.mp4", "--within", "-1"], "got --within -1, expected 0 points or more"),
        (["one.mp4", "two.mp4", "--ladder", "two.mp4"], "got a video in both ladders"),
        (["one.mp4", "two.mp4", "--ladder", "./two.mp4"], "got a video in both ladders"),
        (["sub//one.mp4", "two.mp4", "--ladder", "./sub/./one.mp4"], "got a video in both ladders"),
        (["one.mp4", "two.mp4", "--ladder", "*.nothing"], "got no video in --ladder *.nothing"),
        (
            ["a.mp4", "b.mp4", "--ladder", "c.mp4"],
            "got 2 version(s) in first ladder, expected at least 3 for a BD-rate",
        ),
        (["a.mp4", "b.mp4", "--plot", "plot.html"], "got --plot plot.html, expected a name that ends in .png"),
        (
            ["a.mp4", "b.mp4", "--plot", "x.png", "--report", "./x.png"],
            "got the outputs x.png, ./x.png, expected a file",
        ),
        (["a.mp4", "b.mp4", "--report", "file/x.html"], "in a folder that can be written to, which "),
        (["a.mp4", "b.mp4", "--report", ""], "got an empty --report, expected a name"),
    ],
)
def test_wrong_use_is_refused(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as exit_:
        main(["compare", *arguments])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
