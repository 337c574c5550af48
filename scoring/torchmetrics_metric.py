"""The mean score of videos as a metric of the torchmetrics library (extra `torchmetrics`)."""

import os
from collections.abc import Sequence

import torch

from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from .report import finite
from .scorer import load_scorer


try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError(
        "got no torchmetrics, which this metric is one of, expected it to be installed; pip install 'lmmvqa[torchmetrics]'"
    ) from error


class NoReferenceVideoQuality(Metric):
    """
    Mean score of videos, 0 (worst) to 100 (best) or on the scale of a calibrated model, without references:

    ```python
    metric = NoReferenceVideoQuality()
    metric.update(frames, fps=25)  # (batch, frames, 3, height, width)
    metric.compute()
    ```

    Videos go the way of every other score: the frames through the processor, the towers without gradient. The sum and the
    number of videos are its states, in float64; over processes they are added. It is a measure to watch beside a loss or a
    reward and not one to train on, see docs/guard_a_pipeline.md.

    Args:
        scorer: of `load_scorer`, by default the embedded model. It stays on its own device, and in no `state_dict`.
        **kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0

    def __init__(self, scorer: VideoQualityAssessmentPipeline | None = None, **kwargs):
        super().__init__(**kwargs)
        self.scorer = scorer or load_scorer()
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("score_sum", zero, dist_reduce_fx="sum")
        self.add_state("num_videos", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, videos: torch.Tensor | str | os.PathLike | Sequence, fps: float | None = None) -> None:
        """
        Args:
            videos: (batch, frames, 3, height, width), uint8 or floats from 0 to 1, on any device; or one path, or a list of
                videos in any form that a scorer takes.
            fps: frames a second of tensors; without it 30, with a warning.

        Raises:
            VideoDecodingError: a video that cannot be read; no video of the call is counted then.
            ValueError: a tensor of another shape or range.
        """
        if isinstance(videos, torch.Tensor) and videos.ndim != 5:
            raise ValueError(
                f"got videos of shape {tuple(videos.shape)}, expected (batch, frames, 3, height, width); add the missing "
                "dimensions"
            )
        results = self.scorer(videos, **({} if fps is None else {"fps": fps}))
        scores = [finite(result)["score"] for result in ([results] if isinstance(results, dict) else results)]
        self.score_sum += sum(scores)
        self.num_videos += len(scores)

    def compute(self) -> torch.Tensor:
        """The mean; NaN before the first video."""
        return self.score_sum / self.num_videos
