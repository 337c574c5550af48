"""Throughput of written answers: continuous batching beside padded batches of `generate`, same model, same videos.

    python benchmarks/continuous_batching.py --model MODEL --videos VIDEO... --out benchmarks/results/continuous_batching.json

`--batch_sizes` are those of `generate`; `--num_blocks` and `--max_batch_tokens` bound the paged cache and one pass, which else take
what fits. Towers run before, and are not counted. Each video is asked about `--copies` times, as if it were another one: copies share no
visual token. Answers end where the model ends them, at most after `--max_new_tokens`.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import ContinuousBatchingConfig
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa import load_scorer
from lmmvqa.modeling_lmmvqa.pipeline_lmmvqa import map_windows
from lmmvqa.scoring.continuous_batching import ContinuousScorer


@dataclass
class ContinuousBatchingArguments:
    model: str = HfArg(help="Checkpoint folder or repository.")
    videos: list[str] = HfArg(help="Files to ask about.")
    out: str = HfArg(help="JSON file for the result.")
    question: str = HfArg(help="What is asked about each.", default="Describe the visual quality of this video.")
    copies: int = HfArg(help="Times that each video is asked about.", default=4)
    batch_sizes: list[int] = HfArg(help="Of `generate`.", default_factory=lambda: [1, 4])
    max_new_tokens: int = HfArg(help="The longest answer.", default=32)
    device: str = field(default="cpu")
    dtype: str = field(default="float32")
    num_blocks: int | None = HfArg(help="Of the paged cache; default: what fits.", default=None)
    max_batch_tokens: int | None = HfArg(help="Of one pass; default: what fits.", default=None)


def timed(answer: Callable[[], list[str]]) -> tuple[list[str], dict]:
    """Answers, and what they took."""
    wall, cpu = time.perf_counter(), time.process_time()
    answers = answer()
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return answers, {name: round(value, 2) for name, value in seconds.items()}


def main() -> None:
    (arguments,) = HfArgumentParser(ContinuousBatchingArguments).parse_args_into_dataclasses()
    scorer = load_scorer(arguments.model, arguments.device, dtype=arguments.dtype)
    model, processor, question = scorer.model, scorer.processor, arguments.question
    videos = arguments.copies * processor.video_processor.encode(
        processor.video_processor.make_video_list(arguments.videos), model
    )
    options = {"max_new_tokens": arguments.max_new_tokens, "do_sample": False}

    def padded(size: int) -> list[str]:
        answers = []
        for start in range(0, len(videos), size):
            batch = videos[start : start + size]
            asked = map_windows(
                model,
                processor,
                batch,
                question,
                arguments.max_new_tokens,
                lambda inputs: scorer.generate_answers(inputs, **options),
            )
            answers += [text for _, texts, _ in asked for text in texts]
        return answers

    runs, expected = {}, None
    with torch.no_grad():
        for size in arguments.batch_sizes:
            answers, took = timed(lambda size=size: padded(size))
            expected = expected or answers
            runs[f"generate, batches of {size}"] = took | {"equal": _equal(answers, expected)}
            print(size, took, flush=True)
        of_cache = {"num_blocks": arguments.num_blocks, "max_batch_tokens": arguments.max_batch_tokens}
        continuous = ContinuousScorer(scorer, arguments.max_new_tokens, ContinuousBatchingConfig(**of_cache))
        asked, took = timed(lambda: continuous.answers(videos, question))
    answers = [text for _, texts, _ in asked for text in texts]
    runs["continuous batching"] = took | {"equal": _equal(answers, expected)}
    lengths = [len(ids) for ids in processor.tokenizer(expected, add_special_tokens=False)["input_ids"]]
    result = {
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "machine": f"{os.cpu_count()} cores of {platform.machine()}"
        if arguments.device == "cpu"
        else arguments.device,
        "threads": torch.get_num_threads(),
        "dtype": arguments.dtype,
        "question": question,
        "prompt_tokens": [
            len(processor.expanded_token_ids(processor.prompt(question), len(video.seconds))) for video in videos
        ],
        "answers": len(videos),
        "answer_tokens": lengths,
        "runs": runs,
    }
    Path(arguments.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(runs, indent=1))


def _equal(answers: list[str], expected: list[str]) -> int:
    return sum(one == other for one, other in zip(answers, expected, strict=True))


if __name__ == "__main__":
    main()
