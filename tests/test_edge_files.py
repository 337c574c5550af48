"""Odd, damaged and wrong files from outside the checkout: each gives a score or one line that says why not."""

import io
import json
import os
import threading
from pathlib import Path

import pytest

from lmmvqa.commands.command_line import main
from lmmvqa.processing import VideoDecodingError
from lmmvqa.processing.video_reading_lmmvqa import read_frames


FAULTS = Path(__file__).parents[2] / "shared/faults"
FOLDER = Path(__file__).parents[2] / "shared/edge"
NO_VIDEO_STREAM = {"exoplayer__full_blocks.mkv", "exoplayer__sample_eac3.mp4", "exoplayer__sample_opus.mp4"}
NOTHING_DECODES = {"exoplayer__invalid-bitstream.webm"}
ENCRYPTED = {"exoplayer__subsample_encrypted_noaltref.webm"}
NOT_A_VIDEO = {"streamio-ffmpeg__broken.mp4", "streamio-ffmpeg__empty.flv", "syn_empty.mp4", "syn_not_a_video.mp4"}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/edge is not here")
def test_every_edge_file_gives_a_score_or_the_reason_why_not(capsys, tiny, tmp_path):
    for part in tiny:
        part.save_pretrained(tmp_path)
    status = main(["score", "--json", "--model", str(tmp_path), str(FOLDER)])
    rows = {Path(row["video"]).name: row for row in map(json.loads, capsys.readouterr().out.splitlines())}

    assert status == 1
    assert set(rows) == {path.name for path in FOLDER.iterdir()}
    errors = {name: row["error"] for name, row in rows.items() if row["error"] is not None}
    assert set(errors) == NO_VIDEO_STREAM | NOTHING_DECODES | ENCRYPTED | NOT_A_VIDEO
    for reason, names in {
        "it has no video stream": NO_VIDEO_STREAM,
        "no frame decodes": NOTHING_DECODES,
        "it is encrypted": ENCRYPTED,
        "Invalid data found": NOT_A_VIDEO,
    }.items():
        for name in names:
            assert errors[name].startswith("Could not read ")
            assert name in errors[name]
            assert reason in errors[name]
            assert "\n" not in errors[name]
    assert all(0 <= row["score"] <= 100 for row in rows.values() if row["error"] is None)


needs_faults = pytest.mark.skipif(not FAULTS.is_dir(), reason="../shared/faults is not here")


def read(source):
    """The facts of a video, when all its frames are read."""

    def read_all(frames):
        times = [time for time, *_ in frames]
        assert times == sorted(set(times))
        return frames.facts

    return read_frames(source, read_all)


@needs_faults
@pytest.mark.parametrize(
    "name, frames, duration, expected_duration, damaged_frames",
    [
        ("clean_4awful.ts", 300, 10.01, None, 0),
        ("late_program.ts", 30, 1.0, None, 0),
        ("truncated_50pct.webm", 73, 2.43, 5.06, 0),
        ("damaged.ts", 100, 4.0, None, 60),
        ("h264_bframes.avi", 100, 4.0, 4.0, 0),
        ("no_pts_first_half.mkv", 100, 4.0, 2.0, 0),
        ("last_frame_held_10s.mp4", 1, 10.0, 10.0, 0),
        ("fps_0.1.mp4", 12, 120.0, 120.0, 0),
        ("default_track_is_second.mkv", 100, 4.0, 4.0, 0),
    ],
)
def test_faulty_videos_are_read_whole(caplog, name, frames, duration, expected_duration, damaged_frames):
    facts = read(FAULTS / name)
    assert facts.frames == frames
    assert facts.damaged_frames == damaged_frames
    assert facts.duration == pytest.approx(duration, abs=0.02)
    assert facts.expected_duration == (expected_duration and pytest.approx(expected_duration, abs=0.02))
    is_partial = damaged_frames > 0 or name.startswith("truncated")
    assert ("the score is of what can be seen" in caplog.text) == is_partial
    if name.startswith("default"):
        assert (facts.width, facts.height) == (480, 270)


@needs_faults
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
def test_a_damaged_broadcast_in_a_pipe_is_the_same(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = (FAULTS / "damaged.ts").read_bytes()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,), daemon=True)
    writer.start()
    assert read(tmp_path / "pipe") == read(FAULTS / "damaged.ts")
    writer.join()


@needs_faults
@pytest.mark.parametrize(
    "name, reason",
    [
        ("flipped_h263.ts", "9 of 9 frames are damaged or lost"),
        ("one_damaged_frame.mkv", "the file announces 2.0 s and holds 0.0 s"),
        ("hls_http.m3u8", "it is a playlist"),
        ("hls_key.m3u8", "it is a playlist"),
        ("live_playlist.m3u8", "it is a playlist"),
        ("cc_rel.ffconcat", "it is a list of files"),
        ("a.sdp", "it describes a network stream"),
    ],
)
def test_faulty_files_of_which_nothing_can_be_said_are_refused(name, reason):
    with pytest.raises(VideoDecodingError, match=rf"Could not read .*{name}: {reason}"):
        read(FAULTS / name)
    with pytest.raises(VideoDecodingError, match=reason), open(FAULTS / name, "rb") as file:
        read(file)


@needs_faults
@pytest.mark.parametrize("percent", [30, 50, 70, 90])
@pytest.mark.parametrize("name", ["default_track_is_second.mkv", "h264_bframes.avi", "one_damaged_frame.mkv"])
def test_cut_faulty_files_are_noticed(caplog, name, percent):
    data = (FAULTS / name).read_bytes()
    try:
        facts = read(io.BytesIO(data[: len(data) * percent // 100]))
    except VideoDecodingError:
        return
    assert facts.duration < facts.expected_duration - 0.1
    assert "the score is of what can be seen" in caplog.text
