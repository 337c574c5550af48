"""Figures as the paper's table, published rows beside measured ones, and the tables that say what stands behind them."""

import json
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files

from ..processing.answers_lmmvqa import DAMAGE_ANSWERS, LEVELS


def published_results() -> dict:
    """
    `columns` {title, dataset, part} in the paper's order, `part` being the split or None for the whole set; and `rows`
    {model, source, srcc_plcc}: the publication whose own tables have these figures, and a pair or None a column.
    """
    return json.loads((files(__package__) / "published_results.json").read_text(encoding="utf-8"))


def checkpoint_tables(metrics: dict) -> str:
    """`table.md` of `protocols.evaluate_checkpoint`."""
    measured = {metrics["model"]: {_key(entry): _pair(entry.get("score", {})) for entry in metrics["sets"]}}
    parts = [f"# {metrics['model']}\n", _paper_layout(measured)]
    scored = [entry for entry in metrics["sets"] if "score" in entry]
    if scored:
        header = ["set", "protocol", "n", "failed", "left out", "SRCC (95 %)", "KRCC", "PLCC (95 %)", "PLCC fitted"]
        header += ["RMSE", "RMSE fitted", "inside ± 1.96 std"]
        parts += ["## All figures\n", _table(header, [_score_line(entry) for entry in scored])]
        parts.append(
            "`failed`: videos without a score, which n does not count. `left out`: videos that `lmmvqa prepare` left "
            "out, listed in its `left_out.jsonl`. RMSE is on 0-100. Fitted: after the 4-parameter logistic.\n"
        )
    parts += _degradation_tables(metrics) + _content_tables(metrics)
    return "\n".join(parts + _level_table(metrics) + _notes(metrics))


def cross_validation_tables(metrics: dict) -> str:
    """`table.md` of `protocols.cross_validate`."""
    measured = {
        f"{metrics['model']}, fine-tuned: {summary} of {metrics['folds']} folds": {
            _key(entry): _pair(entry.get(summary, {})) for entry in metrics["sets"]
        }
        for summary in ("mean", "median")
    }
    parts = [f"# {metrics['model']}, fine-tuned on {metrics['folds']} folds\n", _paper_layout(measured)]
    lines = []
    for entry in metrics["sets"]:
        for fold, figures in enumerate(entry.get("folds", [])):
            lines.append([_title(entry), str(fold), str(figures["n_train"]), *_fold_cells(figures)])
        for summary in ("mean", "median"):
            if summary in entry:
                lines.append([_title(entry), summary, "", *_fold_cells(entry[summary])])
    if lines:
        header = ["set", "fold", "n train", "n", "failed", "SRCC", "KRCC", "PLCC", "PLCC fitted", "RMSE"]
        parts += ["## All folds\n", _table([*header, "RMSE fitted"], lines)]
    return "\n".join(parts + _level_table(metrics) + _notes(metrics))


def _paper_layout(measured: dict[str, dict[tuple, str]]) -> str:
    published = published_results()
    columns = {(column["dataset"], column["part"]): column["title"] for column in published["columns"]}
    rows = []
    for row in published["rows"]:
        cells = [_cell(*pair) if pair else "" for pair in row["srcc_plcc"]]
        rows.append((f"{row['model']} (published)", dict(zip(columns, cells, strict=True))))
    rows += [(f"{model} (measured here)", cells) for model, cells in measured.items()]
    keys = [*columns, *dict.fromkeys(key for _, cells in rows for key in cells if key not in columns)]
    header = ["SRCC / PLCC", *(columns.get(key) or _other_title(*key) for key in keys)]
    table = _table(header, [[model, *(cells.get(key, "") for key in keys)] for model, cells in rows])
    models = defaultdict(list)
    for row in published["rows"]:
        models[row["source"]].append(row["model"])
    sources = "; ".join(f"{source} ({', '.join(names)})" for source, names in models.items())
    return (
        f"{table}\nPublished rows are copied, nothing in them was measured here: {sources}. PLCC measured here is of raw "
        "scores; the other figures stand below. An empty cell was not measured, or is not copied here.\n"
    )


