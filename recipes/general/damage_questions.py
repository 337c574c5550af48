"""Questions about damage that is known: of clips that `lmmvqa prepare degraded_contents` made, the rows to conversations.

    python -m recipes.general.damage_questions --rows data/chains/dataset --out data/damage

Writes train.json and test.json as `render_scenes` does. Splits are those of the rows, which are by content.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS, NO_DAMAGE
from recipes.general.render_scenes import conversation


# Strengths (0-5) that viewers tell apart: what lies between them is not asked about
HARDLY, CLEARLY = 0.5, 2.0
NUM_CHOICES = 4


@dataclass
class DamageArguments:
    rows: str = HfArg(help="Folder of rows with the column damage.")
    out: str = HfArg(help="New folder for the questions.")
    seed: int = 0


def damage_questions(damage: dict[str, float], rng: np.random.Generator) -> dict[str, tuple]:
    """
    Which damage is seen most, where one clearly is and the others are hardly seen, and whether one of them is seen.

    Args:
        damage: kind to strength, 0-5.
    """
    kinds = {kind: strength or 0.0 for kind, strength in damage.items()}
    questions = {}
    strongest = max(kinds, key=kinds.get)
    others = [kind for kind in kinds if kind != strongest]
    if kinds[strongest] >= CLEARLY and max(kinds[kind] for kind in others) < HARDLY:
        right = DAMAGE_ANSWERS[strongest]
    elif kinds[strongest] < HARDLY:
        right = DAMAGE_ANSWERS[NO_DAMAGE]
    else:
        right = None
    if right is not None:
        wrong = [answer for answer in DAMAGE_ANSWERS.values() if answer != right]
        choices = tuple(rng.permutation([right, *rng.permutation(wrong)[: NUM_CHOICES - 1]]).tolist())
        questions["damage"] = ("What is wrong with this video?", choices, right, f"What is wrong: {right}.")
    asked = list(kinds)[rng.integers(len(kinds))]
    if kinds[asked] < HARDLY or kinds[asked] >= CLEARLY:
        right = "Yes" if kinds[asked] >= CLEARLY else "No"
        text = f"Does this video suffer from {DAMAGE_ANSWERS[asked]}?"
        questions["whether"] = (text, ("Yes", "No"), right, f"{right}.")
    return questions


def main() -> None:
    (arguments,) = HfArgumentParser(DamageArguments).parse_args_into_dataclasses()
    out, records = Path(arguments.out), {"train": [], "test": []}
    out.mkdir(parents=True)
    for split, rows in load_rows(arguments.rows).items():
        for number, row in enumerate(rows):
            if split not in records or not row["damage"]:
                continue
            rng = np.random.default_rng((arguments.seed, number))
            questions = damage_questions(row["damage"], rng)
            if questions and split == "train":
                turns = conversation(list(questions.values()), rng)
                records[split].append({"video": row["video"], "conversations": turns})
            elif split == "test":
                for kind, (text, choices, right, _) in questions.items():
                    of_question = {"question": text, "candidates": choices, "correct_ans": right, "kind": kind}
                    records[split].append({"video": row["video"]} | of_question)
    for name, of_split in records.items():
        (out / f"{name}.json").write_text(json.dumps(of_split, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {len(of_split)} records")


if __name__ == "__main__":
    main()
