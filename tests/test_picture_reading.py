"""Picture files, PIL pictures and arrays become the frames that a viewer sees, whatever the format."""

import io
import itertools
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import Pipe, write_clip
from PIL import Image, ImageOps
from transformers.utils.logging import warning_once

from lmmvqa.processing import VideoDecodingError
from lmmvqa.processing.frame_scaler_lmmvqa import FrameScaler
from lmmvqa.processing.picture_reading_lmmvqa import MAX_ASPECT_RATIO, read_pictures
from lmmvqa.processing.reading_limits_lmmvqa import ReadingLimits
from lmmvqa.processing.video_reading_lmmvqa import read_frames


FAULTS = Path(__file__).parents[2] / "shared/faults"


def shown(source):
    """(frames, height, width, 3) of a source as it is shown, by whichever library."""
    return np.stack(read_frames(source, lambda frames: [FrameScaler(None)(frame) for _, _, frame in frames]))


def facts_of(source):
    def walk(frames):
        times = [(round(time, 3), round(duration, 3)) for time, duration, _ in frames]
        return frames.facts, times

    return read_frames(source, walk)


def in_memory(path):
    return io.BytesIO(Path(path).read_bytes())


def assert_close(picture, expected, most=3):
    expected = np.asarray(expected.convert("RGB")) if isinstance(expected, Image.Image) else expected
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).mean() < most


def gradient(width=48, height=32):
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, 128 + 0 * x], -1).astype(np.uint8))


