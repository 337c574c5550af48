"""Rated videos to question and answer pairs (section III-B): a score and a level question for each video."""

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from itertools import product

import numpy as np
import torch

from ..processing.feature_cache import FeatureCache
from ..processing.processing_lmmvqa import LEVELS


TASKS = ("score", "level")


def question_templates(task: str) -> list[str]:
    """Every question of a task ("score" or "level"): instruction prompt, then response restriction."""
    templates = json.loads((files(__package__) / "question_templates.json").read_text(encoding="utf-8"))[task]
    return [" ".join(parts) for parts in product(templates["instructions"], templates["restrictions"])]


def level_thresholds(mos: list[float]) -> tuple[float, float]:
    """The MOS that divide a training set into equal thirds: poor, fair, good."""
    lower, upper = np.quantile(mos, [1 / 3, 2 / 3])
    return float(lower), float(upper)


def mos_level(mos: float, thresholds: tuple[float, float]) -> str:
    """The level of a video in a data set with these thresholds."""
    return LEVELS[sum(mos >= threshold for threshold in thresholds)]


@dataclass
class QaPairs(torch.utils.data.Dataset):
    """
    Rows {video, mos} as rows {video, question, answer, score}, each video once a task. Questions are drawn by seed; the first
    template of each task stands for inference and is drawn half the time.

    Args:
        rows: rated videos.
        tasks: "score" and "level" for the paper's multi-task training, "score" alone for "wo/multi-task".
        thresholds: MOS that divide levels, see `level_thresholds`.
        score_noise: standard deviation (MOS) of what is added to each score whenever it is drawn, so that the model
            learns a distribution around the MOS and not a single answer.
        cache: features in place of videos.
        seed: of the questions.
    """

    rows: list[dict]
    tasks: tuple[str, ...]
    thresholds: tuple[float, float]
    score_noise: float = 0.0
    cache: FeatureCache | None = None
    seed: int = 0

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self._pairs = []
        for task in self.tasks:
            templates = question_templates(task)
            drawn = np.where(rng.random(len(self.rows)) < 0.5, 0, rng.integers(len(templates), size=len(self.rows)))
            self._pairs += [(row, task, templates[index]) for row, index in zip(self.rows, drawn, strict=True)]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict:
        row, task, question = self._pairs[index]
        video = row["video"] if self.cache is None else self.cache[row["video"]]
        score = row["mos"] if task == "score" else math.nan
        return {"video": video, "question": question, "answer": self.answer(task, row["mos"]), "score": score}

    def answer(self, task: str, mos: float) -> str:
        """The answer text: a whole number from 0 to 100, or a level."""
        if task == "level":
            return mos_level(mos, self.thresholds)
        # Drawn anew each time; a resumed run draws other noise, as its loader had drawn one batch ahead
        drawn = mos + self.score_noise * float(torch.randn(())) if self.score_noise else mos
        return str(round(min(max(drawn, 0.0), 100.0)))
