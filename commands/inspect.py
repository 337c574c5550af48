"""`lmmvqa inspect`: one video's motion, key frames and scores as a picture."""

import os
from dataclasses import dataclass
from importlib.util import find_spec

from ..scoring.options import option
from ..scoring.report import writing
from ..scoring.video_files import check_suffix, refuse_to_overwrite
from .model_options import ModelOptions, load


HELP = "draw one video's motion, key frames and scores (Figure 6 of the paper)"
DESCRIPTION = "Draws key frames, motion, and the score with and without temporal tokens over time as a PNG."


@dataclass(kw_only=True)
class Options(ModelOptions):
    video: str = option("file", positional=True, metavar="VIDEO")
    out: str | None = option(
        "PNG file (default: VIDEO's name with .png, in this folder)", default=None, metavar="FILE", output="file"
    )


def run(options: Options) -> int:
    if missing := [library for library in ("matplotlib", "skimage") if find_spec(library) is None]:
        raise ValueError(
            f"got no {' and no '.join(missing)}, expected them to be installed; pip install 'lmmvqa[inspect]'"
        )
    from ..scoring.inspection import inspect
    from ..scoring.inspection_figure import draw

    out = options.out or f"{os.path.splitext(os.path.basename(options.video))[0]}.png"
    refuse_to_overwrite(out, [options.video])
    check_suffix("out", out, (".png",))
    scorer, _ = load(options)
    inspection = inspect(scorer, options.video)
    with writing(out):
        draw(inspection, out)
    print(f"wrote {out}")
    return 0
