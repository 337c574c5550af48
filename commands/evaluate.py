"""`lmmvqa evaluate`: the paper's protocols on prepared data sets."""

from ..evaluation.options import EvaluationOptions
from .output import print_table, quiet_libraries


HELP = "the paper's protocols on prepared data sets: predictions, figures, tables"
DESCRIPTION = (
    "Evaluates a checkpoint on data sets that `lmmvqa prepare` wrote, and prints the paper's table with published rows "
    "beside measured ones. Run again, it goes on where it was. Exit status 1: a video has no answer."
)
Options = EvaluationOptions


def run(options: EvaluationOptions) -> int:
    quiet_libraries()
    from datasets import disable_progress_bars

    from ..evaluation.protocols import evaluate

    disable_progress_bars()
    return print_table(options.out, evaluate(options))