def box(kind, *parts, version=None, flags=0):
    start = b"" if version is None else struct.pack(">I", version << 24 | flags)
    body = start + b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def write_tiled(path, tiles, columns, brand, encoder, quarters=0):
    """Tiles of 64 x 64 pixels in rows, each coded alone: a HEIF picture of kind `grid` (ISO/IEC 23008-12).

    It is to be turned by `quarters` of a circle, counter-clockwise.
    """
    samples = []
    for tile in tiles:  # an MP4 file of one frame holds the decoder's configuration and the coded tile
        memory = io.BytesIO()
        with av.open(memory, "w", format="mp4") as container:
            # Of a single frame x265 gives no decoding time, or any, unless B-frames are off
            options = {"x265-params": "log-level=none:bframes=0", "preset": "8"}
            stream = container.add_stream(encoder, rate=1, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            frame = av.VideoFrame.from_image(tile)
            frame.pts = 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        data = memory.getvalue()
        kind, configuration = {"libx265": (b"hvc1", b"hvcC"), "libsvtav1": (b"av01", b"av1C")}[encoder]
        part = {}
        for name in (configuration, b"mdat"):
            start = data.index(name) - 4
            part[name] = data[start : start + int.from_bytes(data[start : start + 4])]
        samples.append(part[b"mdat"][8:])
    count, rows = len(tiles), len(tiles) // columns
    width, height = 64 * columns, 64 * rows
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    items = [*((number, kind) for number in range(1, count + 1)), (count + 1, b"grid")]
    entries = [box(b"infe", struct.pack(">HH", number, 0), name, b"\0", version=2) for number, name in items]
    properties = box(
        b"ipco",
        part[configuration],
        box(b"ispe", struct.pack(">II", 64, 64), version=0),
        box(b"ispe", struct.pack(">II", width, height), version=0),
        box(b"irot", bytes([quarters])),
    )
    links = [struct.pack(">HBBB", number, 2, 0x81, 0x82) for number in range(1, count + 1)]
    links.append(struct.pack(">HBBB", count + 1, 2, 0x83, 0x84))

    def meta(start):
        offsets = itertools.accumulate(map(len, samples[:-1]), initial=start)
        places = [
            struct.pack(">HHHHII", number, 0, 0, 1, offset, len(sample))
            for number, offset, sample in zip(range(1, count + 1), offsets, samples, strict=True)
        ]
        places.append(struct.pack(">HHHHII", count + 1, 1, 0, 1, 0, len(grid)))
        return box(
            b"meta",
            box(b"hdlr", bytes(4), b"pict", bytes(13), version=0),
            box(b"pitm", struct.pack(">H", count + 1), version=0),
            box(b"iloc", struct.pack(">BBH", 0x44, 0, count + 1), *places, version=1),
            box(b"iinf", struct.pack(">H", count + 1), *entries, version=0),
            box(b"iprp", properties, box(b"ipma", struct.pack(">I", count + 1), *links, version=0)),
            box(b"idat", grid),
            box(b"iref", box(b"dimg", struct.pack(f">HH{count}H", count + 1, count, *range(1, count + 1))), version=0),
            version=0,
        )

    start = box(b"ftyp", brand, bytes(4), b"mif1miaf", b"avif" if encoder == "libsvtav1" else b"heic")
    length = len(start) + len(meta(0)) + 8
    Path(path).write_bytes(start + meta(length) + box(b"mdat", *samples))
    return str(path)


@pytest.mark.parametrize(
    "name, options, tolerance",
    [
        ("x.png", {}, 0.1),
        ("x.bmp", {}, 0.1),
        ("x.tiff", {"compression": "tiff_lzw"}, 0.1),
        ("x.gif", {}, 8),
        ("x.jpg", {"quality": 100, "subsampling": 0}, 2),
        ("x.webp", {"lossless": True}, 0.1),
        ("x.avif", {"quality": 100, "subsampling": "4:4:4"}, 2),
        ("picture.mp4", {"format": "PNG"}, 0.1),  # contents count, names do not
    ],
)
def test_a_picture_file_is_one_frame_in_every_format(tmp_path, name, options, tolerance):
    picture = gradient()
    picture.save(tmp_path / name, **options)
    for source in (tmp_path / name, in_memory(tmp_path / name), Image.open(tmp_path / name)):
        (frame,) = shown(source)
        assert_close(frame, picture, tolerance)
        facts, times = facts_of(source)
        assert (facts.width, facts.height, facts.frames, facts.fps, facts.hdr) == (48, 32, 1, None, None)
        assert times == [(0, 0.04)]


def test_files_of_the_caller_stay_open_and_files_opened_here_do_not(tmp_path):
    gradient().save(tmp_path / "x.png")
    with open(tmp_path / "x.png", "rb") as file:
        shown(file)
        file.seek(0, io.SEEK_END)
        shown(file)  # from its beginning
        assert not file.closed
    image, again = Image.open(tmp_path / "x.png"), Image.open(tmp_path / "x.png")
    assert np.array_equal(shown(image), shown(again))


def test_ffmpeg_reads_videos_plain_jpeg_and_still_webp(tmp_path):
    gradient().save(tmp_path / "x.jpg")
    gradient().save(tmp_path / "x.webp")
    clip = write_clip(tmp_path / "clip.mkv", num_frames=3)
    for path in (tmp_path / "x.jpg", tmp_path / "x.webp", clip):
        assert read_pictures(path) is None
        assert read_pictures(in_memory(path)) is None
    assert read_pictures(tmp_path / "missing.png") is None  # whose error is FFmpeg's too
    Path(clip).rename(tmp_path / "clip.png")
    assert len(shown(tmp_path / "clip.png")) == 3


def test_motion_jpeg_is_no_picture(tmp_path):
    memory = io.BytesIO()
    gradient().save(memory, "JPEG")
    (tmp_path / "three.mjpeg").write_bytes(memory.getvalue() * 3)
    assert len(shown(tmp_path / "three.mjpeg")) == 3


def test_further_views_in_a_jpeg_are_no_frames(tmp_path):
    views = [gradient(), Image.new("RGB", (24, 16))]
    views[0].save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=views[1:], quality=95)
    for source in (tmp_path / "x.jpg", in_memory(tmp_path / "x.jpg")):
        (frame,) = shown(source)
        assert_close(frame, gradient())


