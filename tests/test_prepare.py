"""`lmmvqa prepare`: label files of every format to rows, on tables and clips written here, and on the real tables."""

import json
import os
import re
import shutil
import statistics
from pathlib import Path

import datasets
import numpy as np
import openpyxl
import pytest
import scipy.io
from conftest import full_disk, write_clip
from PIL import Image

from lmmvqa.commands.command_line import main
from lmmvqa.datasets_scripts import lsvq, own_csv, rated_images
from lmmvqa.datasets_scripts.instruction_json import CAPTION_QUESTION
from lmmvqa.datasets_scripts.label_files import read_labels
from lmmvqa.datasets_scripts.prepare import prepare
from lmmvqa.datasets_scripts.rows import LEFT_OUT_FILE, load_rows, save_rows


LABELS = Path(__file__).resolve().parents[2] / "shared" / "labels"
CLIPS = LABELS.parent / "clips"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=5, fps=10)


def put(clip, folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / name)
    return folder


def write_text(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_xlsx(path, header, *rows):
    book = openpyxl.Workbook()
    book.active.append(["not", "this", "sheet"])
    sheet = book.create_sheet("MOS")
    for row in (header, *rows):
        sheet.append(row)
    sheet.cell(len(rows) + 3, 1).number_format = "0.00"  # formatted and never filled in
    book.save(path)
    return path


def write_mat(path, names_key, names, mos_key, mos, lying=False):
    cell = np.empty((len(names), 1), dtype=object)
    cell[:, 0] = names
    scores = np.array(mos)[None] if lying else np.array(mos)[:, None]
    scipy.io.savemat(path, {names_key: cell, mos_key: scores, "index": np.ones((3, len(names)))})
    return path


def stored(folder):
    """Path below the folder that holds `folder` -> row."""
    rows = [row for part in load_rows(folder).values() for row in part]
    return {str(Path(row["video"]).relative_to(folder.parent)): row for row in rows}


def left_out(folder):
    lines = (folder / LEFT_OUT_FILE).read_text(encoding="utf-8").splitlines()
    return {Path(item["file"]).name: item["reason"] for item in map(json.loads, lines)}


# label files


def test_every_format_gives_names_and_mos_as_text(tmp_path):
    names, mos = ["0012", "3339962845"], [1.5, 4.64]
    records = [{"id": "x", "image": name, "gt_score": value} for name, value in zip(names, mos, strict=True)]
    old_records = [{"image_id": name, "score": f"{value}"} for name, value in zip(names, mos, strict=True)]
    files = [
        write_text(tmp_path / "bom.csv", '\ufeff"flickr_id","mos"', '"0012","1.5"', '"3339962845","4.64"'),
        write_xlsx(tmp_path / "a.xlsx", ["vid", "MOS full", "MOS chunk00"], ["0012", 1.5, None], [3339962845.0, 4.64]),
        write_mat(tmp_path / "standing.mat", "video_list", names, "MOS", mos),
        write_mat(tmp_path / "lying.mat", "video_names", names, "scores", mos, lying=True),
        write_mat(tmp_path / "numbers.mat", "video_names", ["0012", 3339962845.0], "scores", mos),
        write_text(tmp_path / "labels.txt", "0012, -1, -1, 1.5", "", "3339962845, 8.0, 29.97, 4.64"),
        write_text(tmp_path / "list.json", json.dumps(records)),
        write_text(tmp_path / "old.json", json.dumps({"annotations": old_records})),
    ]
    for file in files:
        assert [(line["name"], line["mos"]) for line in read_labels(file)] == [
            ("0012", "1.5"),
            ("3339962845", "4.64"),
        ], file


def test_a_path_in_dover_text_may_hold_commas(tmp_path):
    (line,) = read_labels(write_text(tmp_path / "labels.txt", "a, b/c.mp4, -1, -1, 50"))
    assert (line["name"], line["mos"]) == ("a, b/c.mp4", "50")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", "", "no label file, expected one of .csv"),
        ("a.csv", "name,quality\na,5\n", "expected one of .*rename the column"),
        ("a.csv", "name,mos\na\n", "line 2 does not have 2 fields"),
        ("a.csv", "name,mos\n,5\n", "no 'name' in entry 1"),
        ("a.csv", "name,mos\n", "no line"),
        ("a.txt", "a.mp4, 50\n", "expected `path, duration, fps, MOS`"),
        ("a.txt", "\n", "holds no line"),
        ("a.json", "[{", "is not JSON"),
        ("a.json", '{"images": []}', "no list of records"),
        ("a.mat", "not MATLAB", "no MATLAB file"),
        ("a.xlsx", "not Excel", "no xlsx file"),
    ],
)
def test_a_label_file_that_is_none_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("suffix", ["csv", "txt", "json"])
def test_a_label_file_of_another_encoding_is_named(tmp_path, suffix):
    path = tmp_path / f"labels.{suffix}"
    path.write_bytes("video,mos\nété.mp4,3\n".encode("latin-1"))
    with pytest.raises(
        ValueError, match=f"labels.{suffix} is not UTF-8 from its byte 10, expected it: save it as UTF-8"
    ):
        read_labels(path)


def test_matlab_names_and_scores_must_be_as_many(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"video_list": np.array(["a", "b"], dtype=object), "mos": np.ones(3)})
    with pytest.raises(ValueError, match="has 2 in 'video_list' and 3 in 'mos'"):
        read_labels(path)


# benchmarks


