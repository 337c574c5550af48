"""Many files to one row each; a file that cannot be scored is a row that says why."""

import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from importlib import resources
from importlib.metadata import version

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, TorchAoConfig, pipeline
from transformers.utils import is_bitsandbytes_available, is_torchao_available
from transformers.utils.quantization_config import QuantizationConfigMixin

from ..checkpoints.hub_connection import check_obtainable
from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from .addresses import downloaded, is_address
from .report import ROW_KEYS, failure_line, finite


# The decoder's layers are quantised alone: it holds almost all weights, and the score hangs on what the towers see
UNQUANTIZED_MODULES = [
    "model.vision_tower",
    "model.temporal_tower",
    "model.spatial_projector",
    "model.temporal_projector",
    "lm_head",
]


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


def quantization_config(quantization: str) -> QuantizationConfigMixin:
    """
    Args:
        quantization: of the decoder's linear layers: "int8", weights of 8 bits by torchao, on a CPU or a GPU; or
            "4bit", weights of 4 bits (NF4, [Dettmers et al., 2023](https://huggingface.co/papers/2305.14314)) by
            bitsandbytes.

    Raises:
        ValueError: another name, or the library that it needs is not installed.
    """
    libraries = {"int8": ("torchao", is_torchao_available), "4bit": ("bitsandbytes", is_bitsandbytes_available)}
    if quantization not in libraries:
        raise ValueError(f"got quantization={quantization!r}, expected 'int8' or '4bit'")
    library, is_available = libraries[quantization]
    if not is_available():
        raise ValueError(
            f"got quantization={quantization!r} without {library}, expected it to be installed; "
            "pip install 'lmmvqa[quantization]'"
        )
    if quantization == "int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=UNQUANTIZED_MODULES)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=UNQUANTIZED_MODULES,
    )


def load_scorer(
    model: str | None = None, device: str | None = None, dtype: str = "auto", quantization: str | None = None
) -> VideoQualityAssessmentPipeline:
    """
    Args:
        model: a checkpoint folder or a repository on the Hub; by default the embedded one.
        device: as PyTorch names it; by default the accelerator where there is one.
        dtype: of weights and computation, as PyTorch names it; "auto" is the checkpoint's.
        quantization: "int8" or "4bit", see `quantization_config`.

    Raises:
        FileNotFoundError: this installation holds no embedded model.
        OSError: the Hub, where the model may be, cannot be reached.
        ValueError: no such model, another kind of model, a device that PyTorch cannot use here, or a quantisation that
            is not installed.
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
    check_obtainable(model)
    placement = {}
    if quantization is not None:  # quantised weights cannot be moved once they are loaded
        placement = {"device_map": device or "auto", "quantization_config": quantization_config(quantization)}
    try:
        # Loaded here, since `pipeline` does not say why it could not load a model
        loaded = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype, **placement)
        # The class is named so that the code is this package's, never that of a complete repository
        return pipeline(
            "video-quality-assessment",
            model=loaded,
            processor=AutoProcessor.from_pretrained(model),
            device=None if placement else device,
            pipeline_class=VideoQualityAssessmentPipeline,
        )
    except (ValueError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"got model {model!r}, expected a checkpoint folder or a Hub repository of an LMM-VQA model: {reason}"
        ) from error


def score_videos(
    scorer: VideoQualityAssessmentPipeline,
    videos: Iterable[str],
    readout: str = "score",
    max_download: float | None = None,
    problems: bool = False,
) -> Iterator[dict]:
    """
    Yields a row of `ROW_KEYS` a video as soon as it is scored: the fields of `QualityResult`, `error` and `seconds`
    (wall time, decoding included). In the row of a video that cannot be read or scored, whatever it made the pipeline
    raise, `error` is one line and the result's fields are None; the videos after it are scored. The row of a video
    longer than the decoder's context, and no other, has `percentile_5`, `worst_window` and `windows` as well; rows of a
    calibrated model have `scale`.

    Args:
        max_download: bytes of an address at most, see `addresses`; None where addresses are refused, as other names are
            that lead to no file.
        problems: whether every frame is looked at for them, see `WatchedFrames`.
    """
    for video in videos:
        start = time.perf_counter()
        result, error = {}, None
        try:
            is_read = max_download is not None and is_address(video)
            with downloaded(video, max_download) if is_read else nullcontext(video) as source:
                result = finite(scorer(source, readout=readout, problems=problems))
        except Exception as failure:
            error = failure_line(failure)
        seconds = round(time.perf_counter() - start, 3)
        row = dict.fromkeys(ROW_KEYS) | {"video": video, **result, "error": error, "seconds": seconds}
        yield {name: value for name, value in row.items() if name in ROW_KEYS or value is not None}


def scoring_settings(scorer: VideoQualityAssessmentPipeline, **others) -> dict:
    """What scores hang on beside the checkpoint and the videos, by name, as JSON can hold it; `others` as they are."""
    processor = scorer.processor
    return {
        "lmmvqa": version("lmmvqa"),
        "score_question": processor.score_question,
        "damage_question": processor.damage_question,
        "max_window_seconds": processor.max_window_seconds,
        **asdict(processor.video_processor.frame_settings),
        **{name: f"{limit:g}" for name, limit in vars(processor.video_processor.limits).items()},
        **others,
    }
