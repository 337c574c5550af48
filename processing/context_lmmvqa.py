# Copyright 2026 The LMM-VQA authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""How much video the decoder's context holds: visual tokens of a video, windows of a long one, videos of one chat."""

import math
from bisect import bisect_right

import numpy as np

from .answers_lmmvqa import VideoWindow


# What the processor must know of the model's configuration to count visual tokens, under the same names
TOKEN_LAYOUT = (
    "spatial_grid_size",
    "key_frame_views",
    "spatial_reduction",
    "temporal_reduction",
    "temporal_fusion",
    "temporal_placement",
    "use_temporal_tokens",
)


def visual_token_counts(layout, num_chunks: int) -> tuple[int, int]:
    """
    Key-frame tokens and temporal tokens of a video of so many chunks.

    Args:
        layout: a processor or a configuration, whatever has the attributes of `TOKEN_LAYOUT`.
    """
    joins_vision = layout.use_temporal_tokens and layout.temporal_fusion == "vision"
    key_frame_tokens = layout.key_frame_views * layout.spatial_grid_size**2 + joins_vision
    if layout.spatial_reduction == "none":
        key_frame_tokens *= num_chunks
    temporal_tokens = 0
    if layout.use_temporal_tokens and not joins_vision:
        temporal_tokens = num_chunks if layout.temporal_reduction == "none" else 1
    return key_frame_tokens, temporal_tokens


class ContextMixin:
    """What a processor counts of its own `TOKEN_LAYOUT`, `max_window_seconds` and tokenizer."""

    def placeholders(self, num_chunks: int) -> str:
        """Placeholder tokens of a video of so many chunks, as text."""
        times = num_chunks if self.temporal_placement == "interleaved" else 1
        key_frame_tokens, temporal_tokens = visual_token_counts(self, num_chunks // times)
        return times * (self.key_frame_token * key_frame_tokens + self.video_token * temporal_tokens)

    def windows(
        self, seconds: np.ndarray, text: str, max_positions: int, num_answer_tokens: int = 0
    ) -> list[VideoWindow]:
        """
        A video in the fewest windows that fit the decoder's context and `max_window_seconds`, of equal length but for
        one chunk.

        Args:
            seconds: (chunks,), see `DecodedVideo` and `EncodedVideo`.
            text: the chat that each window stands in, with one `video_token`.
            max_positions: the decoder's `max_position_embeddings`.
            num_answer_tokens: places to keep free behind the chat.

        Returns:
            One window where the whole video fits.

        Raises:
            ValueError: one second of video does not fit.
        """
        with_one, with_two = (len(self.expanded_token_ids(text, num_chunks)) for num_chunks in (1, 2))
        free = max_positions - num_answer_tokens - with_one
        if free < 0:
            raise ValueError(
                f"got a decoder of {max_positions} positions, expected at least {with_one + num_answer_tokens} for the "
                "prompt, the answer and one second of video; use a smaller spatial_grid_size or a decoder of longer "
                "context"
            )
        # Where both towers' tokens are averaged a chunk more takes no place
        most = 1 + free // (with_two - with_one) if with_two > with_one else len(seconds)
        most = min(most, self.max_window_seconds or most)
        num_windows = math.ceil(len(seconds) / most)
        borders = [len(seconds) * index // num_windows for index in range(num_windows + 1)]
        times = [int(seconds[border]) for border in borders[:-1]] + [int(seconds[-1]) + 1]
        return [VideoWindow(*borders[index : index + 2], *times[index : index + 2]) for index in range(num_windows)]

    def expanded_token_ids(self, text: str, num_chunks: int) -> list[int]:
        """Token ids of a chat with one `video_token`, as the decoder sees it with a video of so many chunks."""
        expanded = text.replace(self.video_token, self.placeholders(num_chunks))
        return self.tokenizer(expanded, add_special_tokens=False)["input_ids"]

    def fit_videos(self, videos: list, text: str, max_positions: int, num_answer_tokens: int = 0) -> list:
        """
        The videos of one chat, shortened where the decoder's context or `max_window_seconds` cannot hold them whole: of
        each at most so many seconds, evenly spread over it, the same number for all.

        Args:
            videos: decoded or encoded ones, in the order of the chat.
            text: the chat, with a `video_token` for each.
            max_positions: the decoder's `max_position_embeddings`.
            num_answer_tokens: places to keep free behind the chat.

        Raises:
            ValueError: the chat does not fit beside one second of each video.
        """
        lengths = [len(video.seconds) for video in videos]
        most = self.longest_fitting(lengths, text, max_positions, num_answer_tokens)
        return [video.spread(most) if len(video.seconds) > most else video for video in videos]

    def longest_fitting(self, lengths: list[int], text: str, max_positions: int, num_answer_tokens: int = 0) -> int:
        """
        The most seconds of each of several videos that a chat can show, see `fit_videos`.

        Args:
            lengths: chunks of each video.
        """
        num_text_tokens = len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) - len(lengths)

        def num_positions(most: int) -> int:
            visual = (sum(visual_token_counts(self, min(most, length))) for length in lengths)
            return num_text_tokens + sum(visual) + num_answer_tokens

        longest = min(max(lengths, default=1), self.max_window_seconds or math.inf)
        most = bisect_right(range(1, longest + 1), max_positions, key=num_positions)
        if most == 0:
            raise ValueError(
                f"got a chat that needs {num_positions(1)} positions with one second of each of {len(lengths)} videos, "
                f"expected at most the decoder's {max_positions}; use a shorter one, a smaller spatial_grid_size or a "
                "decoder of longer context"
            )
        return most


def check_views(key_frame_views: int, fragments: int | list[int]) -> None:
    """
    Raises:
        ValueError: the video processor makes other numbers of views.
    """
    views = 1 if isinstance(fragments, int) else len(fragments)
    if views != key_frame_views:
        raise ValueError(
            f"got key_frame_views={key_frame_views} and a video processor with key_frame_fragments={fragments}, expected "
            "as many views as fragments; set key_frame_views of the configuration too"
        )


def check_layout(processor, config) -> None:
    """
    Raises:
        ValueError: the processor counts other visual tokens than the model makes.
    """
    wrong = [name for name in TOKEN_LAYOUT if getattr(processor, name) != getattr(config, name)]
    if wrong:
        of_processor, of_config = (
            ", ".join(f"{name}={getattr(owner, name)}" for name in wrong) for owner in (processor, config)
        )
        raise ValueError(
            f"got a processor with {of_processor} beside a model with {of_config}, expected the same; mend "
            "processor_config.json or config.json, whichever was changed"
        )


__all__ = ["TOKEN_LAYOUT", "ContextMixin", "check_layout", "check_views", "visual_token_counts"]
