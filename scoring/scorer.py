"""Many files to one row each; a file that cannot be scored is a row that says why."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib import resources
from importlib.metadata import version
from typing import BinaryIO

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, TorchAoConfig, pipeline
from transformers.utils import is_bitsandbytes_available, is_torchao_available
from transformers.utils.quantization_config import QuantizationConfigMixin

from ..checkpoints.hub_connection import check_obtainable
from ..modeling_lmmvqa import LmmVqaProcessor, LmmVqaVideoProcessor, VideoQualityAssessmentPipeline
from ..processing.context_lmmvqa import check_layout
from ..processing.reading_limits_lmmvqa import WHOLE_MACHINE, ReadingShare
from ..processing.video_decoding_lmmvqa import DecodedVideo, EncodedVideo
from ..processing.video_inputs_lmmvqa import make_video_list, reader_source
from ..processing.video_reading_lmmvqa import T
from .addresses import downloaded, is_address
from .read_ahead import Reading, read_ahead
from .report import ROW_KEYS, failure_line, finite


# Of scoring: decoding and scaling, both towers, the decoder of the language model, and the model's waits for frames
STAGES = ("reading", "features", "answers", "waiting")
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
        ValueError: no such model, another kind of model, a device that PyTorch cannot use here, a dtype that it does not
            have, or a quantisation that is not installed.
    """
    if isinstance(dtype, str) and dtype != "auto" and not isinstance(vars(torch).get(dtype), torch.dtype):
        raise ValueError(f"got dtype {dtype!r}, expected auto or one of PyTorch, such as float32 or bfloat16")
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
    with _naming(model):
        # Loaded here, since `pipeline` does not say why it could not load a model
        loaded = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype, **placement)
        processor = AutoProcessor.from_pretrained(model)
        check_layout(processor, loaded.config)
        # The class is named so that the code is this package's, never that of a complete repository
        return pipeline(
            "video-quality-assessment",
            model=loaded,
            processor=processor,
            device=None if placement else device,
            pipeline_class=VideoQualityAssessmentPipeline,
        )


def load_processor(model: str) -> LmmVqaProcessor:
    """What `load_scorer` loads beside the weights, with the same errors."""
    check_obtainable(model)
    with _naming(model):
        return AutoProcessor.from_pretrained(model)


@contextmanager
def _naming(model: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"got model {model!r}, expected a checkpoint folder or a Hub repository of an LMM-VQA model: {reason}"
        ) from error


@contextmanager
def _timed(seconds: Counter, stage: str) -> Iterator[None]:
    """Adds the time that passes to a stage, without that of stages within it."""
    start, others = time.perf_counter(), seconds.total()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - start - (seconds.total() - others)


