"""`lmmvqa prepare NAME`: rows for training and evaluation from a benchmark's label file.

What is not given is left to the builder's own default, so these options are not those of one dataclass.
"""

import argparse
import json
from collections.abc import Callable

from ..scoring.video_files import check_output
from .options import count, number


HELP = "make rows for training and evaluation from a benchmark's label file"
DESCRIPTION = (
    "Looks for every video of a label file, opens it and saves rows. What is missing is listed on stderr; the last lines "
    "are JSON, one a split, with MOS on the label file's own scale."
)


def add_data_sets(command: argparse.ArgumentParser) -> None:
    names = command.add_subparsers(title="data sets", metavar="NAME", dest="name", required=True)

    def new(name: str, text: str) -> argparse.ArgumentParser:
        parser = names.add_parser(name, help=text, description=text, argument_default=argparse.SUPPRESS)
        parser.add_argument("--out", required=True, metavar="DIR", help="folder for the rows")
        parser.add_argument("--push_to_hub", metavar="OWNER/NAME", help="upload the rows, without videos")
        parser.add_argument("--private", action="store_true", help="make a new repository private")
        parser.set_defaults(run=run, command=parser)
        return parser

    def add(name: str, text: str, several: bool = False) -> argparse.ArgumentParser:
        parser = new(name, text)
        parser.add_argument(
            "--labels", required=True, metavar="FILE", nargs="+" if several else None, help="label file"
        )
        parser.add_argument("--videos", metavar="DIR", help="folder of the videos (default: the label file's)")
        return parser

    parsers = {
        "lsvq": add("lsvq", "LSVQ, from the CSV files of its train, test and 1080p parts", several=True),
        "konvid_1k": add("konvid_1k", "KoNViD-1k, from KoNViD_1k_mos.csv"),
        "live_vqc": add("live_vqc", "LIVE-VQC, from data.mat"),
        "youtube_ugc": add("youtube_ugc", "YouTube-UGC, from original_videos_MOS_for_YouTube_UGC_dataset.xlsx"),
        "live_yt_gaming": add("live_yt_gaming", "LIVE-YT-Gaming, from its .mat or CSV"),
        "csv": add("csv", "your own CSV video,mos, optionally with split and group"),
        "dover_text": add("dover_text", "DOVER and FAST-VQA text: path, duration, fps, MOS"),
        "qalign_json": add("qalign_json", "Q-Align JSON: a list of img_path or image, gt_score or score"),
        "rated_images": add("rated_images", "rated photographs, from a CSV file,mos"),
        "instruction_json": add("instruction_json", "captions and instructions about images and videos, not rated"),
        "degraded_clips": add("degraded_clips", "clips degraded and measured with VMAF; --labels is for photographs"),
    }
    for name, parser in parsers.items():
        if name != "degraded_clips":
            parser.add_argument("--labels_only", action="store_true", help="look for no videos")
            parser.add_argument(
                "--name", dest="dataset", help="in the column dataset (default: the NAME; a CSV's own)"
            )
        if name != "instruction_json":
            range_help = "of the label file's scale, mapped to 0-100"
            parser.add_argument("--mos_range", nargs=2, type=number, metavar=("LOWEST", "HIGHEST"), help=range_help)
    for name in ("dover_text", "qalign_json", "instruction_json"):
        parsers[name].add_argument("--split", choices=["train", "validation", "test"], help="of the whole file")
    for name in ("lsvq", "csv", "rated_images", "degraded_clips"):
        parsers[name].add_argument("--seed", type=int, help="of the split (default: 0)")
    parsers["lsvq"].add_argument(
        "--split_name",
        choices=["paper", "official", "dover", "unverified"],
        help="the split that the label files must hold (default: paper); unverified takes them as they are",
    )
    _add_options_of_clips(parsers["degraded_clips"], new)
    _add_options_of_pairs(
        new("image_text", "pictures with texts, not rated, from webdataset shards or a data set of the Hub")
    )


def _add_options_of_pairs(pairs: argparse.ArgumentParser) -> None:
    pairs.add_argument(
        "--sources",
        dest="labels",
        required=True,
        nargs="+",
        metavar="SHARD_OR_DATA_SET",
        help=".tar files, here or at an address; data sets of the Hub or folders of one",
    )
    pairs.add_argument("--name", dest="dataset", help="in the column dataset (default: image_text)")
    pairs.add_argument("--split", choices=["train", "validation", "test"], help="of a data set, and of the rows")
    pairs.add_argument("--limit", type=count, help="take so many records of each source, the first ones")


def _add_options_of_clips(clips: argparse.ArgumentParser, new: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """What is degraded here on purpose: the options of `degraded_clips`, and two more data sets."""
    clips.add_argument("--groups", metavar="FILE", help="CSV file,group: clips that show the same content")
    clips.add_argument("--photographs", type=int, help="how many photographs to pan over")
    clips.add_argument("--training_photographs", type=int, help="how many more of the training split")
    clips.add_argument("--lowest_mos", type=number, help="MOS (0-100) that a photograph needs for a pan")
    clips.add_argument("--variants", type=int, help="degraded clips a reference, beside the untouched one")
    clips.add_argument("--training_variants", type=int, help="the same, of --training_photographs")
    chains = new(
        "degraded_contents", "clean clips of a table of contents through degradation chains, labelled by VMAF"
    )
    chains.add_argument("--versions", type=int, help="of each content, beside the untouched one")
    chains.add_argument("--real_versions", type=int, help="the same, of contents that a camera recorded")
    chains.add_argument("--test_chains", type=int, help="chains of each real content of validation and test")
    chains.add_argument(
        "--each_kind", action="store_true", help="one version of each kind of degradation in place of drawn ones"
    )
    ladders = new("ladders", "H.264 crf 18 to 48 of real test contents of a table of contents, at several sizes")
    ladders.add_argument("--num_contents", type=int, help="real contents of the test split")
    for parser in (chains, ladders):
        parser.add_argument("--contents", dest="labels", required=True, metavar="FILE", help="CSV of clean clips")
        parser.add_argument("--seed", type=int, help="of cuts, sizes and chains (default: 0)")
    for parser in (clips, chains, ladders):
        parser.add_argument("--workers", type=int, help="FFmpeg processes at a time")


def run(arguments: argparse.Namespace) -> int:
    from datasets import disable_progress_bars

    from ..datasets_scripts.prepare import prepare

    check_output("out", arguments.out, is_folder=True)
    if "private" in arguments and "push_to_hub" not in arguments:
        raise ValueError("got --private without --push_to_hub, expected a repository; name it, or leave --private out")
    disable_progress_bars()
    options = {key: value for key, value in vars(arguments).items() if key not in ("run", "command")}
    for report in prepare(**options):
        print(json.dumps(report))
    return 0
