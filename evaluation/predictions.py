"""A model's answers on rated videos, through the processor and the readout that every user gets."""

import torch
from tqdm import tqdm

from ..processing.feature_cache import FeatureCache
from ..processing.processing_lmmvqa import LEVELS, LmmVqaProcessor, QualityResult


@torch.no_grad()
def answer_log_probabilities(
    model: torch.nn.Module,
    processor: LmmVqaProcessor,
    videos: list[str],
    question: str,
    answer_ids: list[list[int]],
    batch_size: int = 16,
    cache: FeatureCache | None = None,
) -> torch.Tensor:
    """
    Args:
        model: a `LmmVqaForConditionalGeneration`; it is in eval mode here and in its own mode afterwards.
        videos: paths.
        question: asked of every video.
        answer_ids: token ids of the answers to choose from.
        cache: features in place of videos.

    Returns:
        (number of videos, number of answers) log probabilities.

    Raises:
        VideoDecodingError: a video of which no frame can be read.
    """
    was_training = model.training
    model.eval()
    log_probabilities = []
    for start in tqdm(range(0, len(videos), batch_size), desc="predictions", mininterval=5):
        batch = videos[start : start + batch_size]
        chats = [processor.prompt(question)] * len(batch)
        inputs = processor(batch if cache is None else [cache[video] for video in batch], text=chats)
        log_probabilities.append(model.answer_log_probabilities(answer_ids, **inputs.to(model.device)))
    model.train(was_training)
    return torch.cat(log_probabilities)


def predict_scores(model, processor: LmmVqaProcessor, videos: list[str], **options) -> list[QualityResult]:
    """Scores, by the score question; `options` as in `answer_log_probabilities`."""
    return processor.post_process_scores(
        answer_log_probabilities(
            model, processor, videos, processor.score_question, processor.score_answer_ids, **options
        )
    )


def predict_levels(model, processor: LmmVqaProcessor, videos: list[str], **options) -> list[str]:
    """The paper's level answers (section III-B), by the level question; `options` as in `answer_log_probabilities`."""
    log_probabilities = answer_log_probabilities(
        model, processor, videos, processor.level_question, processor.level_answer_ids, **options
    )
    return [LEVELS[index] for index in log_probabilities.argmax(-1).tolist()]
