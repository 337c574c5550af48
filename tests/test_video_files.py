"""What is named on the command line to the files that are scored; where results may be written."""

import io
import os
import socket
from collections import Counter
from pathlib import Path

import av
import pytest
from conftest import write_clip

from lmmvqa.processing.video_reading_lmmvqa import read_frames
from lmmvqa.scoring.video_files import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    find_videos,
    is_media_name,
    read_names,
    refuse_to_overwrite,
)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_files_folders_and_patterns(tmp_path):
    touch(tmp_path, "b.mp4", "a.MKV", "notes.txt", "deep/er/c.webm", "deep/d.png", "odd[1].mp4", "odd1.mp4")
    (tmp_path / "folder.mp4").mkdir()

    def find(*paths):
        found = find_videos([f"{tmp_path}/{path}" for path in paths])
        return [str(Path(video).relative_to(tmp_path)) for video in found.videos], len(found.without_videos)

    everything = ["a.MKV", "b.mp4", "deep/d.png", "deep/er/c.webm", "odd1.mp4", "odd[1].mp4"]
    assert find("") == (everything, 0)
    assert find("deep", "b.mp4") == (["deep/d.png", "deep/er/c.webm", "b.mp4"], 0)
    assert find("notes.txt", "missing.mp4") == (["notes.txt", "missing.mp4"], 0)
    assert find("[ab].*") == (["a.MKV", "b.mp4"], 0)
    assert find("**/*.webm", "b.mp4", "*.mp4") == (["deep/er/c.webm", "b.mp4", "odd1.mp4", "odd[1].mp4"], 0)
    assert find("odd[1].mp4") == (["odd[1].mp4"], 0)
    assert find("odd?.mp4") == (["odd1.mp4"], 0)
    assert find("b.mp4", "*.avi", "folder.mp4") == (["b.mp4", "*.avi"], 1)
    assert find("*.avi", "b[1].mp4", "folder.mp4") == ([], 3)


def test_names_are_no_patterns(tmp_path, monkeypatch):
    touch(tmp_path, "a.mp4", "b1.mp4", "c[1].mp4", "d/e.mp4", "-")
    monkeypatch.chdir(tmp_path)
    names = ["b[1].mp4", "c[1].mp4", "[d]", "*", "d"]
    assert find_videos(["a.mp4", "-", "b?.mp4"], names=names).videos == [
        "a.mp4",
        "b[1].mp4",
        "c[1].mp4",
        "[d]",
        "*",
        "d/e.mp4",
        "b1.mp4",
    ]
    assert find_videos(["-"], names=["*.mp4"]).videos == ["*.mp4"]
    assert find_videos(["-", "a.mp4"]).videos == ["-", "a.mp4"]


def test_what_is_excluded_is_counted(tmp_path):
    touch(tmp_path, "a.mp4", "b_draft.mp4", "raw/c.mp4", "raw/deep/d.mp4", "new/raw/e.mp4", "new/f.mp4")

    def find(*exclude):
        found = find_videos([str(tmp_path), f"{tmp_path}/b_draft.mp4", "https://host/raw/g.mp4"], exclude)
        names = [video.rpartition("/")[2] for video in found.videos]
        assert len(names) + found.excluded == 7
        return names

    everything = ["a.mp4", "b_draft.mp4", "f.mp4", "e.mp4", "c.mp4", "d.mp4", "g.mp4"]
    assert find() == everything
    assert find("*_draft.mp4") == [name for name in everything if name != "b_draft.mp4"]
    assert find("raw") == find("raw/*", "raw/deep") == ["a.mp4", "b_draft.mp4", "f.mp4"]
    assert find("new/raw", "*.mkv") == ["a.mp4", "b_draft.mp4", "f.mp4", "c.mp4", "d.mp4", "g.mp4"]
    assert find("*") == []
    assert find_videos([str(tmp_path)], ["*.mkv", "raw"]).unused == ["*.mkv"]


def test_a_file_that_is_named_in_two_ways_is_one(tmp_path, monkeypatch):
    touch(tmp_path, "a/x.mp4")
    monkeypatch.chdir(tmp_path)
    assert find_videos(["./a/x.mp4", "a/x.mp4", "a//x.mp4", ".", "https://a//b", "https://a/b"]).videos == [
        "./a/x.mp4",
        "https://a//b",
        "https://a/b",
    ]


def test_names_of_standard_input():
    assert read_names(io.BytesIO(b"a.mp4\nb c.mp4\n\nlatin-\xe9.mp4")) == [
        "a.mp4",
        "b c.mp4",
        os.fsdecode(b"latin-\xe9.mp4"),
    ]
    assert read_names(io.BytesIO(b"a\nb.mp4\0c.mp4\0")) == ["a\nb.mp4", "c.mp4"]
    assert read_names(io.BytesIO(b"")) == []
    assert read_names(io.BytesIO(b"a.mp4\r\nb.mp4\r\n\r\n")) == ["a.mp4", "b.mp4"]
    assert read_names(io.BytesIO(b"a.mp4\r\0")) == ["a.mp4\r"]


