"""A model's answers on rated videos, through the processor and the readout that every user gets."""

from collections import Counter
from functools import partial

import torch
from tqdm import tqdm

from ..modeling_lmmvqa.pipeline_lmmvqa import GENERATION, VideoQualityAssessmentPipeline, choose_answers, map_windows
from ..processing.feature_cache import FeatureCache
from ..processing.processing_lmmvqa import (
    LEVELS,
    AnswerParsingError,
    LmmVqaProcessor,
    QualityResult,
    VideoWindow,
    mix_windows,
)
from ..processing.video_decoding_lmmvqa import EncodedVideo
from ..processing.video_reading_lmmvqa import VideoDecodingError, VideoFacts


@torch.no_grad()
def answer_log_probabilities(
    model: torch.nn.Module,
    processor: LmmVqaProcessor,
    videos: list[str | EncodedVideo],
    question: str,
    answer_ids: list[list[int]],
    batch_size: int = 16,
    cache: FeatureCache | None = None,
) -> list[tuple[list[VideoWindow], torch.Tensor, VideoFacts | None]]:
    """
    Args:
        model: a `LmmVqaForConditionalGeneration`; it is in eval mode here and in its own mode afterwards.
        videos: paths, or what the towers made of them.
        question: asked of every video.
        answer_ids: token ids of the answers to choose from.
        cache: features in place of videos.

    Returns:
        For each video its windows, one unless it is longer than the decoder's context, (windows, number of answers) log
        probabilities, and what was seen of it.

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
        answered += choose_answers(model, processor, encoded, question, answer_ids)
    model.train(was_training)
    return [(windows, torch.stack(log_probabilities), facts) for windows, log_probabilities, facts in answered]


def predict_scores(model, processor: LmmVqaProcessor, videos: list[str], **options) -> list[QualityResult]:
    """Scores, by the score question; `options` as in `answer_log_probabilities`."""
    answered = answer_log_probabilities(
        model, processor, videos, processor.score_question, processor.score_answer_ids, **options
    )
    return [processor.post_process_window_scores(*of_video) for of_video in answered]


def predict_levels(model, processor: LmmVqaProcessor, videos: list[str], **options) -> list[str]:
    """
    The paper's level answers (section III-B), by the level question; `options` as in `answer_log_probabilities`. Of a
    video in windows it is the most probable answer of their mixture.
    """
    answered = answer_log_probabilities(
        model, processor, videos, processor.level_question, processor.level_answer_ids, **options
    )
    return [LEVELS[int(mix_windows(windows, answers).argmax())] for windows, answers, _ in answered]


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
        A dict for each video: `score` and `score_std`, None where the answer was generated; `answer`, see
        `QualityResult`; `level_answer`; and `error`, one line, where the video cannot be read, or a generated answer
        holds no score or level: then what is missing is None.
    """
    results = [dict.fromkeys(("score", "score_std", "answer", "level_answer", "error")) for _ in videos]
    encoded, readable = [], []
    for video, result in zip(videos, results, strict=True):
        try:
            encoded += scorer.preprocess([video]) if cache is None else [cache[video]]
            readable.append(result)
        except (VideoDecodingError, OSError) as error:
            _add_error(result, error)
    if not encoded:
        return results

    model, processor = scorer.model, scorer.processor
    if "score" in tasks:
        for result, outputs in zip(readable, scorer.forward(encoded, readout=readout), strict=True):
            try:
                of_video = scorer.postprocess([outputs])
                result |= {name: of_video[name] for name in ("score", "score_std", "answer")}
            except AnswerParsingError as error:
                _add_error(result, error)
    if "level" in tasks and readout == "score":
        levels = predict_levels(model, processor, encoded, batch_size=len(encoded))
        for result, level in zip(readable, levels, strict=True):
            result["level_answer"] = level
    elif "level" in tasks:
        generate = partial(scorer.generate_answers, **GENERATION)
        question, num_answer_tokens = processor.level_question, GENERATION["max_new_tokens"]
        outputs = map_windows(model, processor, encoded, question, num_answer_tokens, generate)
        for result, (windows, answers, _) in zip(readable, outputs, strict=True):
            try:
                result["level_answer"] = _level_of_windows(processor, windows, answers)
            except AnswerParsingError as error:
                _add_error(result, error)
    return results


def _level_of_windows(processor: LmmVqaProcessor, windows: list[VideoWindow], answers: list[str]) -> str:
    """The level that was named for most seconds of a video; of two, the lower one."""
    seconds = Counter()
    for window, answer in zip(windows, answers, strict=True):
        seconds[processor.post_process_level_answer(answer)] += window.end - window.start
    return max(LEVELS, key=seconds.__getitem__)


def _add_error(result: dict, error: Exception) -> None:
    result["error"] = "; ".join(filter(None, [result["error"], " ".join(str(error).split())]))