def _score_line(entry: dict) -> list[str]:
    figures, inside = entry["score"], entry["coverage"]["share"]
    return [
        _title(entry),
        entry["protocol"].replace("_", " "),
        *(str(number) for number in (figures["n"], figures["failures"], entry["left_out"])),
        _with_interval(figures, "srcc"),
        _number(figures.get("krcc")),
        _with_interval(figures, "plcc"),
        _number(figures.get("plcc_fitted")),
        _number(figures.get("rmse"), 2),
        _number(figures.get("rmse_fitted"), 2),
        _percent(inside),
    ]


def _degradation_tables(metrics: dict) -> list[str]:
    parts = []
    for entry in metrics["sets"]:
        figures = entry.get("degradations", {})
        if "untouched_above" not in figures:
            continue
        vmaf, reference, source = (figures[name] for name in ("vmaf", "within_reference", "within_source"))
        parts += [
            f"## {_title(entry)}: degradations\n",
            f"With VMAF: SRCC {_with_interval(vmaf, 'srcc')}, PLCC {_with_interval(vmaf, 'plcc')}, n {vmaf['n']}, "
            f"{_percent(figures['vmaf_coverage']['share'])} inside ± 1.96 std. With the label, mean SRCC within a source "
            f"{_number(source['srcc'])} (n {source['n']}), within a reference {_number(reference['srcc'])} "
            f"(n {reference['n']}).\n",
            _untouched_table("distortion", figures),
            "Clips of all strengths; `h264 5` is H.264 at its strongest alone. Unchanged, not counted in n: clips whose "
            "label lies less than a point below that of the untouched clip.\n",
        ]
    return parts


def _content_tables(metrics: dict) -> list[str]:
    parts = []
    for entry in metrics["sets"]:
        if "contents" not in entry:
            continue
        figures = entry["contents"]
        lines = [
            [
                part,
                *(str(of[name]) for name in ("n", "failures", "groups")),
                _with_interval(of, "srcc"),
                _with_interval(of, "plcc"),
                _with_interval(of, "within"),
                _percent(of["share_well_ordered"]),
                _number(of["lowest"]),
            ]
            for part, of in figures["contents"].items()
        ]
        header = ["clips", "n", "failed", "contents", "SRCC (95 %)", "PLCC (95 %)", "SRCC within (95 %)"]
        header += ["above .8", "lowest"]
        parts += [
            f"## {_title(entry)}: contents\n",
            _table(header, lines),
            "Against the label. Intervals: contents drawn with replacement. Within: mean over contents of the SRCC of a "
            "content's versions, the share of contents where it is above .8, and the lowest.\n",
        ]
        if figures["untouched_above"]:
            parts += [
                _untouched_table("version of real clips", figures),
                "Medium: one step at strength 3 of 5. Unchanged, not counted in n: clips whose label lies less than a "
                "point below that of the untouched clip.\n",
            ]
        if "damage" in figures:
            parts += _damage_table(figures["damage"])
        if figures["ladders"]["steps"]:
            ladders = figures["ladders"]
            parts.append(
                f"Ladders: {ladders['ladders']}, of which {ladders['rises']} of {ladders['steps']} steps rise by more than "
                f"{ladders['allowed']:.3g}, 2 % of the scale (of scores on a scale of their own, of their range here); the "
                f"largest step is {ladders['largest']:+.3g}.\n"
            )
    return parts


def _untouched_table(first_column: str, figures: dict) -> str:
    lines = [
        [name, _percent(orders["share"]), str(orders["n"]), str(orders["unchanged"])]
        for name, orders in figures["untouched_above"].items()
    ]
    return _table([first_column, "untouched clip scores higher", "n", "unchanged"], lines)


def _damage_table(of_parts: dict[str, dict]) -> list[str]:
    columns = ("n", "recall", "named", "precision")
    lines = [
        [kind.replace("_", " "), *(cell for of in of_parts.values() for cell in _damage_cells(of["kinds"][kind]))]
        for kind in DAMAGE_ANSWERS
    ]
    means = [cell for of in of_parts.values() for cell in (str(of["n"]), _percent(of["macro_recall"]), "", "")]
    return [
        _table(["damage", *(f"{part}: {name}" for part in of_parts for name in columns)], [*lines, ["mean", *means]]),
        "Clips with a damage of strength 2 of 5 or more, or with none of .5; milder ones are left out. Named: the most "
        "probable kind, and each other of a probability of .25 or more. Recall: of the n clips that have it. Precision: of "
        "those where it was named. Mean: of all recalls.\n",
    ]


