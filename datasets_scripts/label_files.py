"""Label files as their authors publish them -> lines of text: CSV, xlsx, MATLAB, DOVER text and JSON.

Names stay text: a Flickr id read as a number loses digits, and `0012` its zeros.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import scipy.io


# Column, variable or key, without its spaces and punctuation, in lower case; the first that is there is taken
NAME_COLUMNS = ("video", "name", "vid", "flickrid", "videolist", "videonames", "imgpath", "imageid", "image", "file")
MOS_COLUMNS = ("mos", "mosfull", "gtscore", "score", "scores")

XLSX_SHEET = "MOS"


def read_labels(path: str | Path) -> list[dict[str, str]]:
    """Every line of a label file as {name, mos} and the file's own columns, all text; `mos` is "" where none is given.

    The suffix says how the file is read: .csv (with a header), .xlsx (sheet `MOS`, or the first), .mat (a cell of names
    and an array of scores, lying or standing), .txt (DOVER, FAST-VQA: no header, `path, duration, fps, MOS`) or .json
    (Q-Align: a list of records, or one under `annotations`).

    Raises:
        ValueError: the suffix is unknown, the file does not hold what its suffix says, or it names no videos or no MOS.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise ValueError(f"{path} is no label file, expected one of {', '.join(_READERS)}: save it as CSV.")
    lines = _READERS[suffix](path)
    if not lines:
        raise ValueError(f"{path} holds no line, expected at least one: is it the right file?")
    name, mos = (_pick(lines[0], columns, path) for columns in (NAME_COLUMNS, MOS_COLUMNS))
    labels = []
    for number, line in enumerate(lines, start=1):
        if not line.get(name, "").strip():
            raise ValueError(f"{path} has no {name!r} in entry {number}: fill it in or take the entry out.")
        text = line.get(mos, "").strip()
        labels.append(line | {"name": line[name].strip(), "mos": "" if text.lower() == "nan" else text})
    return labels


def _read_text(path: str | Path) -> str:
    """
    Raises:
        ValueError: the file is not UTF-8.
    """
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column's name
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 from its byte {error.start}, expected it: save it as UTF-8.") from error


def read_csv(path: str | Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """Reads a comma-separated table with a header as text: names such as `0012` keep their zeros.

    Raises:
        ValueError: a required column is missing, a line has too few or too many fields, or there is no line at all.
    """
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""))
    missing = [name for name in required if name not in (reader.fieldnames or [])]
    if missing:
        raise ValueError(f"{path} has the columns {reader.fieldnames}, expected also {missing}: add them.")
    table = list(reader)
    if not table:
        raise ValueError(f"{path} has no line below a header, expected at least one: is it the right file?")
    for number, line in enumerate(table, start=2):
        if None in line or None in line.values():
            raise ValueError(
                f"{path} line {number} does not have {len(reader.fieldnames)} fields as its header: quote commas."
            )
    return table


def read_json(path: str | Path) -> list[dict]:
    """The records of a JSON list, or of the list under `annotations`.

    Raises:
        ValueError: the file is no such list.
    """
    text = _read_text(path)
    try:
        records = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}), expected a list of records.") from error
    if isinstance(records, dict):
        records = records.get("annotations")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{path} is no list of records, expected one, or one under `annotations`.")
    return records


def _read_json_labels(path: str | Path) -> list[dict[str, str]]:
    return [
        {key: _text(value) for key, value in record.items() if not isinstance(value, list | dict)}
        for record in read_json(path)
    ]


def _read_xlsx(path: str | Path) -> list[dict[str, str]]:
    if find_spec("openpyxl") is None:
        raise ValueError(f"{path} needs openpyxl: pip install 'lmmvqa[xlsx]', or save the sheet as CSV.")
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise ValueError(f"{path} is no xlsx file ({error}): is the download complete?") from error
    sheet = book[XLSX_SHEET] if XLSX_SHEET in book.sheetnames else book.worksheets[0]
    # a sheet's used range often ends in rows that only ever were formatted
    rows = [row for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)]
    header = [_text(cell) for cell in rows[0]] if rows else []
    return [dict(zip(header, map(_text, row), strict=True)) for row in rows[1:]]


def _read_mat(path: str | Path) -> list[dict[str, str]]:
    try:
        variables = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")}
    except (ValueError, NotImplementedError, scipy.io.matlab.MatReadError) as error:  # the second: HDF5, v7.3
        raise ValueError(f"{path} is no MATLAB file up to version 7 ({error}): save it again with -v7.") from error
    # other variables, such as a thousand random splits, have other shapes and are not read
    names, scores = (_pick(variables, columns, path) for columns in (NAME_COLUMNS, MOS_COLUMNS))
    cells = {key: variables[key].ravel() for key in (names, scores)}
    if len(cells[names]) != len(cells[scores]):
        raise ValueError(
            f"{path} has {len(cells[names])} in {names!r} and {len(cells[scores])} in {scores!r}, expected as many."
        )
    return [
        {names: _text(np.ravel(name)[0]), scores: _text(score)}
        for name, score in zip(cells[names], cells[scores], strict=True)
    ]


def _read_dover_text(path: str | Path) -> list[dict[str, str]]:
    lines = []
    for number, text in enumerate(io.StringIO(_read_text(path), newline=None), start=1):
        if not text.strip():
            continue
        fields = [field.strip() for field in text.rsplit(",", 3)]  # a path may hold commas
        if len(fields) != 4:
            raise ValueError(f"{path} line {number} is {text.strip()!r}, expected `path, duration, fps, MOS`.")
        lines.append(dict(zip(("video", "duration", "fps", "mos"), fields, strict=True)))
    return lines


_READERS = {
    ".csv": read_csv,
    ".xlsx": _read_xlsx,
    ".mat": _read_mat,
    ".txt": _read_dover_text,
    ".json": _read_json_labels,
}


def _pick(columns: Iterable[str], wanted: tuple[str, ...], path: str | Path) -> str:
    found = {re.sub(r"[\W_]", "", column).lower(): column for column in columns}
    for column in wanted:
        if column in found:
            return found[column]
    raise ValueError(f"{path} has {list(found.values())}, expected one of {list(wanted)}: rename the column.")


def _text(value: object) -> str:
    if value is None:
        return ""
    # spreadsheets and MATLAB keep every number as a float: 3339962845.0 is the name 3339962845
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
