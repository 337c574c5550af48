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
"""What the model answers to a result: the score and the level of a distribution or of a written answer, on any scale."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from .answers_lmmvqa import (
    DAMAGE_ANSWERS,
    LEVELS,
    SCORE_FORMS,
    QualityResult,
    VideoWindow,
    mix_windows,
    parse_level,
    parse_score,
    result_of_video,
    window_weights,
)
from .video_reading_lmmvqa import VideoFacts


class ReadoutMixin:
    """The half of `LmmVqaProcessor` that reads answers, by its `score_form`, `level_thresholds`, `score_map`, `score_std_scale` and
    `damage_frequencies`."""

    @property
    def score_values(self) -> dict[str, float]:
        """The answers to the score question, each with the score (0-100) that it stands for."""
        return SCORE_FORMS[self.score_form]

    @property
    def answer_names(self) -> dict[str, list[str]]:
        """The keys of those fields of a result that hold probabilities."""
        return {"level_probabilities": LEVELS, "damage": list(DAMAGE_ANSWERS)}

    @property
    def scale(self) -> list[float] | None:
        """Lowest and highest score that `score_map` gives; None without it."""
        return None if self.score_map is None else [self.score_map[0], self.score_map[-1]]

    def calibrated(self, scores: list[float]) -> list[float]:
        """Scores from 0 to 100 on the scale of `score_map`; without it, as they are."""
        if self.score_map is None:
            return scores
        return np.interp(scores, np.arange(101), self.score_map).tolist()

    def level(self, score: float) -> str:
        """The level of a score (on the processor's scale) under `level_thresholds`."""
        return LEVELS[sum(score >= threshold for threshold in self.calibrated(self.level_thresholds))]

    def post_process_scores(
        self, score_log_probabilities: torch.Tensor, damage_log_probabilities: torch.Tensor | None = None
    ) -> list[QualityResult]:
        """
        Expected value and standard deviation of the score under the model's distribution over the answers of
        `score_values`.

        Calibration shifts and stretches that distribution: its mean goes where `score_map` says, and answers lie
        `score_std_scale` from it for each point. So the order of videos and their levels stay, and score, deviation
        and the levels' probabilities are those of one distribution. (Mapping each answer instead would change the
        order of videos whose distributions differ in width; a temperature would move scores.) What is stretched may
        reach beyond the ends of the scale; scores do not.

        Args:
            score_log_probabilities: (batch, answers), see `answer_log_probabilities` with `score_answer_ids`; 101
                answers, or 5 categories.
            damage_log_probabilities: (batch, 11), the same with `damage_answer_ids`; None where that was not asked.
        """
        probabilities = score_log_probabilities.double().cpu().exp()  # (batch, answers)
        scores, offsets = self._centred(probabilities)
        stds = (offsets**2 * probabilities).sum(-1).sqrt()
        level_masses = self._masses_between(probabilities, scores, offsets, self.level_thresholds)
        names = list(self.score_values)
        most_probable = [names[index] for index in probabilities.argmax(-1).tolist()]
        damages = [None] * len(scores)
        if damage_log_probabilities is not None:
            log_shares = damage_log_probabilities.double().cpu()  # (batch, 11)
            if self.damage_frequencies is not None:
                log_shares = log_shares - torch.tensor(self.damage_frequencies, dtype=torch.float64).log()
            damage_masses = log_shares.softmax(-1).tolist()
            damages = [dict(zip(DAMAGE_ANSWERS, masses, strict=True)) for masses in damage_masses]
        return [
            QualityResult(
                score, std, self.level(score), dict(zip(LEVELS, masses, strict=True)), answer, damage, scale=self.scale
            )
            for score, std, masses, answer, damage in zip(
                scores, stds.tolist(), level_masses.tolist(), most_probable, damages, strict=True
            )
        ]

    def _centred(self, probabilities: torch.Tensor) -> tuple[list[float], torch.Tensor]:
        """The calibrated scores of (batch, answers) probabilities, and how far from them each answer lies, likewise."""
        answers = torch.tensor([*self.score_values.values()], dtype=torch.float64)
        means = probabilities @ answers
        return self.calibrated(means.tolist()), (answers - means[:, None]) * self.score_std_scale

    def _masses_between(
        self, probabilities: torch.Tensor, scores: list[float], offsets: torch.Tensor, thresholds: Sequence[float]
    ) -> torch.Tensor:
        """
        Args:
            probabilities: (batch, answers), with what `_centred` gives of them.
            thresholds: from 0 to 100, in order.

        Returns:
            (batch, number of thresholds + 1).
        """
        # Thresholds as offsets too, so that without calibration "40" is no rounding error below 40
        borders = torch.tensor(self.calibrated(thresholds), dtype=torch.float64)
        borders = borders - torch.tensor(scores, dtype=torch.float64)[:, None]  # (batch, thresholds)
        parts = (offsets[..., None] >= borders[:, None]).sum(-1)  # (batch, answers)
        return probabilities.new_zeros(len(scores), len(thresholds) + 1).scatter_add_(1, parts, probabilities)

    def score_masses(
        self, windows: list[VideoWindow], score_log_probabilities: torch.Tensor, num_parts: int
    ) -> list[float]:
        """
        What is probable of a video's score, by equal parts of the scale from 0 to 100, the lowest first; calibration moves
        and widens it as it does the levels' probabilities.

        Args:
            score_log_probabilities: (windows, answers).
        """
        probabilities = mix_windows(windows, score_log_probabilities)[None].double().cpu().exp()
        thresholds = [100 * part / num_parts for part in range(1, num_parts)]
        return self._masses_between(probabilities, *self._centred(probabilities), thresholds)[0].tolist()

    def post_process_window_scores(
        self,
        windows: list[VideoWindow],
        score_log_probabilities: torch.Tensor,
        facts: VideoFacts | None = None,
        damage_log_probabilities: torch.Tensor | None = None,
    ) -> QualityResult:
        """
        The result of one video from its windows; of one window alone, that of `post_process_scores`.

        Args:
            score_log_probabilities: (windows, answers).
            facts: what was seen of the video.
            damage_log_probabilities: (windows, 11); None where that was not asked.
        """
        of_windows = self.post_process_scores(score_log_probabilities, damage_log_probabilities)
        (result,) = self.post_process_scores(mix_windows(windows, score_log_probabilities)[None])
        if damage_log_probabilities is not None:
            shares = zip(window_weights(windows), (of_window.damage for of_window in of_windows), strict=True)
            weighted = [{kind: weight * share for kind, share in damage.items()} for weight, damage in shares]
            result = replace(result, damage={kind: sum(of[kind] for of in weighted) for kind in DAMAGE_ANSWERS})
        return result_of_video(result, windows, of_windows, facts)

    def parse_score_answer(self, answer: str) -> float:
        """
        The score (0-100) that a written answer states, or that its word stands for.

        Raises:
            AnswerParsingError: the answer does not state exactly one number from 0 to 100, or one category.
        """
        if self.score_form == "numbers":
            return parse_score(answer)
        return self.score_values[parse_level(answer, self.score_values)]

    def post_process_answer(self, answer: str) -> QualityResult:
        """
        The score that a generated answer to the score question states.

        Raises:
            AnswerParsingError: see `parse_score_answer`.
        """
        return self._generated_result(self.parse_score_answer(answer), answer)

    def post_process_window_answers(
        self, windows: list[VideoWindow], answers: list[str], facts: VideoFacts | None = None
    ) -> QualityResult:
        """
        The result of one video from the answers generated to its windows: the mean score, weighted by their whole seconds.

        Raises:
            AnswerParsingError: see `parse_score_answer`.
        """
        scores = [self.parse_score_answer(answer) for answer in answers]
        score = sum(weight * score for weight, score in zip(window_weights(windows), scores, strict=True))
        results = [self.post_process_answer(answer) for answer in answers]
        return result_of_video(self._generated_result(score, "; ".join(answers)), windows, results, facts)

    def _generated_result(self, score: float, answer: str) -> QualityResult:
        (score,) = self.calibrated([score])
        return QualityResult(score, None, self.level(score), None, answer, scale=self.scale)

    def post_process_level_answer(self, answer: str) -> str:
        """
        The level that a generated answer to the level question states.

        Raises:
            AnswerParsingError: the answer does not name exactly one level.
        """
        return parse_level(answer)


def check_score_form(score_form: str) -> None:
    if score_form not in SCORE_FORMS:
        raise ValueError(f"got score_form={score_form!r}, expected one of {', '.join(SCORE_FORMS)}")


def check_calibration(score_map: list[float] | None, **scales: float) -> None:
    if score_map is not None and (len(score_map) != 101 or not (np.diff(score_map) > 0).all()):
        raise ValueError(
            f"got a score_map of {len(score_map)} values from {score_map[0]} to {score_map[-1]}, expected 101 that rise "
            "strictly, one for each score from 0 to 100"
        )
    for name, scale in scales.items():
        if not scale > 0:
            raise ValueError(f"got {name}={scale}, expected a positive number")


__all__ = ["ReadoutMixin", "check_calibration", "check_score_form"]
