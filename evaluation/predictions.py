"""A model's scores for rated videos, through the processor and the readout that every user gets."""

import torch
from tqdm import tqdm

from ..processing.feature_cache import FeatureCache
from ..processing.processing_lmmvqa import LmmVqaProcessor, QualityResult


@torch.no_grad()
def predict(
    model: torch.nn.Module,
    processor: LmmVqaProcessor,
    videos: list[str],
    batch_size: int = 16,
    cache: FeatureCache | None = None,
) -> list[QualityResult]:
    """
    Args:
        model: a `LmmVqaForConditionalGeneration`; it is in eval mode here and in its own mode afterwards.
        videos: paths.
        cache: features in place of videos.

    Raises:
        VideoDecodingError: a video of which no frame can be read.
    """
    was_training = model.training
    model.eval()
    answer_ids = processor.score_answer_ids
    results = []
    for start in tqdm(range(0, len(videos), batch_size), desc="predictions", mininterval=5):
        batch = videos[start : start + batch_size]
        inputs = processor(batch if cache is None else [cache[video] for video in batch]).to(model.device)
        log_probabilities = model.answer_log_probabilities(answer_ids, **inputs)
        results += processor.post_process_scores(log_probabilities)
    model.train(was_training)
    return results