def test_konvid_1k_files_of_both_generations_are_found(tmp_path, clip):
    cut = "22_cut_centercrop_960x540_8s.mp4"
    videos = put(clip, tmp_path / "videos", "11.mp4", cut)
    labels = write_text(tmp_path / "mos.csv", '"flickr_id","mos"', '"11","1.00"', '"22","3.00"', '"33.0","5.00"')
    (report,) = prepare("konvid_1k", labels, tmp_path / "rows", videos)
    assert report == {
        "dataset": "konvid_1k", "split": "test", "n": 2, "missing": 1, "mos_min": 1, "mos_max": 3, "mos_range": [1, 5],
    }  # fmt: skip
    rows = stored(tmp_path / "rows")
    assert {name: (row["mos"], row["group"]) for name, row in rows.items()} == {
        "videos/11.mp4": (0, "11"),
        f"videos/{cut}": (50, "22"),
    }
    (reason,) = left_out(tmp_path / "rows").values()
    assert reason.startswith("no such file, nor 33_original_centercrop_960x540_8s.mp4")
    # the older label files name the videos in full
    labels = write_mat(
        tmp_path / "data.mat", "video_names", [cut, "11_original_centercrop_960x540_8s.mp4"], "scores", [3.0, 1.0]
    )
    prepare("konvid_1k", labels, tmp_path / "rows", videos)
    assert stored(tmp_path / "rows") == rows


def test_konvid_1k_refuses_ids_that_were_read_as_numbers(tmp_path):
    labels = write_text(tmp_path / "mos.csv", "flickr_id,mos", "3.34E+09,2.5")
    with pytest.raises(ValueError, match="expected a Flickr id: save ids as text"):
        prepare("konvid_1k", labels, tmp_path / "rows", labels_only=True)


def test_live_vqc_videos_lie_beside_data_mat_or_in_its_folder(tmp_path, clip):
    put(clip, tmp_path / "Video", "A001.mp4")
    labels = write_mat(tmp_path / "data.mat", "video_list", ["A001.mp4"], "mos", [80.232])
    prepare("live_vqc", labels, tmp_path / "rows")
    assert stored(tmp_path / "rows")["Video/A001.mp4"]["mos"] == pytest.approx(80.232)
    prepare("live_vqc", labels, tmp_path / "rows", tmp_path / "Video")
    assert list(stored(tmp_path / "rows")) == ["Video/A001.mp4"]


def test_youtube_ugc_sheet_with_empty_chunks_and_unrated_videos(tmp_path, clip):
    usual, original = "Vlog_720P-1a2b_crf_10_ss_00_t_20.0.mp4", "Animation/1080P/Animation_1080P-05f8.mkv"
    videos = put(clip, tmp_path / "videos", usual, original)
    labels = write_xlsx(
        tmp_path / "mos.xlsx",
        ["vid", "category", "MOS full", "MOS chunk00", "MOS chunk05"],
        ["Vlog_720P-1a2b", "Vlog", 3.5, 3.4, None],
        ["Animation_1080P-05f8", "Animation", 4, None, None],
        ["Gaming_360P-3c4d", "Gaming", None, None, None],
    )
    (report,) = prepare("youtube_ugc", labels, tmp_path / "rows", videos)
    assert (report["n"], report["missing"], report["mos_min"], report["mos_max"]) == (2, 1, 3.5, 4)
    assert list(left_out(tmp_path / "rows").values()) == ["the label file gives no MOS"]
    assert stored(tmp_path / "rows").keys() == {f"videos/{usual}", f"videos/{original}"}
    assert stored(tmp_path / "rows")[f"videos/{usual}"]["group"] == "Vlog_720P-1a2b"


def test_live_yt_gaming_names_have_no_suffix(tmp_path, clip):
    put(clip, tmp_path, "AgeEmpires-001.mp4")
    labels = write_mat(tmp_path / "game.mat", "video_list", ["AgeEmpires-001"], "MOS", [55.35])
    prepare("live_yt_gaming", labels, tmp_path / "rows")
    assert stored(tmp_path / "rows")["AgeEmpires-001.mp4"]["mos"] == 55.35


# stops and full disks


def test_stopped_rows_are_the_earlier_ones_or_do_not_load_and_the_rerun_is_the_same(tmp_path, clip, monkeypatch):
    videos = put(clip, tmp_path / "rows", *[f"{name}.mp4" for name in "abcdef"], "train/mine.mp4")
    lines = ["a.mp4,0,train", "b.mp4,20,test", "c.mp4,40,train", "d.mp4,60,test"]
    first = write_text(tmp_path / "first.csv", "video,mos,split", *lines)
    more = [*lines, "e.mp4,90,validation", "f.mp4,95,train", "gone.mp4,1,train"]
    second = write_text(tmp_path / "second.csv", "video,mos,split", *more)
    prepare("csv", second, tmp_path / "whole", videos, dataset="mine")
    # The folder of the videos is that of the rows: nothing in it is touched
    prepare("csv", first, videos, videos, dataset="mine")

    def content(folder):
        splits = {split: list(part) for split, part in load_rows(folder).items()}
        return splits, (folder / LEFT_OUT_FILE).read_text(), (folder / "report.json").read_text()

    earlier, expected = content(videos), content(tmp_path / "whole")
    assert len(earlier[0]) == 2 and len(expected[0]) == 3 and earlier != expected
    replace, seen = Path.replace, []
    for num_moved in range(100):
        moves = iter(range(num_moved))

        def replace_some(path, target, moves=moves):
            if next(moves, None) is None:
                raise KeyboardInterrupt
            return replace(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace_some)
            try:
                prepare("csv", second, videos, videos, dataset="mine")
                break
            except KeyboardInterrupt:
                pass
        try:
            seen.append(content(videos))
        except FileNotFoundError as error:
            assert "expected a folder of rows that `lmmvqa prepare` finished writing" in str(error)
            seen.append(None)
        prepare("csv", first, videos, videos, dataset="mine")
        assert content(videos)[0] == earlier[0]
    assert num_moved > 8 and set(map(str, seen)) == {"None"}
    assert content(videos) == expected
    assert (videos / "train" / "mine.mp4").is_file() and not (videos / ".partial").exists()


