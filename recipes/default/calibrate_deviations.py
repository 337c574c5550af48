"""Fits how wide the trained default's deviations must be, and those of differences within a content, on the validation splits of what it was trained on.

`python -m recipes.default.calibrate_deviations --model DIR --data ROWS_DIR [ROWS_DIR ...] --report FILE`
writes `score_std_scale` and `pair_std_scale` to the checkpoint folder; its scores stay.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.evaluation.calibration import calibrate, report_lines
from lmmvqa.scoring.scorer import load_scorer


@dataclass
class CalibrationArguments:
    model: str = HfArg(help="Checkpoint folder, which is changed.")
    data: list[str] = HfArg(help="Folders of rows with a validation split.")
    report: str = HfArg(help="JSON file for the shares before and after.")


def main() -> None:
    (arguments,) = HfArgumentParser(CalibrationArguments).parse_args_into_dataclasses()
    rows = [row for folder in arguments.data for row in load_rows(folder)["validation"]]
    scorer = load_scorer(arguments.model)
    contents = {row["video"]: row["content"] for row in rows if row.get("content")}  # photographs have none
    report = calibrate(scorer, {row["video"]: row["mos"] for row in rows}, std_only=True, contents=contents or None)
    scorer.processor.save_pretrained(arguments.model)
    Path(arguments.report).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("\n".join(report_lines(report)))


if __name__ == "__main__":
    main()
