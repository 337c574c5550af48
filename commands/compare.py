"""`lmmvqa compare`: versions of one content, the best first, with how surely and at what bit rate."""

import json
import os
from dataclasses import dataclass

from ..scoring.options import option
from ..scoring.report import FACT_KEYS, OUTSIDE_NOTE, notes_of, printable, score_text, writing
from ..scoring.video_files import REPORT_SUFFIXES, check_suffix, plain_name, refuse_to_overwrite
from .model_options import ModelOptions, load
from .output import find_and_warn, print_line, warn


HELP = "compare versions of one video: which looks best, and at what bit rate"
DESCRIPTION = (
    "Scores versions of one content and orders them, with the probability that the best one does look better than each. "
    "One that cannot be scored is reported, and the exit status is 1; 2 where fewer than two are left."
)


# Seconds by which versions of one content may differ in length
MOST_APART = 0.5


@dataclass(kw_only=True)
class Options(ModelOptions):
    paths: list[str] = option("versions of one content: files, patterns, folders", positional=True, metavar="VERSION")
    ladder: list[str] | None = option(
        "versions by another encoder: its BD-rate against the first", default=None, metavar="VERSION"
    )
    within: float | None = option(
        "name the smallest file within so many points of the best", default=None, metavar="POINTS"
    )
    plot: str | None = option(
        "draw score against bit rate (extra `inspect`)", default=None, metavar="FILE.png", output="file"
    )
    report: str | None = option(
        "write a page to look at, a .html file that needs nothing else, with the same moments of all versions",
        default=None,
        metavar="FILE",
        output="file",
    )
    json: bool = option("print one JSON object instead of a table", default=False)


def run(options: Options) -> int:
    ladders = {
        "first ladder": find_and_warn(options.paths).videos,
        "--ladder": find_and_warn(options.ladder or []).videos,
    }
    videos = [video for ladder in ladders.values() for video in ladder]
    _check(options, ladders, videos)
    scorer, _ = load(options)
    from ..evaluation.comparison import bd_rate
    from ..scoring.scorer import score_videos

    rows = list(score_videos(scorer, videos))
    failed = [row for row in rows if row["error"] is not None]
    for row in failed:
        warn(f"warning: no score, left out: {row['error']}")
    scored = sorted((_version(row) for row in rows if row["error"] is None), key=lambda row: -row["score"])
    if len(scored) < 2:
        raise ValueError(f"got {len(scored)} version(s) with a score of {len(videos)}, expected at least two")
    scale = scorer.processor.pair_std_scale
    _compare_all(scored, scale)
    comparison = {
        "versions": scored,
        "failures": [{"video": row["video"], "error": row["error"]} for row in failed],
        "best": scored[0]["video"],
        "pair_std_scale": scale,
    }
    if options.within is not None:
        near = [row for row in scored if row["score"] >= scored[0]["score"] - options.within]
        comparison["smallest_within"] = min(near, key=lambda row: row["bytes"])["video"]
    with_rate = [row for row in scored if row["kbps"] is not None]
    of_ladders = {
        name: [row for row in with_rate if row["video"] in set(ladder)] for name, ladder in ladders.items() if ladder
    }
    no_rate = None
    if options.ladder:
        comparison["bd_rate"] = None
    try:
        if options.ladder or options.plot:
            _refuse_pictures(scored)
        if options.ladder:
            curves = [[row[key] for row in ladder] for ladder in of_ladders.values() for key in ("kbps", "score")]
            comparison["bd_rate"] = bd_rate(*curves)
    except ValueError as error:  # what was scored is shown before it is raised
        no_rate = error

    if options.json:
        print_line(json.dumps(comparison, allow_nan=False))
    else:
        _print_table(comparison, options, scorer.processor.scale)
        if any(row["outside"] for row in scored):
            warn(OUTSIDE_NOTE)
    _write_files(options, comparison, {row["video"]: row for row in rows}, of_ladders, scorer.processor)
    if no_rate:
        raise no_rate
    return 1 if failed else 0


