"""`lmmvqa vcgbench`: open questions about videos, judged by a language model."""

import json
from dataclasses import dataclass

from ..scoring.options import option
from .model_options import ModelOptions, load
from .output import warn


HELP = "VCGBench: open questions about videos, judged by a language model"
DESCRIPTION = (
    "Answers the questions of VCGBench and has the answers judged in five aspects, from 0 to 5, by any endpoint that is "
    "compatible with OpenAI's; its key is read from the environment variable LMMVQA_JUDGE_KEY. Run again, it goes on "
    "where it was. The last line is JSON. Exit status 1: a question has no answer or no score."
)


@dataclass(kw_only=True)
class Options(ModelOptions):
    questions: list[str] = option(
        "generic_qa.json, temporal_qa.json, consistency_qa.json, or some of them", metavar="FILE"
    )
    videos: str = option("folder of the videos", metavar="DIR")
    out: str = option("folder for answers, scores and their means", metavar="DIR", output="folder")
    judge_url: str | None = option(
        "such as http://localhost:8000/v1 (default: answer, and judge nothing)", default=None, metavar="URL"
    )
    judge_model: str | None = option("as the endpoint names it", default=None, metavar="NAME")
    judge_timeout: float = option("seconds for an answer (default: 120)", default=120.0)
    max_new_tokens: int = option("of an answer (default: 512)", default=512)


def run(options: Options) -> int:
    if (options.judge_url is None) != (options.judge_model is None):
        raise ValueError("got one of --judge_url and --judge_model, expected both or none of them")
    from ..evaluation.judge import Judge
    from ..evaluation.vcgbench import evaluate_vcgbench

    judge = None
    if options.judge_url is not None:
        judge = Judge(options.judge_url, options.judge_model, options.judge_timeout)
    scorer, model = load(options)
    metrics = evaluate_vcgbench(
        scorer, model, options.questions, options.videos, options.out, judge, options.max_new_tokens
    )
    for name, reason in metrics["failures"].items():
        warn(f"no answer: {name}: {reason}")
    for reason in metrics.get("without_score", []):
        warn(f"no score: {reason}")
    for aspect, of_aspect in metrics.get("aspects", {}).items():
        print(f"{aspect:<12} {of_aspect['score']:.2f}  n = {of_aspect['n']}")
    print(json.dumps(metrics))
    return 1 if metrics["failures"] or metrics.get("without_score") else 0
