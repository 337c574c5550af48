"""The commands of `lmmvqa`.

Exit status: 0 all went well; 1 a video has no score, or the self-check failed; 2 wrong use, or what ends a command, such
as a full disk: then the last line on stderr says what. Only a bug ends in a traceback.
"""

import argparse
import contextlib
import json
import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec

from safetensors import SafetensorError
from tqdm import tqdm

from .report import OUTSIDE_NOTE, Table, csv_file, json_line, printable
from .video_files import find_videos, is_media_name, refuse_to_overwrite


# Importing transformers takes seconds, so what needs it is imported where it is used: help and wrong use answer at once


# The attributes of `ReadingLimits`
READING_LIMITS = {
    "max_pixels": "of a frame (default: 200 million)",
    "max_seconds": "of a video (default: 43200, half a day)",
    "max_fps": "frames in one second (default: 1000)",
    "max_wall_seconds": "that a file may take, reading and encoding (default: no limit)",
    "min_decoded_share": "of the seconds that a file announces (default: 0.25)",
    "min_whole_share": "of frames without damage (default: 0.25)",
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status; wrong use raises SystemExit(2), as argparse does."""
    arguments = _parser().parse_args(argv)
    try:
        with _warnings_on_stderr():
            status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has enough, as `head` does
        _drop_unwritten_output()
        return 1
    # What this package raises about its inputs, and what the system says of files; anything else is a bug to be traced.
    # SafetensorError is either: damaged weights, or a disk that is full where they are written
    except (ValueError, OSError, SafetensorError) as error:
        _drop_unwritten_output()
        _wrong_use(arguments, error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lmmvqa", description="Perceived quality of videos, from 0 to 100.")
    parser.add_argument("--version", action="version", version=f"lmmvqa {version('lmmvqa')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", help="checkpoint folder or Hub repository (default: the embedded model)")
    model.add_argument("--device", help="as PyTorch names it (default: the accelerator where there is one)")

    score = commands.add_parser(
        "score",
        parents=[model],
        help="score videos and pictures",
        description="Scores each video or picture. One that cannot be scored is reported, and the exit status is 1.",
    )
    score.add_argument(
        "paths", nargs="+", metavar="PATH", help="file, pattern, or folder with all below it but what is hidden"
    )
    score.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object a line instead of a table, with the windows of long videos",
    )
    score.add_argument("--csv", metavar="FILE", help="write a new CSV file as well, a row a video")
    score.add_argument(
        "--readout",
        choices=["score", "generate"],
        default="score",
        help="expected value of the model's distribution over scores (default), or the answer that it writes",
    )
    score.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="of weights and computation (default: the checkpoint's)",
    )
    score.add_argument(
        "--quantization",
        choices=["int8", "4bit"],
        help="the decoder's weights in 8 bits (torchao) or 4 bits (bitsandbytes, on a GPU)",
    )
    limits = score.add_argument_group("limits", "A file beyond one of them has no score but an error.")
    for name, text in READING_LIMITS.items():
        limits.add_argument(f"--{name}", type=_limit, metavar="NUMBER", help=text)
    score.set_defaults(run=_score, command=score)

    selfcheck = commands.add_parser(
        "selfcheck",
        parents=[model],
        help="compare this installation's score of a bundled clip with the stored one",
        description="Scores a bundled clip and compares with the score stored with the model. Exit status 1: it differs.",
    )
    selfcheck.add_argument("--update", action="store_true", help="store the present score in the model's folder")
    selfcheck.set_defaults(run=_selfcheck, command=selfcheck)

    _add_prepare(commands)
    _add_evaluate(commands, model)
    _add_baseline(commands)
    _add_assemble(commands)
    _add_calibrate(commands, model)
    _add_inspect(commands, model)

    export = commands.add_parser(
        "export",
        help="write a checkpoint that loads without LMM-VQA installed, and push it to the Hub",
        description="Writes weights, processor, code files and model card to one folder, a complete Hub repository.",
    )
    export.add_argument("--model", required=True, help="checkpoint folder or Hub repository")
    export.add_argument("--out", required=True, metavar="DIR", help="folder for the export")
    export.add_argument("--card", metavar="FILE", help="model card (default: README.md of the checkpoint folder)")
    export.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="of the stored weights")
    export.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to this Hub repository")
    export.add_argument("--private", action="store_true", help="make a new repository private")
    export.set_defaults(run=_export, command=export)
    return parser


def _limit(text: str) -> float:
    limit = float(text)
    if not limit >= 0:
        raise argparse.ArgumentTypeError(f"got {text}, expected 0 or more, or inf")
    return limit


def _add_evaluate(commands: argparse._SubParsersAction, model: argparse.ArgumentParser) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        parents=[model],
        help="the paper's protocols on prepared data sets: predictions, figures, tables",
        description="Evaluates a checkpoint on data sets that `lmmvqa prepare` wrote, and prints the paper's table with "
        "published rows beside measured ones. Run again, it goes on where it was. Exit status 1: a video has no answer.",
    )
    evaluate.add_argument("--data", nargs="+", required=True, metavar="ROWS_DIR", help="folders of rows")
    evaluate.add_argument("--out", required=True, metavar="DIR", help="folder for predictions, metrics and table")
    evaluate.add_argument(
        "--protocol",
        choices=["in_sample", "out_of_distribution", "fine_tuning"],
        help="test parts, whole sets, or cross-validation by group (default: test parts of LSVQ and of sets that the "
        "model was trained on, else whole sets)",
    )
    evaluate.add_argument(
        "--tasks",
        nargs="+",
        choices=["score", "level"],
        default=["score", "level"],
        help="questions that are asked (default: both)",
    )
    evaluate.add_argument(
        "--readout",
        choices=["score", "generate"],
        default="score",
        help="distributions over answers (default), or the paper's way: answers are written and parsed",
    )
    evaluate.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    evaluate.add_argument("--batch_size", type=int, default=16, help="videos that are asked about together")
    evaluate.add_argument("--feature_cache", metavar="DIR", help="folder for the towers' features")
    evaluate.add_argument(
        "--allow_training_videos", action="store_true", help="evaluate on videos that the model was trained on, too"
    )
    tuning = evaluate.add_argument_group("--protocol fine_tuning")
    tuning.add_argument("--folds", type=int, default=5, help="of each data set (default: 5)")
    tuning.add_argument("--seed", type=int, default=0, help="of the folds (default: 0)")
    tuning.add_argument("--keep_checkpoints", action="store_true", help="of all folds")
    tuning.add_argument(
        "--train_options", nargs=argparse.REMAINDER, default=[], help="all that follows is given to train.py"
    )
    evaluate.set_defaults(run=_evaluate, command=evaluate)


def _add_calibrate(commands: argparse._SubParsersAction, model: argparse.ArgumentParser) -> None:
    calibrate = commands.add_parser(
        "calibrate",
        parents=[model],
        help="fit a model's scores to your own scale of opinions",
        description="Fits a rising map from the model's scores to your ratings, on any scale, and the deviation. What is "
        "written gives scores on your scale everywhere. The last line is JSON: errors before and after.",
    )
    calibrate.add_argument("--csv", required=True, metavar="FILE", help="your ratings: columns video, mos")
    calibrate.add_argument("--out", required=True, metavar="DIR", help="new folder for the calibrated checkpoint")
    calibrate.add_argument(
        "--std_only",
        action="store_true",
        help="leave scores as they are: ratings on their scale fit the deviation alone",
    )
    calibrate.set_defaults(run=_calibrate, command=calibrate)


def _add_inspect(commands: argparse._SubParsersAction, model: argparse.ArgumentParser) -> None:
    inspect = commands.add_parser(
        "inspect",
        parents=[model],
        help="draw one video's motion, key frames and scores (Figure 6 of the paper)",
        description="Draws key frames, motion, and the score with and without temporal tokens over time as a PNG.",
    )
    inspect.add_argument("video", metavar="VIDEO", help="file")
    inspect.add_argument("--out", metavar="FILE", help="PNG file (default: VIDEO's name with .png, in this folder)")
    inspect.set_defaults(run=_inspect, command=inspect)


def _add_baseline(commands: argparse._SubParsersAction) -> None:
    baseline = commands.add_parser(
        "baseline",
        help="other models and classical measures under the same protocol",
        description="Scores data sets that `lmmvqa prepare` wrote with an image-text-to-text model of transformers, asked "
        "zero-shot as LMM-VQA is, or with a classical measure. Run again, it goes on where it was. Exit status 1: a "
        "video has no answer.",
    )
    which = baseline.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="DIR_OR_REPO", help="image-text-to-text model with a chat template")
    which.add_argument(
        "--method",
        choices=["niqe", "brisque", "piqe", "vmaf"],
        help="classical measure; VMAF needs rows with a reference",
    )
    baseline.add_argument("--data", nargs="+", required=True, metavar="ROWS_DIR", help="folders of rows")
    baseline.add_argument("--out", required=True, metavar="DIR", help="folder for predictions, metrics and table")
    baseline.add_argument(
        "--test_splits", action="store_true", help="test splits alone (default: whole sets, and those of LSVQ)"
    )
    baseline.add_argument("--max_frames", type=int, default=8, help="most frames of a video (default: 8)")
    baseline.add_argument("--num_videos", type=int, help="a sample of each set (default: all)")
    baseline.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    of_model = baseline.add_argument_group("--model")
    of_model.add_argument(
        "--tasks", nargs="+", choices=["score", "level"], default=["score", "level"], help="questions (default: both)"
    )
    of_model.add_argument(
        "--frames_as",
        choices=["images", "video"],
        default="images",
        help="key frames as several images (default), or as one clip for models that take videos",
    )
    of_model.add_argument("--device", help="as PyTorch names it (default: the accelerator where there is one)")
    of_model.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    baseline.set_defaults(run=_baseline, command=baseline)


def _add_assemble(commands: argparse._SubParsersAction) -> None:
    assemble = commands.add_parser(
        "assemble",
        help="make a checkpoint from public parts, to be trained",
        description="Joins a vision tower, a temporal tower and a decoder with new random projectors, for train.py.",
    )
    assemble.add_argument(
        "--vision", metavar="DIR_OR_REPO", help="vision or image-text model (default: CLIP ViT-L/14)"
    )
    assemble.add_argument(
        "--temporal",
        metavar="FILE",
        help="SlowFast: our folder or .safetensors, or a public .pyth such as "
        "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/SLOWFAST_8x8_R50.pyth",
    )
    assemble.add_argument("--decoder", metavar="DIR_OR_REPO", help="chat model, or .gguf file (default: the preset's)")
    assemble.add_argument("--out", metavar="DIR", help="new folder for the checkpoint")
    assemble.add_argument("--preset", default="paper", help="paper (default), paper-64, wo-temporal or llama-2")
    assemble.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the model or the video processor over the preset's, such as spatial_grid_size=4",
    )
    assemble.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="of decoder and projectors (default: what the decoder is stored in); towers are stored in float32",
    )
    assemble.add_argument("--dry-run", action="store_true", help="print sizes and token counts; read no weights")
    assemble.set_defaults(run=_assemble, command=assemble)


def _add_prepare(commands: argparse._SubParsersAction) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="make rows for training and evaluation from a benchmark's label file",
        description="Looks for every video of a label file, opens it and saves rows. What is missing is listed on stderr; "
        "the last lines are JSON, one a split, with MOS on the label file's own scale.",
    )
    names = prepare.add_subparsers(title="data sets", metavar="NAME", dest="name", required=True)

    def new(name: str, text: str) -> argparse.ArgumentParser:
        # What is not given is left to the builder's own default
        parser = names.add_parser(name, help=text, description=text, argument_default=argparse.SUPPRESS)
        parser.add_argument("--out", required=True, metavar="DIR", help="folder for the rows")
        parser.add_argument("--push_to_hub", metavar="OWNER/NAME", help="upload the rows, without videos")
        parser.add_argument("--private", action="store_true", help="make a new repository private")
        parser.set_defaults(run=_prepare, command=parser)
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
            parser.add_argument("--mos_range", nargs=2, type=float, metavar=("LOWEST", "HIGHEST"), help=range_help)
    for name in ("dover_text", "qalign_json", "instruction_json"):
        parsers[name].add_argument("--split", choices=["train", "validation", "test"], help="of the whole file")
    for name in ("lsvq", "csv", "rated_images", "degraded_clips"):
        parsers[name].add_argument("--seed", type=int, help="of the split (default: 0)")
    parsers["lsvq"].add_argument(
        "--split_name",
        choices=["paper", "official", "dover", "unverified"],
        help="the split that the label files must hold (default: paper); unverified takes them as they are",
    )
    clips = parsers["degraded_clips"]
    clips.add_argument("--groups", metavar="FILE", help="CSV file,group: clips that show the same content")
    clips.add_argument("--photographs", type=int, help="how many photographs to pan over")
    clips.add_argument("--training_photographs", type=int, help="how many more of the training split")
    clips.add_argument("--lowest_mos", type=float, help="MOS (0-100) that a photograph needs for a pan")
    clips.add_argument("--variants", type=int, help="degraded clips a reference, beside the untouched one")
    clips.add_argument("--training_variants", type=int, help="the same, of --training_photographs")
    chains = new(
        "degraded_contents", "clean clips of a table of contents through degradation chains, labelled by VMAF"
    )
    chains.add_argument("--versions", type=int, help="of each content, beside the untouched one")
    chains.add_argument("--real_versions", type=int, help="the same, of contents that a camera recorded")
    chains.add_argument("--test_chains", type=int, help="chains of each real content of validation and test")
    ladders = new("ladders", "H.264 crf 18 to 48 of real test contents of a table of contents, at several sizes")
    ladders.add_argument("--num_contents", type=int, help="real contents of the test split")
    for parser in (chains, ladders):
        parser.add_argument("--contents", dest="labels", required=True, metavar="FILE", help="CSV of clean clips")
        parser.add_argument("--seed", type=int, help="of cuts, sizes and chains (default: 0)")
    for parser in (clips, chains, ladders):
        parser.add_argument("--workers", type=int, help="FFmpeg processes at a time")


def _prepare(arguments: argparse.Namespace) -> int:
    from datasets import disable_progress_bars

    from ..datasets_scripts.prepare import prepare

    disable_progress_bars()
    options = {key: value for key, value in vars(arguments).items() if key not in ("run", "command")}
    for report in prepare(**options):
        print(json.dumps(report))
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.protocol != "fine_tuning" and (arguments.train_options or arguments.keep_checkpoints):
        _wrong_use(arguments, "got options of training, expected --protocol fine_tuning with them")
    _quiet_libraries()
    from datasets import disable_progress_bars

    from ..evaluation import protocols

    disable_progress_bars()
    names = protocols.EvaluationOptions.__dataclass_fields__
    options = protocols.EvaluationOptions(**{name: getattr(arguments, name) for name in names})
    if arguments.protocol == "fine_tuning":
        metrics = protocols.cross_validate(
            options, arguments.folds, arguments.seed, arguments.keep_checkpoints, arguments.train_options
        )
    else:
        metrics = protocols.evaluate_checkpoint(options, arguments.protocol)
    return _print_table(arguments, metrics)


def _baseline(arguments: argparse.Namespace) -> int:
    _quiet_libraries()
    from datasets import disable_progress_bars

    from ..evaluation import baselines

    disable_progress_bars()
    names = baselines.BaselineOptions.__dataclass_fields__
    options = baselines.BaselineOptions(**{name: getattr(arguments, name) for name in names})
    metrics = baselines.evaluate_baseline(options)
    return _print_table(arguments, metrics)


def _print_table(arguments: argparse.Namespace, metrics: dict) -> int:
    """Prints the table that evaluation wrote and returns the exit status: 1 where a video has no answer."""
    from ..evaluation.results import TABLE_FILE

    with open(os.path.join(arguments.out, TABLE_FILE), encoding="utf-8") as file:
        print(file.read(), end="")
    return 1 if metrics["failures"] else 0


def _score(arguments: argparse.Namespace) -> int:
    found = find_videos(arguments.paths)
    if found.skipped:
        counts = ", ".join(f"{kind} ({number})" for kind, number in Counter(found.skipped.values()).items())
        _warn(f"skipped {counts}; name what is to be scored all the same")
    if not found.videos:
        names = ", ".join(found.without_videos)
        _wrong_use(arguments, f"got no video in {names}, expected files, or folders that hold any")
    for path in found.without_videos:
        _warn(f"warning: no video in {path}")
    if arguments.csv:
        if is_media_name(arguments.csv):
            _wrong_use(arguments, f"got --csv {arguments.csv}, expected a name that is no video's, such as rows.csv")
        refuse_to_overwrite(arguments.csv, found.videos)

    scorer, _ = _load(arguments, dtype=arguments.dtype, quantization=arguments.quantization)
    from .scorer import score_videos

    limits = {name: getattr(arguments, name) for name in READING_LIMITS}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    video_processor = scorer.processor.video_processor
    video_processor.limits = replace(video_processor.limits, **given)
    with contextlib.ExitStack() as stack:
        write_csv = stack.enter_context(csv_file(arguments.csv)) if arguments.csv else None
        table = Table(found.videos, scorer.processor.damage_question is not None and arguments.readout == "score")
        if not arguments.json:
            _print(table.header)
        rows = score_videos(scorer, found.videos, arguments.readout)
        num_errors = num_outside = 0
        for row in tqdm(rows, total=len(found.videos), unit="video", delay=3, disable=not sys.stderr.isatty()):
            _print(json_line(row) if arguments.json else table.line(row))
            if write_csv:
                write_csv(row)
            num_errors += row["error"] is not None
            num_outside += bool(row["outside"])
        if num_outside and not arguments.json:
            _warn(OUTSIDE_NOTE)
    return 1 if num_errors else 0


def _selfcheck(arguments: argparse.Namespace) -> int:
    if arguments.update and arguments.model and not os.path.isdir(arguments.model):
        _wrong_use(arguments, f"got --update with {arguments.model}, expected a folder to store the score in")
    scorer, model = _load(arguments)
    from .selfcheck import read_reference, run_selfcheck, write_reference

    if arguments.update:
        reference = write_reference(scorer, model)
        print(f"stored {reference.score} ± {reference.score_std} in {model}")
        return 0
    return 0 if run_selfcheck(scorer, read_reference(model), model) else 1


def _assemble(arguments: argparse.Namespace) -> int:
    if arguments.out is None and not arguments.dry_run:
        _wrong_use(arguments, "got no --out, expected a new folder; or --dry-run")
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers.utils import logging as transformers_logging

    from ..modeling_lmmvqa import assemble as parts
    from ..modeling_lmmvqa.assembly_plan import assembly_plan

    transformers_logging.set_verbosity_error()
    try:
        options = parts.preset_options(arguments.preset) | dict(map(parts.parse_option, arguments.set))
        vision = arguments.vision or parts.DEFAULT_VISION
        decoder = arguments.decoder or parts.DEFAULT_DECODERS[arguments.preset]
        if arguments.dry_run:
            print(assembly_plan(vision, arguments.temporal, decoder, **options))
            return 0
        dtype = arguments.dtype and getattr(torch, arguments.dtype)
        parts.assemble(vision, arguments.temporal, decoder, arguments.out, dtype, **options)
    except (ValueError, OSError, StrictDataclassError) as error:
        _wrong_use(arguments, error)
    print(f"wrote {arguments.out}; its projectors are random, train them with train.py --model {arguments.out}")
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    if os.path.exists(arguments.out):
        _wrong_use(arguments, f"got --out {arguments.out}, which exists already; expected a new folder")
    scorer, model = _load(arguments)
    from ..modeling_lmmvqa.export import save_checkpoint
    from ..training.training_videos import carry_training_videos
    from .calibration import calibrate, read_ratings, report_lines, write_report
    from .selfcheck import write_reference

    report = calibrate(scorer, read_ratings(arguments.csv), arguments.std_only)
    for failure in report["failures"]:
        _warn(f"warning: no score, left out: {failure['error']}")
    save_checkpoint(scorer.model, scorer.processor, arguments.out)
    carry_training_videos(model, arguments.out)
    write_reference(scorer, arguments.out)
    write_report(report, arguments.out)
    print("\n".join(report_lines(report)))
    print(f"wrote {arguments.out}")
    print(json.dumps(report))
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    if missing := [library for library in ("matplotlib", "skimage") if find_spec(library) is None]:
        _wrong_use(
            arguments,
            f"got no {' and no '.join(missing)}, expected them to be installed; pip install 'lmmvqa[inspect]'",
        )
    from .inspection import inspect
    from .inspection_figure import draw

    out = arguments.out or f"{os.path.splitext(os.path.basename(arguments.video))[0]}.png"
    refuse_to_overwrite(out, [arguments.video])
    scorer, _ = _load(arguments)
    draw(inspect(scorer, arguments.video), out)
    print(f"wrote {out}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    import torch
    from transformers import AutoProcessor

    from ..modeling_lmmvqa.export import check_whole, export_checkpoint, load_checkpoint, push_checkpoint
    from ..training.training_videos import carry_training_videos

    try:
        check_whole(arguments.model)
        card = arguments.card or os.path.join(arguments.model, "README.md")
        if not os.path.isfile(card):
            _wrong_use(arguments, f"got no model card at {card}; write one and name it with --card")
        model = load_checkpoint(arguments.model)
        processor = AutoProcessor.from_pretrained(arguments.model)
    except (ValueError, OSError, ImportError) as error:
        _wrong_use(arguments, error)
    with open(card, encoding="utf-8") as file:
        text = file.read()
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    export_checkpoint(model, processor, arguments.out, text, dtype, name=arguments.push)
    carry_training_videos(arguments.model, arguments.out)
    print(f"wrote {arguments.out}")
    if arguments.push:
        print(f"pushed to {push_checkpoint(arguments.out, arguments.push, arguments.private)}")
    return 0


def _load(arguments: argparse.Namespace, **options):
    """The pipeline, and the folder or repository it comes from; `options` as in `load_scorer`."""
    _quiet_libraries()
    from .scorer import default_checkpoint, load_scorer

    model = arguments.model or default_checkpoint()
    return load_scorer(model, arguments.device, **options), model


def _quiet_libraries() -> None:
    # Importing transformers imports the libraries of quantisation that are installed, and they warn of GPU kernels
    for library in ("bitsandbytes", "torch.utils._pytree", "torchao"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _print(line: str) -> None:
    # Names of files may hold what the terminal, or UTF-8, cannot show
    encoding = sys.stdout.encoding or "utf-8"
    try:
        tqdm.write(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        error.filename = "standard output"
        raise


def _drop_unwritten_output() -> None:
    """The interpreter ends with another status where it cannot write what is left."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _warn(line: str) -> None:
    tqdm.write(printable(line), file=sys.stderr)


def _wrong_use(arguments: argparse.Namespace, message: object) -> None:
    line = printable(" ".join(str(message).split()))
    arguments.command.exit(2, f"{arguments.command.prog}: error: {line}\n")


class _WarningHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # where nobody reads warnings, they are no failure of the video
            _warn(f"warning: {record.getMessage()}")


@contextlib.contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """Our own warnings, such as packets that do not decode, as one line each; none of Python's."""
    handler = _WarningHandler(logging.WARNING)
    logger = logging.getLogger("lmmvqa")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
