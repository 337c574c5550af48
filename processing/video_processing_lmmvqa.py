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
"""Videos to the two towers' inputs: key frames and chunks, scaled and normalised."""

import math
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import torch
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.video_processing_utils import VideoProcessorMixin

from .reading_limits_lmmvqa import DEFAULT_LIMITS, WHOLE_MACHINE, ReadingShare
from .video_decoding_lmmvqa import DecodedVideo, EncodedVideo, FrameSettings, decode_portions
from .video_inputs_lmmvqa import is_batch, is_stream, make_image_list, make_video_list, reader_source, stored_part
from .video_reading_lmmvqa import T, VideoSource


# Chunks whose pixels are in memory at a time while towers encode a video: 16 take 66 MB more and no less time on a CPU
PORTION = 8


class LmmVqaVideosKwargs(VideosKwargs, total=False):
    """
    What `FrameSettings` says; and chunk_mean, chunk_std (`list[float]`): Normalisation of the chunks' channels, after
    division by 255.
    """

    key_frame_size: int
    chunk_size: int
    chunk_frames: int
    key_frame_fragments: int | list[int]
    chunk_fragments: int
    key_frame_resize: str
    small_frames: str
    chunk_sampling: str
    keep_incomplete_second: bool
    chunk_mean: list[float]
    chunk_std: list[float]


FRAME_SETTINGS = tuple(field.name for field in fields(FrameSettings))
SETTINGS = (
    *FRAME_SETTINGS,
    "image_mean",
    "image_std",
    "chunk_mean",
    "chunk_std",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
)
# What holds of a checkpoint or of features that were saved before there was a choice
FORMER_SETTINGS = {
    "chunk_sampling": "first_frames",
    "keep_incomplete_second": False,
    "key_frame_resize": "squeeze",
    "small_frames": "enlarge",
}
# What transformers writes beside them
SAVED_BESIDE = ("auto_map", "processor_class", "video_processor_type")


