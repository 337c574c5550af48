"""Captions and conversations about images and videos (JSON) -> rows that instruct, not rated.

For general video understanding (section IV-D): alignment on captions (LAION, Conceptual Captions and SBU, as LLaVA ships
them), then instruction tuning on Video-ChatGPT's data. Records of four kinds, which one file may mix:

| from | record |
|---|---|
| LLaVA | {"image" or "video": FILE or [FILES], "conversations": [{"from": "human", "value": TEXT}, {"from": "gpt", "value": TEXT}, ...]} |
| VideoInstruct (Video-ChatGPT) | {"video_id": NAME, "q": TEXT, "a": TEXT} |
| VCGBench's own form | {"video_name": NAME, "Q": TEXT, "A": TEXT} |
| captions | {"image" or "video": FILE, "caption": TEXT} |

A record gives one row, however many turns it has. `<image>` and `<video>` in a human turn say where each file is shown;
where a record has none, all are shown before the first question. Names without suffix are looked for as videos.
"""

import re
from pathlib import Path, PurePosixPath

from ..processing.processing_lmmvqa import VIDEO_MARK
from .label_files import read_json
from .rated_videos import Found, find_files
from .rows import CONVERSATION_FEATURES


COLUMNS = CONVERSATION_FEATURES
CAPTION_QUESTION = "Describe briefly what can be seen."
ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
MARK = re.compile(r"<(image|video)>")


def build_rows(
    labels: str | Path, folder: str | Path, dataset: str, split: str = "train", labels_only: bool = False
) -> tuple[list[dict], list[dict], list[Found]]:
    """
    The rows, what is left out as {file, split, reason}, and what was found for each file. A record that is of no kind, or
    whose turns or files are wrong, is left out and named by its number; so is one with a file that is not there.
    """
    left_out, records = [], []
    for number, record in enumerate(read_json(labels), start=1):
        try:
            records.append((f"{labels} record {number}", *read_conversation(record)))
        except ValueError as error:
            left_out.append({"file": f"{labels} record {number}", "split": split, "reason": str(error)})
    names = list(dict.fromkeys(name for _, media, _ in records for name in media))
    found = [Found(_file_names(name)[0]) for name in names] if labels_only else find_media(names, folder)
    by_name = dict(zip(names, found, strict=True))
    left_out += [{"file": file.path, "split": split, "reason": file.reason} for file in found if file.reason]
    rows = []
    for where, media, turns in records:
        missing = [name for name in media if by_name[name].reason]
        if missing and len(media) > 1:  # of a record with one file, the file says it
            left_out.append({"file": where, "split": split, "reason": f"shows {', '.join(missing)}, left out above"})
        if not missing:
            paths = [by_name[name].path for name in media]
            row = {"video": paths[0], "mos": None, "dataset": dataset, "split": split, "group": media[0]}
            rows.append(row | {"media": paths, "conversations": turns})
    return rows, left_out, [file for file in found if not file.reason]


def find_media(names: list[str], folder: str | Path) -> list[Found]:
    """Looks for the file of each name in a folder; names without suffix are videos."""
    return find_files([_file_names(name) for name in names], folder)


def _file_names(name: str) -> tuple[str, ...]:
    """Where a file may lie; Video-ChatGPT names videos without suffix."""
    suffix = PurePosixPath(name).suffix
    return (name,) if suffix else tuple(name + suffix for suffix in VIDEO_SUFFIXES)


def read_conversation(record: dict) -> tuple[list[str], list[dict[str, str]]]:
    """
    The files of a record in the order in which they are shown, and its turns.

    Raises:
        ValueError: it is of no known kind, or something about it is wrong; the message goes on from its name.
    """
    if "q" in record or "Q" in record:
        question, answer, name = ("q", "a", "video_id") if "q" in record else ("Q", "A", "video_name")
        pair = [("user", record.get(question)), ("assistant", record.get(answer))]
        return _placed(pair, [("video", record.get(name))])
    files = [(kind, file) for kind in ("image", "video") for file in _list(record.get(kind))]
    if "caption" in record:
        return _placed([("user", CAPTION_QUESTION), ("assistant", record["caption"])], files)
    turns = record.get("conversations")
    if not turns or not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(f"has the keys {', '.join(record)}, expected conversations, a caption, or q and a")
    return _placed([(ROLES.get(turn.get("from")), turn.get("value")) for turn in turns], files)


def _list(files: str | list | None) -> list:
    return files if isinstance(files, list) else [] if files is None else [files]


def _placed(turns: list[tuple[str | None, str]], files: list[tuple[str, str]]) -> tuple[list[str], list[dict]]:
    roles = [role for role, _ in turns]
    asked = roles[1:] if roles[:1] == ["system"] else roles
    if not asked or asked != ["user", "assistant"] * (len(asked) // 2):
        raise ValueError("has turns that are not human and gpt by turns, expected a question and its answer each")
    for kind, file in files:
        if not isinstance(file, str) or not file:
            raise ValueError(f"names the {kind} {file!r}, expected a file")
    if not files:
        raise ValueError("names no video or image")
    empty = [
        number for number, (_, text) in enumerate(turns, start=1) if not isinstance(text, str) or not text.strip()
    ]
    if empty:
        raise ValueError(f"has no text in turn {empty[0]}, expected some")
    if any(MARK.search(text) for role, text in turns if role != "user"):
        raise ValueError("shows <image> or <video> in an answer, expected them in human turns alone")
    marks = [kind for role, text in turns if role == "user" for kind in MARK.findall(text)]
    if not marks:
        first = roles.index("user")
        turns = [
            (role, f"{VIDEO_MARK}\n" * len(files) + text if index == first else text)
            for index, (role, text) in enumerate(turns)
        ]
        return [file for _, file in files], _messages(turns)
    if len(marks) != len(files):
        raise ValueError(f"has {len(marks)} of <image> and <video> for {len(files)} files, expected as many")
    kinds = {kind for kind, _ in files}
    if len(kinds) > 1 and sorted(marks) != sorted(kind for kind, _ in files):
        raise ValueError("has other numbers of <image> and <video> than of images and videos, expected the same")
    # Which mark is which file matters only where there are both kinds; LLaVA's video records often say <image>
    remaining = {kind: iter([file for own, file in files if own == kind]) for kind in kinds}
    media = [next(remaining[mark if len(kinds) > 1 else files[0][0]]) for mark in marks]
    return media, _messages([(role, MARK.sub(VIDEO_MARK, text)) for role, text in turns])


def _messages(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text.strip()} for role, text in turns]
