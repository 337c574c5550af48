"""What is read of a file, at which times, what is missing of it, and what is refused and never opened."""

import contextlib
import gzip
import io
import math
import os
import socket
import sys
import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.stream import Disposition
from conftest import Broken, write_clip
from transformers.utils.logging import warning_once

from lmmvqa.processing import VideoDecodingError
from lmmvqa.processing.reading_limits_lmmvqa import ReadingLimits
from lmmvqa.processing.time_stamps_lmmvqa import Clock, Losses
from lmmvqa.processing.video_reading_lmmvqa import read_frames
from lmmvqa.scoring.report import decoded_in_part


def read(source, **limits):
    """(facts, times in seconds) of a video."""
    return read_frames(
        source, lambda frames: ([time for time, *_ in frames], frames.facts)[::-1], limits=ReadingLimits(**limits)
    )


@pytest.fixture
def openings(monkeypatch):
    """One entry for each time that FFmpeg opened a file."""
    calls, open_file = [], av.open

    def count(file, mode, **options):
        if mode == "r":
            calls.append(file)
        return open_file(file, mode, **options)

    monkeypatch.setattr(av, "open", count)
    return calls


def noise(index, size):
    width, height = size
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sound(start):
    frame = av.AudioFrame.from_ndarray(np.zeros((2, 960), np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = 48_000, start
    return frame


def write_tracks(path, *tracks, sound_seconds=0.0, options=None):
    """Video tracks of noise, (codec, size, seconds, disposition) at 25 frames a second, and one of Opus sound."""
    with av.open(str(path), "w", options=options or {}) as container:
        streams = []
        for codec, size, seconds, disposition in tracks:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = disposition
            streams.append((stream, [av.VideoFrame.from_ndarray(noise(i, size)) for i in range(round(seconds * 25))]))
        if sound_seconds:
            stream = container.add_stream("libopus", rate=48_000)
            streams.append((stream, [sound(start) for start in range(0, round(sound_seconds * 48_000), 960)]))
        packets = [
            packet for stream, frames in streams for frame in [*frames, None] for packet in stream.encode(frame)
        ]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return Path(path)


def remux(source, path, options):
    """The first video track of a file in another, without decoding it."""
    with av.open(str(source)) as old, av.open(str(path), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return Path(path)


def damage(path, indices):
    """Overwrites these packets of the first track, so that none of them decodes."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(Path(path).read_bytes())
    for packet in (packets[index] for index in indices):
        data[packet.pos + 8 : packet.pos + packet.size] = b"\xff" * (packet.size - 8)
    Path(path).write_bytes(data)


# Times


@pytest.mark.parametrize(
    "stamps, times",
    [
        ([5.0, 5.1, 5.2], [5.0, 5.1, 5.2]),
        ([0.0, 0.1, 0.2, 9.0, 9.1], [0.0, 0.1, 0.2, 9.0, 9.1]),  # a gap
        ([0.0, 10.0, 20.0], [0.0, 10.0, 20.0]),  # a slide show
        ([0.0, 0.1, 0.2, 95.0, 95.1, 95.4], [0.0, 0.1, 0.2, 0.3, 0.4, 0.7]),  # a leap
        ([7.0, 7.1, 7.2, 0.0, 0.1, 0.4], [7.0, 7.1, 7.2, 7.3, 7.4, 7.7]),  # they start over
        ([0.0, 0.1, 60.0, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4]),  # one is wrong
        ([0.0, 0.1, 0.1, 0.3], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 0.8, 0.2, 0.4, 0.6, 1.9], [0.0, 0.8, 1.3, 1.5, 1.7, 1.9]),  # out of order
        ([None, None, None, 0.0, 0.1], [0.0, 0.5, 1.0, 1.5, 1.6]),
        ([None, None, 1.0, None, 1.5], [0.0, 0.5, 1.0, 1.5, 2.0]),
        ([1.0, 1.1, None, None, 1.4], [1.0, 1.1, 1.2, 1.3, 1.4]),
        ([0.0] * 4, [0.0, 0.5, 1.0, 1.5]),
    ],
)
def test_time_goes_on_whatever_the_time_stamps_say(stamps, times):
    clock = Clock(step=0.5, largest_gap=10.0, length=math.inf)
    measured = [clock(stamp) for stamp in stamps]
    assert all(earlier < later for earlier, later in zip(measured, measured[1:], strict=False))
    assert measured == pytest.approx(times)


def test_what_is_far_beyond_the_announced_end_is_no_gap():
    clock = Clock(step=0.1, largest_gap=math.inf, length=120.0)
    stamps, times = (0.0, 100.0, 130.0, 500.0, 500.1), [0.0, 100.0, 130.0, 130.1, 130.2]
    assert [clock(stamp) for stamp in stamps] == pytest.approx(times)


def test_transport_streams_one_after_the_other_are_one_video(tmp_path):
    parts = [
        write_clip(tmp_path / "0.ts", num_frames=60),
        write_clip(tmp_path / "1.ts", num_frames=30, size=(128, 80)),
        write_clip(tmp_path / "2.ts", num_frames=45, pixel_format="yuv444p"),
        write_clip(tmp_path / "3.ts", times=[30 + index / 30 for index in range(30)]),
    ]
    facts, times = read(io.BytesIO(b"".join(Path(part).read_bytes() for part in parts)))
    assert facts.frames == 165
    assert facts.damaged_frames == 0
    assert times == pytest.approx([index / 30 for index in range(165)], abs=0.04)
    assert facts.duration == pytest.approx(5.5, abs=0.04)


def test_b_frames_in_avi_have_times(tmp_path):
    facts, times = read(write_clip(tmp_path / "clip.avi", num_frames=100, fps=25))
    with av.open(str(tmp_path / "clip.avi")) as container:
        assert container.streams.video[0].codec_context.has_b_frames
    assert times == pytest.approx([index / 25 for index in range(100)])
    assert facts.duration == facts.expected_duration == pytest.approx(4)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.nut"])
def test_slide_shows_keep_their_gaps(tmp_path, caplog, openings, name):
    facts, times = read(write_clip(tmp_path / name, times=[0, 10, 20, 45], fps=Fraction(1, 10)))
    assert times == pytest.approx([0, 10, 20, 45])
    assert facts.duration >= 45
    assert len(openings) == 1
    assert not caplog.text


def test_a_last_frame_that_is_shown_on_is_not_missing(tmp_path, caplog, openings):
    clip = write_clip(tmp_path / "clip.mp4", num_frames=1, fps=Fraction(1, 10))
    facts, times = read(clip)
    assert times == [0]
    assert facts.duration == facts.expected_duration == pytest.approx(10)
    assert len(openings) == 1
    assert not caplog.text


# What is missing


@pytest.mark.parametrize(
    "name, codec, sound_seconds",
    [
        ("clip.mkv", "libx264", 0),
        ("clip.mkv", "libx264", 4),
        ("clip.webm", "libvpx-vp9", 0),
        ("clip.webm", "libvpx", 6),
        ("clip.mp4", "libx264", 4),
        ("clip.avi", "mjpeg", 0),
        ("clip.flv", "flv1", 0),
    ],
)
def test_cut_files_are_noticed(tmp_path, caplog, name, codec, sound_seconds):
    options = {"movflags": "faststart"} if name.endswith(".mp4") else {}
    path = write_tracks(tmp_path / name, (codec, (48, 32), 4, 0), sound_seconds=sound_seconds, options=options)
    announced = sound_seconds if name.endswith(("mkv", "webm")) and sound_seconds else 4
    assert read(path)[0].frames == 100
    assert not caplog.text
    data = path.read_bytes()
    for percent in (30, 50, 70, 90):
        caplog.clear()
        facts, _ = read(io.BytesIO(data[: len(data) * percent // 100]), min_decoded_share=0)
        assert facts.expected_duration == pytest.approx(announced, abs=0.1)
        assert facts.duration < announced
        assert "s; the score is of what can be seen" in caplog.text


def test_unknown_colours_are_warned_of_once_a_file_and_name_it(tmp_path, caplog):
    warning_once.cache_clear()
    for name in ("a.mkv", "b.mkv"):
        frames = [av.VideoFrame(64, 48, "yuv420p") for _ in range(3)]
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.colorspace = 10
            for index, frame in enumerate(frames):
                frame.pts, frame.colorspace = index, 10
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        read(str(tmp_path / name))
    for name in ("a.mkv", "b.mkv"):
        assert caplog.text.count(f"{tmp_path}/{name}: stored with matrix 10 of ITU-T H.273") == 1


def test_a_longer_track_of_sound_is_no_missing_video(tmp_path, caplog, openings):
    facts, _ = read(write_tracks(tmp_path / "clip.mkv", ("libx264", (96, 64), 2, 0), sound_seconds=5))
    assert facts.duration == pytest.approx(2)
    assert facts.expected_duration is None
    assert len(openings) == 1
    assert not caplog.text


def test_what_transport_streams_hold_is_not_announced(tmp_path):
    assert read(write_clip(tmp_path / "clip.ts"))[0].expected_duration is None


def test_too_few_decoded_seconds_are_an_error(tmp_path):
    data = write_tracks(tmp_path / "clip.mkv", ("libx264", (96, 64), 4, 0)).read_bytes()
    start = data[: len(data) // 5]
    with pytest.raises(VideoDecodingError, match=r"announces 4\.0 s and holds 0\.\d s; .* lower min_decoded_share"):
        read(io.BytesIO(start))
    facts, _ = read(io.BytesIO(start), min_decoded_share=0.1)
    assert 0.1 < facts.duration / facts.expected_duration < 0.25


def test_too_few_whole_frames_are_an_error(tmp_path, caplog):
    path = write_tracks(tmp_path / "clip.webm", ("libvpx-vp9", (96, 64), 2, 0))
    damage(path, range(5, 45))
    with pytest.raises(
        VideoDecodingError, match=r"clip\.webm: 40 of 50 frames are damaged or lost; .* min_whole_share"
    ):
        read(path)
    facts, times = read(path, min_whole_share=0.1)
    assert facts.damaged_frames == facts.lost_frames == 40
    assert facts.frames == len(times) == 10
    assert "40 of 50 frames are damaged or lost" in caplog.text
    assert decoded_in_part(vars(facts))[-1] == "40 of 50 frames damaged or lost"


@pytest.mark.parametrize(
    "codec, name", [("libvpx", "clip.webm"), ("libvpx-vp9", "clip.webm"), ("libx265", "clip.mkv")]
)
def test_damage_of_the_last_packet_is_noticed(tmp_path, codec, name):
    """The last frames of parallel decoding come out at once: PyAV drops an error among them, with all behind it."""
    path = write_tracks(tmp_path / name, (codec, (96, 64), 2, 0))
    damage(path, [-1])
    facts, _ = read(path)
    assert facts.damaged_frames >= 1
    assert facts.frames + facts.damaged_frames == 50


# Which stream


def test_the_default_track_is_read(tmp_path):
    tracks = [("libx264", (96, 64), 1, 0), ("libx264", (128, 80), 1, Disposition.default)]
    facts, _ = read(write_tracks(tmp_path / "clip.mkv", *tracks))
    assert (facts.width, facts.height) == (128, 80)


def test_a_cover_that_does_not_say_so_is_not_read(tmp_path):
    tracks = [("mjpeg", (320, 240), 1 / 25, 0), ("libx264", (96, 64), 1, 0)]
    facts, _ = read(write_tracks(tmp_path / "clip.mkv", *tracks))
    assert (facts.width, facts.height, facts.frames) == (96, 64, 25)


def test_codecs_that_nothing_decodes_are_refused(tmp_path):
    path = write_tracks(tmp_path / "clip.mkv", ("ffv1", (96, 64), 1, 0))
    path.write_bytes(path.read_bytes().replace(b"V_FFV1", b"V_NONE"))
    with pytest.raises(VideoDecodingError, match=r"clip\.mkv: FFmpeg has no decoder"):
        read(path)


def test_pictures_without_compression_are_refused(tmp_path):
    def box(name, *parts):
        content = b"".join(parts)
        return (len(content) + 8).to_bytes(4, "big") + name + content

    version_0, version_2 = b"\0\0\0\0", b"\2\0\0\0"
    item = box(b"infe", version_2, b"\0\1\0\0", b"unci", b"\0")
    meta = box(
        b"meta",
        version_0,
        box(b"hdlr", version_0, b"\0" * 4, b"pict", b"\0" * 13),
        box(b"pitm", version_0, b"\0\1"),
        box(b"iinf", version_0, b"\0\1", item),
    )
    (tmp_path / "picture.heif").write_bytes(
        box(b"ftyp", b"mif2", b"\0" * 4, b"mif2") + meta + box(b"mdat", b"\0" * 99)
    )
    with pytest.raises(VideoDecodingError, match=r"picture\.heif: .* HEIF pictures without compression; convert it"):
        read(tmp_path / "picture.heif")


@pytest.mark.parametrize("name, data", [("clip.yuv", b"\x80" * 50_000), ("clip.nfo", b"This is no video.\n" * 100)])
def test_raw_video_and_text_are_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(VideoDecodingError, match=f"{name}: it is raw video, which does not say its size, or no video"):
        read(tmp_path / name)


def test_encrypted_files_are_refused(tmp_path):
    key = "00112233445566778899aabbccddeeff"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    path = remux(write_clip(tmp_path / "clip.mp4"), tmp_path / "encrypted.mp4", options)
    with pytest.raises(VideoDecodingError, match=r"encrypted\.mp4: it is encrypted; decrypt it first"):
        read(path)


# Errors


@pytest.mark.parametrize(
    "error, reason",
    [
        (ConnectionResetError(104, "peer went away"), "peer went away; check the file"),
        (RuntimeError("no more"), "RuntimeError: no more; check the file"),
        (MemoryError(), "it needs more memory than there is"),
    ],
)
@pytest.mark.parametrize("fails_at", [0, 100_000])
def test_whatever_reading_raises_names_the_source(tmp_path, error, reason, fails_at):
    data = write_tracks(tmp_path / "clip.mkv", ("ffv1", (96, 64), 2, 0)).read_bytes()
    with pytest.raises(VideoDecodingError, match=f"Could not read the given Broken: {reason}"):
        read(Broken(data, error, fails_at))


def test_file_objects_of_text_and_closed_ones_are_named(tmp_path):
    with pytest.raises(VideoDecodingError, match="the given StringIO: TypeError: .* bytes"):
        read(io.StringIO("text"))
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(VideoDecodingError, match="the given BytesIO: ValueError: I/O operation on closed file"):
        read(closed)


def test_errors_of_filters_are_the_videos_and_others_pass(tmp_path):
    path = write_clip(tmp_path / "clip.mp4")

    def scale_to_nothing(frames):
        for _, _, frame in frames:
            graph = av.filter.Graph()
            source, sink = graph.add_buffer(template=frame), graph.add("buffersink")
            graph.link_nodes(source, graph.add("crop", "1000:1000"), sink).configure()

    for source, name in ((path, r"clip\.mp4"), (np.zeros((64, 96, 3), np.uint8), "the given ndarray")):
        with pytest.raises(VideoDecodingError, match=f"{name}: its frames of 96 x 64 pixels cannot be scaled"):
            read_frames(source, scale_to_nothing, fps=25)

    def run_out_of_memory(frames):
        for _ in frames:
            raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        read_frames(path, run_out_of_memory)


def test_file_objects_are_read_from_their_start_in_any_mode(tmp_path):
    path = Path(write_clip(tmp_path / "clip.mp4"))
    with open(path, "r+b") as file:
        file.seek(0, io.SEEK_END)
        assert read(file)[0].frames == 30
    with gzip.open(tmp_path / "clip.gz", "wb") as file:
        file.write(path.read_bytes())
    with gzip.open(tmp_path / "clip.gz") as file:
        assert read(file)[0].frames == 30


# Pipes


def through_pipe(path, data, **limits):
    os.mkfifo(path)

    def write():
        with contextlib.suppress(BrokenPipeError):  # it may not be read to its end
            Path(path).write_bytes(data)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        return read(path, **limits)
    finally:
        writer.join(timeout=10)
        assert not writer.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are of POSIX")
def test_a_named_pipe_is_read_once_with_the_result_of_the_file(tmp_path):
    path = write_tracks(tmp_path / "clip.webm", ("libvpx-vp9", (96, 64), 2, 0))
    damage(path, [10, 11, -2])
    assert through_pipe(tmp_path / "pipe", path.read_bytes()) == read(path)


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are of POSIX")
def test_mp4_in_a_pipe_is_refused_with_the_way_out(tmp_path):
    path = write_tracks(tmp_path / "clip.mp4", ("mjpeg", (96, 64), 3, 0))
    assert path.stat().st_size > 100_000  # more than FFmpeg remembers
    with pytest.raises(VideoDecodingError, match="it comes through a pipe, .* save it to a file first"):
        through_pipe(tmp_path / "pipe", path.read_bytes())


# Limits


@pytest.mark.parametrize(
    "limits, reason",
    [
        ({"max_pixels": 6000}, r"its frames have 96 x 64 pixels, expected at most 6,000 in all; .* raise max_pixels"),
        ({"max_seconds": 2.5}, r"it lasts 3 s or more, expected at most 2.5 s; .* raise max_seconds"),
        ({"max_fps": 29}, r"it has more than 29 frames in one second; raise max_fps"),
        ({"max_wall_seconds": 0}, r"it takes more than 0 s; raise max_wall_seconds"),
    ],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])
def test_files_beyond_a_limit_are_refused(tmp_path, name, limits, reason):
    path = write_clip(tmp_path / name, num_frames=90)
    assert read(path, max_pixels=96 * 64, max_seconds=3, max_fps=30, max_wall_seconds=3600)[0].frames == 90
    with pytest.raises(VideoDecodingError, match=rf"{name}: {reason}"):
        read(path, **limits)


def test_frames_that_grow_beyond_the_limit_are_refused(tmp_path):
    parts = [
        write_clip(tmp_path / f"{size[0]}.mjpeg", 5, 25, size, "mjpeg", "yuvj420p") for size in [(96, 64), (128, 80)]
    ]
    source = io.BytesIO(b"".join(Path(part).read_bytes() for part in parts))
    assert read(source)[0].frames == 10
    with pytest.raises(VideoDecodingError, match="its frames have 128 x 80 pixels, expected at most 10,000 in all"):
        read(source, max_pixels=10_000)
    with pytest.raises(VideoDecodingError, match="its frames have 96 x 64 pixels, expected at most 3,000 in all"):
        read(source, max_pixels=3000)
    source = io.BytesIO(b"\xff" + source.getvalue())  # no picture by its first bytes
    with pytest.raises(VideoDecodingError, match="of at most 3,000 pixels a frame"):
        read(source, max_pixels=3000)


# Safety


@pytest.fixture
def server():
    """A socket that listens at 127.0.0.1; nothing may ever connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening
        listening.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listening.accept()


LISTS = {
    "http.m3u8": (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:5,\nhttp://{address}/a.ts\n#EXT-X-ENDLIST\n",
        "it is a playlist",
    ),
    "live.m3u8": ("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://{address}/a.ts\n", "it is a playlist"),
    "key.m3u8": (
        '#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-KEY:METHOD=AES-128,URI="http://{address}/key"\n'
        "#EXTINF:5,\nclip.ts\n#EXT-X-ENDLIST\n",
        "it is a playlist",
    ),
    "file.m3u8": ("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nclip.ts\n#EXT-X-ENDLIST\n", "it is a playlist"),
    "list.ffconcat": ("ffconcat version 1.0\nfile clip.ts\n", "it is a list of files"),
    "list.txt": ("ffconcat version 1.0\nfile tcp://{address}\n", "it is a list of files"),
    "stream.mpd": ('<?xml version="1.0"?>\n<MPD><BaseURL>http://{address}/</BaseURL></MPD>\n', "it is a playlist"),
    "stream.sdp": (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "it describes a network stream",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_files_and_addresses_are_refused_and_nothing_they_name_is_opened(tmp_path, server, name):
    write_clip(tmp_path / "clip.ts")
    host, port = server.getsockname()
    text, reason = LISTS[name]
    path = tmp_path / name
    path.write_text(text.format(address=f"{host}:{port}", port=port))
    named, nameless = io.BytesIO(path.read_bytes()), io.BytesIO(path.read_bytes())
    named.name = str(path)
    for source in (path, named, nameless):
        with pytest.raises(VideoDecodingError, match=rf": {reason}"):
            read(source)


@pytest.mark.parametrize("as_file_object", [True, False])
def test_a_disguised_playlist_opens_nothing_either(tmp_path, server, as_file_object):
    host, port = server.getsockname()
    path = tmp_path / "clip.mp4"
    path.write_text(LISTS["http.m3u8"][0].format(address=f"{host}:{port}"))
    with pytest.raises(VideoDecodingError, match="it is a playlist"), open(path, "rb") as file:
        read(file if as_file_object else path)


def test_addresses_are_refused_with_the_way_out(server):
    host, port = server.getsockname()
    for address in (f"http://{host}:{port}/a.mp4", f"tcp://{host}:{port}", f"rtmp://{host}:{port}/a"):
        with pytest.raises(
            VideoDecodingError, match="it is an address, expected the path of a file; download it first"
        ):
            read(address)


def test_a_percent_sign_in_the_name_of_a_picture_stands_for_itself(tmp_path):
    for name, size in (("x.jpg", (96, 64)), ("x1.jpg", (32, 24)), ("x2.jpg", (32, 24))):
        write_clip(tmp_path / name, 1, 1, size, "mjpeg", "yuvj420p")
    (tmp_path / "x.jpg").rename(tmp_path / "x%d.jpg")
    facts, _ = read(tmp_path / "x%d.jpg")
    assert (facts.width, facts.height, facts.frames) == (96, 64, 1)


@pytest.mark.parametrize(
    "limits", [{"max_seconds": math.nan}, {"max_fps": -1}, {"min_whole_share": 2}, {"min_decoded_share": math.inf}]
)
def test_limits_that_are_none_are_refused(limits):
    ((name, value),) = limits.items()
    with pytest.raises(ValueError, match=f"got {name}={value}, expected a number from 0 to"):
        ReadingLimits(**limits)


def test_lost_frames_are_counted_where_time_stamps_stand_still():
    losses = Losses(one_frame_a_packet=True)
    for pts in (0, 1, 2, 2, 2):
        losses.sent(SimpleNamespace(pts=pts, is_discard=False))
    for pts in (0, 1, 2):
        losses.came(SimpleNamespace(pts=pts, interlaced_frame=False))
    assert losses.count() == 2
