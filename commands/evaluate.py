"""`lmmvqa evaluate`: the paper's protocols on prepared data sets."""

import argparse
from dataclasses import dataclass, field, fields
from typing import Literal

from ..evaluation.options import EvaluationOptions
from .output import print_table, quiet_libraries


HELP = "the paper's protocols on prepared data sets: predictions, figures, tables"
DESCRIPTION = (
    "Evaluates a checkpoint on data sets that `lmmvqa prepare` wrote, and prints the paper's table with published rows "
    "beside measured ones. Run again, it goes on where it was. Exit status 1: a video has no answer."
)


def of_fine_tuning(help: str, default=False, **settings) -> object:
    return field(default=default, metadata={"help": help, "group": "--protocol fine_tuning", **settings})


@dataclass(kw_only=True)
class Options(EvaluationOptions):
    protocol: Literal["in_sample", "out_of_distribution", "fine_tuning"] | None = field(
        default=None,
        metadata={
            "help": "test parts, whole sets, or cross-validation by group (default: test parts of LSVQ and of sets that "
            "the model was trained on, else whole sets)"
        },
    )
    folds: int = of_fine_tuning("of each data set (default: 5)", 5)
    seed: int = of_fine_tuning("of the folds (default: 0)", 0)
    keep_checkpoints: bool = of_fine_tuning("of all folds")
    train_options: list[str] = of_fine_tuning("all that follows is given to train.py", (), nargs=argparse.REMAINDER)


def run(options: Options) -> int:
    if options.protocol != "fine_tuning" and (options.train_options or options.keep_checkpoints):
        raise ValueError("got options of training, expected --protocol fine_tuning with them")
    quiet_libraries()
    from datasets import disable_progress_bars

    from ..evaluation import protocols

    disable_progress_bars()
    of_all = EvaluationOptions(**{of.name: getattr(options, of.name) for of in fields(EvaluationOptions)})
    if options.protocol == "fine_tuning":
        metrics = protocols.cross_validate(
            of_all, options.folds, options.seed, options.keep_checkpoints, list(options.train_options)
        )
    else:
        metrics = protocols.evaluate_checkpoint(of_all, options.protocol)
    return print_table(options.out, metrics)
