"""What an evaluation is asked for. Nothing heavy is imported here: the command line reads these to print its help."""

from dataclasses import dataclass, field
from typing import Literal


DTYPES = Literal["auto", "float32", "bfloat16", "float16"]
TASKS = list[Literal["score", "level"]]


@dataclass(kw_only=True)
class EvaluationOptions:
    """`lmmvqa evaluate`, see `protocols.evaluate_checkpoint`."""

    data: list[str] = field(metadata={"help": "folders of rows that `lmmvqa prepare` wrote", "metavar": "ROWS_DIR"})
    out: str = field(metadata={"help": "folder for predictions, metrics and table", "metavar": "DIR"})
    model: str | None = field(
        default=None, metadata={"help": "checkpoint folder or Hub repository (default: the embedded model)"}
    )
    tasks: TASKS = field(default=("score", "level"), metadata={"help": "questions that are asked (default: both)"})
    readout: Literal["score", "generate"] = field(
        default="score",
        metadata={"help": "distributions over answers (default), or the paper's way: answers are written and parsed"},
    )
    batch_size: int = field(default=16, metadata={"help": "videos that are asked about together"})
    device: str | None = field(
        default=None, metadata={"help": "as PyTorch names it (default: the accelerator where there is one)"}
    )
    dtype: DTYPES = field(default="auto", metadata={"help": "of weights and computation"})
    feature_cache: str | None = field(
        default=None, metadata={"help": "folder for the towers' features", "metavar": "DIR"}
    )
    allow_training_videos: bool = field(
        default=False, metadata={"help": "evaluate on videos that the model was trained on, too"}
    )


@dataclass(kw_only=True)
class BaselineOptions:
    """`lmmvqa baseline`, see `baselines.evaluate_baseline`."""

    model: str | None = field(
        default=None,
        metadata={"help": "image-text-to-text model with a chat template; or", "metavar": "DIR_OR_REPO"},
    )
    method: Literal["niqe", "brisque", "piqe", "nvs-sqa", "efficientnet-svr", "vmaf"] | None = field(
        default=None, metadata={"help": "classical measure or small network; VMAF needs rows with a reference"}
    )
    data: list[str] = field(metadata={"help": "folders of rows that `lmmvqa prepare` wrote", "metavar": "ROWS_DIR"})
    out: str = field(metadata={"help": "folder for predictions, metrics and table", "metavar": "DIR"})
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
    tasks: TASKS = field(default=("score", "level"), metadata={"help": "questions to a model (default: both)"})
    frames_as: Literal["images", "video"] = field(
        default="images",
        metadata={"help": "key frames as several images (default), or as one clip for models that take videos"},
    )
    device: str | None = field(
        default=None, metadata={"help": "as PyTorch names it (default: the accelerator where there is one)"}
    )
    dtype: DTYPES = field(default="auto", metadata={"help": "of a model's weights and computation"})
