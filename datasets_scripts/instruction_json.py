"""Captions and instructions about images and videos (JSON) -> rows with a question and an answer, not rated.

For general video understanding (section IV-D): alignment on captions (LAION, Conceptual Captions and SBU, as LLaVA ships
them), then instruction tuning on Video-ChatGPT's data. Two kinds of records:

    {"image" or "video": FILE, "caption": TEXT}
    {"image" or "video": FILE, "conversations": [{"from": "human", "value": TEXT}, {"from": "gpt", "value": TEXT}, ...]}

Every answer of a conversation gives a row of its own, without the turns before it.
"""

import re
from pathlib import Path

from datasets import Value

from .label_files import read_json
from .rated_videos import Found, find_files


COLUMNS = {"question": Value("string"), "answer": Value("string")}
CAPTION_QUESTION = "Describe briefly what can be seen."


def build_rows(
    labels: str | Path, folder: str | Path, dataset: str, split: str = "train", labels_only: bool = False
) -> tuple[list[dict], list[dict], list[Found]]:
    """The rows, what is left out as {file, split, reason}, and what was found for each row.

    Raises:
        ValueError: a record is of neither kind, or a conversation is not question and answer in turn.
    """
    left_out, asked = [], []
    for number, record in enumerate(read_json(labels), start=1):
        file = record.get("video") or record.get("image")
        if not file:
            left_out.append({"file": f"{labels} record {number}", "split": split, "reason": "names no video or image"})
            continue
        asked += [(str(file), question, answer) for question, answer in _pairs(record, f"{labels} record {number}")]
    names = list(dict.fromkeys(file for file, _, _ in asked))
    found = [Found(name) for name in names] if labels_only else find_files([(name,) for name in names], folder)
    files = dict(zip(names, found, strict=True))
    left_out += [{"file": file.path, "split": split, "reason": file.reason} for file in found if file.reason]
    asked = [line for line in asked if not files[line[0]].reason]
    rows = [
        {"video": files[name].path, "mos": None, "dataset": dataset, "split": split, "group": name}
        | {"question": question, "answer": answer}
        for name, question, answer in asked
    ]
    return rows, left_out, [file for file in found if not file.reason]


def _pairs(record: dict, where: str) -> list[tuple[str, str]]:
    if "caption" in record:
        return [(CAPTION_QUESTION, record["caption"])]
    turns = record.get("conversations")
    if not turns or [turn.get("from") for turn in turns] != ["human", "gpt"] * (len(turns) // 2):
        raise ValueError(f"{where} has the keys {list(record)}, expected a caption, or turns of human and gpt.")
    # our processor puts the visual tokens before the question itself
    texts = [re.sub(r"\s*<(image|video)>\s*", " ", turn["value"]).strip() for turn in turns]
    return list(zip(texts[::2], texts[1::2], strict=True))