def test_rows_on_a_full_disk_are_one_line_and_the_earlier_ones_stay(tmp_path, clip, capsys):
    put(clip, tmp_path, "a.mp4")
    labels = write_text(tmp_path / "labels.csv", "video,mos", "a.mp4,50")
    command = ["prepare", "csv", "--labels", str(labels), "--out", str(tmp_path / "rows")]
    assert main(command) == 0
    before = stored(tmp_path / "rows")
    write_text(labels, "video,mos", "a.mp4,60")
    capsys.readouterr()
    for room in (0, 500):
        with full_disk(room), pytest.raises(SystemExit) as stop:
            main(command)
        error = capsys.readouterr().err.splitlines()[-1]
        assert stop.value.code == 2 and error.startswith("lmmvqa prepare csv: error: ") and "File too large" in error
        assert stored(tmp_path / "rows") == before
    assert main(command) == 0 and stored(tmp_path / "rows") != before


CHECKPOINTS_AND_RUNS = ["config.json", "adapter_config.json", "trainer_state.json", "settings.json"]


@pytest.mark.parametrize("held", [*CHECKPOINTS_AND_RUNS, "dataset_dict.json", "rows of other"])
def test_rows_are_written_over_nothing_but_the_same_data_set(tmp_path, capsys, monkeypatch, held):
    out, labels = tmp_path / "out", write_text(tmp_path / "labels.csv", "video,mos", "a.mp4,50")
    command = ["prepare", "csv", "--labels", str(labels), "--out", str(out), "--labels_only"]
    if held.endswith(".json"):
        out.mkdir()
        (out / held).write_text("{}")
    else:
        for _ in range(2):  # the same data set may be prepared again
            assert main([*command, "--name", "other"]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    monkeypatch.setattr(own_csv, "read_labels", None)  # it is said before any work
    with pytest.raises(SystemExit) as stop:
        main(command)
    error = capsys.readouterr().err
    message = "rows of an unknown data set" if held == "dataset_dict.json" else held
    assert stop.value.code == 2
    assert f"got {out} as the folder to write, which holds {message}, expected a new folder" in error
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_saved_rows_are_no_checkpoint(checkpoint):
    row = {"video": "a.mp4", "mos": 50.0, "dataset": "mine", "split": "train", "group": "a"}
    with pytest.raises(ValueError, match="holds config.json, expected a new folder or that of earlier rows of mine"):
        save_rows([row], [], "mine", checkpoint)


def test_a_folder_of_videos_that_is_not_there_is_one_line(tmp_path, capsys):
    labels = write_text(tmp_path / "labels.csv", "flickr_id,mos", "1,3", "2,4")
    command = ["prepare", "konvid_1k", "--labels", str(labels), "--out", str(tmp_path / "rows")]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--videos", str(tmp_path / "nothere")])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothere, which is no folder, expected the folder of the videos" in line


# LSVQ

OFFICIAL = "name,p1,mos_p1,mos,is_test,is_valid"


@pytest.fixture
def lsvq_tables(tmp_path):
    """The authors' two tables with 40 videos in train, two in test and one in 1080p."""
    train = [f'yfcc-batch1/{k},"[0, {k}]",1.0,{k + 10}.5,False,True' for k in range(38)]
    # one upload in two batches: never on both sides of train and validation
    train += [f'ia-batch{k}/youtube-x,"[0, 1]",1.0,20,False,True' for k in (1, 24)]
    test = ['ia-batch2/clip.mp4,"[0, 1]",1.0,70.25,True,True', 'ia-batch3/clip2,"[0, 1]",1.0,80,True,False']
    return [
        write_text(tmp_path / "labels_train_test.csv", OFFICIAL, *train, *test),
        write_text(tmp_path / "labels_test_1080p.csv", OFFICIAL.replace(",is_test", ""), 'b/hd,"[0]",1.0,90,False'),
    ]


@pytest.fixture
def named(monkeypatch):
    names = [f"yfcc-batch1/{k}" for k in range(38)] + ["ia-batch1/youtube-x", "ia-batch24/youtube-x"]
    test, hd = ["ia-batch2/clip", "ia-batch3/clip2"], ["b/hd"]
    official = {"train": names, "test": test, "test_1080p": hd}
    splits = {"paper": official | {"test": test[:1]}, "official": official, "dover": official}
    known = {
        name: {part: (len(videos), lsvq.list_checksum(videos)) for part, videos in split.items()}
        for name, split in splits.items()
    }
    monkeypatch.setattr(lsvq, "NAMED_SPLITS", known)


def test_lsvq_official_split(tmp_path, clip, lsvq_tables, named, capsys):
    put(clip, tmp_path, "ia-batch2/clip.mp4.mp4", "b/hd.mp4", "ia-batch24/youtube-x.mp4", "yfcc-batch1/0.mp4")
    reports = prepare("lsvq", lsvq_tables, tmp_path / "rows", split_name="official")
    found = {report["split"]: (report["n"], report["missing"]) for report in reports}
    assert sum(found["train"]) + sum(found["validation"]) == 40 and sum(found["validation"]) in (4, 5)
    assert found["test"] == (1, 1) and found["test_1080p"] == (1, 0)
    rows = stored(tmp_path / "rows")
    assert rows["ia-batch2/clip.mp4.mp4"]["mos"] == 70.25 and rows["ia-batch2/clip.mp4.mp4"]["group"] == "clip"
    # which of the two files is there moves no video to another split
    everything = lsvq.read_videos(lsvq_tables, "official")
    splits = {video.files[0]: video.split for video in everything}
    assert splits["ia-batch1/youtube-x.mp4"] == splits["ia-batch24/youtube-x.mp4"]
    assert rows["ia-batch24/youtube-x.mp4"]["split"] == splits["ia-batch24/youtube-x.mp4"]
    assert lsvq.read_videos(lsvq_tables, "official") == everything
    assert {v.files[0] for v in lsvq.read_videos(lsvq_tables, "official", seed=1) if v.split == "validation"} != {
        v.files[0] for v in everything if v.split == "validation"
    }


def test_lsvq_parts_may_be_given_alone_and_as_text(tmp_path, named):
    labels = write_text(
        tmp_path / "labels_test.txt", "ia-batch2/clip.mp4.mp4, -1, -1, 70.25", "ia-batch3/clip2.mp4, -1, -1, 80"
    )
    (report,) = prepare("lsvq", [labels], tmp_path / "rows", split_name="dover", labels_only=True)
    assert (report["split"], report["n"], report["mos_max"]) == ("test", 2, 80)


def test_lsvq_refuses_files_that_are_not_of_the_named_split(tmp_path, lsvq_tables, named, capsys):
    with pytest.raises(
        ValueError,
        match=r"lists 40 videos \(train of 'paper', .*\) and 2 videos \(test of 'official', test of 'dover'\), "
        r"expected parts of the LSVQ split 'paper' \(train 40, test 1, test_1080p 1\)",
    ):
        prepare("lsvq", lsvq_tables, tmp_path / "rows", labels_only=True)
    text = lsvq_tables[0].read_text().replace("yfcc-batch1/7,", "yfcc-batch1/77,")
    lsvq_tables[0].write_text(text)
    with pytest.raises(ValueError, match="--split_name unverified"):
        prepare("lsvq", lsvq_tables, tmp_path / "rows", split_name="dover", labels_only=True)
    reports = prepare("lsvq", lsvq_tables, tmp_path / "rows", split_name="unverified", labels_only=True)
    assert {report["split"]: report["n"] for report in reports if report["split"].startswith("test")} == {
        "test": 2,
        "test_1080p": 1,
    }


@pytest.mark.parametrize("split_name", ["official", "unverified"])
def test_lsvq_refuses_one_list_twice(lsvq_tables, named, tmp_path, split_name):
    again = shutil.copy(lsvq_tables[1], tmp_path / "again.csv")
    with pytest.raises(
        ValueError, match=r"again.csv lists the same videos as .*labels_test_1080p.csv, expected each once"
    ):
        lsvq.read_videos([*lsvq_tables, again], split_name)


def test_lsvq_unverified_needs_a_table_that_says_its_part(tmp_path):
    train = write_text(tmp_path / "train.csv", "vid,mos,width", "b/1,50,9", "b/2,50,9")
    assert {video.split for video in lsvq.read_videos([train], "unverified")} <= {"train", "validation"}
    text = write_text(tmp_path / "labels.txt", "b/1.mp4, -1, -1, 50")
    with pytest.raises(ValueError, match="says nothing of train and test"):
        lsvq.read_videos([text], "unverified")
    maybe = write_text(tmp_path / "maybe.csv", "name,mos,is_test", "b/1,50,maybe")
    with pytest.raises(ValueError, match=r"is_test \['maybe'\]"):
        lsvq.read_videos([maybe], "unverified")


def test_content_on_both_sides_is_said(tmp_path, capsys):
    table = write_text(
        tmp_path / "t.csv", "name,mos,is_test", "ia-batch1/x,50,False", "ia-batch24/x,60,True", "b/y,60,True"
    )
    prepare("lsvq", [table], tmp_path / "rows", split_name="unverified", labels_only=True)
    assert "1 of the rows in test show content that train or validation shows too" in capsys.readouterr().err


# label files that name their videos by path


def test_dover_text_and_qalign_json(tmp_path, clip):
    put(clip, tmp_path, "set/a.mp4", "set/b.mp4")
    text = write_text(tmp_path / "labels.txt", "set/a.mp4, 8.0, 30.0, 1.5", "set/b.mp4, -1, -1, 4.5")
    (report,) = prepare("dover_text", text, tmp_path / "rows", mos_range=(1, 5), dataset="kvq", split="train")
    assert (report["dataset"], report["split"], report["n"], report["mos_min"]) == ("kvq", "train", 2, 1.5)
    assert stored(tmp_path / "rows")["set/b.mp4"]["mos"] == 87.5
    listed = write_text(tmp_path / "q.json", json.dumps([{"img_path": "set/a.mp4", "gt_score": 55.5}]))
    (report,) = prepare("qalign_json", listed, tmp_path / "more_rows")
    assert (report["dataset"], report["split"], report["mos_max"]) == ("qalign_json", "test", 55.5)


def test_a_scale_that_is_not_0_to_100_must_be_given(tmp_path):
    text = write_text(tmp_path / "labels.txt", "a.mp4, -1, -1, 1.5", "b.mp4, -1, -1, 4.5")
    with pytest.raises(ValueError, match="no MOS above 4.5.*--mos_range 1 5"):
        prepare("dover_text", text, tmp_path / "rows", labels_only=True)
    with pytest.raises(ValueError, match=r"b.mp4 has MOS '4.5', expected 1 to 4"):
        prepare("dover_text", text, tmp_path / "rows", mos_range=(1, 4), labels_only=True)


def test_own_csv_splits_by_group_and_lists_what_is_missing(tmp_path, clip, capsys):
    put(clip, tmp_path, *(f"videos/{k:04d}.mp4" for k in range(4)))
    (tmp_path / "videos" / "text.mp4").write_text("not a video")
    (tmp_path / "videos" / "text.jpg").write_text("not a picture")
    (tmp_path / "videos" / "cut.mp4").write_bytes(Path(clip).read_bytes()[:300])
    lines = ["videos/0000.mp4,1,x", "videos/0001.mp4,3,x", "./videos/0002.mp4,5,y", "videos/0003.mp4,2,z"]
    lines += [f"videos/{name},2,z" for name in ("gone.mp4", "text.mp4", "text.jpg", "cut.mp4", "0003.mp4")]
    lines += ["videos/unrated.mp4,,z"]
    labels = write_text(tmp_path / "mine.csv", "video,mos,group", *lines)

    reports = prepare("csv", labels, tmp_path / "rows", mos_range=(1, 5))

    rows = stored(tmp_path / "rows")
    assert {name: row["mos"] for name, row in rows.items()} == {
        "videos/0000.mp4": 0, "videos/0001.mp4": 50, "videos/0002.mp4": 100, "videos/0003.mp4": 25,
    }  # fmt: skip
    assert {row["dataset"] for row in rows.values()} == {"mine"}
    assert rows["videos/0000.mp4"]["split"] == rows["videos/0001.mp4"]["split"]
    reasons = left_out(tmp_path / "rows")
    assert {name: reason.split(":")[0].split(",")[0] for name, reason in reasons.items()} == {
        "gone.mp4": "no such file",
        "text.mp4": "not a video or picture",
        "text.jpg": "not a video or picture",
        "cut.mp4": "not a video or picture",
        "0003.mp4": "listed again",
        "unrated.mp4": "the label file gives no MOS",
    }
    assert sum(report["missing"] for report in reports) == 6 and sum(report["n"] for report in reports) == 4
    messages = capsys.readouterr().err
    assert all(name in messages for name in reasons)
    assert "frames per second: 10 to 10, median 10, of 4 files" in messages
    assert "seconds: 0.5 to 0.5" in messages


def test_own_csv_keeps_the_splits_it_is_given(tmp_path, clip):
    labels = write_text(tmp_path / "t.csv", "video,mos,split,group", f"{clip},50,test,a", "gone.mp4,60,train,b")
    reports = prepare("csv", labels, tmp_path / "rows")
    assert {report["split"]: (report["n"], report["missing"]) for report in reports} == {
        "test": (1, 0),
        "train": (0, 1),
    }


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("video,mos", ["a.mp4,101"], "expected 0 to 100"),
        ("video,mos", ["a.mp4,good"], "'good', expected a number"),
        ("video,mos", ["a.mp4,50", "./a.mp4,60"], "keep one of the lines"),
        ("video,mos,split", ["a.mp4,50,valid"], "expected one of"),
        ("video,mos,split,group", ["a.mp4,50,train,x", "b.mp4,50,test,x"], "in one split"),
        ("video,quality", ["a.mp4,50"], "rename the column"),
        ("video,mos", ["gone.mp4,50"], "1 left out"),
    ],
)
def test_own_csv_says_what_is_wrong(tmp_path, header, lines, message):
    with pytest.raises(ValueError, match=message):
        prepare("csv", write_text(tmp_path / "t.csv", header, *lines), tmp_path / "rows")


