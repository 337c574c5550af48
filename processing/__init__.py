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
"""Files to tensors, and answers to results."""

from .answers_lmmvqa import QualityResult
from .processing_lmmvqa import LmmVqaProcessor
from .video_decoding_lmmvqa import DecodedVideo, FrameSettings, decode_video
from .video_processing_lmmvqa import LmmVqaVideoProcessor
from .video_reading_lmmvqa import VideoDecodingError


__all__ = [
    "DecodedVideo",
    "FrameSettings",
    "LmmVqaProcessor",
    "LmmVqaVideoProcessor",
    "QualityResult",
    "VideoDecodingError",
    "decode_video",
]
