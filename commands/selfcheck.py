"""`lmmvqa selfcheck`: this installation's score of a bundled clip beside the stored one."""

import os
from dataclasses import dataclass

from ..scoring.options import option
from .model_options import ModelOptions, load


HELP = "compare this installation's score of a bundled clip with the stored one"
DESCRIPTION = "Scores a bundled clip and compares with the score stored with the model. Exit status 1: it differs."


@dataclass(kw_only=True)
class Options(ModelOptions):
    update: bool = option("store the present score in the model's folder", default=False)


def run(options: Options) -> int:
    if options.update and options.model and not os.path.isdir(options.model):
        raise ValueError(f"got --update with {options.model}, expected a folder to store the score in")
    scorer, model = load(options)
    from ..scoring.selfcheck import read_reference, run_selfcheck, write_reference

    if options.update:
        reference = write_reference(scorer, model)
        print(f"stored {reference.score} ± {reference.score_std} in {model}")
        return 0
    return 0 if run_selfcheck(scorer, read_reference(model), model) else 1