def test_rated_images_keep_their_split_when_a_file_is_missing(tmp_path, capsys):
    files = [f"{prefix}_{k}.jpg" for prefix in ("ss01", "ss02") for k in range(10)]
    for file in files[1:]:
        Image.new("RGB", (8, 8)).save(tmp_path / file)
    (tmp_path / files[1]).write_text("not an image")
    labels = write_text(tmp_path / "mos.csv", "file,mos", *(f"{file},{k / 20}" for k, file in enumerate(files)))

    reports = prepare("rated_images", labels, tmp_path / "rows", mos_range=(0, 1))

    assert left_out(tmp_path / "rows").keys() == set(files[:2])
    assert "frames per second" not in capsys.readouterr().err
    assert sum(report["n"] for report in reports) == 18 and sum(report["missing"] for report in reports) == 2
    rows, splits = stored(tmp_path / "rows"), rated_images.split_images(files)
    assert rows[files[19]]["mos"] == 95
    assert all(row["split"] == splits[name] for name, row in rows.items())
    assert max(report["mos_max"] for report in reports if report["n"]) == 0.95


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def test_records_of_llava_video_chatgpt_and_captions(tmp_path, clip):
    put(clip, tmp_path, "00453/004539375.jpg.mp4", "v_p1QGn0IzfW0.mp4", "b.mp4")
    llava = {
        "id": "004539375",
        "image": "00453/004539375.jpg.mp4",
        "conversations": [human("Render a summary of the photo.\n<image>"), gpt("Stripes on a wall .")],
    }
    several_turns = {
        "id": 2,
        "video": "b.mp4",
        "conversations": [human("<video>\nWhat moves?"), gpt("A grating."), human("Where to?"), gpt("Left.")],
    }
    chatgpt = {"q": "What is the main activity?", "a": "Someone waves.", "video_id": "v_p1QGn0IzfW0"}
    caption = {"image": "b.mp4", "caption": "Stripes."}
    labels = write_text(tmp_path / "talk.json", json.dumps([llava, several_turns, chatgpt, caption]))
    (report,) = prepare("instruction_json", labels, tmp_path / "rows")
    assert (report["split"], report["n"], report["missing"], report["mos_min"]) == ("train", 4, 0, None)
    rows = load_rows(tmp_path / "rows")["train"]
    assert all(row["mos"] is None and row["media"] == [row["video"]] for row in rows)
    assert [Path(row["video"]).name for row in rows] == [*("004539375.jpg.mp4", "b.mp4", "v_p1QGn0IzfW0.mp4", "b.mp4")]
    assert [[(turn["role"], turn["content"]) for turn in row["conversations"]] for row in rows] == [
        [("user", "Render a summary of the photo.\n<video>"), ("assistant", "Stripes on a wall .")],
        [
            *(("user", "<video>\nWhat moves?"), ("assistant", "A grating.")),
            *(("user", "Where to?"), ("assistant", "Left.")),
        ],
        [("user", "<video>\nWhat is the main activity?"), ("assistant", "Someone waves.")],
        [("user", f"<video>\n{CAPTION_QUESTION}"), ("assistant", "Stripes.")],
    ]


