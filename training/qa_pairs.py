"""
Rated videos to question and answer pairs (section III-B): a score and a level question for each video, and what is wrong
with it where the builder knows; and beside them conversations, as they are.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from ..datasets_scripts.rows import row_media
from ..processing.answers_lmmvqa import DAMAGE_ANSWERS, LEVELS, NO_DAMAGE, score_answer
from .feature_cache import FeatureCache
from .rationales import SEEN_STRENGTH, rationale


PAPER_TASKS = ("score", "level")
TASKS = (*PAPER_TASKS, "damage")  # answered by one of a few answers
EXPLAIN = "explain"  # by a short text


class QuestionTemplate(NamedTuple):
    """What is asked about a video; `LmmVqaProcessor.prompt` takes both."""

    system_prompt: str
    question: str


def question_templates(
    task: str, sizes: Sequence[int] | None = None, score_form: str = "numbers"
) -> list[QuestionTemplate]:
    """
    Every way to ask for a score, a level or what is wrong: each system prompt with each instruction prompt, followed by each response
    restriction (section III-B). The first one is the question of inference.

    Args:
        task: one of `TASKS`, or `EXPLAIN`.
        score_form: of `LmmVqaProcessor`, for the task "score": what its restrictions ask for.
        sizes: how many system prompts, instructions and restrictions are combined, the first of each; all by default.

    Raises:
        ValueError: a size is not one from 1 to the number of texts there are.
    """
    texts = json.loads((files(__package__) / "question_templates.json").read_text(encoding="utf-8"))
    of_task = texts["categories" if (task, score_form) == ("score", "categories") else task]
    parts = [texts["system_prompts"], of_task["instructions"], of_task["restrictions"]]
    available = [len(part) for part in parts]
    sizes = available if sizes is None else sizes
    if len(sizes) != 3 or not all(1 <= size <= most for size, most in zip(sizes, available, strict=True)):
        raise ValueError(
            f"got the sizes {list(sizes)}, expected how many system prompts, instructions and restrictions to combine: "
            f"three numbers from 1 up to {available}"
        )
    return [
        QuestionTemplate(system_prompt, f"{instruction} {restriction}")
        for system_prompt, instruction, restriction in product(
            *(part[:size] for part, size in zip(parts, sizes, strict=True))
        )
    ]


def level_thresholds(rows: list[dict]) -> dict[str, list[float]]:
    """
    The MOS that divide each data set among rows {mos, dataset} into equal thirds: poor, fair, good (section III-B). Rows
    that are not rated count for nothing.
    """
    mos = defaultdict(list)
    for row in rows:
        if row["mos"] is not None:
            mos[row["dataset"]].append(row["mos"])
    return {dataset: np.quantile(values, [1 / 3, 2 / 3]).tolist() for dataset, values in sorted(mos.items())}


def mos_level(mos: float, thresholds: Sequence[float]) -> str:
    """The level of a video in a data set with these thresholds."""
    return LEVELS[sum(mos >= threshold for threshold in thresholds)]


def damage_shares(strengths: dict[str, float]) -> dict[str, float]:
    """
    Kinds of damage and "none" to the probability of being the answer to the damage question: in proportion to the squared
    strength, "none" where nothing is seen. So what is learned is a distribution over what is seen most.

    Args:
        strengths: kind of damage to 0-5.
    """
    squares = {kind: strength**2 if strength >= SEEN_STRENGTH else 0.0 for kind, strength in strengths.items()}
    total = sum(squares.values())
    if total == 0:
        return dict.fromkeys(strengths, 0.0) | {NO_DAMAGE: 1.0}
    return {kind: square / total for kind, square in squares.items()} | {NO_DAMAGE: 0.0}


def draw_damage(strengths: dict[str, float], rng: np.random.Generator) -> str:
    shares = damage_shares(strengths)
    return DAMAGE_ANSWERS[rng.choice(list(shares), p=list(shares.values()))]


def damage_frequencies(rows: list[dict]) -> list[float]:
    """
    How often each of `DAMAGE_ANSWERS` is the answer about these rows, as shares of 1. Each is counted once more than it
    comes, since what is divided by it shall stay finite.
    """
    counts = dict.fromkeys(DAMAGE_ANSWERS, 1.0)
    for row in rows:
        if row.get("damage"):
            for kind, share in damage_shares(row["damage"]).items():
                counts[kind] += share
    total = sum(counts.values())
    return [count / total for count in counts.values()]


@dataclass
class QaPairs(torch.utils.data.Dataset):
    """
    Rated rows {video, mos, dataset} as rows {video, position, one_second, system_prompt, question, answer, score,
    content, data_set}, each video once a task, but for "damage" and "explain": these are asked of rows that have the column
    `damage`, {kind: strength of 0-5}, alone.
    Questions are drawn by seed; in each epoch anew, the noise, whether one second is seen alone, the position of what is
    seen where that is not the whole video, and the damage that is the answer (`draw_damage`). Then rows with
    conversations as rows {media, conversations}, see `datasets_scripts/rows.py`. `LmmVqaDataCollator` takes both.

    Attributes:
        contents: a number of the content for each pair that asks for the score of a row with the column `content` (its other
            versions have the same one), -1 for others.

    Args:
        rows: of both kinds.
        tasks: "score" and "level" for the paper's multi-task training, "score" alone for "wo/multi-task", "damage" for
            what is wrong, "explain" for that in words (`rationale`).
        thresholds: MOS that divide each data set into levels, see `level_thresholds`.
        score_noise: standard deviation (MOS) of what is added to each score, so that the model learns a distribution
            around the MOS and not a single answer.
        cache: features in place of videos.
        seed: of all that is drawn.
        template_sizes: of `question_templates`.
        inference_share: probability of the first template, the one that inference uses, before all are drawn evenly;
            0 is the paper's even draw.
        one_second_share: probability that one second is seen in place of the whole video, for models that shall judge
            shorter videos than they are trained on.
        score_form: of `LmmVqaProcessor`: what is answered to the score question.

    Raises:
        ValueError: a task is unknown; or it is "damage" or "explain", and no row has the column damage.
    """

    rows: list[dict]
    tasks: tuple[str, ...]
    thresholds: dict[str, Sequence[float]]
    score_noise: float = 0.0
    cache: FeatureCache | None = None
    seed: int = 0
    template_sizes: Sequence[int] | None = None
    inference_share: float = 0.5
    one_second_share: float = 0.0
    score_form: str = "numbers"

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # a loader's workers may outlive an epoch
        self._pairs = []
        rated = [row for row in self.rows if row["mos"] is not None]
        for task in self.tasks:
            if task not in (*TASKS, EXPLAIN):
                raise ValueError(f"got the task {task!r}, expected some of {', '.join((*TASKS, EXPLAIN))}")
            rows = [row for row in rated if task in PAPER_TASKS or row.get("damage")]
            if rated and not rows:
                raise ValueError(
                    f"got the task {task!r} and no row with the column damage, expected some of `lmmvqa prepare "
                    "degraded_contents`; add their folder, or leave the task out"
                )
            templates = question_templates(task, self.template_sizes, self.score_form)
            is_inference = rng.random(len(rows)) < self.inference_share
            drawn = np.where(is_inference, 0, rng.integers(len(templates), size=len(rows)))
            self._pairs += [(row, task, templates[index]) for row, index in zip(rows, drawn, strict=True)]
        self._pairs += [(row, None, None) for row in self.rows if row.get("conversations")]
        self._data_sets = {name: number for number, name in enumerate(sorted({row["dataset"] for row in self.rows}))}
        numbers = {}
        names = [row.get("content") if task == "score" else None for row, task, _ in self._pairs]
        self.contents = [-1 if name is None else numbers.setdefault(name, len(numbers)) for name in names]

    def __len__(self) -> int:
        return len(self._pairs)

    def set_epoch(self, epoch: int) -> None:
        """What is drawn depends on the seed, the epoch and the row alone, so that a resumed run draws the same."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict:
        row, task, template = self._pairs[index]
        if task is None:
            media = row_media(row) if self.cache is None else [self.cache[file] for file in row_media(row)]
            return {"media": media, "conversations": row["conversations"]}
        rng = np.random.default_rng((self.seed, int(self._epoch), index))
        noise = rng.normal(0.0, self.score_noise)
        return {
            "video": row["video"] if self.cache is None else self.cache[row["video"]],
            "position": rng.random(),
            "one_second": rng.random() < self.one_second_share,
            **template._asdict(),
            "answer": self.answer(task, row, noise, rng),
            "score": row["mos"] if task == "score" else math.nan,
            "content": self.contents[index],
            "data_set": self._data_sets[row["dataset"]],
        }

    def answer(self, task: str, row: dict, noise: float = 0.0, rng: np.random.Generator | None = None) -> str:
        """The answer text; noise changes the score alone, and damage alone is drawn."""
        if task == "level":
            return mos_level(row["mos"], self.thresholds[row["dataset"]])
        if task == "damage":
            return draw_damage(row["damage"], rng)
        if task == EXPLAIN:
            return rationale(row["damage"], row["mos"])
        return score_answer(row["mos"] + noise, self.score_form)