def test_an_address_is_taken_as_it_is():
    names = ["https://host/a.mp4?version=[1]", "S3://bucket/*.mp4", "hf://datasets/a/b/c.mp4"]
    assert find_videos(names).videos == names


def test_what_is_left_out_below_a_folder_is_counted(tmp_path, monkeypatch):
    touch(tmp_path, "a.mp4", "._a.mp4", ".hidden.png", ".venv/deep/icon.png", ".git/x", "notes.txt", "sub/b.heic")
    os.mkfifo(tmp_path / "pipe.ts")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket.mp4")
    (tmp_path / "linked.mp4").symlink_to("a.mp4")
    (tmp_path / "linked_pipe.ts").symlink_to("pipe.ts")
    (tmp_path / "dangling.mp4").symlink_to("gone.mp4")
    (tmp_path / "around.mp4").symlink_to("around.mp4")
    (tmp_path / "sub/loop").symlink_to("..")

    found = find_videos([str(tmp_path)])
    names = ["a.mp4", "around.mp4", "dangling.mp4", "linked.mp4", "sub/b.heic"]
    assert found.videos == [str(tmp_path / name) for name in names]
    assert Counter(found.skipped.values()) == {
        "hidden files and folders": 4,
        "files of other kinds": 4,
        "links to folders": 1,
    }
    # What is named itself is taken, and what lies in two named folders is left out once
    assert find_videos([str(tmp_path / "sub/loop")]).videos == [str(tmp_path / "sub/loop" / name) for name in names]
    assert find_videos([str(tmp_path / ".venv")]).videos == [str(tmp_path / ".venv/deep/icon.png")]
    assert find_videos([str(tmp_path / "._a.mp4"), str(tmp_path / "pipe.ts")]).videos[1].endswith("pipe.ts")
    assert find_videos([str(tmp_path), str(tmp_path / "sub"), str(tmp_path)]).skipped == found.skipped


def test_a_folder_that_cannot_be_opened_is_counted(tmp_path, monkeypatch):
    touch(tmp_path, "a.mp4", "private/b.mp4")
    scandir = os.scandir

    def refuse(path):
        if path.endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_videos([str(tmp_path)])
    assert found.videos == [str(tmp_path / "a.mp4")]
    assert found.skipped == {str(tmp_path / "private"): "folders that cannot be opened"}


@pytest.mark.parametrize(
    ("suffix", "muxer", "codec"),
    [
        (".qt", "mov", "mpeg4"),
        (".mpe", "mpeg", "mpeg1video"),
        (".m2t", "mpegts", "mpeg2video"),
        (".mk3d", "matroska", "mpeg4"),
        (".rm", "rm", "rv10"),
        (".rmvb", "rm", "rv20"),
        (".wtv", "wtv", "mpeg2video"),
        (".dv", "dv", "dvvideo"),
        (".jp2", "image2", "jpeg2000"),
        (".jfif", "image2", "mjpeg"),
    ],
)
def test_a_known_suffix_is_read(tmp_path, suffix, muxer, codec):
    assert suffix in VIDEO_SUFFIXES | PICTURE_SUFFIXES
    path, num_frames = tmp_path / f"clip{suffix}", 1 if muxer == "image2" else 5
    size = {"dvvideo": (720, 576), "rv10": (176, 144), "rv20": (176, 144)}.get(codec, (96, 64))
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(num_frames):
            container.mux(stream.encode(av.VideoFrame(*size, stream.pix_fmt)))
        container.mux(stream.encode(None))
    assert read_frames(path, lambda frames: len(list(frames))) == num_frames


# where results may be written


@pytest.fixture
def video(tmp_path):
    return write_clip(tmp_path / "clip.mp4", num_frames=2)


@pytest.mark.parametrize(
    "name", ["clip.mp4", "./clip.mp4", "sub/../clip.mp4", "hard.csv", "soft.csv", "soft_hard.csv"]
)
def test_an_output_that_is_an_input_is_refused(tmp_path, monkeypatch, video, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    os.link(video, "hard.csv")
    os.symlink(video, "soft.csv")
    os.symlink("hard.csv", "soft_hard.csv")
    with pytest.raises(ValueError, match="is an input too"):
        refuse_to_overwrite(name, ["missing.mp4", video])
    with pytest.raises(ValueError, match="exists already"):
        refuse_to_overwrite(name, ["missing.mp4"])


def test_an_output_that_is_named_as_an_input_and_missing_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is an input too"):
        refuse_to_overwrite("./rows.csv", ["rows.csv"])


def test_a_dangling_link_is_no_place_for_results_and_a_device_is(tmp_path):
    (tmp_path / "rows.csv").symlink_to("gone.csv")
    with pytest.raises(ValueError, match="exists already"):
        refuse_to_overwrite(str(tmp_path / "rows.csv"), [])
    refuse_to_overwrite("/dev/null", [])
    refuse_to_overwrite(str(tmp_path / "new.csv"), [])


def test_names_of_videos_and_pictures():
    assert is_media_name("folder/a.MP4") and is_media_name("a.heic")
    assert not is_media_name("rows.csv") and not is_media_name("mp4") and not is_media_name("a.jxl")
