"""What docs/inputs.md says of rows, limits and errors is what a run says."""

import math
import re
import struct
import sys
from dataclasses import fields, replace
from pathlib import Path

import av
import pytest
import torch
from conftest import Broken, Pipe, write_clip
from PIL import Image

from lmmvqa.processing.answers_lmmvqa import outside_training
from lmmvqa.processing.reading_limits_lmmvqa import DEFAULT_LIMITS, ReadingLimits
from lmmvqa.processing.video_reading_lmmvqa import VideoFacts
from lmmvqa.scoring.report import failure_line, finite


DOCUMENT = (Path(__file__).resolve().parents[1] / "docs/inputs.md").read_text(encoding="utf-8")


def table(header: str) -> list[list[str]]:
    """The cells of the table that begins with this line."""
    lines = DOCUMENT.split(f"{header}\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def pattern(cell: str) -> re.Pattern:
    return re.compile(".+".join(map(re.escape, cell.strip("`").strip().split("…"))))


ERRORS = [cells[0] for cells in table("| `Could not read FILE:` | means |")]


def test_every_fact_is_named():
    named = [name for cells in table("| field | is |") for name in re.findall(r"`(\w+)`", cells[0])]
    assert sorted(named) == sorted([*(field.name for field in fields(VideoFacts)), "outside"])


def test_what_is_outside_is_what_the_table_lists():
    (remark,) = (cells[1] for cells in table("| field | is |") if cells[0] == "`outside`")
    everything = VideoFacts(width=3840, height=2160, fps=120.0, hdr="pq")
    assert re.findall(r"`(\w+)`", remark) == outside_training(everything)


def test_every_limit_has_the_default_that_it_says():
    def number(text: str) -> float:
        return math.inf if text == "none" else float(text.replace(",", ""))

    named = {cells[0].strip("`"): number(cells[1]) for cells in table("| limit | default | of |")}
    assert named == vars(DEFAULT_LIMITS)


def text(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content)
    return str(folder / name)


def picture(folder: Path, name: str, mode: str = "RGB", size: tuple[int, int] = (50, 30)) -> str:
    Image.new(mode, size).save(folder / name)
    return str(folder / name)


def link_to_itself(folder: Path) -> str:
    (folder / "loop.mp4").symlink_to("loop.mp4")
    return str(folder / "loop.mp4")


def sound(folder: Path) -> str:
    path = str(folder / "sound.wav")
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame(format="s16", layout="stereo", samples=800)
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def changed(folder: Path, name: str, change, codec: str = "libx264", seconds: int = 1) -> str:
    """A clip whose bytes were changed."""
    path = Path(write_clip(folder / name, num_frames=30 * seconds, codec=codec))
    path.write_bytes(change(path.read_bytes()))
    return str(path)


def without_payload(data: bytes) -> bytes:
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    return data[:start] + bytes(size) + data[start + size :]


def without_tracks(folder: Path) -> str:
    """An MP4 with a header alone."""

    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), name) + content

    path = folder / "empty.mp4"
    path.write_bytes(box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", box(b"mvhd", bytes(100))) + box(b"mdat", b""))
    return str(path)


def damaged(folder: Path) -> str:
    """Most packets are noise, the first and last few are not."""
    source, path = write_clip(folder / "source.webm", codec="libvpx-vp9"), str(folder / "damaged.webm")
    with av.open(source) as read, av.open(path, "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for index, packet in enumerate(read.demux(video=0)):
            if packet.size:
                made = av.Packet(bytes(packet) if index < 4 or index > 27 else b"\xff" * packet.size)
                made.pts, made.dts, made.time_base, made.stream = packet.pts, packet.dts, packet.time_base, stream
                made.is_keyframe = packet.is_keyframe
                written.mux(made)
    return path


def encrypted(folder: Path) -> str:
    source, path, key = write_clip(folder / "source.mp4"), str(folder / "encrypted.mp4"), "00" * 16
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    with av.open(source) as read, av.open(path, "w", options=options) as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                written.mux(packet)
    return path


# In the order of the table: what makes each error, and the limits where they are others than the defaults
MAKERS = [
    (lambda folder: str(folder / "missing.mp4"), {}),
    (link_to_itself, {}),
    (lambda folder: "https://example.org/clip.mp4", {}),
    (lambda folder: text(folder, "list.m3u8", "#EXTM3U\n#EXTINF:1,\nclip.ts\n"), {}),
    (lambda folder: text(folder, "list.mpd", "<?xml version='1.0'?>\n<MPD></MPD>\n"), {}),
    (lambda folder: text(folder, "list.ffconcat", "ffconcat version 1.0\nfile clip.mp4\n"), {}),
    (lambda folder: text(folder, "stream.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\n"), {}),
    (lambda folder: text(folder, "text.mp4", "no video at all\n" * 50), {}),
    (lambda folder: text(folder, "clip.yuv", "raw" * 1000), {}),
    (sound, {}),
    (without_tracks, {}),
    (encrypted, {}),
    (lambda folder: changed(folder, "clip.mkv", lambda data: data.replace(b"V_FFV1", b"V_NONE"), "ffv1"), {}),
    (lambda folder: changed(folder, "clip.mp4", without_payload), {}),
    (lambda folder: changed(folder, "clip.y4m", lambda data: data[: data.index(b"\n") + 1], "rawvideo"), {}),
    (
        lambda folder: Pipe(
            Path(write_clip(folder / "clip.mp4", 90, codec="mjpeg", pixel_format="yuvj420p")).read_bytes()
        ),
        {},
    ),
    (lambda folder: changed(folder, "clip.mkv", lambda data: data[: len(data) // 6], "ffv1", seconds=4), {}),
    (lambda folder: {"path": write_clip(folder / "clip.mp4"), "start": 0.5, "end": 4}, {}),
    (lambda folder: {"path": write_clip(folder / "clip.h264"), "start": 0.5, "end": 4}, {}),
    (damaged, {}),
    (lambda folder: write_clip(folder / "clip.mp4"), {"max_pixels": 1000}),
    (lambda folder: picture(folder, "wide.png", size=(101, 1)), {}),
    (lambda folder: picture(folder, "floats.tiff", mode="F"), {}),
    (lambda folder: text(folder, "beginning.tiff", "II*\0"), {}),
    (lambda folder: text(folder, "picture.heic", "\0\0\0 ftypheic"), {}),
    (lambda folder: write_clip(folder / "clip.mp4"), {"max_seconds": 0.5}),
    (lambda folder: write_clip(folder / "clip.mp4"), {"max_fps": 20}),
    (lambda folder: write_clip(folder / "clip.mp4"), {"max_wall_seconds": 0}),
    (lambda folder: Broken(bytes(1000), MemoryError(), 101), {}),
    (lambda folder: Broken(bytes(1000), PermissionError(13, "Permission denied"), 101), {}),
]


@pytest.mark.parametrize(
    ("documented", "make", "limits"),
    [(error, *maker) for error, maker in zip(ERRORS, MAKERS, strict=True)],
    ids=[error.strip("`")[:40] for error in ERRORS],
)
def test_every_error_is_the_one_that_a_run_gives(scorer, monkeypatch, tmp_path, documented, make, limits):
    monkeypatch.setattr(scorer.processor.video_processor, "limits", replace(ReadingLimits(), **limits))
    monkeypatch.setitem(sys.modules, "pi_heif", None)  # as where it is not installed
    source = make(tmp_path)
    (row,) = scorer([source], on_error="row")
    message = row["error"]
    if isinstance(source, dict):
        name = f"{source['path']} from {source['start']} s to {source['end']} s"
    else:
        name = source if isinstance(source, str) else f"the given {type(source).__name__}"
    beginning = f"Could not read {name}: "
    assert message.startswith(beginning)
    assert "\n" not in message
    found = [error for error in ERRORS[:-1] if pattern(error).fullmatch(message.removeprefix(beginning))]
    assert found == ([documented] if documented != ERRORS[-1] else [])
    assert pattern(documented).fullmatch(message.removeprefix(beginning))


def test_errors_that_begin_otherwise():
    of_kind, of_score = (pattern(cells[0]) for cells in table("| message | means |"))
    assert of_kind.fullmatch(failure_line(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(ValueError) as error:
        finite({"score": math.nan, "score_std": math.nan})
    assert of_score.fullmatch(str(error.value))
