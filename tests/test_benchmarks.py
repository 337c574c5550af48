"""The benchmarks for a GPU run the same code here, on a tiny model."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import write_clip

from lmmvqa.datasets_scripts.prepare import prepare
from lmmvqa.datasets_scripts.rows import load_rows


BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def run_tiny(monkeypatch, tmp_path):
    """Runs a benchmark and returns its result; `fits` is how many videos the device has memory for."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def run(name, *options, fits=100):
        benchmark = importlib.import_module(name)
        measure = benchmark.measure

        def measure_what_fits(*arguments):
            if arguments[-2] > fits:
                raise torch.OutOfMemoryError("got too many. Try fewer")
            return measure(*arguments)

        monkeypatch.setattr(benchmark, "measure", measure_what_fits)
        out = tmp_path / "out.json"
        always = ["--device", "cpu", "--tiny", "--seconds", "2", "--repeats", "1", "--out", str(out)]
        benchmark.main([*always, *options])
        return json.loads(out.read_text())

    return run


def test_full_size_times_every_stage(run_tiny):
    result = run_tiny("full_size", "--batch_sizes", "1", "2", "--presets", "grid 8", "mean")
    assert [(run["preset"], run["batch_size"], run["prompt_tokens"]) for run in result["runs"]] == [
        ("grid 8", 1, 2 * 64 + 1 + 64),
        ("grid 8", 2, 2 * 64 + 1 + 64),
        ("mean", 1, 256 + 1 + 64),
        ("mean", 2, 256 + 1 + 64),
    ]
    stages = ["transfer", "vision_tower", "temporal_tower", "projectors", "prefill", "readout"]
    for run in result["runs"]:
        assert list(run["seconds"]) == [*stages, "score", "score_split_digits"]
        assert all(seconds > 0 for seconds in run["seconds"].values())


def test_full_size_records_what_does_not_fit_or_has_no_time(run_tiny):
    runs = run_tiny("full_size", "--batch_sizes", "1", "2", "4", "--presets", "mean", fits=1)["runs"]
    assert [run.get("out_of_memory") for run in runs] == [None, "got too many"]
    runs = run_tiny("full_size", "--batch_sizes", "1", "--minutes", "0")["runs"]
    assert [run["not_run"] for run in runs] == ["0 minutes were over"] * 3


def test_train_step_times_both_ways_of_checkpointing(run_tiny):
    result = run_tiny("train_step", "--batch_size", "2", "--presets", "mean")
    assert [(run["checkpointing"], run["portion"]) for run in result["runs"]] == [("on", 2), ("off", 2)]
    assert all(run["seconds"] > 0 and run["cached_seconds"] > 0 for run in result["runs"])
    projectors = [result["parameters"][part] for part in ("spatial_projector", "temporal_projector")]
    assert result["trained_parameters"] == sum(projectors)


def test_train_step_halves_what_does_not_fit(run_tiny):
    (run,) = run_tiny("train_step", "--batch_size", "4", "--presets", "mean", "--checkpointing", "off", fits=1)["runs"]
    assert (run["portion"], run["out_of_memory"]) == (1, [4, 2])


@pytest.mark.parametrize("name", ["full_size", "train_step"])
def test_the_command_for_a_cpu_runs_as_it_is_written(name, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    benchmark = importlib.import_module(name)
    assert f"python benchmarks/{name}.py --device cpu --tiny " in benchmark.__doc__
    benchmark.main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "out.json")])
    runs = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert len(runs) == 6 and all("seconds" in run for run in runs)


def test_tiny_holds_what_the_full_size_holds(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    sizes = importlib.import_module("full_size_model")
    positions = {sizes.full_size_config(tiny).text_config.max_position_embeddings for tiny in (True, False)}
    assert positions == {8192}


def test_results_that_are_listed_exist():
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    for cell in re.findall(r"^\| (.*?) \|", text, re.MULTILINE):
        for name in re.findall(r"`(?:results/)?([\w.]+\.(?:json|md))`", cell):
            assert (BENCHMARKS / "results" / name).is_file(), name


def test_the_network_is_imported_without_what_decodes_videos():
    code = "import full_size_model, sys; assert not {'av', 'lmmvqa.processing'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, check=True)


def test_stand_ins_have_the_official_layouts(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    sets = importlib.import_module("stand_in_sets")
    clip = Path(write_clip(tmp_path / "clip.mkv", num_frames=4, fps=4))
    videos = [sets.StandIn(clip, 10.0 * index) for index in range(10)]
    folders = {name: tmp_path / name for name in sets.SETS}
    for name, folder in folders.items():
        folder.mkdir()
        getattr(sets, f"write_{name}")(videos, folder, *[clip] * (name == "konvid_1k"))

    def prepared(name, labels, **options):
        reports = prepare(name, labels, tmp_path / "rows" / name, **options)
        return {report["split"]: (report["n"], report["missing"]) for report in reports}

    lsvq = [folders["lsvq"] / f"labels_{part}.csv" for part in ("train_test", "test_1080p")]
    counts = prepared("lsvq", lsvq, split_name="unverified")
    assert (counts["test"], counts["test_1080p"]) == ((2, 0), (2, 0))
    groups = {split: set(rows["group"]) for split, rows in load_rows(tmp_path / "rows" / "lsvq").items()}
    assert groups["test"] & (groups["train"] | groups.get("validation", set())) == {"two-cuts"}
    konvid = folders["konvid_1k"]
    assert prepared("konvid_1k", konvid / "KoNViD_1k_mos.csv", videos=konvid / "KoNViD_1k_videos") == {"test": (11, 1)}
    (ugc,) = folders["youtube_ugc"].glob("*.xlsx")
    assert prepared("youtube_ugc", ugc) == {"test": (10, 2)}
    assert prepared("live_vqc", folders["live_vqc"] / "data.mat") == {"test": (10, 0)}
    assert prepared("live_yt_gaming", folders["live_yt_gaming"] / "LIVEYTGaming.mat") == {"test": (10, 0)}
    assert sorted(load_rows(tmp_path / "rows" / "live_yt_gaming")["test"]["mos"]) == [
        10.0 * index for index in range(10)
    ]
