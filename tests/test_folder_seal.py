"""A folder of results goes on under the settings that it was begun with, and under no others."""

import json

import pytest

from lmmvqa.datasets_scripts.folder_seal import (
    CHECKPOINT_FILES,
    ROWS_FILE,
    SEAL_FILE,
    check_seal,
    seal_folder,
    write_whole,
)


SETTINGS = {"model": "0123", "tasks": ("score", "level"), "rate": 0.1}


def test_the_same_settings_go_on(tmp_path):
    seal_folder(tmp_path / "new" / "folder", SETTINGS, ["*.jsonl"])
    (tmp_path / "new" / "folder" / "rows.jsonl").write_text("a result")
    stored = (tmp_path / "new" / "folder" / SEAL_FILE).read_text()
    seal_folder(tmp_path / "new" / "folder", SETTINGS, ["*.jsonl"])
    assert (tmp_path / "new" / "folder" / SEAL_FILE).read_text() == stored
    assert json.loads(stored) == {"model": "0123", "tasks": ["score", "level"], "rate": 0.1}


@pytest.mark.parametrize(
    "settings, named",
    [
        (SETTINGS | {"rate": 0.2}, "rate 0.1 (now 0.2)"),
        (
            SETTINGS | {"tasks": ["score"], "model": "4567"},
            "model 0123 (now 4567), tasks ['score', 'level'] (now ['score'])",
        ),
        (SETTINGS | {"seed": 1}, "seed None (now 1)"),
        ({"model": "0123", "tasks": ["score", "level"]}, "rate 0.1 (now None)"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, settings, named):
    seal_folder(tmp_path, SETTINGS, ["runs/*"])
    stored = (tmp_path / SEAL_FILE).read_bytes()
    (tmp_path / "runs" / "first").mkdir(parents=True)
    for refuse in (check_seal, seal_folder):
        with pytest.raises(ValueError) as error:
            refuse(tmp_path, settings, ["*.jsonl", "runs/*"])
        assert str(error.value) == (
            f"got {tmp_path}, which was begun with {named}, expected the same settings; name another folder"
        )
    assert (tmp_path / SEAL_FILE).read_bytes() == stored


@pytest.mark.parametrize("seal", [None, "", "{"])
def test_results_of_unknown_settings_are_refused(tmp_path, seal):
    (tmp_path / "rows.jsonl").write_text("a result")
    if seal is not None:
        (tmp_path / SEAL_FILE).write_text(seal)
    with pytest.raises(ValueError, match="results without a readable settings.json"):
        seal_folder(tmp_path, SETTINGS, ["*.jsonl"])


def test_a_folder_without_results_is_begun_anew(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    seal_folder(tmp_path, SETTINGS, ["*.jsonl"])
    seal_folder(tmp_path, {"model": "4567"}, ["*.jsonl"])
    assert json.loads((tmp_path / SEAL_FILE).read_text()) == {"model": "4567"}
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", SEAL_FILE}


@pytest.mark.parametrize("held", [ROWS_FILE, *CHECKPOINT_FILES, SEAL_FILE])
def test_a_folder_of_another_kind_is_refused(tmp_path, held):
    (tmp_path / held).write_text('{"max_steps": 2, "model": "0123"}')
    for refuse in (check_seal, seal_folder):
        with pytest.raises(
            ValueError, match=f"{held} .*expected a new folder or one of the same kind|holds {held}, expected"
        ):
            refuse(tmp_path, SETTINGS, ["*.jsonl"])
    assert [path.read_text() for path in tmp_path.iterdir()] == ['{"max_steps": 2, "model": "0123"}']


def test_a_file_is_whole_or_what_it_was(tmp_path, monkeypatch):
    file = tmp_path / "file.json"
    write_whole(file, "before")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pathlib.Path.replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        write_whole(file, "after")
    assert file.read_text() == "before"
    write_whole(file, "after")
    assert file.read_text() == "after"


def test_a_link_to_a_file_stays_a_link(tmp_path):
    """As the files of a development installation are."""
    file, link = tmp_path / "file.json", tmp_path / "link.json"
    file.write_text("before")
    link.symlink_to(file)
    write_whole(link, "after")
    assert link.is_symlink() and file.read_text() == "after"