def test_several_images_and_videos_keep_their_places(tmp_path, clip):
    put(clip, tmp_path, "a.mp4", "b.mp4", "c.mp4")
    record = {
        "image": ["a.mp4", "c.mp4"],
        "video": "b.mp4",
        "conversations": [human("<image> and <video>, or"), gpt("Which?"), human("<image>?"), gpt("The last.")],
    }
    labels = write_text(tmp_path / "talk.json", json.dumps([record]))
    prepare("instruction_json", labels, tmp_path / "rows")
    (row,) = load_rows(tmp_path / "rows")["train"]
    assert [Path(file).name for file in row["media"]] == ["a.mp4", "b.mp4", "c.mp4"]
    assert [turn["content"] for turn in row["conversations"]][::2] == ["<video> and <video>, or", "<video>?"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"image": "gone.jpg", "caption": "Nothing."}, None),
        ({"conversations": [human("Hello?"), gpt("Yes.")]}, "names no video or image"),
        ({"video": "a.mp4"}, "has the keys video, expected conversations, a caption, or q and a"),
        ({"video": "a.mp4", "conversations": [human("Hello?")]}, "not human and gpt by turns"),
        ({"video": "a.mp4", "conversations": [gpt("Hello?"), human("Yes.")]}, "not human and gpt by turns"),
        ({"video": "a.mp4", "conversations": [human("<video>"), gpt(" ")]}, "no text in turn 2"),
        ({"video": "a.mp4", "conversations": [human("What?"), gpt("<video>")]}, "in an answer"),
        ({"video": "a.mp4", "conversations": [human("<video> <video>"), gpt("No.")]}, "has 2 of .* for 1 files"),
        ({"video": 7, "conversations": [human("What?"), gpt("No.")]}, "names the video 7, expected a file"),
        ({"q": "What?", "a": "That.", "video_id": None}, "names the video None"),
        ({"q": "What?", "video_id": "a.mp4"}, "no text in turn 2"),
        (
            {"video": ["a.mp4", "gone.mp4"], "conversations": [human("What?"), gpt("No.")]},
            "shows gone.mp4, left out above",
        ),
    ],
)
def test_a_wrong_record_is_named_by_its_number(tmp_path, clip, capsys, record, reason):
    put(clip, tmp_path, "a.mp4")
    right = {"video": "a.mp4", "caption": "Stripes."}
    labels = write_text(tmp_path / "talk.json", json.dumps([right, record, right]))
    (report,) = prepare("instruction_json", labels, tmp_path / "rows")
    assert report["n"] == 2
    error = capsys.readouterr().err
    if reason is None:
        assert "gone.jpg (train): no such file" in error
    else:
        assert re.search(f"talk.json record 2 .train.: .*{reason}", error)


