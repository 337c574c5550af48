"""The figure of compared versions: score against bit rate."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .comparison import front


def draw(ladders: Mapping[str, Sequence[dict]], path: str | Path) -> None:
    """
    Writes a PNG, 1000 pixels wide.

    Args:
        ladders: name and versions of each, without pictures, rows with `video`, `score` and `kbps`. The line joins
            those that are better than all cheaper ones.
    """
    figure = Figure(figsize=(10, 6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for name, versions in ladders.items():
        rates, scores = ([version[key] for version in versions] for key in ("kbps", "score"))
        places = front(rates, scores)
        (line,) = axes.plot([rates[place] for place in places], [scores[place] for place in places], label=name)
        axes.scatter(rates, scores, color=line.get_color(), zorder=3)
        for version in versions:
            axes.annotate(
                Path(version["video"]).name,
                (version["kbps"], version["score"]),
                xytext=(6, -4),
                textcoords="offset points",
                fontsize="small",
                parse_math=False,
            )
    axes.set_xscale("log")
    axes.set_xlabel("kbit/s of the whole file")
    axes.set_ylabel("score")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    if len(ladders) > 1:
        axes.legend()
    figure.savefig(path, format="png")
