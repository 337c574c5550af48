"""The options of evaluations. Nothing heavy is imported here: the command line reads them to print its help."""

import argparse
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ..scoring.options import option


_fine_tuning = partial(option, group="--protocol fine_tuning")


@dataclass(kw_only=True)
class _Options:
    data: list[str] = option("folders of rows that `lmmvqa prepare` wrote", metavar="ROWS_DIR")
    out: str = option("folder for predictions, metrics and table", metavar="DIR", output="folder")
    tasks: list[Literal["score", "level"]] = option(
        "questions that a model is asked (default: both)", default=("score", "level")
    )
    device: str | None = option("as PyTorch names it (default: the accelerator where there is one)", default=None)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("of weights and computation", default="auto")


@dataclass(kw_only=True)
class EvaluationOptions(_Options):
    """`lmmvqa evaluate`, see `protocols.evaluate_checkpoint` and `protocols.cross_validate`."""

    model: str | None = option("checkpoint folder or Hub repository (default: the embedded model)", default=None)
    protocol: Literal["in_sample", "out_of_distribution", "fine_tuning"] | None = option(
        "test parts, whole sets, or cross-validation by group (default: test parts of LSVQ and of sets that "
        "the model was trained on, else whole sets)",
        default=None,
    )
    readout: Literal["score", "generate"] = option(
        "distributions over answers (default), or the paper's way: answers are written and parsed", default="score"
    )
    batch_size: int = option("videos that are asked about together", default=16)
    feature_cache: str | None = option("folder for the towers' features", default=None, metavar="DIR", output="folder")
    allow_training_videos: bool = option("evaluate on videos that the model was trained on, too", default=False)
    folds: int = _fine_tuning("of each data set (default: 5)", 5)
    seed: int = _fine_tuning("of the folds (default: 0)", 0)
    keep_checkpoints: bool = _fine_tuning("of all folds", False)
    train_options: list[str] = _fine_tuning("all that follows is given to train.py", (), nargs=argparse.REMAINDER)


@dataclass(kw_only=True)
class BaselineOptions(_Options):
    """`lmmvqa baseline`, see `baselines.evaluate_baseline`."""

    model: str | None = option(
        "image-text-to-text model with a chat template; or", default=None, metavar="DIR_OR_REPO"
    )
    method: Literal["niqe", "brisque", "piqe", "nvs-sqa", "efficientnet-svr", "vmaf"] | None = option(
        "classical measure or small network; VMAF needs rows with a reference", default=None
    )
    test_splits: bool = option("test splits alone (default: whole sets, and those of LSVQ)", default=False)
    fit_on: str | None = option(
        "rows whose train split efficientnet-svr is fitted on, such as photographs", default=None, metavar="ROWS_DIR"
    )
    max_frames: int = option("most frames of a video (default: 8)", default=8)
    num_videos: int | None = option("a sample of each set (default: all)", default=None)
    seed: int = option("of the sample (default: 0)", default=0)
    frames_as: Literal["images", "video"] = option(
        "key frames as several images (default), or as one clip for models that take videos", default="images"
    )
