"""What a decoded frame looks like once it is a square of RGB: colours, range, HDR, orientation, transparency, shape."""

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils.logging import warning_once

from lmmvqa.evaluation.key_frames import key_frames
from lmmvqa.processing.frame_scaler_lmmvqa import FrameScaler
from lmmvqa.processing.video_decoding_lmmvqa import FrameSettings, decode_video
from lmmvqa.processing.video_reading_lmmvqa import read_frames


FAULTS = Path(__file__).parents[2] / "shared/faults"


def first(source, size):
    """The first frame of a source as a square, in integers that subtract, and what was seen of the source."""

    def scale(frames):
        scaler = FrameScaler(size)
        pictures = [scaler(frame) for _, _, frame in frames]
        return pictures[0].astype(int), frames.facts

    return read_frames(source, scale)


EXIF_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# a, b, c, d of the display matrix: pixel (x, y) is shown at (ax + cy, bx + dy), as EXIF 1 to 8
DISPLAY_MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # of red and blue
BT709_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
BT2020_TO_XYZ = np.array([[0.6370, 0.1446, 0.1689], [0.2627, 0.6780, 0.0593], [0.0, 0.0281, 1.0610]])


def yuv_frame(rgb, matrix=1, bits=8, full_range=False, **properties):
    """A frame of 64 x 48 pixels of one colour, R'G'B' from 0 to 1, stored with a matrix of ITU-T H.273."""
    red, blue = LUMA[matrix]
    luma = np.dot(rgb, (red, 1 - red - blue, blue))
    values = luma, (rgb[2] - luma) / 2 / (1 - blue), (rgb[0] - luma) / 2 / (1 - red)
    unit = 1 << (bits - 8)
    if full_range:
        codes = [values[0] * (256 * unit - 1), *(128 * unit + value * (256 * unit - 1) for value in values[1:])]
    else:
        codes = [16 * unit + 219 * unit * values[0], *(128 * unit + 224 * unit * value for value in values[1:])]
    frame = av.VideoFrame(64, 48, "yuv444p" if bits == 8 else f"yuv444p{bits}le")
    for plane, code in zip(frame.planes, codes, strict=True):
        plane.update(np.full(plane.buffer_size // (1 if bits == 8 else 2), round(code), f"<u{1 if bits == 8 else 2}"))
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
    for name, value in properties.items():
        setattr(frame, name, value)
    return frame


def colour(frame, scaler=None):
    """The one colour of a scaled frame."""
    picture = (scaler or FrameScaler(16))(frame)
    assert picture.shape[:2] == (16, 16) and picture.dtype == np.uint8
    assert np.ptp(picture.astype(int), axis=(0, 1)).max() <= 1
    return picture[8, 8].astype(int)


def pq(nits):
    """SMPTE ST 2084, the inverse EOTF."""
    power = (np.asarray(nits) / 10_000) ** (2610 / 16_384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(scene):
    """ITU-R BT.2100, the OETF."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(12 * np.maximum(scene, 1 / 12) - b) + c)


def on_a_display(nits, white=203):
    """What shows so many nits on a display of standard range (ITU-R BT.1886)."""
    return 255 * np.clip(np.asarray(nits) / white, 0, 1) ** (1 / 2.4)


def hdr_frame(signal, transfer):
    code = {"pq": 16, "hlg": 18}[transfer]
    return yuv_frame(np.broadcast_to(signal, 3), 9, 10, color_trc=code, color_primaries=9)


@pytest.mark.parametrize("nits", [0, 0.1, 1, 5, 20, 50, 90])
def test_pq_up_to_the_knee_is_what_an_sdr_display_shows(nits):
    assert colour(hdr_frame(pq(nits), "pq")) == pytest.approx(on_a_display(nits), abs=1.5)


# Nits to nits: the curve of ITU-R BT.2390-8, 5.4.1, from 1000 to 203 nits, worked out by hand
@pytest.mark.parametrize("nits, shown", [(100, 99.6), (203, 158.9), (400, 191.4), (1_000, 203), (4_000, 203)])
def test_pq_above_the_knee_is_rolled_off_to_white(nits, shown):
    assert colour(hdr_frame(pq(nits), "pq")) == pytest.approx(on_a_display(shown), abs=2)


# ITU-R BT.2408, table 1: reference levels of HLG on a display of 1000 nits
@pytest.mark.parametrize("signal, nits", [(0, 0), (0.38, 26), (0.71, 162), (0.73, 179), (0.75, 203), (1, 1_000)])
def test_hlg_shows_the_nits_of_its_reference_levels(signal, nits):
    assert colour(hdr_frame(signal, "hlg")) == pytest.approx(colour(hdr_frame(pq(nits), "pq")), abs=3)


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
@pytest.mark.parametrize("light", [(0.4, 0.05, 0.02), (0.05, 0.3, 0.05), (0.02, 0.05, 0.4), (0.3, 0.25, 0.2)])
def test_hdr_colours_become_those_of_bt709(transfer, light):
    light = np.array(light)  # BT.709's primaries, 1 is the white of 203 nits
    wide = np.linalg.solve(BT2020_TO_XYZ, BT709_TO_XYZ @ light) * 203
    if transfer == "pq":
        signal = pq(wide)
    else:  # the display's system gamma undone
        luma = wide @ BT2020_TO_XYZ[1] / 1_000
        signal = hlg(wide / 1_000 * luma ** (1 / 1.2 - 1))
    frame = hdr_frame(signal, transfer)
    assert colour(frame) == pytest.approx(on_a_display(light * 203), abs=4)


def test_hdr_in_mosaics_and_at_the_frames_own_size():
    frame = hdr_frame(pq(50), "pq")
    for scaler in (FrameScaler(16, fragments=4), FrameScaler(None)):
        picture = scaler(frame)
        assert picture.reshape(-1, 3).astype(int) == pytest.approx(np.full((picture[..., 0].size, 3), 142), abs=2)
    assert FrameScaler(None)(frame).shape == (48, 64, 3)


@pytest.mark.parametrize("matrix", LUMA)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_matrix_and_range_are_those_of_the_frame(matrix, full_range, bits):
    frame = yuv_frame((0.8, 0.3, 0.1), matrix, bits, full_range)
    assert colour(frame) == pytest.approx([204, 76.5, 25.5], abs=2)


def test_colour_properties_may_change_midway():
    scaler, rgb = FrameScaler(16), (0.2, 0.6, 0.3)
    frames = [yuv_frame(rgb, matrix, 8, full) for matrix in (1, 9, 5, 1) for full in (False, True)]
    for frame in frames:
        assert colour(frame, scaler) == pytest.approx([51, 153, 76.5], abs=2)
    assert colour(hdr_frame(pq(50), "pq"), scaler) == pytest.approx(on_a_display(50), abs=2)
    same_layout = yuv_frame((0.5,) * 3, 9, 10)
    assert colour(same_layout, scaler) == pytest.approx(127.5, abs=2)
    assert colour(hdr_frame(pq(50), "pq"), scaler) == pytest.approx(on_a_display(50), abs=2)


@pytest.mark.parametrize("matrix", [0, 3, 8, *range(10, 24), 255])
def test_unknown_matrices_are_read_as_if_none_was_named(matrix, caplog):
    warning_once.cache_clear()
    expected = colour(yuv_frame((0.8, 0.3, 0.1), colorspace=2))
    frame = yuv_frame((0.8, 0.3, 0.1), colorspace=matrix)
    assert colour(frame) == pytest.approx(expected, abs=0)
    assert caplog.text.count(f"matrix {matrix} of ITU-T H.273") == 1


@pytest.mark.parametrize("name", ["color_primaries", "color_trc", "color_range"])
def test_other_properties_never_refuse_a_frame(name, caplog):
    warning_once.cache_clear()
    expected = colour(yuv_frame((0.8, 0.3, 0.1)))
    for code in {*range(25), 255} - ({16, 18} if name == "color_trc" else {2} if name == "color_range" else set()):
        assert colour(yuv_frame((0.8, 0.3, 0.1), **{name: code})) == pytest.approx(expected, abs=0), code
    assert not caplog.text


@pytest.mark.parametrize("pixel_format", ["rgb24", "gbrp", "gray", "gray16le"])
def test_rgb_and_grey_have_no_matrix_to_warn_of(pixel_format, caplog):
    warning_once.cache_clear()
    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24").reformat(
        format=pixel_format
    )
    frame.pts, frame.time_base, frame.colorspace = 0, Fraction(1, 25), 0
    assert colour(frame) == pytest.approx(90, abs=1)
    assert not caplog.text


def corners():
    """A picture that looks different in each of the eight ways."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32] = (200, 40, 40), (40, 200, 40), (40, 40, 200)
    return Image.fromarray(picture)


def write_oriented(path, orientation):
    """An MP4 file of one frame with a display matrix, as phones and editors write it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        container.mux(stream.encode(av.VideoFrame.from_image(corners())))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in DISPLAY_MATRICES[orientation])
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("orientation", DISPLAY_MATRICES)
def test_videos_are_turned_and_mirrored_as_their_display_matrix_says(tmp_path, orientation, suffix):
    write_oriented(tmp_path / f"x.{suffix}", orientation)
    upright = corners().transpose(EXIF_METHODS[orientation]) if orientation > 1 else corners()
    picture, facts = first(tmp_path / f"x.{suffix}", 32)
    assert np.abs(picture - first(upright, 32)[0]).mean() < 4
    assert (facts.width, facts.height) == upright.size


def test_key_frames_of_baselines_stand_upright(tmp_path):
    write_oriented(tmp_path / "x.mp4", 5)
    (picture,) = key_frames(str(tmp_path / "x.mp4"))
    assert np.abs(picture.astype(int) - np.asarray(corners().transpose(EXIF_METHODS[5]))).mean() < 4


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_rotation_holds_where_pyav_lists_no_side_data(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners().save(tmp_path / "x.jpg", exif=exif, quality=100)
    with av.open(str(tmp_path / "x.jpg")) as container:
        picture = FrameScaler(32)(next(container.decode(video=0)))
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "x.jpg"))
    assert np.abs(picture - first(upright, 32)[0]).mean() < 4


@pytest.mark.parametrize("pixel_format", ["rgba", "yuva444p", "yuva420p", "gbrap", "ya8", "yuva444p10le", "rgba64le"])
def test_what_is_transparent_is_black_whatever_it_hides(pixel_format):
    alpha = np.repeat([0, 0, 85, 170, 255, 255, 255, 255], 8)[None].repeat(48, 0)
    for hidden in (0, 255):
        pixels = np.full((48, 64, 4), 120, np.uint8)
        pixels[alpha == 0] = hidden
        pixels[..., 3] = alpha
        frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
        frame = frame.reformat(format=pixel_format)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        picture = FrameScaler(None)(frame)
        assert picture[:, 1::8].astype(int) == pytest.approx(
            np.broadcast_to([[[0], [0], [40], [80], [120], [120], [120], [120]]], (48, 8, 3)), abs=3
        )
        assert FrameScaler(32)(frame)[:, :6].max() <= 3


def test_enlargement_is_bounded():
    frame = av.VideoFrame(5_000, 1, "gray")
    frame.planes[0].update(bytes([90]) * frame.planes[0].buffer_size)
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    tracemalloc.start()
    picture = FrameScaler(64, fragments=4)(frame)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (picture == 90).all()
    assert most < 10 * 5_000 * 64 * 3  # not 5,000 times 64 pixels long


@pytest.mark.skipif(not FAULTS.is_dir(), reason="../shared/faults is not here")
def test_colours_that_went_wrong():
    (hdr, of_hdr), (sdr, of_sdr) = (first(FAULTS / name, 96) for name in ("hdr10_pq.mp4", "hdr10_pq_as_sdr.mp4"))
    assert (of_hdr.hdr, of_sdr.hdr) == ("pq", None)
    assert np.abs(hdr - sdr).mean() < 5
    for name in ("matrix_bt2020c.mp4", "matrix_rgb_tagged.m2v"):
        assert first(FAULTS / name, 96)[1].frames > 20


# a whole frame in a square


def smooth_picture(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", [(96, 64), (64, 97), (75, 101), (40, 40), (24, 20)])
def test_crop_is_clips_own_preprocessing(size):
    picture = smooth_picture(*size)
    clip = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size=32, do_rescale=False, do_normalize=False, return_tensors="np"
    )
    expected = clip(Image.fromarray(picture))["pixel_values"][0].transpose(1, 2, 0)
    (got,) = decode_video(picture, FrameSettings(32, 8, 4, key_frame_resize="crop")).key_frames
    assert np.abs(got.astype(int) - expected).max() <= 3
    (squeezed,) = decode_video(picture, FrameSettings(32, 8, 4)).key_frames
    assert np.array_equal(got, squeezed) == (size[0] == size[1])


@pytest.mark.parametrize("size", [(4, 400), (400, 4), (1, 100)])
def test_crop_of_very_long_frames(size):
    (picture,) = decode_video(smooth_picture(*size), FrameSettings(32, 8, 4, key_frame_resize="crop")).key_frames
    assert picture.shape == (32, 32, 3)


def test_crop_leaves_mosaics_and_chunks_as_they_are():
    picture = smooth_picture(96, 160)
    settings = {"key_frame_fragments": [1, 2]}
    squeezed = decode_video(picture, FrameSettings(32, 8, 4, **settings))
    cropped = decode_video(picture, FrameSettings(32, 8, 4, **settings, key_frame_resize="crop"))
    assert not np.array_equal(cropped.key_frames[0], squeezed.key_frames[0])
    assert np.array_equal(cropped.key_frames[1], squeezed.key_frames[1])
    assert np.array_equal(cropped.clips, squeezed.clips)
    with pytest.raises(ValueError, match="got key_frame_resize='fit', expected 'squeeze' or 'crop'"):
        FrameSettings(32, 8, 4, key_frame_resize="fit")
