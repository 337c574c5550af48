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
"""What the model may answer, what an answer says, and the result of a video."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from .video_reading_lmmvqa import VideoFacts


# The answers whose probabilities make the score and the level (section III-A)
SCORE_ANSWERS = [str(score) for score in range(101)]
LEVELS = ["poor", "fair", "good"]
# Of absolute category rating (ITU-T P.910), each with the middle of its fifth of the scale
CATEGORIES = {"bad": 10.0, "poor": 30.0, "fair": 50.0, "good": 70.0, "excellent": 90.0}
# The scores that answers to the score question stand for, in each form that these may have
SCORE_FORMS = {"numbers": {answer: float(answer) for answer in SCORE_ANSWERS}, "categories": CATEGORIES}
# Kinds of damage, told apart by what people see and not by what did it
DAMAGES = (
    "compression",
    "blur",
    "noise",
    "blocking",
    "low_resolution",
    "exposure",
    "freeze",
    "stutter",
    "shake",
    "banding",
)
NO_DAMAGE = "none"
DAMAGE_ANSWERS = {kind: kind.replace("_", " ") for kind in (*DAMAGES, NO_DAMAGE)}
ANSWER_FIELDS = ("score", "score_std", "level", "level_probabilities", "answer", "damage")  # of `QualityResult`
MAX_TRAINED_SHORT_SIDE, MAX_TRAINED_FPS = 1080, 60.5  # time stamps are rounded: 60 frames a second may count as 60.02


class AnswerParsingError(ValueError):
    """A generated answer that holds no score or level; the message quotes it."""


@dataclass
class VideoWindow:
    """Consecutive chunks of a video that fit the decoder's context.

    Attributes:
        first_chunk, end_chunk: the first chunk and the one after the last.
        start, end: whole seconds of the video; windows follow one another without gap. A last second of less than half is
            none, and one that is not complete counts as whole, so that the last `end` may be beyond the video's.
    """

    first_chunk: int
    end_chunk: int
    start: int
    end: int


@dataclass
class QualityResult:
    """Perceived quality of one video.

    A video longer than the decoder's context is scored in windows, see `LmmVqaProcessor.windows`. Its distribution over
    scores is the mixture of the windows' distributions, weighted by their whole seconds, and everything else is read from
    that: the score is the weighted mean of the windows' scores (before calibration), the deviation has the differences
    between windows in it.

    Attributes:
        score: 0 (worst) to 100 (best), or on the processor's `scale` where it is calibrated.
        score_std: standard deviation of the distribution over scores; None where the answer was generated.
        level: "poor", "fair" or "good", the score against the processor's `level_thresholds`.
        level_probabilities: mass of the distribution over scores between the thresholds; None where generated.
        answer: the generated text, those of several windows joined by "; ", or the most probable answer; 0 to 100
            on any scale, or a word of `CATEGORIES`.
        damage: {kind: probability} of what is wrong with the video, `DAMAGES` and "none", which add up to 1; None where
            the answer was generated, or where the model has not learned the question.
        duration, expected_duration, frames, damaged_frames, lost_frames, width, height, fps, hdr: what was seen of the
            video, see `VideoFacts`; None where features alone are known.
        problems: [{"kind", "start", "end", "strength"}] in seconds, see `WatchedFrames`; None where that was not asked.
        outside: what of that no model here was trained on, see `outside_training`; None where it is not known.
        percentile_5: of the windows' scores, weighted likewise: at least 5 % of the seconds score no more; None where
            the whole video fits.
        worst_window: "start" and "end" in seconds and "score" of the window that scores lowest, the first of equal ones;
            None where the whole video fits.
        windows: {"start", "end"} in seconds, none beyond the video's `duration`, and the fields of the answer for each
            window; None where the whole video fits.
        scale: lowest and highest score that a calibrated processor gives; None where scores are 0 to 100.
    """

    score: float
    score_std: float | None
    level: str
    level_probabilities: dict[str, float] | None
    answer: str
    damage: dict[str, float] | None = None
    duration: float | None = None
    expected_duration: float | None = None
    frames: int | None = None
    damaged_frames: int | None = None
    lost_frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    hdr: str | None = None
    problems: list[dict] | None = None
    outside: list[str] | None = None
    percentile_5: float | None = None
    worst_window: dict | None = None
    windows: list[dict] | None = None
    scale: list[float] | None = None


def parse_score(answer: str) -> float:
    """
    The score that a written answer states.

    Raises:
        AnswerParsingError: it does not state exactly one number from 0 to 100.
    """
    numbers = re.findall(r"[-.\d]*\d", answer)
    if len(numbers) != 1 or not re.fullmatch(r"\d+(\.\d+)?", numbers[0]) or float(numbers[0]) > 100:
        raise AnswerParsingError(f"got the answer {answer!r}, expected exactly one number from 0 to 100")
    return float(numbers[0])


def parse_level(answer: str, levels: Iterable[str] = LEVELS) -> str:
    """
    The level that a written answer names.

    Raises:
        AnswerParsingError: it does not name exactly one level.
    """
    named = [level for level in levels if re.search(rf"\b{level}\b", answer.lower())]
    if len(named) != 1:
        raise AnswerParsingError(f"got the answer {answer!r}, expected exactly one of {', '.join(levels)}")
    return named[0]


def score_answer(mos: float, score_form: str) -> str:
    """
    What is answered to the score question about a video of this MOS (0-100, and beyond what is added to it): the nearest
    whole number, or the word whose fifth of the scale it is in.
    """
    if score_form == "categories":
        return list(CATEGORIES)[min(max(int(mos // 20), 0), 4)]
    return str(round(min(max(mos, 0.0), 100.0)))


def mix_windows(windows: list[VideoWindow], log_probabilities: torch.Tensor) -> torch.Tensor:
    """
    The distribution over answers to a whole video: the windows' distributions, weighted by their whole seconds.

    Args:
        log_probabilities: (windows, answers).

    Returns:
        (answers,) log probabilities.
    """
    if len(windows) == 1:
        return log_probabilities[0]
    weights = torch.tensor(window_weights(windows), dtype=torch.float64)
    mixed = (log_probabilities.cpu().double() + weights.log()[:, None]).logsumexp(0)
    return mixed.to(log_probabilities)


def outside_training(facts: VideoFacts) -> list[str]:
    """
    What of a video the models were not trained on, so that its score is a guess: "hdr"; "resolution", a shorter side of
    more than 1080 pixels; "frame_rate", more than 60 frames a second.
    """
    found = {
        "hdr": facts.hdr is not None,
        "resolution": min(facts.width, facts.height) > MAX_TRAINED_SHORT_SIDE,
        "frame_rate": facts.fps is not None and facts.fps > MAX_TRAINED_FPS,
    }
    return [name for name, is_outside in found.items() if is_outside]


def window_weights(windows: list[VideoWindow]) -> list[float]:
    duration = windows[-1].end - windows[0].start
    return [(window.end - window.start) / duration for window in windows]


def result_of_video(
    result: QualityResult, windows: list[VideoWindow], results: list[QualityResult], facts: VideoFacts | None
) -> QualityResult:
    """With what was seen of the video, and with the windows' results and what they pool to if there are several."""
    seen = vars(facts) | {"outside": outside_training(facts)} if facts else {}
    if len(windows) == 1:
        return replace(results[0], **seen)
    duration = math.inf if facts is None else facts.duration
    of_windows = [
        {"start": window.start, "end": min(window.end, duration)}
        | {name: getattr(of_window, name) for name in ANSWER_FIELDS}
        for window, of_window in zip(windows, results, strict=True)
    ]
    worst = min(of_windows, key=lambda window: window["score"])
    scores = [window["score"] for window in of_windows]
    return replace(
        result,
        percentile_5=float(np.quantile(scores, 0.05, weights=window_weights(windows), method="inverted_cdf")),
        worst_window={name: worst[name] for name in ("start", "end", "score")},
        windows=of_windows,
        **seen,
    )


__all__ = [
    "SCORE_ANSWERS",
    "LEVELS",
    "CATEGORIES",
    "SCORE_FORMS",
    "DAMAGES",
    "NO_DAMAGE",
    "DAMAGE_ANSWERS",
    "ANSWER_FIELDS",
    "AnswerParsingError",
    "VideoWindow",
    "QualityResult",
    "parse_score",
    "parse_level",
    "score_answer",
    "mix_windows",
    "outside_training",
]
