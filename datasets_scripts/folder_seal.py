"""What a folder of results was begun with: the same again goes on where it was, anything else is refused.

It lies in this room because this one imports no other, and every other needs it.
"""

import json
import uuid
from collections.abc import Iterable
from pathlib import Path


SEAL_FILE = "settings.json"
# By which folders of rows are known, as `datasets` names it; and checkpoints, adapters, and a run's checkpoint-N folders
ROWS_FILE = "dataset_dict.json"
CHECKPOINT_FILES = ("config.json", "adapter_config.json", "trainer_state.json")


def write_whole(path: Path, text: str) -> None:
    """Writes a file that holds all of the text or what it held before, whenever the process is stopped. A link stays one."""
    path = path.resolve()
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def check_free_of(folder: Path, others: Iterable[str], expected: str) -> None:
    """
    Args:
        folder: where something is to be written, over an earlier one of its kind or anew.
        others: names of the files by which folders of other kinds are known.
        expected: what the folder may be.

    Raises:
        ValueError: it is a file, or a folder of another kind.
    """
    held = [name for name in others if (folder / name).is_file()]
    if held or folder.is_file():
        raise ValueError(
            f"got {folder} as the folder to write, which {f'holds {held[0]}' if held else 'is a file'}, expected {expected}"
        )


def check_seal(
    folder: Path, settings: dict, results: Iterable[str], others: Iterable[str] = (ROWS_FILE, *CHECKPOINT_FILES)
) -> None:
    """
    Refuses a folder that holds results of anything but these settings, or something else; writes nothing.

    Args:
        settings: all that the results hang on, by name, as JSON can hold it: digests in place of files.
        results: patterns of the names of results, as of `Path.glob`. A folder without any may be begun anew.
        others: names of the files by which folders of other kinds are known.

    Raises:
        ValueError: the results were made under other settings, or nothing says under which; or the folder is of another
            kind.
    """
    check_free_of(folder, others, "a new folder or one of the same kind of results")
    file = folder / SEAL_FILE
    is_begun = any(True for pattern in results for _ in folder.glob(pattern))
    if not is_begun and not file.is_file():
        return
    try:
        begun = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise ValueError(
            f"got {folder}, which holds results without a readable {SEAL_FILE} that says what they were made of, "
            "expected a folder begun with the same settings, or a new one; name another folder"
        ) from None
    if is_begun:
        refuse_differences(folder, begun, settings)
    # A later version may know settings more or fewer
    elif not (begun.keys() <= settings.keys() or begun.keys() >= settings.keys()):
        raise ValueError(
            f"got {folder}, whose {SEAL_FILE} has the settings of something else, expected a new folder or one of the same kind "
            "of results; name another folder"
        )


def refuse_differences(path: Path, begun: dict, settings: dict) -> None:
    """
    Args:
        path: folder or file of the results.
        begun: what they were begun with, as it was read.

    Raises:
        ValueError: the settings are others.
    """
    settings = json.loads(json.dumps(settings))  # as it would be read
    differing = [name for name in {**begun, **settings} if begun.get(name) != settings.get(name)]
    if differing:
        raise ValueError(
            f"got {path}, which was begun with "
            + ", ".join(f"{name} {begun.get(name)} (now {settings.get(name)})" for name in differing)
            + f", expected the same settings; name another {'folder' if path.is_dir() else 'file'}"
        )


def seal_folder(
    folder: Path, settings: dict, results: Iterable[str], others: Iterable[str] = (ROWS_FILE, *CHECKPOINT_FILES)
) -> None:
    """
    Ties a folder to the settings of what it will hold, in its `settings.json`; makes it where it does not exist.

    Args:
        settings, results, others: as in `check_seal`.

    Raises:
        ValueError: as `check_seal`.
    """
    check_seal(folder, settings, results, others)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=1) + "\n"
    file = folder / SEAL_FILE
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_whole(file, text)
