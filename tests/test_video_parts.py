"""Parts of files: the frames that begin in them, found by seeking, whatever the format."""

import io
import math
from fractions import Fraction

import av
import numpy as np
import pytest
from conftest import write_clip
from PIL import Image

from lmmvqa.processing import LmmVqaVideoProcessor, VideoDecodingError
from lmmvqa.processing.video_reading_lmmvqa import read_frames
from lmmvqa.processing.video_source_lmmvqa import VideoPart


FPS, SECONDS = 10, 8
FORMATS = {
    "clip.mp4": "libx264",
    "open_gop.mp4": "libx265",
    "clip.mkv": "libx264",
    "clip.avi": "mpeg4",
    "clip.ts": "libx264",
    "clip.mpg": "mpeg2video",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips of 8 seconds with a key frame each second; frame i is about 3 i bright below, and noise above."""
    folder = tmp_path_factory.mktemp("parts")
    for name, codec in FORMATS.items():
        fps = 25 if name == "clip.mpg" else FPS  # of all those that MPEG-2 knows, the lowest is 23.976
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=fps)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            stream.codec_context.gop_size = fps
            stream.options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            for index in range(SECONDS * fps):
                picture = np.full((120, 160, 3), 16 + index * 200 // (SECONDS * fps), np.uint8)
                picture[:80] = np.random.default_rng(index).integers(0, 255, (80, 160, 3))
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return folder


def walk(source):
    """Times, brightness of the last row of each frame, and what was seen."""

    def all_of(frames):
        rows = [(time, frame.to_ndarray(format="gray")[-1].mean()) for time, _, frame in frames]
        return [time for time, _ in rows], [brightness for _, brightness in rows], frames.facts

    return read_frames(source, all_of)


class CountedFile(io.BytesIO):
    num_bytes = 0

    def read(self, size=-1):
        data = super().read(size)
        self.num_bytes += len(data)
        return data


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("start, end", [(0, 1), (3.2, 4), (5, 5.4), (2.0001, 2.9999), (6.6, math.inf), (0, math.inf)])
def test_a_part_is_those_frames_of_the_whole(folder, name, start, end):
    times, brightness, _ = walk(str(folder / name))
    expected = [light for time, light in zip(times, brightness, strict=True) if start - 0.01 < time < end - 0.01]
    part_times, found, facts = walk(VideoPart(str(folder / name), start, end))
    assert found == pytest.approx(expected, abs=0.1)
    assert part_times[0] == 0 and facts.frames == len(expected) and facts.damaged_frames == 0
    assert facts.duration == pytest.approx(min(end, SECONDS) - start, abs=0.02)


def test_parts_one_after_another_are_the_whole(folder):
    path = str(folder / "clip.mp4")
    borders = [0, 0.7, 1.3333, 3.019, 3.1, 8]  # rounded, between two frames, and one frame long
    parts = [walk(VideoPart(path, *pair))[1] for pair in zip(borders[:-1], borders[1:], strict=True)]
    assert sum(parts, []) == pytest.approx(walk(path)[1], abs=0.1)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_what_lies_before_a_part_is_not_read(folder, name):
    file = CountedFile((folder / name).read_bytes())
    walk(VideoPart(file, 5, 5.5))
    assert file.num_bytes < 0.6 * len(file.getvalue())  # its headers, its index and what FFmpeg reads ahead with it


def test_a_file_that_cannot_seek_is_read_from_its_start(folder):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    data = (folder / "clip.ts").read_bytes()
    assert walk(VideoPart(Pipe(data), 5, 5.5))[1] == pytest.approx(walk(VideoPart(io.BytesIO(data), 5, 5.5))[1])


def test_damage_before_a_part_is_not_its_own(folder, tmp_path):
    data = bytearray((folder / "clip.mkv").read_bytes())
    middle = len(data) // 4
    data[middle : middle + 2000] = bytes(2000)
    (tmp_path / "damaged.mkv").write_bytes(data)
    path = str(tmp_path / "damaged.mkv")
    assert walk(path)[2].damaged_frames > 0
    assert walk(VideoPart(path, 5, 6))[2].damaged_frames == 0
    assert walk(VideoPart(path, 5, 6))[1] == pytest.approx(walk(VideoPart(str(folder / "clip.mkv"), 5, 6))[1])


def test_a_part_beyond_the_end(folder, caplog):
    path = str(folder / "clip.mp4")
    facts = walk(VideoPart(path, 7, 9))[2]
    assert (facts.frames, facts.expected_duration) == (10, 2)
    assert "clip.mp4 from 7 s to 9 s: the part is of 2.0 s and holds 1.0 s" in caplog.text
    with pytest.raises(VideoDecodingError, match=r"clip.mp4 from 7 s to 12 s: the part is of 5.0 s and holds 1.0 s"):
        walk(VideoPart(path, 7, 12))
    with pytest.raises(VideoDecodingError, match=r"clip.mp4 from 9 s to its end: it holds no frame"):
        walk(VideoPart(path, 9))


def test_a_part_of_raw_video_is_refused(tmp_path):
    with av.open(str(tmp_path / "raw.h264"), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = 64, 48
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(
        VideoDecodingError, match="its frames have no time stamps, by which a part of it could be found"
    ):
        walk(VideoPart(str(tmp_path / "raw.h264"), 1, 2))


def test_a_part_of_an_animation(tmp_path):
    pictures = [Image.new("RGB", (32, 24), (40 * index, 0, 0)) for index in range(6)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=500)
    times, _, facts = walk(VideoPart(str(tmp_path / "a.gif"), 1, 2))
    assert (times, facts.duration) == ([0, 0.5], 1)


@pytest.mark.parametrize(
    "start, end", [(-1, 2), (2, 2), (3, 2), (math.nan, 2), (1, math.nan), (math.inf, math.inf), ("1", 2)]
)
def test_what_is_no_part_is_refused(start, end):
    with pytest.raises(ValueError, match="expected a start of 0 or more and a later end"):
        VideoPart("clip.mp4", start, end)


def test_a_dict_with_seconds_is_a_part(folder):
    """As a row of a data set has it: the towers see what they see of a file that holds the part alone."""
    processor = LmmVqaVideoProcessor(key_frame_size=32, chunk_size=32, chunk_frames=8)
    path = str(folder / "clip.mp4")
    given = [
        {"path": path, "start": 3, "end": 5},
        {"bytes": (folder / "clip.mp4").read_bytes(), "path": None, "start": 3.0, "end": 5.0},
    ]
    (whole,) = processor.decode(path)
    for part in processor.decode(given):
        assert part.seconds.tolist() == [0, 1]
        assert np.array_equal(part.key_frames, whole.key_frames[3:5])
        assert np.array_equal(part.clips, whole.part(3, 5).clips)
    ends = [
        {"path": path, "start": None, "end": 1},
        {"path": path, "start": 7, "end": None},
        {"path": path, "end": None},
    ]
    assert [len(video.seconds) for video in processor.decode(ends)] == [1, 1, 8]


def test_video_without_key_frames_in_between(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", num_frames=90)
    times, _, _ = walk(VideoPart(path, 2, 2.5))
    assert times == pytest.approx([index / 30 for index in range(15)], abs=1e-3)
