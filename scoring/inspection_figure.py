"""The figure of one inspected video, after Figure 6 of the paper: key frames, motion, scores over time, distribution."""

from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..processing.answers_lmmvqa import LEVELS
from .inspection import Inspection, Reading
from .report import score_text


WITH, WITHOUT = "with temporal tokens", "without temporal tokens"
COLOURS = {WITH: "tab:blue", WITHOUT: "tab:orange"}
# A name longer than this is cut in the middle
TITLE_LENGTH = 80


def draw(inspection: Inspection, path: str | Path) -> None:
    """Writes the figure as a PNG, 1200 pixels wide."""
    readings = {WITH: inspection.with_temporal_tokens, WITHOUT: inspection.without_temporal_tokens}
    readings = {name: reading for name, reading in readings.items() if reading is not None}
    figure = Figure(figsize=(12, 10), dpi=100, layout="constrained")
    figure.suptitle(_title(inspection, readings), parse_math=False)
    grid = figure.add_gridspec(4, 1, height_ratios=[1.2, 1.2, 1.5, 1.5])
    strip = grid[0].subgridspec(1, len(inspection.key_frames))
    for place, (second, picture) in zip(strip, inspection.key_frames.items(), strict=True):
        axes = figure.add_subplot(place)
        axes.imshow(picture)
        axes.set_title(f"{second} s", fontsize="medium")
        axes.set_axis_off()
    _draw_scores(figure.add_subplot(grid[1]), inspection, readings)
    _draw_motion(figure.add_subplot(grid[2]), inspection)
    _draw_distributions(figure.add_subplot(grid[3]), inspection, readings)
    handles = [Line2D([], [], color=COLOURS[name], linewidth=3, label=name) for name in readings]
    if len(readings) == 2:
        handles[1].set_label(f"{WITHOUT}: left out of the prompt, of a model trained with them")
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, format="png")


def _title(inspection: Inspection, readings: dict[str, Reading]) -> str:
    name = Path(inspection.video).name
    if len(name) > TITLE_LENGTH:
        name = f"{name[: TITLE_LENGTH // 2]} ... {name[-TITLE_LENGTH // 2 :]}"
    width, height = inspection.size
    facts = f"{width} × {height}, {inspection.num_frames} frame(s) in {inspection.duration:.1f} s"
    scores = [
        f"{score_text(result.score, result.scale)} ± {score_text(result.score_std, result.scale)} ({result.level}) {name}"
        for name, result in ((name, reading.result) for name, reading in readings.items())
    ]
    return "\n".join([name, facts, f"score {', '.join(scores)}"])


def _draw_scores(axes: Axes, inspection: Inspection, readings: dict[str, Reading]) -> None:
    borders = inspection.sections
    for name, reading in readings.items():
        axes.stairs(reading.scores, borders, baseline=None, color=COLOURS[name], linewidth=2)
        axes.axhline(reading.result.score, color=COLOURS[name], linestyle="--", linewidth=1)
    lowest, highest = next(iter(readings.values())).result.scale or (0, 100)
    # A tenth of the scale at least, so that rounding errors do not look like events
    low, high = axes.get_ylim()
    middle, reach = (low + high) / 2, max(high - low, (highest - lowest) / 10) / 2
    axes.set_ylim(middle - reach, middle + reach)
    _set_time_axis(axes, inspection)
    lengths = [end - start for start, end in pairwise(borders.tolist())]
    each = f"{min(lengths)}" if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}"
    sections = f"each section of {each} s alone (solid) and of the whole video (dashed)"
    axes.set_title(f"Score of {sections if len(lengths) > 1 else 'the whole video, one section'}")
    axes.set_ylabel(f"score ({lowest:.4g} to {highest:.4g})")


def _draw_motion(axes: Axes, inspection: Inspection) -> None:
    motion = inspection.motion
    if len(motion.times):
        axes.plot(motion.times, motion.speeds, color="tab:green", linewidth=1)
        axes.fill_between(motion.times, motion.speeds, color="tab:green", alpha=0.2)
    else:
        axes.text(0.5, 0.5, "one frame: no motion", transform=axes.transAxes, ha="center")
    # The flow of a still video is not zero but small: a range of a pixel a second would show noise as motion
    axes.set_ylim(0, max([10, *(1.05 * motion.speeds)]))
    _set_time_axis(axes, inspection)
    pairs = "every frame" if motion.is_complete else f"{len(motion.times)} frames, evenly"
    axes.set_title(f"Motion: mean optical flow (TV-L1) from the frame before, {pairs}")
    axes.set_ylabel("pixels a second")


def _draw_distributions(axes: Axes, inspection: Inspection, readings: dict[str, Reading]) -> None:
    for name, reading in readings.items():
        axes.plot(reading.values, reading.probabilities, color=COLOURS[name])
        axes.fill_between(reading.values, reading.probabilities, color=COLOURS[name], alpha=0.2)
        axes.axvline(reading.result.score, color=COLOURS[name], linestyle="--", linewidth=1)
    lowest, highest = next(iter(readings.values())).result.scale or (0, 100)
    axes.set_xlim(lowest, highest)
    axes.set_ylim(
        0, 1.2 * max(reading.probabilities.max() for reading in readings.values())
    )  # room for the levels' names
    borders = [lowest, *inspection.level_thresholds, highest]
    for threshold in inspection.level_thresholds:
        axes.axvline(threshold, color="grey", linestyle=":", linewidth=1)
    for level, (left, right) in zip(LEVELS, pairwise(borders), strict=True):
        axes.text(
            (left + right) / 2, 0.97, level, transform=axes.get_xaxis_transform(), ha="center", va="top", color="grey"
        )
    axes.set_title("Distribution over scores, whole video (dashed: its mean, the score)")
    axes.set_xlabel("score")
    axes.set_ylabel("probability of an answer")


def _set_time_axis(axes: Axes, inspection: Inspection) -> None:
    axes.set_xlim(0, max(inspection.duration, inspection.sections[-1]))
    axes.set_xlabel("seconds")
    axes.grid(axis="y", alpha=0.3)
