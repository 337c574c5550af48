"""`lmmvqa calibrate`: a model's scores on the scale of your own ratings."""

import json
import os
from dataclasses import dataclass

from ..scoring.options import option
from .model_options import ModelOptions, load
from .output import warn


HELP = "fit a model's scores to your own scale of opinions"
DESCRIPTION = (
    "Fits a rising map from the model's scores to your ratings, on any scale, and the deviation. What is written gives "
    "scores on your scale everywhere. The last line is JSON: errors before and after. Exit status 1: a video has no score, and was left out."
)


@dataclass(kw_only=True)
class Options(ModelOptions):
    csv: str = option("your ratings: columns video, mos, and content where several show the same", metavar="FILE")
    out: str = option("new folder for the calibrated checkpoint", metavar="DIR", output="folder")
    std_only: bool = option("leave scores as they are: ratings on their scale fit the deviation alone", default=False)


def run(options: Options) -> int:
    if os.path.exists(options.out):
        raise ValueError(f"got --out {options.out}, which exists already; expected a new folder")
    scorer, model = load(options)
    from ..checkpoints.export import is_adapter, load_checkpoint, save_checkpoint
    from ..checkpoints.model_card import carry_model_card
    from ..checkpoints.training_videos import carry_training_videos
    from ..evaluation.calibration import calibrate, read_contents, read_ratings, report_lines, write_report
    from ..scoring.selfcheck import write_reference

    ratings = read_ratings(options.csv)
    warn(f"scoring {len(ratings)} videos")
    report = calibrate(scorer, ratings, options.std_only, read_contents(options.csv))
    for failure in report["failures"]:
        warn(f"warning: no score, left out: {failure['error']}")
    save_checkpoint(load_checkpoint(model) if is_adapter(model) else scorer.model, scorer.processor, options.out)
    carry_training_videos(model, options.out)
    fitted_to = f"{report['n']} ratings of {report['mos_min']:.3g} to {report['mos_max']:.3g}"
    carry_model_card(options.model, options.out, fitted_to)
    write_reference(scorer, options.out)
    write_report(report, options.out)
    print("\n".join(report_lines(report)))
    print(f"wrote {options.out}")
    print(json.dumps(report))
    return 1 if report["failures"] else 0
