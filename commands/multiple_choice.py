"""`lmmvqa multiple_choice`: questions with choices, answered by the model's distribution over them."""

import json
from dataclasses import dataclass

from ..scoring.options import option
from .model_options import ModelOptions, load
from .output import warn


HELP = "questions with choices about videos, such as Q-Bench's"
DESCRIPTION = (
    "Answers questions with choices by the model's distribution over the letters, each question once with each choice "
    "first; yes-or-no questions as they are. Prints the accuracy of each kind of question. Run again, it goes on where it "
    "was. The last line is JSON. Exit status 1: a question has no answer."
)


@dataclass(kw_only=True)
class Options(ModelOptions):
    questions: str = option("JSON list of {video, question, candidates, correct_ans, kind}", metavar="FILE")
    videos: str = option("folder of the videos", metavar="DIR")
    out: str = option("folder for answers and figures", metavar="DIR", output="folder")
    in_words: bool = option(
        "the choices are the answers themselves, without letters, for small decoders", default=False
    )
    feature_cache: str | None = option(
        "folder for the towers' features, computed once a video", default=None, metavar="DIR", output="folder"
    )


def run(options: Options) -> int:
    scorer, model = load(options)
    from ..evaluation.multiple_choice import evaluate_multiple_choice
    from ..training.feature_cache import FeatureCache

    cache = None
    if options.feature_cache:
        cache = FeatureCache(options.feature_cache, scorer.model.requires_grad_(False), scorer.processor)
    metrics = evaluate_multiple_choice(
        scorer, model, options.questions, options.videos, options.out, options.in_words, cache
    )
    for name, reason in metrics["failures"].items():
        warn(f"no answer: question {name}: {reason}")
    for kind, of_kind in metrics["kinds"].items():
        low, high = of_kind["interval"]
        print(
            f"{kind:<16} {of_kind['accuracy']:.3f} ({low:.3f} to {high:.3f})  chance {of_kind['chance']:.3f}  "
            f"same in all rotations {of_kind['same_in_all_rotations']:.3f}  n = {of_kind['n']}"
        )
    print(json.dumps(metrics))
    return 1 if metrics["failures"] else 0