def _check(options: Options, ladders: dict[str, list[str]], videos: list[str]) -> None:
    if options.ladder and not ladders["--ladder"]:
        raise ValueError(f"got no video in --ladder {' '.join(options.ladder)}, expected versions of the same content")
    if len(videos) < 2:
        raise ValueError(f"got {len(videos)} video(s), expected two versions of one content or more")
    if len(set(map(plain_name, videos))) < len(videos):
        raise ValueError("got a video in both ladders, expected each version once; take it out of one of them")
    if options.ladder:
        from ..evaluation.comparison import MIN_RUNGS

        for name, ladder in ladders.items():
            if len(ladder) < MIN_RUNGS:
                raise ValueError(
                    f"got {len(ladder)} version(s) in {name}, expected at least {MIN_RUNGS} for a BD-rate; name more"
                )
    if options.within is not None and not options.within >= 0:
        raise ValueError(f"got --within {options.within:g}, expected 0 points or more")
    if options.plot:
        check_suffix("plot", options.plot, (".png",))
        refuse_to_overwrite(options.plot, videos)
    if options.report:
        check_suffix("report", options.report, REPORT_SUFFIXES, len(videos))
        refuse_to_overwrite(options.report, videos)


def _refuse_pictures(versions: list[dict]) -> None:
    if pictures := [version["video"] for version in versions if version["kbps"] is None]:
        raise ValueError(
            f"got {', '.join(pictures)}, expected no picture with --ladder or --plot, since it has no bit rate; leave it out"
        )


def _write_files(options: Options, comparison: dict, rows: dict[str, dict], ladders: dict, processor) -> None:
    plot = options.plot if any(ladders.values()) else None  # not of pictures alone
    if plot:
        from ..evaluation.comparison_figure import draw

        with writing(plot):
            draw(ladders, plot)
    if options.report:
        page = _page(options, comparison, rows, ladders, processor)
        with writing(options.report), open(options.report, "x", encoding="utf-8") as file:
            file.write(page)
    if not options.json:
        for path in filter(None, (plot, options.report)):
            print_line(f"wrote {path}")


def _page(options: Options, comparison: dict, rows: dict[str, dict], ladders: dict, processor) -> str:
    from ..checkpoints.model_card import known_limits
    from ..evaluation.comparison_report import PICTURE_QUALITY, PICTURE_SIZE, compared_moments, comparison_page
    from ..scoring.thumbnails import video_pictures

    moments = compared_moments(comparison["versions"], rows)
    limits = processor.video_processor.limits
    pictures = {
        version["video"]: video_pictures(version["video"], moments, PICTURE_SIZE, limits, PICTURE_QUALITY)
        for version in comparison["versions"]
    }
    return comparison_page(
        comparison,
        rows,
        ladders,
        pictures,
        options.report,
        scale=processor.scale or [0, 100],
        model=options.model or "default",
        limits=known_limits(options.model),
        within=options.within,
    )


def _compare_all(scored: list[dict], scale: float) -> None:
    """Gives each version its probability of being better than each other; warns where they are not of one length."""
    from ..evaluation.comparison import probability_better

    for row in scored:
        row["better"] = {
            other["video"]: float(
                probability_better(row["score"], row["score_std"], other["score"], other["score_std"], scale)
            )
            for other in scored
            if other is not row
        }
    durations = [row["duration"] for row in scored]
    if max(durations) - min(durations) > MOST_APART:
        warn(
            f"warning: the versions last from {min(durations):.1f} to {max(durations):.1f} s; scores of different parts of a "
            "video cannot be compared"
        )


def _version(row: dict) -> dict:
    """What is compared of a row of `score_videos`."""
    size = os.path.getsize(row["video"])
    return {
        "video": row["video"],
        **{name: row[name] for name in ("score", "score_std", "level", *FACT_KEYS, "outside")},
        "bytes": size,
        "kbps": None if row["fps"] is None else 8 * size / row["duration"] / 1000,  # a picture has none
    }


def _print_table(comparison: dict, options: Options, scale: list[float] | None) -> None:
    best, *others = comparison["versions"]
    names = {row["video"]: printable(row["video"]) for row in comparison["versions"]}
    width = max(len("version"), *map(len, names.values()))
    print_line(f"{'version':<{width}}  {'score':<12}  level   kbit/s        MB  best looks better")
    for row in (best, *others):
        score = f"{score_text(row['score'], scale):>5} ± {score_text(row['score_std'], scale)}"
        rate = "-" if row["kbps"] is None else f"{row['kbps']:,.0f}"
        surely = "" if row is best else f"  {best['better'][row['video']]:.0%}"
        size = f"{row['bytes'] / 1e6:8.3f}"
        notes = "".join(f"  ({note})" for note in notes_of(row))
        print_line(f"{names[row['video']]:<{width}}  {score:<12}  {row['level']:<5} {rate:>8}  {size}{surely}{notes}")
    if options.within is not None:
        print_line(f"smallest within {options.within:g} points of the best: {names[comparison['smallest_within']]}")
    if (rate := comparison.get("bd_rate")) is not None:
        print_line(f"BD-rate of --ladder: {rate:+.1f} % bits for the same score")