# the command


def test_command_ends_with_a_json_line_for_each_split(tmp_path, clip, capsys):
    put(clip, tmp_path, "A001.mp4")
    labels = write_text(tmp_path / "live.csv", "name,mos", "A001.mp4,80.5", "A002.mp4,20")
    command = ["prepare", "live_vqc", "--labels", str(labels), "--out", str(tmp_path / "rows")]
    assert main(command) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == {
        "dataset": "live_vqc", "split": "test", "n": 1, "missing": 1, "mos_min": 80.5, "mos_max": 80.5, "mos_range": [0, 100],
    }  # fmt: skip
    assert "A002.mp4" in output.err and "MOS 80.5 to 80.5 on the scale 0 to 100" in output.err
    assert main([*command, "--labels_only"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["imagenet"],
        ["live_vqc", "--split_name", "paper"],
        ["lsvq", "--split_name", "mine"],
        ["live_vqc", "--labels", "gone.mat"],
    ],
)
def test_wrong_use_of_the_command(arguments, tmp_path, capsys):
    arguments = arguments if "--labels" in arguments else [*arguments, "--labels", str(tmp_path / "a.csv")]
    with pytest.raises(SystemExit) as error:
        main(["prepare", *arguments, "--out", str(tmp_path / "rows")])
    assert error.value.code == 2 and capsys.readouterr().err


