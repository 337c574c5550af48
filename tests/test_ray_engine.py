"""`lmmvqa score --engine ray`: the rows are the local engine's, whatever dies meanwhile."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
from conftest import write_clip

from lmmvqa.commands.command_line import main


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of a clip of two portions, short ones, and a file that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "long.mkv", num_frames=20 * 8, fps=8)
    for index in range(12):
        write_clip(folder / f"{index}.mp4", num_frames=8, fps=8, seed=index)
    (folder / "text.mp4").write_text("this is not a video")
    return folder


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "got --engine ray without ray, expected it to be installed; pip install 'lmmvqa[ray]'"),
        (["--profile"], "got --profile with --engine ray, expected one of them"),
    ],
)
def test_what_ray_needs_is_said_before_a_model_is_loaded(tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.setattr("lmmvqa.commands.score.find_spec", lambda name: None)
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(SystemExit):
        main(["score", str(tmp_path), "--engine", "ray", *options])
    assert words in capsys.readouterr().err


def test_a_folder_gets_a_parquet_table(model, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", num_frames=8, fps=8)
    out = tmp_path / "new" / "scores"
    assert main(["score", clip, "--model", model, "--device", "cpu", "--out", str(out)]) == 0
    (row,) = pyarrow.parquet.read_table(out / "scores.parquet").to_pylist()
    assert row["video"] == clip and row["error"] is None


@pytest.fixture
def cluster(monkeypatch):
    """Two workers of two cores, and a head that has none."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    workers = [cluster.add_node(num_cpus=2) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster, workers
    ray.shutdown()
    cluster.shutdown()


def table(out: Path) -> dict[str, dict]:
    """Rows by video, without seconds."""
    rows = pyarrow.parquet.read_table(out / "scores.parquet").to_pylist()
    assert len({row["video"] for row in rows}) == len(rows)
    return {row["video"]: row | {"seconds": None} for row in rows}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rows_are_those_of_the_local_engine_although_a_worker_dies(cluster, model, videos, tmp_path, monkeypatch):
    cluster, workers = cluster
    options = [str(videos), "--model", model, "--device", "cpu"]
    assert main(["score", *options, "--out", str(tmp_path / "local")]) == 1

    from lmmvqa.commands import score as score_module

    num_rows = 0

    def kill_a_worker(line):
        nonlocal num_rows
        num_rows += 1
        if num_rows == 4:  # the first line is the table's head
            cluster.remove_node(workers[0], allow_graceful=False)

    monkeypatch.setattr(score_module, "print_line", kill_a_worker)
    ray_options = ["--engine", "ray", "--workers", "2", "--out", str(tmp_path / "ray")]
    assert main(["score", *options, *ray_options]) == 1
    assert num_rows == 1 + 14
    assert table(tmp_path / "ray") == table(tmp_path / "local")

    # What is known is not scored again; what failed is
    assert main(["score", *options, *ray_options]) == 1
    lines = (tmp_path / "ray" / "scores.parquet.journal").read_text().splitlines()
    again = [line["row"]["video"] for line in map(json.loads, lines) if "row" in line][14:]
    assert again == [str(videos / "text.mp4")]
