"""`lmmvqa baseline`: other models and classical measures under the same protocol."""

from ..evaluation.options import BaselineOptions
from .output import print_table, quiet_libraries


HELP = "other models and classical measures under the same protocol"
DESCRIPTION = (
    "Scores data sets that `lmmvqa prepare` wrote with an image-text-to-text model of transformers, asked zero-shot as "
    "LMM-VQA is, or with a classical measure or a small network. Run again, it goes on where it was. Exit status 1: a "
    "video has no answer."
)
Options = BaselineOptions


def run(options: BaselineOptions) -> int:
    quiet_libraries()
    from datasets import disable_progress_bars

    from ..evaluation.baselines import evaluate_baseline

    disable_progress_bars()
    return print_table(options.out, evaluate_baseline(options))
