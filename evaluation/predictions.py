"""A model's answers on rated videos, through the processor and the readout that every user gets."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from ..modeling_lmmvqa.pipeline_lmmvqa import GENERATION, VideoQualityAssessmentPipeline, choose_answers, map_windows
from ..processing.answers_lmmvqa import LEVELS, QualityResult, VideoWindow, mix_windows
from ..processing.processing_lmmvqa import LmmVqaProcessor
from ..processing.video_decoding_lmmvqa import EncodedVideo
from ..processing.video_reading_lmmvqa import VideoFacts
from ..scoring.report import FACT_KEYS, failure_line, finite
from ..training.feature_cache import FeatureCache


PREDICTION_KEYS = ("score", "score_std", "answer", "damage_answer", "level_answer", *FACT_KEYS, "error")


@torch.no_grad()
def answer_log_probabilities(
    model: torch.nn.Module,
    processor: LmmVqaProcessor,
    videos: list[str | EncodedVideo],
    questions: list[tuple[str, list[list[int]]]],
    batch_size: int = 16,
    cache: FeatureCache | None = None,
) -> list[tuple[list[VideoWindow], list[torch.Tensor], VideoFacts | None]]:
    """
    Args:
        model: a `LmmVqaForConditionalGeneration`; it is in eval mode here and in its own mode afterwards.
        videos: paths, or what the towers made of them.
        questions: asked of every video, and the token ids of the answers to choose from.
        cache: features in place of videos.

    Returns:
        For each video its windows, one unless it is longer than the decoder's context, (windows, number of answers) log
        probabilities for each question, and what was seen of it.

    Raises:
        VideoDecodingError: a video of which no frame can be read.
    """
    was_training = model.training
    model.eval()
    answered = []
    batches = range(0, len(videos), batch_size)
    for start in tqdm(batches, desc="predictions", mininterval=5, disable=len(batches) == 1):
        batch = videos[start : start + batch_size]
        if cache is None:
            encoded = processor.video_processor.encode(batch, model)
        else:
            encoded = [cache[video] for video in batch]
        answered += choose_answers(model, processor, encoded, questions)
    model.train(was_training)
    return answered


def predict_scores(model, processor: LmmVqaProcessor, videos: list[str], **options) -> list[QualityResult]:
    """Results, by `LmmVqaProcessor.result_questions`; `options` as in `answer_log_probabilities`."""
    answered = answer_log_probabilities(model, processor, videos, processor.result_questions, **options)
    return [
        processor.post_process_window_scores(windows, scores, facts, *damages)
        for windows, (scores, *damages), facts in answered
    ]


def predict_levels(model, processor: LmmVqaProcessor, videos: list[str], **options) -> list[str]:
    """
    The paper's level answers (section III-B), by the level question; `options` as in `answer_log_probabilities`. Of a
    video in windows it is the most probable answer of their mixture.
    """
    questions = [(processor.level_question, processor.level_answer_ids)]
    answered = answer_log_probabilities(model, processor, videos, questions, **options)
    return [LEVELS[int(mix_windows(windows, levels).argmax())] for windows, (levels,), _ in answered]


@torch.no_grad()
def predict_batch(
    scorer: VideoQualityAssessmentPipeline,
    videos: list[str],
    tasks: tuple[str, ...] = ("score", "level"),
    readout: str = "score",
    cache: FeatureCache | None = None,
) -> list[dict]:
    """
    Both questions to a batch of videos, each of which is decoded and encoded once.

    Args:
        tasks: "score", "level" or both.
        readout: "score" for the distributions over answers, "generate" for the paper's way, written answers that are
            parsed.
        cache: features in place of videos.

    Returns:
        A dict of `PREDICTION_KEYS` for each video: `score`; `score_std`, None where the answer was generated; `answer` and
        `damage_answer`, which are `answer` and `damage` of `QualityResult`; `level_answer`; the fields of `VideoFacts`; and
        `error`. A video that raised anything lacks answers: they are None, and `error` says why in one line.
    """
    results = [dict.fromkeys(PREDICTION_KEYS) for _ in videos]
    readable, encoded = [], []
    for video, result in zip(videos, results, strict=True):
        try:
            encoded += scorer.preprocess([video]) if cache is None else [cache[video]]
            result |= vars(encoded[-1].facts)
            readable.append(result)
        except Exception as failure:
            _add_error(result, failure)

    model, processor = scorer.model, scorer.processor
    if "score" in tasks:
        _ask(
            readable,
            encoded,
            partial(scorer.forward, readout=readout),
            lambda output: _named_as_an_answer(finite(scorer.postprocess([output]))),
        )
    if "level" in tasks and readout == "score":
        _ask(
            readable,
            encoded,
            lambda encoded: predict_levels(model, processor, encoded, batch_size=len(encoded)),
            lambda level: {"level_answer": level},
        )
    elif "level" in tasks:
        generate = partial(scorer.generate_answers, **GENERATION)
        asked = processor.level_question, GENERATION["max_new_tokens"], generate
        _ask(
            readable,
            encoded,
            lambda encoded: map_windows(model, processor, encoded, *asked),
            lambda output: {"level_answer": _level_of_windows(processor, *output[:2])},
        )
    return results


def _ask(
    results: list[dict], videos: list[EncodedVideo], ask: Callable[[list], list], read: Callable[[Any], dict]
) -> None:
    """
    Adds to each result the answer to its video, or why there is none. Where a batch fails, each video is asked about
    alone: one that cannot be judged takes no other with it, and what does not fit the memory together may fit alone.

    Args:
        ask: encoded videos to an output each.
        read: one output to what the result takes of it.
    """
    if not videos:
        return
    try:
        outputs = ask(videos)
    except Exception as failure:
        if len(videos) == 1:
            _add_error(results[0], failure)
            return
        outputs = None
    if outputs is None:  # the failure is gone, and with it what it held in memory
        for result, video in zip(results, videos, strict=True):
            _ask([result], [video], ask, read)
        return
    for result, output in zip(results, outputs, strict=True):
        try:
            answer = read(output)
        except Exception as failure:
            _add_error(result, failure)
        else:
            result |= {name: value for name, value in answer.items() if name in result}


def _named_as_an_answer(result: dict) -> dict:
    """With `damage` under another name, since in rows that is what is true of a clip."""
    return {"damage_answer": result["damage"], **result}


def _level_of_windows(processor: LmmVqaProcessor, windows: list[VideoWindow], answers: list[str]) -> str:
    """The level that was named for most seconds of a video; of two, the lower one."""
    seconds = Counter()
    for window, answer in zip(windows, answers, strict=True):
        seconds[processor.post_process_level_answer(answer)] += window.end - window.start
    return max(LEVELS, key=seconds.__getitem__)


def _add_error(result: dict, failure: Exception) -> None:
    line = failure_line(failure)
    if result["error"] != line:  # both questions may fail alike
        result["error"] = "; ".join(filter(None, [result["error"], line]))