def test_private_rows_need_a_repository(tmp_path, capsys):
    labels = write_text(tmp_path / "labels.csv", "video,mos", "a.mp4,50")
    with pytest.raises(SystemExit):
        main(
            ["prepare", "csv", "--labels", str(labels), "--out", str(tmp_path / "rows"), "--labels_only", "--private"]
        )
    assert "got --private without --push_to_hub" in capsys.readouterr().err and not (tmp_path / "rows").exists()


@pytest.mark.parametrize("name", ["report.json", "dataset_dict.json", "train/data-00000-of-00001.arrow"])
def test_damaged_rows_are_named(checkpoint, rows, tmp_path, capsys, name):
    shutil.copytree(rows, tmp_path / "rows")
    os.truncate(tmp_path / "rows" / name, (tmp_path / "rows" / name).stat().st_size // 2)
    with pytest.raises(SystemExit) as stop:
        main(
            ["evaluate", "--model", str(checkpoint), "--data", str(tmp_path / "rows"), "--out", str(tmp_path / "out")]
        )
    assert stop.value.code == 2
    assert f"got rows in {tmp_path / 'rows'} that are damaged or cut" in capsys.readouterr().err


def test_what_is_pushed_names_no_folder_of_this_machine(tmp_path, clip, monkeypatch):
    pushed = {}

    def push_to_hub(data, repository, private):
        pushed[repository] = (private, data["test"][:]["video"])

    monkeypatch.setattr(datasets.DatasetDict, "push_to_hub", push_to_hub)
    put(clip, tmp_path / "videos", "Video/A001.mp4")
    labels = write_text(tmp_path / "live.csv", "name,mos", "A001.mp4,80.5")
    folders = ["--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "rows")]
    assert (
        main(["prepare", "live_vqc", "--labels", str(labels), *folders, "--push_to_hub", "me/rows", "--private"]) == 0
    )
    assert pushed == {"me/rows": (True, ["Video/A001.mp4"])}


def test_degraded_clips_by_command(tmp_path, capsys):
    photographs = tmp_path / "images"
    photographs.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photographs / "a.png")
    labels = write_text(photographs / "mos.csv", "file,mos", "a.png,0.9")
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "short.mp4", num_frames=5)
    command = ["prepare", "degraded_clips", "--labels", str(labels), "--mos_range", "0", "1"]
    command += ["--videos", str(tmp_path / "clips"), "--out", str(tmp_path / "out")]
    assert main([*command, "--photographs", "1", "--variants", "1"]) == 0
    output = capsys.readouterr()
    reports = [json.loads(line) for line in output.out.splitlines()]
    assert sum(report["n"] for report in reports) == 2 and sum(report["missing"] for report in reports) == 1
    assert "short.mp4" in output.err and "frames per second: 25 to 25" in output.err
    rows = [row for part in load_rows(tmp_path / "out" / "dataset").values() for row in part]
    assert [row["distortion"] for row in rows] == ["none", "h264"]


# the real tables: counts and MOS as published

LSVQ_TEST, LSVQ_1080P = (7_220, 8.47, 91.03), (3_561, 17.72, 91.42)
REAL = [
    ("lsvq", ["lsvq/LSVQ_TRAIN_metadata.csv"], {}, {"train": (28_013, 2.45, 90.52)}),
    ("lsvq", ["lsvq/LSVQ_whole_test.csv"], {}, {"test": LSVQ_TEST}),
    ("lsvq", ["lsvq/LSVQ_whole_test_1080p.csv"], {}, {"test_1080p": LSVQ_1080P}),
    (
        "lsvq",
        ["text_json/LSVQ_whole_test_ds_score.json", "text_json/LSVQ_whole_test_1080p_ds_score.json"],
        {"split_name": "official"},
        {"test": (7_182, 8.47, 91.03), "test_1080p": (3_573, 17.72, 91.42)},
    ),
    (
        "lsvq",
        [f"text_json/dover_LSVQ/{name}.txt" for name in ("train_labels", "labels_test", "labels_1080p")],
        {"split_name": "dover"},
        {"train": (28_056, 2.45, 90.52), "test": (7_186, 8.47, 91.03), "test_1080p": (3_573, 17.72, 91.42)},
    ),
    ("konvid_1k", "konvid_1k/KoNViD_1k_mos.csv", {}, {"test": (1_200, 1.22, 4.64)}),
    ("konvid_1k", "konvid_1k/KoNViD-1k_data.mat", {}, {"test": (1_200, 1.22, 4.64)}),
    ("konvid_1k", "text_json/dover_KoNViD/labels.txt", {}, {"test": (1_200, 1.22, 4.64)}),
    ("live_vqc", "live_vqc/data.mat", {}, {"test": (585, 6.22, 94.29)}),
    ("live_vqc", "live_vqc/LIVE_VQC_data.mat", {}, {"test": (585, 6.22, 94.29)}),
    ("live_vqc", "live_vqc/live_vqc.csv", {}, {"test": (585, 6.22, 94.29)}),
    ("live_vqc", "text_json/dover_LIVE_VQC/labels.txt", {}, {"test": (585, 6.22, 94.29)}),
    ("youtube_ugc", "youtube_ugc/YOUTUBE_UGC_metadata.csv", {}, {"test": (1_380, 1.24, 4.70)}),
    ("youtube_ugc", "youtube_ugc/youtube_ugc_data.mat", {}, {"test": (1_142, 1.24, 4.68)}),
    ("youtube_ugc", "youtube_ugc/youtube_ugc_whole.csv", {}, {"test": (1_142, 1.24, 4.68)}),
    ("youtube_ugc", "text_json/dover_YouTubeUGC/labels.txt", {}, {"test": (1_147, 1.24, 4.68)}),
    ("youtube_ugc", "text_json/youtube_ugc_total.json", {}, {"test": (1_020, 1.24, 4.68)}),
    ("live_yt_gaming", "live_yt_gaming/LIVEYTGaming.mat", {}, {"test": (600, 4.53, 95.95)}),
    ("live_yt_gaming", "live_yt_gaming/LIVE_Gaming.csv", {}, {"test": (600, 4.53, 95.95)}),
    ("live_yt_gaming", "text_json/LIVE-YT-Gaming_total_score.json", {}, {"test": (600, 4.53, 95.95)}),
    ("qalign_json", "text_json/LIVE-VQC_total_ds_score.json", {}, {"test": (585, 6.22, 94.29)}),
    # this one is on 20 times the scale 1-5
    (
        "qalign_json",
        "text_json/Konvid-1k_total_ds_score.json",
        {"mos_range": (20, 100)},
        {"test": (1_200, 24.4, 92.8)},
    ),
    ("dover_text", "text_json/dover_LSVQ/labels.txt", {}, {"test": (10_759, 8.47, 91.42)}),
]
# LSVQ's train part stands without its tenth for validation elsewhere
STATISTICS = {
    "lsvq/LSVQ_TRAIN_metadata.csv": (59.78, 10.67),
    "lsvq/LSVQ_whole_test.csv": (59.89, 10.51),
    "lsvq/LSVQ_whole_test_1080p.csv": (66.38, 10.37),
    "konvid_1k/KoNViD_1k_mos.csv": (3.03, 0.641),
    "live_vqc/data.mat": (63.29, 17.06),
    "youtube_ugc/YOUTUBE_UGC_metadata.csv": (3.54, 0.643),
    "live_yt_gaming/LIVEYTGaming.mat": (66.67, 16.92),
}