def test_of_several_pages_the_first_is_read_with_a_warning(tmp_path, caplog):
    warning_once.cache_clear()
    gradient().save(tmp_path / "x.tiff", save_all=True, append_images=[Image.new("RGB", (48, 32))] * 2)
    (frame,) = shown(tmp_path / "x.tiff")
    assert_close(frame, gradient(), 0.1)
    assert f"{tmp_path}/x.tiff: of several pictures in a TIFF file" in caplog.text


COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200), (90, 90, 90)]


@pytest.mark.parametrize("quarters", [0, 1])
@pytest.mark.parametrize(
    "name, brand, encoder",
    [
        ("x.avif", b"avif", "libsvtav1"),
        ("generic.avif", b"mif1", "libsvtav1"),
        ("x.heic", b"heic", "libx265"),
        ("generic.heic", b"mif1", "libx265"),
    ],
)
def test_tiles_are_put_together(tmp_path, name, brand, encoder, quarters):
    if encoder == "libx265":
        pytest.importorskip("pi_heif")
    tiles = [Image.new("RGB", (64, 64), colour) for colour in COLOURS]
    path = write_tiled(tmp_path / name, tiles, 3, brand, encoder, quarters)
    expected = np.rot90(np.array(COLOURS, np.uint8).reshape(2, 3, 3), quarters).repeat(64, 0).repeat(64, 1)
    for source in (path, in_memory(path)):
        (frame,) = shown(source)
        assert_close(frame, expected, 4)
    data = Path(path).read_bytes()
    with pytest.raises(VideoDecodingError, match="Could not read .*; expected a whole picture that Pillow can open"):
        shown(io.BytesIO(data[:100]))
    for share in (0.2, 0.5, 0.95):  # never one tile for the whole
        with pytest.raises(VideoDecodingError, match="Could not read"):
            shown(io.BytesIO(data[: int(len(data) * share)]))


def test_tiles_from_a_pipe_are_refused_with_the_way_out(tmp_path):
    tiles = [Image.new("RGB", (64, 64), colour) for colour in COLOURS]
    for name, brand, encoder in (("x.avif", b"avif", "libsvtav1"), ("x.heic", b"heic", "libx265")):
        data = Path(write_tiled(tmp_path / name, tiles, 3, brand, encoder)).read_bytes()
        with pytest.raises(VideoDecodingError, match="it comes through a pipe, .*: save it to a file first"):
            shown(Pipe(data))
    gradient().save(tmp_path / "x.png")
    (frame,) = shown(Pipe((tmp_path / "x.png").read_bytes()))  # FFmpeg reads what it can
    assert_close(frame, gradient(), 0.1)


def test_heic_without_its_library_is_refused(tmp_path, monkeypatch):
    path = write_tiled(tmp_path / "x.heic", [Image.new("RGB", (64, 64))] * 2, 2, b"heic", "libx265")
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(VideoDecodingError, match=r"x\.heic: HEIC pictures need pi-heif; pip install pi-heif"):
        shown(path)


def write_animation(path, durations, **options):
    levels = [Image.new("RGB", (64, 64), (20 + 30 * index,) * 3) for index in range(len(durations))]
    levels[0].save(path, save_all=True, append_images=levels[1:], duration=durations, **options)
    return path


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png", "x.avif"])
def test_animations_have_the_times_that_they_name(tmp_path, name):
    path = write_animation(tmp_path / name, [100, 400, 200, 1000, 300])
    for source in (path, in_memory(path), Image.open(path)):
        facts, times = facts_of(source)
        assert times == [(0, 0.1), (0.1, 0.4), (0.5, 0.2), (0.7, 1.0), (1.7, 0.3)]
        assert (facts.frames, facts.duration) == (5, pytest.approx(2.0))
        assert shown(source).mean((1, 2, 3)) == pytest.approx([20, 50, 80, 110, 140], abs=2)


