"""`lmmvqa prepare`: the label file of a benchmark, and its videos, to rows on disk with a report, and to the Hub."""

import os
import statistics
import sys
from pathlib import Path

from datasets import load_from_disk

from . import benchmark_sets, image_text, instruction_json, lsvq, own_csv, rated_images
from .degraded import chained_clips, degraded_clips
from .rated_videos import COLUMNS, Found, RatedVideo, build_rows, find_files
from .rows import check_rows_folder, label_mos, percent_mos, save_rows


# Name -> label file to rated videos, and the ends of its MOS scale where it is written anywhere
BENCHMARKS = {
    "lsvq": (lsvq.read_videos, (0, 100)),
    "konvid_1k": (benchmark_sets.konvid_1k, (1, 5)),
    "live_vqc": (benchmark_sets.live_vqc, (0, 100)),
    "youtube_ugc": (benchmark_sets.youtube_ugc, (1, 5)),
    "live_yt_gaming": (benchmark_sets.live_yt_gaming, (0, 100)),
    "csv": (own_csv.read_videos, None),
    "dover_text": (benchmark_sets.listed_videos, None),
    "qalign_json": (benchmark_sets.listed_videos, None),
    "rated_images": (rated_images.read_videos, None),
}
CHAINED = {"degraded_contents": chained_clips.prepare_chains, "ladders": chained_clips.prepare_ladders}
DEFAULT_MOS_RANGE = (0.0, 100.0)


def prepare(
    name: str,
    labels: str | Path | list[str],
    out: str | Path,
    videos: str | Path | None = None,
    mos_range: tuple[float, float] | None = None,
    dataset: str | None = None,
    labels_only: bool = False,
    push_to_hub: str | None = None,
    private: bool = False,
    **options,
) -> list[dict]:
    """Saves the rows of one data set in `out` and gives the reports of `rows.save_rows`, one a split.

    What is left out, and how many videos there are, with which MOS, frame rates and durations, goes to stderr.

    Args:
        name: one of `BENCHMARKS`, `CHAINED`, `degraded_clips`, `instruction_json` or `image_text`.
        labels: the label file; for LSVQ a list of them; for `CHAINED` the table of contents; for `image_text` its sources.
        out: folder for the rows. Degraded clips have them in its folder `dataset`; pictures of `image_text` lie beside.
        videos: folder in which the videos are looked for (default: the folder of the label file).
        mos_range: lowest and highest MOS of the label file's scale (default: the benchmark's; 0 to 100 elsewhere).
        dataset: the name in the column `dataset` (default: `name`; for a CSV the file's).
        labels_only: look for no videos.
        push_to_hub: data set repository to upload the rows to, with paths relative to `videos`.
        options: of the builder, such as `split_name` for LSVQ.

    Raises:
        ValueError: from the builder, where no row is left, the extra `data` is missing, or as `_check_folders`.
    """
    files = labels if isinstance(labels, list) else [labels]
    folder = Path(videos or Path(files[0]).parent)
    dataset = dataset or (Path(files[0]).stem if name == "csv" else name)
    rows_folder = Path(out) / "dataset" if name in (*CHAINED, "degraded_clips") else Path(out)
    _check_folders(rows_folder, dataset, None if labels_only else videos)
    if name == "degraded_clips":
        rows, left_out = degraded_clips.prepare_clips(labels, folder, out, mos_range or DEFAULT_MOS_RANGE, **options)
        mos_range, columns, found = DEFAULT_MOS_RANGE, degraded_clips.COLUMNS, _find_clips(rows, rows_folder)
    elif name in CHAINED:
        rows, left_out = CHAINED[name](labels, out, **options)
        mos_range, columns, found = DEFAULT_MOS_RANGE, chained_clips.COLUMNS, _find_clips(rows, rows_folder)
    elif name == "instruction_json":
        rows, left_out, found = instruction_json.build_rows(
            labels, folder, dataset, labels_only=labels_only, **options
        )
        mos_range, columns = DEFAULT_MOS_RANGE, instruction_json.COLUMNS
    elif name == "image_text":
        rows, left_out, found = image_text.build_rows(files, out, dataset, **options)
        mos_range, columns = DEFAULT_MOS_RANGE, instruction_json.COLUMNS
    else:
        read_videos, known_range = BENCHMARKS[name]
        rated = read_videos(labels, **options)
        mos_range = mos_range or known_range or _checked_default_range(rated, files[0])
        rows, left_out, found = build_rows(rated, folder, mos_range, dataset, labels_only)
        columns = COLUMNS
    reports = save_rows(rows, left_out, dataset, rows_folder, columns, mos_range)
    _summarise(reports, rows, found)
    if push_to_hub:
        _push(rows_folder, folder, push_to_hub, private)
    return reports