@pytest.mark.skipif(not LABELS.is_dir(), reason="the real label tables are not beside this checkout")
@pytest.mark.parametrize(("name", "files", "options", "expected"), REAL, ids=lambda value: str(value)[:60])
def test_real_tables_give_the_published_counts_and_ranges(name, files, options, expected, tmp_path):
    labels = [str(LABELS / file) for file in files] if isinstance(files, list) else LABELS / files
    reports = {report["split"]: report for report in prepare(name, labels, tmp_path, labels_only=True, **options)}
    if "validation" in reports:
        train, validation = reports["train"], reports.pop("validation")
        assert validation["n"] == pytest.approx(0.1 * (train["n"] + validation["n"]), rel=0.01)
        train["n"] += validation["n"]
        train["mos_min"] = min(train["mos_min"], validation["mos_min"])
        train["mos_max"] = max(train["mos_max"], validation["mos_max"])
    assert {
        split: (report["n"], round(report["mos_min"], 2), round(report["mos_max"], 2))
        for split, report in reports.items()
    } == expected
    assert all(report["missing"] == 0 for report in reports.values())

    first = files[0] if isinstance(files, list) else files
    if first in STATISTICS:
        low, high = reports[next(iter(reports))]["mos_range"]
        mos = [
            low + row["mos"] * (high - low) / 100
            for part in datasets.load_from_disk(str(tmp_path)).values()
            for row in part
        ]
        mean, deviation = STATISTICS[first]
        assert statistics.fmean(mos) == pytest.approx(mean, abs=0.006)
        assert statistics.pstdev(mos) == pytest.approx(deviation, rel=0.001)


@pytest.mark.skipif(not LABELS.is_dir(), reason="the real label tables are not beside this checkout")
def test_real_lsvq_validation_shares_no_upload_with_train():
    videos = lsvq.read_videos([LABELS / "lsvq" / "LSVQ_TRAIN_metadata.csv"])
    groups = {split: {video.group for video in videos if video.split == split} for split in ("train", "validation")}
    assert not groups["train"] & groups["validation"]
    assert len(videos) - len(groups["train"] | groups["validation"]) == 220
    assert sum(video.split == "validation" for video in videos) == 2_800


@pytest.mark.skipif(not LABELS.is_dir(), reason="the real label tables are not beside this checkout")
def test_real_tables_of_one_lsvq_split_are_refused_for_another(tmp_path):
    labels = LABELS / "text_json" / "dover_LSVQ" / "labels_test.txt"
    with pytest.raises(
        ValueError, match="lists 7186 videos .test of 'dover'., expected parts of the LSVQ split 'paper'"
    ):
        prepare("lsvq", [labels], tmp_path, labels_only=True)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not beside this checkout")
def test_real_clips_open(tmp_path, capsys):
    names = sorted(path.name for path in CLIPS.iterdir() if path.suffix in {".mp4", ".webm", ".mkv", ".mov", ".avi"})
    labels = write_text(tmp_path / "t.csv", "video,mos,split", *(f"{name},50,test" for name in names))
    (report,) = prepare("csv", labels, tmp_path / "rows", CLIPS)
    assert (report["n"], report["missing"]) == (len(names), 0)
    assert f"of {len(names)} files" in capsys.readouterr().err
