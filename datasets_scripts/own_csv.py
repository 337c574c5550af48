"""Your own rated videos, a CSV `video,mos` with optional `split` and `group` -> rows."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import av
from transformers import HfArgumentParser

from .rows import SPLITS, percent_mos, read_csv, save_rows, split_by_group


@dataclass
class OwnCsvArguments:
    csv: str = field(
        metadata={
            "help": "CSV with the columns video and mos; split and group are optional. Paths start at its folder."
        }
    )
    out: str = field(metadata={"help": "Folder the rows are saved to."})
    mos_range: list[float] = field(default_factory=lambda: [0.0, 100.0], metadata={"help": "Lowest and highest MOS."})
    name: str | None = field(default=None, metadata={"help": "The name in the column `dataset`; default: the CSV's."})
    seed: int = field(default=0, metadata={"help": "Of the split, where the CSV has none."})


def build_rows(csv: str | Path, mos_range: tuple[float, float], name: str, seed: int) -> tuple[list[dict], list[dict]]:
    """Gives the rows, and what is left out as {file, split, reason}.

    Raises:
        ValueError: a MOS lies outside the range, a video has two MOS, a split is unknown, or a group has two splits.
    """
    table = read_csv(csv, required=("video", "mos"))
    videos: dict[Path, dict] = {}
    repeated = []
    for line in table:
        path = (Path(csv).parent / line["video"]).resolve()
        mos = percent_mos(line["mos"], mos_range, f"{csv}: {line['video']}")
        video = {"mos": mos, "group": line.get("group") or line["video"], "split": line.get("split")}
        if path not in videos:
            videos[path] = video
        elif videos[path] == video:
            repeated.append(path)
        else:
            raise ValueError(f"{csv} lists {line['video']} as {videos[path]} and as {video}: keep one of the lines.")

    groups = {video["group"] for video in videos.values()}
    splits = given_splits(videos, csv) if "split" in table[0] else split_by_group(groups, seed=seed)
    rows = []
    left_out = [
        {"file": str(path), "split": splits[videos[path]["group"]], "reason": "listed again, with the same MOS"}
        for path in repeated
    ]
    for path, video in videos.items():
        split = splits[video["group"]]
        reason = why_unreadable(path)
        if reason:
            left_out.append({"file": str(path), "split": split, "reason": reason})
        else:
            row = {"video": str(path), "mos": video["mos"], "dataset": name, "split": split, "group": video["group"]}
            rows.append(row)
    return rows, left_out


def given_splits(videos: dict[Path, dict], csv: str | Path) -> dict[str, str]:
    """The split of every group, as the CSV says it.

    Raises:
        ValueError: a split is unknown, or the videos of one group are in two splits.
    """
    splits: dict[str, str] = {}
    for path, video in videos.items():
        if video["split"] not in SPLITS:
            raise ValueError(
                f"{csv} puts {path.name} in split {video['split']!r}, expected one of {SPLITS}: rename it."
            )
        if splits.setdefault(video["group"], video["split"]) != video["split"]:
            raise ValueError(
                f"{csv} has group {video['group']!r} in {splits[video['group']]} and in {video['split']}: "
                "put a group in one split, or the test knows the content."
            )
    return splits


def why_unreadable(path: Path) -> str | None:
    """Says why a file is no video, from its header, or None."""
    if not path.is_file():
        return "no such file"
    try:
        with av.open(str(path)) as container:
            return None if container.streams.video else "holds no video stream"
    except av.error.FFmpegError as error:
        return f"not a video: {error}"


def main() -> None:
    (arguments,) = HfArgumentParser(OwnCsvArguments).parse_args_into_dataclasses()
    name = arguments.name or Path(arguments.csv).stem
    rows, left_out = build_rows(arguments.csv, tuple(arguments.mos_range), name, arguments.seed)
    for report in save_rows(rows, left_out, name, arguments.out):
        print(json.dumps(report))


if __name__ == "__main__":
    main()