@pytest.mark.parametrize(
    "limits", [{"max_seconds": 1}, {"max_fps": 2}, {"max_wall_seconds": 0}, {"max_pixels": 64 * 64 - 1}]
)
def test_animations_keep_to_the_limits_of_videos(tmp_path, limits):
    path = write_animation(tmp_path / "x.webp", [100, 400, 200, 1000, 300])
    with pytest.raises(VideoDecodingError, match=rf"x\.webp: .* raise {next(iter(limits))}"):
        read_frames(path, list, limits=ReadingLimits(**limits))


def test_frames_that_are_shown_no_time_are_shown_a_tenth_of_a_second(tmp_path):
    for name in ("x.gif", "x.webp"):
        assert facts_of(write_animation(tmp_path / name, [0, 10, 20]))[1] == [(0, 0.1), (0.1, 0.1), (0.2, 0.02)]


def test_the_picture_for_programs_without_animation_is_not_shown(tmp_path):
    path = write_animation(tmp_path / "x.png", [100, 100, 100], default_image=True)
    assert shown(path).mean((1, 2, 3)) == pytest.approx([50, 80], abs=1)
    assert facts_of(path)[1] == [(0, 0.1), (0.1, 0.1)]


def test_an_open_animation_stays_where_it_was(tmp_path):
    image = Image.open(write_animation(tmp_path / "x.gif", [100, 100, 100]))
    image.seek(2)
    assert len(shown(image)) == 3
    assert image.tell() == 2
    assert shown([image, image]).mean((1, 2, 3)) == pytest.approx([80, 80], abs=2)  # in a list it is one picture


def test_a_cut_animation_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    pictures = [Image.fromarray(picture) for picture in noise]
    pictures[0].save(tmp_path / "x.webp", save_all=True, append_images=pictures[1:], duration=100)
    data = (tmp_path / "x.webp").read_bytes()
    with pytest.raises(VideoDecodingError, match="Could not read the given BytesIO"):
        shown(io.BytesIO(data[: len(data) // 2]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.tiff", "x.avif"])
def test_pictures_stand_as_their_exif_data_say(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient().save(tmp_path / name, exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / name))
    for source in (tmp_path / name, in_memory(tmp_path / name), Image.open(tmp_path / name)):
        (frame,) = shown(source)
        assert_close(frame, upright)
        facts, _ = facts_of(source)
        assert (facts.width, facts.height) == upright.size


def test_broken_exif_data_cost_nothing(tmp_path):
    for name in ("x.jpg", "x.png"):
        gradient().save(tmp_path / name, exif=b"Exif\0\0no TIFF header at all", quality=95)
        for source in (tmp_path / name, Image.open(tmp_path / name)):
            (frame,) = shown(source)
            assert_close(frame, gradient())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_shows_the_same_picture(mode):
    grey = gradient().convert("L").convert("RGB")
    of_grey = {"1", "L", "LA", "PA"}
    picture = {
        "1": lambda: grey.convert("1"),
        "PA": lambda: grey.convert("L").convert("PA"),
        "LAB": lambda: _to_lab(grey),
        "P": lambda: gradient().quantize(256),
    }.get(mode, lambda: (grey if mode in of_grey else gradient()).convert(mode))()
    expected = grey if mode in of_grey | {"LAB"} else gradient()
    (frame,) = shown(picture)
    if mode == "1":
        assert set(np.unique(frame)) == {0, 255}
        assert frame.mean() == pytest.approx(np.asarray(expected).mean(), abs=5)
    else:
        assert_close(frame, expected, 4)


def _to_lab(picture):
    from PIL import ImageCms

    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_grey_is_not_white(tmp_path, mode):
    ramp = np.linspace(0, 65_535, 64 * 48).reshape(48, 64)
    image = Image.fromarray(ramp.astype(np.uint16))
    if mode == "I":
        image = Image.fromarray(ramp.astype(np.int32))
    elif mode == "I;16B":
        image = Image.frombytes("I;16B", image.size, ramp.astype(">u2").tobytes())
    assert image.mode == mode
    (frame,) = shown(image)
    assert_close(frame, np.repeat((ramp / 257)[..., None], 3, -1), 1)
    if mode == "I;16":
        image.save(tmp_path / "x.png")
        assert np.array_equal(shown(tmp_path / "x.png")[0], frame)


def test_pictures_whose_white_is_not_known_are_refused():
    for image in (
        Image.fromarray(np.zeros((8, 8), np.float32)),
        Image.fromarray(np.full((8, 8), 70_000, np.int32)),
        Image.fromarray(np.full((8, 8), -1, np.int32)),
    ):
        with pytest.raises(VideoDecodingError, match=f"Could not read the given Image: its mode is {image.mode} "):
            shown(image)


def test_what_is_transparent_is_black_whatever_it_hides(tmp_path):
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 48).astype(np.uint8), (32, 1)))
    pictures = []
    for hidden in ("white", "black"):
        picture = Image.composite(gradient(), Image.new("RGB", (48, 32), hidden), alpha.point(lambda a: 255 * (a > 0)))
        picture.putalpha(alpha)
        pictures.append(picture)
    expected = np.asarray(gradient()) * (np.asarray(alpha)[..., None] / 255)
    for picture in pictures:
        for name, options in (("x.png", {}), ("x.webp", {"lossless": True, "exact": True}), ("x.tiff", {})):
            picture.save(tmp_path / name, **options)
            (frame,) = shown(tmp_path / name)
            assert_close(frame, expected, 1)
        for source in (picture, [picture], np.asarray(picture)):
            (frame,) = shown(source)
            assert_close(frame, expected, 1)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 255, 255])
    palette.save(tmp_path / "x.gif", transparency=0)
    palette.info["transparency"] = 0
    assert shown(palette).max() == shown(tmp_path / "x.gif").max() == 0
    opaque = gradient().convert("RGBA")
    assert np.array_equal(
        FrameScaler(20)(next(read_pictures(opaque))[2]), FrameScaler(20)(next(read_pictures(gradient()))[2])
    )


