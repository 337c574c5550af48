"""A model's answers on rated videos, through the processor and the readout that every user gets."""

import torch
from tqdm import tqdm

from ..modeling_lmmvqa.pipeline_lmmvqa import map_windows
from ..processing.feature_cache import FeatureCache
from ..processing.processing_lmmvqa import LEVELS, LmmVqaProcessor, QualityResult, VideoWindow, mix_windows


@torch.no_grad()
def answer_log_probabilities(
    model: torch.nn.Module,
    processor: LmmVqaProcessor,
    videos: list[str],
    question: str,
    answer_ids: list[list[int]],
    batch_size: int = 16,
    cache: FeatureCache | None = None,
) -> list[tuple[list[VideoWindow], torch.Tensor]]:
    """
    Args:
        model: a `LmmVqaForConditionalGeneration`; it is in eval mode here and in its own mode afterwards.
        videos: paths.
        question: asked of every video.
        answer_ids: token ids of the answers to choose from.
        cache: features in place of videos.

    Returns:
        For each video its windows, one unless it is longer than the decoder's context, and (windows, number of
        answers) log probabilities.

    Raises:
        VideoDecodingError: a video of which no frame can be read.
    """

    def answer(inputs) -> list[torch.Tensor]:
        return list(model.answer_log_probabilities(answer_ids, **inputs))

    was_training = model.training
    model.eval()
    num_answer_tokens = max(map(len, answer_ids))
    answered = []
    for start in tqdm(range(0, len(videos), batch_size), desc="predictions", mininterval=5):
        batch = videos[start : start + batch_size]
        if cache is None:
            encoded = processor.video_processor.encode(batch, model)
        else:
            encoded = [cache[video] for video in batch]
        answered += map_windows(model, processor, encoded, question, num_answer_tokens, answer)
    model.train(was_training)
    return [(windows, torch.stack(log_probabilities)) for windows, log_probabilities in answered]


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
    return [LEVELS[int(mix_windows(*of_video).argmax())] for of_video in answered]
