"""A row as a piece of HTML: score, level, seconds and problems. Texts are escaped; colours and sizes stand in page.css."""

import json
from html import escape

from ..processing.answers_lmmvqa import LEVELS
from ..scoring.report import (
    OUTSIDE_NOTE,
    decimals,
    decoded_in_part,
    end_text,
    printable,
    score_text,
    span_text,
    visible_damages,
)


# Windows, beyond which their columns are too narrow for a number on a phone
MAX_NUMBERED = 12


def result_html(row: dict) -> str:
    """
    Args:
        row: of `score_videos`, with a score.
    """
    low, high = row.get("scale") or (0, 100)
    parts = [_head(row), _windows(row, low, high), _problems(row), _facts(row)]
    whole = json.dumps(row, indent=1, allow_nan=False)
    parts.append(f"<details><summary>As JSON</summary><pre>{escape(whole)}</pre></details>")
    return "\n".join(filter(None, parts))


def _head(row: dict) -> str:
    masses = row["level_probabilities"]
    bar = "".join(
        f'<span class="level-{level}" style="width:{100 * masses[level]:.1f}%"></span>'
        for level in LEVELS
        if masses[level] > 0
    )
    legend = " · ".join(f"{level} {masses[level]:.0%}" for level in LEVELS)
    damage = ""
    if row["damage"] is not None:
        kinds = visible_damages(row["damage"])
        words = ", ".join(f"{kind.replace('_', ' ')} ({row['damage'][kind]:.0%})" for kind in kinds)
        damage = f"<p>What looks wrong: {words or 'nothing by name'}</p>"
    score, std = (score_text(row[name], row.get("scale")) for name in ("score", "score_std"))
    return (
        f'<h2 class="name">{escape(printable(row["video"]))}</h2>'
        '<div class="head">'
        f'<div class="score level-{row["level"]}"><b>{score}</b><span>± {std}</span></div>'
        f'<div class="level"><p><strong>{row["level"]}</strong></p><div class="bar">{bar}</div><p>{legend}</p>{damage}'
        "</div></div>"
    )


def _windows(row: dict, low: float, high: float) -> str:
    """A column a window of a long video, as high as its score."""
    if "windows" not in row:
        return ""
    last, worst = row["windows"][-1], row["worst_window"]
    end = last["end"]
    columns = []
    for window in row["windows"]:
        start, stop, score = window["start"], window["end"], window["score"]
        text = score_text(score, row.get("scale"))
        is_worst = " worst" if start == worst["start"] else ""
        height = 100 * (score - low) / (high - low)
        number = ""
        if len(row["windows"]) <= MAX_NUMBERED:
            number = f'<em style="bottom:{height:.1f}%">{score:.{decimals(row.get("scale")) - 1}f}</em>'
        columns.append(
            f'<button class="window{is_worst}" data-time="{start}" title="{span_text(window)}: {text}" '
            f'style="left:{100 * start / end:.2f}%;width:{100 * (stop - start) / end:.2f}%">'
            f'<i class="level-{window["level"]}" style="height:{height:.1f}%"></i>'
            f"{number}</button>"
        )
    return (
        "<h3>Over time</h3>"
        f'<div class="windows">{"".join(columns)}</div>'
        f'<div class="axis"><span>0 s</span><span>{end_text(row["windows"][-1])}</span></div>'
        f"<p>Worst: {span_text(worst)} with {score_text(worst['score'], row.get('scale'))}. "
        "The score is the mean of all.</p>"
    )


def _problems(row: dict) -> str:
    """A line a kind, with a bar wherever it was found."""
    if row["problems"] is None:
        return ""
    if not row["problems"]:
        return "<h3>Problems</h3><p>None of those looked for was found.</p>"
    of_kinds = {}
    for problem in row["problems"]:
        of_kinds.setdefault(problem["kind"], []).append(problem)
    lines = []
    for kind, problems in of_kinds.items():
        bars = "".join(
            f'<button data-time="{problem["start"]}" title="{problem["start"]:.1f}-{problem["end"]:.1f} s, '
            f'strength {problem["strength"]:.2g}" style="left:{100 * problem["start"] / row["duration"]:.2f}%;'
            f'width:{100 * (problem["end"] - problem["start"]) / row["duration"]:.2f}%"></button>'
            for problem in problems
        )
        first = problems[0]
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        lines.append(
            f'<div class="problem"><span>{kind.replace("_", " ")}</span><div class="track">{bars}</div>'
            f"<span>{first['start']:.1f}-{first['end']:.1f} s{more}</span></div>"
        )
    return f"<h3>Problems</h3>{''.join(lines)}"


def _facts(row: dict) -> str:
    facts = [f"{row['width']} × {row['height']} pixels"]
    if row["fps"] is not None:
        facts += [f"{row['fps']:.4g} frames a second", f"{row['duration']:.1f} s"]
    facts += decoded_in_part(row)
    if row["hdr"]:
        facts.append(f"HDR ({row['hdr']})")
    facts.append(f"answered in {row['seconds']:.1f} s")
    outside = ""
    if row["outside"]:
        why = OUTSIDE_NOTE.partition(": ")[2]
        outside = f'<p class="note">Outside of what it knows ({", ".join(row["outside"])}): {escape(why)}</p>'
    return f'<p class="facts">{" · ".join(facts)}</p>{outside}'