class LmmVqaVideoProcessor(VideoProcessorMixin):
    r"""
    Decodes each video once (see `FrameSettings`) and makes both towers' inputs. The defaults suit CLIP ViT-L/14
    (`image_mean`, `image_std`) and SlowFast R50 (`chunk_mean`, `chunk_std`, 32 frames a clip).

    Calling it with one video or a list gives `pixel_values` (chunks * views, 3, key_frame_size, key_frame_size),
    `pixel_values_videos` (clips of the batch, chunk_frames, 3, chunk_size, chunk_size), `num_chunks` (num_videos,), how
    many chunks each video has, `num_clips` (chunks of the batch,), how many clips each chunk has, and `num_frames`
    (clips of the batch,), how many frames of each clip are its own. With `chunk_sampling` "first_frames" or "even" a clip is a
    chunk, and the last two are left out. What one video and what a list may be stands in `video_inputs_lmmvqa`. `fps=25`, or
    `video_metadata=[{"fps": 25}, ...]` for each, is the frame rate of videos that are arrays or lists of pictures. Any of
    `SETTINGS` can be given for one call too. Which frames are looked at is LMM-VQA's own rule: nothing samples them.
    How much is read of a file is in the attribute `limits`, a `ReadingLimits`, which is not saved.

    Raises:
        VideoDecodingError: a video of which no frame can be read.
        TypeError: an option that LMM-VQA does not have.
        ValueError: `do_sample_frames` or `num_frames`; or, when it is made or loaded, a setting that cannot be.
    """

    # The processor and the pipeline take them from here: as remote code, what they imported would be other classes
    make_video_list = staticmethod(make_video_list)
    make_image_list = staticmethod(make_image_list)
    is_batch = staticmethod(is_batch)
    is_stream = staticmethod(is_stream)
    stored_part = staticmethod(stored_part)

    model_input_names = ["pixel_values", "pixel_values_videos", "num_chunks", "num_clips", "num_frames"]
    valid_kwargs = LmmVqaVideosKwargs
    key_frame_size = 224
    chunk_size = 224
    chunk_frames = 32
    key_frame_fragments = 1
    chunk_fragments = 1
    key_frame_resize = "squeeze"
    small_frames = "overlap"
    chunk_sampling = "second"
    keep_incomplete_second = True
    image_mean = [0.48145466, 0.4578275, 0.40821073]
    image_std = [0.26862954, 0.26130258, 0.27577711]
    chunk_mean = [0.45, 0.45, 0.45]
    chunk_std = [0.225, 0.225, 0.225]
    do_rescale = True
    do_normalize = True
    limits = DEFAULT_LIMITS  # of this machine and its user: not saved

    def __init__(self, **kwargs: Unpack[LmmVqaVideosKwargs]):
        if unknown := kwargs.keys() - {*SETTINGS, *SAVED_BESIDE}:
            raise TypeError(f"got {', '.join(sorted(unknown))}, expected some of {', '.join(SETTINGS)}")
        # All of them stand in the saved file: a default that changes one day must not change a checkpoint's scores
        super().__init__(**{name: getattr(self, name) for name in SETTINGS} | kwargs)
        _ = self.frame_settings  # which refuses what cannot be
        self._check_normalisation()

    @classmethod
    def from_dict(cls, video_processor_dict: dict, **kwargs):
        return super().from_dict(FORMER_SETTINGS | video_processor_dict, **kwargs)

    def to_dict(self) -> dict:
        saved = super().to_dict()
        saved.pop("limits", None)
        return saved

    @property
    def frame_settings(self) -> FrameSettings:
        return FrameSettings(**{name: getattr(self, name) for name in FRAME_SETTINGS})

    def _check_normalisation(self) -> None:
        """
        Raises:
            ValueError: pixels would not become finite numbers, or not of three channels.
        """
        for name in ("image_mean", "image_std", "chunk_mean", "chunk_std"):
            value, is_std = getattr(self, name), name.endswith("std")
            if (
                not isinstance(value, list | tuple)
                or len(value) != 3
                or not all(_is_finite(number) and (number > 0 or not is_std) for number in value)
            ):
                expected = "three numbers above 0" if is_std else "three numbers"
                raise ValueError(f"got {name}={value!r}, expected {expected}, one a channel, such as [0.5, 0.5, 0.5]")
        for name in ("do_rescale", "do_normalize"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"got {name}={getattr(self, name)!r}, expected true or false")
        if not _is_finite(self.rescale_factor) or self.rescale_factor <= 0:
            raise ValueError(
                f"got rescale_factor={self.rescale_factor!r}, expected a number above 0; 1/255 makes 0 to 1 of pixels"
            )

    def decode(self, videos, video_metadata=None, fps: float | None = None) -> list[DecodedVideo | EncodedVideo]:
        """
        Videos in any form of `make_video_list` to key frames and chunks; decoded and encoded videos pass through.
        """
        sources = map(reader_source, make_video_list(videos, video_metadata, fps))
        return [
            video
            if isinstance(video, DecodedVideo | EncodedVideo)
            else self.decode_portions(video, lambda decoded: decoded, None, rate)[0]
            for video, rate in sources
        ]

    def decode_portions(
        self,
        video: VideoSource | DecodedVideo,
        function: Callable[[DecodedVideo], T],
        portion: int | None = PORTION,
        fps: float | None = None,
        problems: bool = False,
        share: ReadingShare = WHOLE_MACHINE,
    ) -> list[T]:
        """What `function` returns for each portion of a video's chunks, see `video_decoding_lmmvqa.decode_portions`."""
        if isinstance(video, DecodedVideo):
            portion = portion or len(video.seconds)
            return [function(video.part(first, first + portion)) for first in range(0, len(video.seconds), portion)]
        return decode_portions(video, function, portion, self.frame_settings, fps, self.limits, problems, share)

    def encode(
        self, videos, model, video_metadata=None, fps: float | None = None, problems: bool = False
    ) -> list[EncodedVideo]:
        """
        Videos to what `encode_pixels` of the model gives, `PORTION` chunks at a time: of long videos nothing else stays in
        memory. Encoded videos pass through.

        Args:
            videos: in any form of `make_video_list`, decoded or encoded.
            model: a `LmmVqaForConditionalGeneration` in eval mode; the features are in its dtype and on its device.
            video_metadata, fps: see `make_video_list`.
            problems: whether to look for problems in all frames of what is decoded here, see `WatchedFrames`.

        Raises:
            VideoDecodingError: a video of which no frame can be read.
        """

        def encode_portion(decoded: DecodedVideo) -> EncodedVideo:
            return self.encode_portion(decoded, model)

        sources = map(reader_source, make_video_list(videos, video_metadata, fps))
        return [
            video
            if isinstance(video, EncodedVideo)
            else self.join_portions(self.decode_portions(video, encode_portion, fps=rate, problems=problems))
            for video, rate in sources
        ]

    def encode_portion(self, decoded: DecodedVideo, model) -> EncodedVideo:
        """What is kept of one portion, see `encode`; `join_portions` makes a video of all of them in order."""
        inputs = self.preprocess(decoded).to(model.device)
        del inputs["num_chunks"]
        return EncodedVideo(*model.encode_pixels(**inputs), seconds=decoded.seconds, facts=decoded.facts)

    @staticmethod
    def join_portions(parts: list[EncodedVideo]) -> EncodedVideo:
        temporal_features = None
        if parts[0].temporal_features is not None:
            temporal_features = torch.cat([part.temporal_features for part in parts])
        return EncodedVideo(
            torch.cat([part.vision_features for part in parts]),
            temporal_features,
            seconds=np.concatenate([part.seconds for part in parts]),
            facts=parts[-1].facts,
        )

    def preprocess(
        self,
        videos,
        video_metadata=None,
        return_tensors: str = "pt",
        do_sample_frames: bool | None = None,
        num_frames: int | None = None,
        fps: float | None = None,
        **settings: Unpack[LmmVqaVideosKwargs],
    ) -> BatchFeature:
        sampling = {"do_sample_frames": do_sample_frames, "num_frames": num_frames}
        if sampled := [f"{name}={value}" for name, value in sampling.items() if value]:
            raise ValueError(
                f"got {', '.join(sampled)}, expected no sampling: LMM-VQA looks at a key frame and a chunk of every second; "
                "leave it out"
            )
        if settings:
            settings = {name: getattr(self, name) for name in SETTINGS} | settings
            changed = type(self)(**settings)
            changed.limits = self.limits
            return changed.preprocess(videos, video_metadata, return_tensors, fps=fps)
        videos = self.decode(videos, video_metadata, fps)
        if any(isinstance(video, EncodedVideo) for video in videos):
            return BatchFeature(self._join_encoded(videos), tensor_type=return_tensors)
        image_statistics = self.statistics(self.image_mean, self.image_std)
        data = {
            "pixel_values": _normalise([video.key_frames for video in videos], *image_statistics),
            "num_chunks": torch.tensor([len(video.seconds) for video in videos]),
        }
        return BatchFeature(data | self._clips(videos), tensor_type=return_tensors)

    def _clips(self, videos: list[DecodedVideo | EncodedVideo]) -> dict[str, torch.Tensor]:
        """What the temporal tower sees of the batch."""
        statistics = self.statistics(self.chunk_mean, self.chunk_std)
        data = {"pixel_values_videos": _normalise([video.clips for video in videos], *statistics)}
        if self.chunk_sampling == "second":
            for name in ("num_clips", "num_frames"):
                data[name] = torch.from_numpy(np.concatenate([getattr(video, name) for video in videos]))
        return data

    def _join_encoded(self, videos: list[DecodedVideo | EncodedVideo]) -> dict[str, torch.Tensor]:
        if len(forms := {_form(video) for video in videos}) > 1:
            raise ValueError(
                f"got a batch of videos in {len(forms)} forms ({'; '.join(sorted(forms))}), expected one: give all of them "
                "as files, or encode all of them in the same way"
            )
        data = {
            "vision_features": torch.cat([video.vision_features for video in videos]),
            "num_chunks": torch.tensor([len(video.vision_features) for video in videos]),
        }
        if videos[0].clips is not None:
            data |= self._clips(videos)
        elif videos[0].temporal_features is not None:
            data["temporal_features"] = torch.cat([video.temporal_features for video in videos])
        return data

    def statistics(self, mean: list[float], std: list[float]) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of pictures over 255, so that `do_rescale` and `do_normalize` are honoured."""
        factor = 255 * (self.rescale_factor if self.do_rescale else 1)
        if not self.do_normalize:
            mean, std = [0.0] * len(mean), [1.0] * len(std)
        return [value / factor for value in mean], [value / factor for value in std]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _normalise(pictures: list[np.ndarray], mean: list[float], std: list[float]) -> torch.Tensor:
    """(..., height, width, 3) uint8 arrays to one (..., 3, height, width) float32 tensor, first dimensions joined."""
    scale, shift = 1 / (255 * np.float32(std)), np.float32(mean) / np.float32(std)
    joined = pictures[0] if len(pictures) == 1 else np.concatenate(pictures)
    normalised = np.empty((*joined.shape[:-3], 3, *joined.shape[-3:-1]), np.float32)
    # One at a time, so that each stays in the processor's cache, and no thread waits for another
    for picture, channels in zip(
        joined.reshape(-1, *joined.shape[-3:]), normalised.reshape(-1, *normalised.shape[-3:]), strict=True
    ):
        np.multiply(picture.transpose(2, 0, 1), scale[:, None, None], out=channels)
        channels -= shift[:, None, None]
    return torch.from_numpy(normalised)


def _form(video: DecodedVideo | EncodedVideo) -> str:
    """What a batch must have in common."""
    if isinstance(video, DecodedVideo):
        return "pixels"
    sizes = [tuple(video.vision_features.shape[1:])]
    sizes += [] if video.temporal_features is None else [tuple(video.temporal_features.shape[1:])]
    return f"features of {' and '.join(map(str, sizes))}" + (" with clips" if video.clips is not None else "")


__all__ = ["LmmVqaVideoProcessor"]