def _check_folders(rows_folder: Path, dataset: str, videos: str | Path | None) -> None:
    """
    Before hours of work.

    Raises:
        ValueError: the folder of the videos is not there, or as `rows.check_rows_folder`.
    """
    check_rows_folder(rows_folder, dataset)
    if videos and not Path(videos).is_dir():
        raise ValueError(
            f"got videos {videos}, which is no folder, expected the folder of the videos; correct the name"
        )


def _find_clips(rows: list[dict], folder: Path) -> list[Found]:
    return find_files([(row["video"],) for row in rows], folder)


def _checked_default_range(videos: list[RatedVideo], labels: str | Path) -> tuple[float, float]:
    mos = [percent_mos(video.mos, DEFAULT_MOS_RANGE, video.files[0]) for video in videos if video.mos]
    highest = max(mos, default=100.0)
    if highest <= 10:
        raise ValueError(
            f"{labels} has no MOS above {highest:g}, which is hardly a scale from 0 to 100: "
            "give its lowest and highest MOS, such as --mos_range 1 5."
        )
    return DEFAULT_MOS_RANGE


def _summarise(reports: list[dict], rows: list[dict], found: list[Found]) -> None:
    for report in reports:
        part = [row for row in rows if row["split"] == report["split"]]
        text = f"{report['dataset']} {report['split']}: {report['n']} rows, {report['missing']} left out"
        mos = [label_mos(row["mos"], report["mos_range"]) for row in part if row["mos"] is not None]
        if mos:
            low, high = report["mos_range"]
            text += (
                f"; MOS {min(mos):.4g} to {max(mos):.4g} on the scale {low:g} to {high:g}, "
                f"mean {statistics.fmean(mos):.4g}, sd {statistics.pstdev(mos):.4g}"
            )
        print(text, file=sys.stderr)
    trained = {row["group"] for row in rows if row["split"] in ("train", "validation")}
    for split in ("test", "test_1080p"):
        shared = sum(row["split"] == split and row["group"] in trained for row in rows)
        if shared:
            print(f"{shared} of the rows in {split} show content that train or validation shows too", file=sys.stderr)
    for what, values in {
        "frames per second": [file.fps for file in found if file.fps],
        "seconds": [file.seconds for file in found if file.seconds],
    }.items():
        if values:
            print(
                f"{what}: {min(values):.4g} to {max(values):.4g}, median {statistics.median(values):.4g}, "
                f"of {len(values)} files",
                file=sys.stderr,
            )


def _push(folder: str | Path, videos: Path, repository: str, private: bool) -> None:
    videos = videos.resolve()

    def relative(row: dict) -> dict:
        # no folder of this machine goes to the Hub
        return {"video": os.path.relpath(row["video"], videos) if os.path.isabs(row["video"]) else row["video"]}

    data = load_from_disk(str(folder)).map(relative, keep_in_memory=True)
    data.push_to_hub(repository, private=private)
    print(f"pushed to {repository}", file=sys.stderr)