def test_hdr_pictures_are_known_as_such(tmp_path):
    with av.open(str(tmp_path / "x.avif"), "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=1, options={"preset": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 16, 9, 1
        grey = np.full((64, 64, 3), round(255 * 0.5081), np.uint8)  # 100 nits
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="yuv420p10le")))
        container.mux(stream.encode(None))
    for source in (tmp_path / "x.avif", in_memory(tmp_path / "x.avif")):
        assert facts_of(source)[0].hdr == "pq"
        assert shown(source).mean() == pytest.approx(189, abs=4)


@pytest.mark.parametrize("size", [(10_800, 1), (1, 10_800), (30_000, 1), (MAX_ASPECT_RATIO + 1, 1)])
def test_strips_are_refused_at_once(tmp_path, size):
    strip = Image.new("RGB", size)
    for suffix in ("png", "jpg"):
        strip.save(tmp_path / f"strip.{suffix}")
        with pytest.raises(
            VideoDecodingError, match=rf"strip\.{suffix}: its frames have {size[0]} x {size[1]} pixels"
        ):
            shown(tmp_path / f"strip.{suffix}")
    for source in (strip, [strip], np.asarray(strip)):
        with pytest.raises(VideoDecodingError, match="expected one side at most 100 times the other"):
            shown(source)


def test_an_array_has_no_other_frame_rate_than_the_given_one(caplog):
    warning_once.cache_clear()
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    assert [time for time, _, _ in read_pictures(frames, fps=2)] == [0, 0.5, 1]
    list(read_pictures(frames[:1]))
    assert "frame rate" not in caplog.text
    list(read_pictures(frames))
    assert "30 per second is assumed" in caplog.text


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, width, height, *chunks, rows=b""):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = [*chunks, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + header + b"".join(body))


