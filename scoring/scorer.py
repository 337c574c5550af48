"""Many files to one row each; a file that cannot be scored is a row that says why."""

import time
from collections.abc import Iterable, Iterator
from importlib import resources

import torch
from transformers import pipeline

from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from .report import ROW_KEYS


def default_checkpoint() -> str:
    """
    Folder of the embedded default model.

    Raises:
        FileNotFoundError: this installation holds none.
    """
    folder = resources.files("lmmvqa.default_checkpoint")
    if not folder.joinpath("config.json").is_file():
        raise FileNotFoundError(
            f"got no embedded model in {folder}, expected config.json and weights; install LMM-VQA from a complete "
            "checkout or wheel, or name a model"
        )
    return str(folder)


def load_scorer(model: str | None = None, device: str | None = None) -> VideoQualityAssessmentPipeline:
    """
    Args:
        model: a checkpoint folder or a repository on the Hub; by default the embedded one.
        device: as PyTorch names it; by default the accelerator where there is one.

    Raises:
        FileNotFoundError: this installation holds no embedded model.
        ValueError: no such model, another kind of model, or a device that PyTorch cannot use here.
    """
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # no such name; PyTorch built without it
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"got device {device!r}, expected one that PyTorch can use here, such as cpu: {reason}"
            ) from error
    model = model or default_checkpoint()
    try:
        # The class is named so that the code is this package's, never that of a complete repository
        return pipeline(
            "video-quality-assessment", model=model, device=device, pipeline_class=VideoQualityAssessmentPipeline
        )
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"got model {model!r}, expected a checkpoint folder or a Hub repository of an LMM-VQA model: {reason}"
        ) from error


def score_videos(
    scorer: VideoQualityAssessmentPipeline, videos: Iterable[str], readout: str = "score"
) -> Iterator[dict]:
    """
    Yields a row of `ROW_KEYS` a video as soon as it is scored: the fields of `QualityResult`, `error` and `seconds`
    (wall time, decoding included). In the row of a video that cannot be read, or whose generated answer holds no score,
    `error` is one line and the result's fields are None.
    """
    for video in videos:
        start = time.perf_counter()
        result, error = {}, None
        try:
            result = scorer(video, readout=readout)
        except (ValueError, OSError) as failure:  # VideoDecodingError and AnswerParsingError are ValueErrors
            error = " ".join(str(failure).split())
        seconds = round(time.perf_counter() - start, 3)
        yield dict.fromkeys(ROW_KEYS) | {"video": video, **result, "error": error, "seconds": seconds}
