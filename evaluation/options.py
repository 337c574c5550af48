"""The options of evaluations. Nothing heavy is imported here: the command line reads them to print its help."""

import argparse
from dataclasses import dataclass, field
from typing import Literal


def _fine_tuning(help: str, default=False, **settings) -> object:
    return field(default=default, metadata={"help": help, "group": "--protocol fine_tuning", **settings})


@dataclass(kw_only=True)
class _Options:
    data: list[str] = field(metadata={"help": "folders of rows that `lmmvqa prepare` wrote", "metavar": "ROWS_DIR"})
    out: str = field(
        metadata={"help": "folder for predictions, metrics and table", "metavar": "DIR", "output": "folder"}
    )
    tasks: list[Literal["score", "level"]] = field(
        default=("score", "level"), metadata={"help": "questions that a model is asked (default: both)"}
    )
    device: str | None = field(
        default=None, metadata={"help": "as PyTorch names it (default: the accelerator where there is one)"}
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto", metadata={"help": "of weights and computation"}
    )


@dataclass(kw_only=True)
class EvaluationOptions(_Options):
    """`lmmvqa evaluate`, see `protocols.evaluate_checkpoint` and `protocols.cross_validate`."""

    model: str | None = field(
        default=None, metadata={"help": "checkpoint folder or Hub repository (default: the embedded model)"}
    )
    protocol: Literal["in_sample", "out_of_distribution", "fine_tuning"] | None = field(
        default=None,
        metadata={
            "help": "test parts, whole sets, or cross-validation by group (default: test parts of LSVQ and of sets that "
            "the model was trained on, else whole sets)"
        },
    )
    readout: Literal["score", "generate"] = field(
        default="score",
        metadata={"help": "distributions over answers (default), or the paper's way: answers are written and parsed"},
    )
    batch_size: int = field(default=16, metadata={"help": "videos that are asked about together"})
    feature_cache: str | None = field(
        default=None, metadata={"help": "folder for the towers' features", "metavar": "DIR", "output": "folder"}
    )
    allow_training_videos: bool = field(
        default=False, metadata={"help": "evaluate on videos that the model was trained on, too"}
    )
    folds: int = _fine_tuning("of each data set (default: 5)", 5)
    seed: int = _fine_tuning("of the folds (default: 0)", 0)
    keep_checkpoints: bool = _fine_tuning("of all folds")
    train_options: list[str] = _fine_tuning("all that follows is given to train.py", (), nargs=argparse.REMAINDER)


@dataclass(kw_only=True)
class BaselineOptions(_Options):
    """`lmmvqa baseline`, see `baselines.evaluate_baseline`."""

    model: str | None = field(
        default=None,
        metadata={"help": "image-text-to-text model with a chat template; or", "metavar": "DIR_OR_REPO"},
    )
    method: Literal["niqe", "brisque", "piqe", "nvs-sqa", "efficientnet-svr", "vmaf"] | None = field(
        default=None, metadata={"help": "classical measure or small network; VMAF needs rows with a reference"}
    )
    test_splits: bool = field(
        default=False, metadata={"help": "test splits alone (default: whole sets, and those of LSVQ)"}
    )
    fit_on: str | None = field(
        default=None,
        metadata={
            "help": "rows whose train split efficientnet-svr is fitted on, such as photographs",
            "metavar": "ROWS_DIR",
        },
    )
    max_frames: int = field(default=8, metadata={"help": "most frames of a video (default: 8)"})
    num_videos: int | None = field(default=None, metadata={"help": "a sample of each set (default: all)"})
    seed: int = field(default=0, metadata={"help": "of the sample (default: 0)"})
    frames_as: Literal["images", "video"] = field(
        default="images",
        metadata={"help": "key frames as several images (default), or as one clip for models that take videos"},
    )