def score_videos(
    scorer: VideoQualityAssessmentPipeline,
    videos: Iterable[str],
    readout: str = "score",
    max_download: float | None = None,
    problems: bool = False,
    workers: int = 0,
    stages: Counter | None = None,
    reader: Callable[[Reading], None] | None = None,
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
        workers: threads that download and decode videos ahead of the model, see `read_ahead`. Rows and their order are the
            same; `seconds` are those of a video's own reading and scoring, without waits.
        stages: gets the seconds of each of `STAGES`, in all threads together.
        reader: what each worker does with a reading in place of decoding its video here, see `read_ahead`.
    """
    scoring = _Scoring(scorer, readout, max_download, problems)
    if workers:
        threads = max(1, os.cpu_count() // workers)

        def read_here(reading: Reading) -> None:
            scoring.read(reading.video, reading.hand_on, ReadingShare(threads, reading.clock))

        for reading in read_ahead(reader or read_here, videos, workers):
            yield _row(reading.video, partial(scoring.of_reading, reading), stages)
    else:
        for video in videos:
            yield _row(video, partial(scoring.whole if stages is None else scoring.in_stages, video), stages)


@dataclass(frozen=True)
class _Scoring:
    """The ways to a video's result; each adds to the seconds of `STAGES`. Attributes as in `score_videos`."""

    scorer: VideoQualityAssessmentPipeline
    readout: str
    max_download: float | None
    problems: bool

    def read(self, video: str, function: Callable[[DecodedVideo], T], share: ReadingShare = WHOLE_MACHINE) -> list[T]:
        video_processor = self.scorer.processor.video_processor
        return read_portions(video_processor, video, function, self.max_download, self.problems, share)

    def whole(self, video: str, seconds: Counter) -> dict:
        with _timed(seconds, "reading"), _opened(video, self.max_download) as source:
            return self.scorer(source, readout=self.readout, problems=self.problems)

    def in_stages(self, video: str, seconds: Counter) -> dict:
        with _timed(seconds, "reading"):
            parts = self.read(video, partial(self._encoded, seconds))
        return self._answered(parts, seconds)

    def of_reading(self, reading: Reading, seconds: Counter) -> dict:
        parts = []
        try:
            with _timed(seconds, "waiting"):
                for decoded in reading.portions():
                    if decoded.seconds[0] == 0:  # the first one, or damage was met and reading started over
                        parts = []
                    parts.append(self._encoded(seconds, decoded))
        finally:
            seconds["reading"] += reading.seconds
        return self._answered(parts, seconds)

    def _encoded(self, seconds: Counter, decoded: DecodedVideo) -> EncodedVideo:
        with _timed(seconds, "features"):
            return self.scorer.processor.video_processor.encode_portion(decoded, self.scorer.model)

    def _answered(self, parts: list[EncodedVideo], seconds: Counter) -> dict:
        with _timed(seconds, "answers"):
            encoded = self.scorer.processor.video_processor.join_portions(parts)
            return self.scorer(encoded, readout=self.readout)


def read_portions(
    video_processor: LmmVqaVideoProcessor,
    video: str,
    function: Callable[[DecodedVideo], T],
    max_download: float | None = None,
    problems: bool = False,
    share: ReadingShare = WHOLE_MACHINE,
) -> list[T]:
    """A path or an address to what `function` returns for each portion of it, see `LmmVqaVideoProcessor.decode_portions`."""
    with _opened(video, max_download) as given:
        ((source, fps),) = map(reader_source, make_video_list(given))
        return video_processor.decode_portions(source, function, fps=fps, problems=problems, share=share)


def _opened(video: str, max_download: float | None) -> AbstractContextManager[str | BinaryIO]:
    return downloaded(video, max_download) if max_download is not None and is_address(video) else nullcontext(video)


def _row(video: str, score: Callable[[Counter], dict], stages: Counter | None) -> dict:
    """What `score` gives, which counts its seconds; or why it gives nothing."""
    seconds, result, error = Counter(), {}, None
    try:
        result = finite(score(seconds))
    except Exception as failure:
        error = failure_line(failure)
    if stages is not None:
        stages.update(seconds)
    spent = round(seconds.total() - seconds["waiting"], 3)
    return result_row(video, result, error, spent)


def result_row(video: str, result: dict, error: str | None, seconds: float) -> dict:
    row = dict.fromkeys(ROW_KEYS) | {"video": video, **result, "error": error, "seconds": seconds}
    return {name: value for name, value in row.items() if name in ROW_KEYS or value is not None}


def scoring_settings(processor: LmmVqaProcessor, **others) -> dict:
    """What scores hang on beside the checkpoint and the videos, by name, as JSON can hold it; `others` as they are."""
    return {
        "lmmvqa": version("lmmvqa"),
        "score_question": processor.score_question,
        "damage_question": processor.damage_question,
        "max_window_seconds": processor.max_window_seconds,
        **asdict(processor.video_processor.frame_settings),
        **{name: f"{limit:g}" for name, limit in vars(processor.video_processor.limits).items()},
        **others,
    }