def _damage_cells(of_kind: dict) -> list[str]:
    return [str(of_kind["n"]), _percent(of_kind["recall"]), str(of_kind["named"]), _percent(of_kind["precision"])]


def _fold_cells(figures: dict) -> list[str]:
    counts = [str(figures.get(name, "")) for name in ("n", "failures")]
    correlations = [_number(figures.get(name)) for name in ("srcc", "krcc", "plcc", "plcc_fitted")]
    return [*counts, *correlations, *(_number(figures.get(name), 2) for name in ("rmse", "rmse_fitted"))]


def _level_table(metrics: dict) -> list[str]:
    lines = []
    for entry in metrics["sets"]:
        report = entry.get("level", {})
        if "recall" not in report:
            continue
        recalls = [report["recall"][level] for level in LEVELS]
        lines.append(
            [
                _title(entry),
                str(report["n"]),
                str(report["failures"]),
                *(f"{_number(recall['recall'])} ({recall['n']})" for recall in recalls),
                _number(report["share"]),
                f"{_thresholds(report['thresholds'], entry['mos_range'])}, thirds of {report['thresholds_of']}",
            ]
        )
    if "level" in metrics.get("not_learned", []):
        return ["## Levels\n", "The model never learned the level question, so it was not asked.\n"]
    if not lines:
        return []
    header = ["set", "n", "failed", *(f"{level} (n)" for level in LEVELS), "all"]
    header.append("levels divided at (0-100; label scale)")
    return [
        "## Levels\n",
        _table(header, lines),
        "Recall of each true level, and the share of all videos whose level is answered rightly.\n",
    ]


def _thresholds(thresholds: Sequence[float] | dict, mos_range: Sequence[float]) -> str:
    low, high = mos_range
    if isinstance(thresholds, dict):
        means = [sum(values) / len(values) for values in zip(*thresholds.values(), strict=True)]
        return f"about {_thresholds(means, mos_range)}"
    on_label_scale = [low + threshold * (high - low) / 100 for threshold in thresholds]
    return "; ".join(" / ".join(f"{value:.4g}" for value in values) for values in (thresholds, on_label_scale))


def _notes(metrics: dict) -> list[str]:
    notes = list(metrics["notes"])
    for entry in metrics["sets"]:
        tasks = {name: entry.get(name, {}) for name in ("score", "degradations", "level")}
        tasks |= {f"fold {fold}": figures for fold, figures in enumerate(entry.get("folds", []))}
        for task, figures in tasks.items():
            for name in ("error", "fit_error"):
                if figures.get(name):
                    notes.append(f"{_title(entry)}, {task}: {figures[name]}.")
        if "folds" in entry and entry["left_out"]:
            notes.append(f"{_title(entry)}: `lmmvqa prepare` left out {entry['left_out']} further videos.")
    versions = ", ".join(f"{name} {number}" for name, number in metrics["versions"].items())
    notes.append(f"Readout: {metrics['readout']}. {versions}.")
    return ["## Notes\n", "".join(f"- {note}\n" for note in notes)]


def _key(entry: dict) -> tuple[str, str | None]:
    return entry["dataset"], entry["part"]


def _title(entry: dict) -> str:
    titles = {(column["dataset"], column["part"]): column["title"] for column in published_results()["columns"]}
    return titles.get(_key(entry)) or _other_title(*_key(entry))


def _other_title(dataset: str, part: str | None) -> str:
    return f"{dataset} {part}" if part else dataset


def _pair(figures: dict) -> str:
    return _cell(figures.get("srcc"), figures.get("plcc"))


def _cell(srcc: float | None, plcc: float | None) -> str:
    return "" if srcc is None or plcc is None else f"{_number(srcc)} / {_number(plcc)}"


def _number(value: float | None, decimals: int = 3) -> str:
    """As tables print correlations: .913; a dash would look like a minus, so None is empty."""
    if value is None:
        return ""
    text = f"{value:.{decimals}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and decimals == 3 else text


def _with_interval(figures: dict, name: str) -> str:
    if name not in figures.get("intervals", {}):
        return _number(figures.get(name))
    return f"{_number(figures[name])} ({' to '.join(map(_number, figures['intervals'][name]))})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _table(header: list[str], lines: list[list[str]]) -> str:
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, marks, *lines])