def compressed_zeros(megabytes):
    compressor = zlib.compressobj(1)
    block = bytes(1 << 20)
    return b"".join(compressor.compress(block) for _ in range(megabytes)) + compressor.flush()


BOMB_READER = """
import resource, sys
from lmmvqa.processing.picture_reading_lmmvqa import read_pictures
from lmmvqa.processing import VideoDecodingError
used = 4096 * int(open("/proc/self/statm").read().split()[0])
limit = used + (128 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[1:]:
    try:
        print(len(list(read_pictures(path) or ())))
    except VideoDecodingError as error:
        print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured and limited as in Linux")
def test_a_jpeg_that_was_cut_is_refused(tmp_path):
    gradient(320, 240).save(tmp_path / "whole.jpg", quality=95)
    data = (tmp_path / "whole.jpg").read_bytes()
    assert len(shown(tmp_path / "whole.jpg")) == 1
    for share in (0.3, 0.6, 0.9):
        (tmp_path / "cut.jpg").write_bytes(data[: int(share * len(data))])
        for source in (tmp_path / "cut.jpg", io.BytesIO(data[: int(share * len(data))])):
            with pytest.raises(VideoDecodingError, match="truncated"):
                shown(source)


def test_bombs_are_refused_within_little_memory(tmp_path):
    zeros = compressed_zeros(256)
    write_png(tmp_path / "size.png", 32_767, 32_767)
    write_png(tmp_path / "zTXt.png", 1, 1, *[png_chunk(b"zTXt", b"note\0\0" + zeros)] * 2, rows=bytes(4))
    write_png(tmp_path / "iTXt.png", 1, 1, png_chunk(b"iTXt", b"note\0\1\0\0\0" + zeros), rows=bytes(4))
    write_png(tmp_path / "iCCP.png", 1, 1, png_chunk(b"iCCP", b"note\0\0" + zeros), rows=bytes(4))
    gradient().save(tmp_path / "size.jpg")
    data = bytearray((tmp_path / "size.jpg").read_bytes())
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", 65_000, 65_000)
    (tmp_path / "size.jpg").write_bytes(data)
    gradient().save(tmp_path / "size.gif")
    data = bytearray((tmp_path / "size.gif").read_bytes())
    data[6:10] = struct.pack("<HH", 65_535, 65_535)
    (tmp_path / "size.gif").write_bytes(data)
    names = ["size.png", "zTXt.png", "iTXt.png", "iCCP.png", "size.jpg", "size.gif"]
    (tmp_path / "read.py").write_text(BOMB_READER)
    command = [sys.executable, tmp_path / "read.py", *[tmp_path / name for name in names]]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for name, line in zip(names, run.stdout.splitlines(), strict=True):
        reason = "expected at most 200,000,000" if name.startswith("size") else "MAX_TEXT_CHUNK"
        assert line.startswith(f"Could not read {tmp_path / name}: ")
        assert reason in line


@pytest.mark.skipif(not FAULTS.is_dir(), reason="../shared/faults is not here")
def test_pictures_that_went_wrong():
    (tiled,) = shown(FAULTS / "grid_1x5.avif")
    assert_close(tiled, Image.open(FAULTS / "grid_1x5.avif"))
    assert len(shown(FAULTS / "animated_8_frames.webp")) == 8
    (upright,) = shown(FAULTS / "exif_orientation2.jpg")
    assert_close(upright, ImageOps.exif_transpose(Image.open(FAULTS / "exif_orientation2.jpg")))
    assert np.array_equal(shown(FAULTS / "gray16.png"), shown(Image.open(FAULTS / "gray16.png")))
    assert shown(FAULTS / "gray16.png").mean() < 200
    for name in ("strip_60000x1.png", "hdr_16kshort.png"):
        with pytest.raises(VideoDecodingError, match=name):
            shown(FAULTS / name)
