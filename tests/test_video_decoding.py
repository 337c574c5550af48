"""Which frames become key frames and chunks, and what is read at all. Frames are told apart by their brightness."""

import gc
import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import write_clip
from PIL import Image

from lmmvqa.modeling_lmmvqa import LmmVqaVideoProcessor
from lmmvqa.processing import FrameSettings, VideoDecodingError, decode_video
from lmmvqa.processing.video_decoding_lmmvqa import decode_portions


def decode(source, chunk_frames=8, fps=None, **settings):
    settings = FrameSettings(key_frame_size=16, chunk_size=8, chunk_frames=chunk_frames, **settings)
    return decode_video(source, settings, fps)


def numbered_pictures(num_frames, size=(32, 24)):
    """(frames, height, width, 3); frame n is grey of brightness n."""
    width, height = size
    return np.full((num_frames, height, width, 3), np.arange(num_frames)[:, None, None, None], dtype=np.uint8)


def write_numbered_clip(path, times):
    """A lossless clip of `numbered_pictures` with these time stamps in seconds; its header names the last frame rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=round(1 / (times[-1] - times[-2])))
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        stream.codec_context.time_base = Fraction(1, 12_000)
        for time, picture in zip(times, numbered_pictures(len(times)), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 12_000), Fraction(1, 12_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def even_times(num_frames, fps):
    return [index / fps for index in range(num_frames)]


def frame_numbers(pictures):
    """(..., height, width, 3) pictures of `numbered_pictures` to their numbers."""
    assert (pictures == pictures[..., :1, :1, :1]).all()
    return pictures[..., 0, 0, 0].tolist()


def own_frames(video):
    """The numbers of the frames of each chunk, clip by clip, without the repetitions that fill clips up."""
    clips = iter(
        numbers[:count] for numbers, count in zip(frame_numbers(video.clips), video.num_frames.tolist(), strict=True)
    )
    return [[next(clips) for _ in range(count)] for count in video.num_clips.tolist()]


WHOLE_SECONDS = [
    (even_times(30, 30), [0]),
    (even_times(60, 30), [0, 30]),
    (even_times(90, 30), [0, 30, 60]),
    (even_times(12, 4), [0, 4, 8]),
    (even_times(240, 120), [0, 120]),
    (even_times(9, 30), [0]),  # too short for a second, but all there is
    (even_times(30, 30) + [1 + t for t in even_times(10, 10)], [0, 30]),  # variable frame rate
    (even_times(10, 10) + [3 + t for t in even_times(10, 10)], [0, 10]),  # no frame starts in seconds 1 and 2
    ([5 + t for t in even_times(60, 30)], [0, 30]),  # time stamps that do not start at zero
]


@pytest.mark.parametrize("chunk_sampling", ["second", "first_frames"])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("times, key_frames", WHOLE_SECONDS)
def test_each_second_has_a_chunk_that_starts_with_its_key_frame(tmp_path, times, key_frames, keep, chunk_sampling):
    path = write_numbered_clip(tmp_path / "clip.mkv", times)
    video = decode(path, keep_incomplete_second=keep, chunk_sampling=chunk_sampling)
    assert frame_numbers(video.key_frames) == key_frames
    assert [clips[0][0] for clips in own_frames(video)] == key_frames
    assert video.facts.frames == len(times)
    assert video.facts.duration == pytest.approx(times[-1] - times[0] + times[-1] - times[-2], abs=0.1)


@pytest.mark.parametrize(
    "num_frames, key_frames, in_last_chunk",
    [
        (89, [0, 30, 60], range(60, 89)),
        (75, [0, 30, 60], range(60, 75)),  # half a second is a chunk
        (74, [0, 30], range(30, 74)),  # less joins the chunk before
        (61, [0, 30], range(30, 61)),
    ],
)
def test_the_last_second_counts_where_it_is_not_complete(tmp_path, num_frames, key_frames, in_last_chunk):
    path = write_numbered_clip(tmp_path / "clip.mkv", even_times(num_frames, 30))
    video = decode(path)
    assert frame_numbers(video.key_frames) == key_frames
    assert sorted(sum(own_frames(video)[-1], [])) == list(in_last_chunk)
    left_out = decode(path, keep_incomplete_second=False)
    assert frame_numbers(left_out.key_frames) == [0, 30]
    assert sorted(sum(own_frames(left_out)[-1], [])) == list(range(30, 60))


@pytest.mark.parametrize("fps", [1, 8, 24, 25, 30, 50, 60, 120])
def test_every_frame_of_every_second_is_seen_once(fps):
    num_frames = min(2 * fps, 240)
    clips = own_frames(decode(numbered_pictures(num_frames), chunk_frames=32, fps=fps))
    assert len(clips) == 2
    for second, of_second in enumerate(clips):
        assert len(of_second) == {60: 2, 50: 2, 120: 4}.get(fps, 1)
        assert sorted(sum(of_second, [])) == list(range(second * fps, (second + 1) * fps))
        steps = {number - last for clip in of_second for last, number in pairwise(clip)}
        assert steps <= {len(of_second)}  # each clip spreads over the whole second


def test_beyond_the_highest_frame_rate_frames_are_taken_evenly():
    for fps, step in ((33, 2), (64, 2), (65, 4), (200, 8)):  # four clips of eight hold 32
        clips = own_frames(decode(numbered_pictures(fps), fps=fps))
        assert sorted(sum(clips[0], [])) == list(range(0, fps, step))


def test_doubled_frames_give_the_same_clips_twice():
    for fps, chunk_frames in ((24, 32), (25, 32), (30, 32), (25, 24), (30, 24), (24, 24), (50, 32)):
        pictures = numbered_pictures(2 * fps)
        once = decode(pictures, chunk_frames=chunk_frames, fps=fps)
        twice = decode(pictures.repeat(2, axis=0), chunk_frames=chunk_frames, fps=2 * fps)
        assert np.array_equal(twice.key_frames, once.key_frames)
        for of_once, of_twice in zip(own_frames(once), own_frames(twice), strict=True):
            assert sorted(of_twice) == sorted(2 * of_once)


def test_doubled_frames_of_a_short_last_second_give_its_clips_twice():
    for num_frames, chunk_frames in ((63, 32), (68, 32), (73, 32), (66, 16)):  # 30 a second, 60 and 120
        pictures = numbered_pictures(num_frames)
        once, twice = (
            decode(pictures.repeat(times, axis=0), chunk_frames=chunk_frames, fps=30 * times) for times in (1, 2)
        )
        (of_once,), (of_twice,) = own_frames(once)[1:], own_frames(twice)[1:]
        assert sorted(sum(of_once, [])) == list(range(30, num_frames))
        assert sorted(of_twice) == sorted(2 * of_once)


def test_a_short_last_second_may_have_more_frames_than_the_one_before(tmp_path):
    path = write_numbered_clip(tmp_path / "clip.mkv", [0, 0.5, *(1 + t for t in even_times(10, 30))])
    clips = own_frames(decode(path, chunk_frames=8))
    assert sorted(sum(clips[0], [])) == list(range(12))
    assert all(len(clip) <= 8 for clip in clips[0])


def test_a_clip_is_filled_up_with_its_last_frame():
    video = decode(numbered_pictures(20), fps=10)
    assert frame_numbers(video.clips)[:2] == [[0, 2, 4, 6, 8, 8, 8, 8], [1, 3, 5, 7, 9, 9, 9, 9]]
    assert video.num_clips.tolist() == [2, 2] and video.num_frames.tolist() == [5] * 4


def test_the_first_frames_from_the_key_frame_on_as_a_chunk(tmp_path):
    path = write_numbered_clip(tmp_path / "clip.mkv", even_times(8, 4))
    video = decode(path, chunk_frames=6, chunk_sampling="first_frames")
    assert frame_numbers(video.clips) == [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 7, 7]]
    assert video.num_clips.tolist() == [1, 1] and video.num_frames.tolist() == [6, 6]
    assert video.key_frames.shape == (2, 16, 16, 3)
    assert video.clips.shape == (2, 6, 8, 8, 3)
    assert video.clips.dtype == video.key_frames.dtype == np.uint8


@pytest.mark.parametrize("keep", [True, False])
def test_even_frames_of_each_second_are_one_clip(tmp_path, keep):
    # Two seconds and a third of one; of each second every other frame is kept, as of any with more than four clips' frames
    path = write_numbered_clip(tmp_path / "clip.mkv", even_times(70, 30))
    video = decode(path, chunk_sampling="even", chunk_frames=4, keep_incomplete_second=keep)
    assert own_frames(video) == [[[0, 10, 18, 28]], [[30, 42, 56, 68] if keep else [30, 40, 48, 58]]]
    assert video.num_clips.tolist() == [1, 1] and video.num_frames.tolist() == [4, 4]
    short = write_numbered_clip(tmp_path / "short.mkv", even_times(2, 2))
    assert own_frames(decode(short, chunk_sampling="even", chunk_frames=4)) == [[[0, 0, 1, 1]]]


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="got chunk_sampling='every', expected 'second', 'first_frames' or 'even'"):
        decode(numbered_pictures(2), chunk_sampling="every")


@pytest.mark.parametrize("chunk_sampling", ["second", "first_frames"])
@pytest.mark.parametrize(
    "times",
    [
        even_times(150, 30),
        even_times(165, 30),  # the last half second is a chunk
        even_times(155, 30),  # the last sixth of a second belongs to the chunk before
        even_times(9, 30),
        even_times(8, 1),  # the first frames run through all seconds that follow
        even_times(10, 10) + [3 + t for t in even_times(20, 10)],  # no frame starts in seconds 1 and 2
    ],
)
def test_portions_are_the_whole_video_in_order(tmp_path, times, chunk_sampling):
    path = write_numbered_clip(tmp_path / "clip.mkv", times)
    settings = FrameSettings(16, 8, 8, chunk_sampling=chunk_sampling)
    whole = decode_video(path, settings)
    assert whole.seconds.tolist() == [int(times[index]) for index in frame_numbers(whole.key_frames)]
    for portion in (1, 2, 5):
        parts = decode_portions(path, lambda part: part, portion, settings)
        assert [len(part.seconds) for part in parts[:-1]] == [portion] * (len(parts) - 1)
        assert 1 <= len(parts[-1].seconds) <= portion
        assert parts[-1].facts == whole.facts
        for name in ("key_frames", "clips", "num_clips", "num_frames", "seconds"):
            assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
        part = whole.part(1, 3)
        assert own_frames(part) == own_frames(whole)[1:3]
        for name in ("key_frames", "num_clips", "seconds"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[1:3])


def test_a_portion_is_handed_on_while_the_video_is_read():
    parts = decode_portions(numbered_pictures(250), lambda part: part, 2, FrameSettings(16, 8, 8), fps=30)
    assert [part.facts.frames for part in parts] == [91, 151, 211, 250]
    assert [part.seconds.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_every_form_of_a_video_gives_the_same_frames(tmp_path):
    path = write_numbered_clip(tmp_path / "clip: [100%d] *.mkv", even_times(60, 30))
    pictures = numbered_pictures(60)
    as_file = decode(path)
    sources = {
        "Path": Path(path),
        "BytesIO": io.BytesIO(Path(path).read_bytes()),
        "frames last": pictures.transpose(0, 3, 1, 2),
        "numpy": pictures,
        "torch": torch.from_numpy(pictures),
        "PIL": [Image.fromarray(picture) for picture in pictures],
    }
    for form, source in sources.items():
        video = decode(source, fps=30)
        assert np.array_equal(video.key_frames, as_file.key_frames), form
        assert np.array_equal(video.clips, as_file.clips), form


def test_frame_rate_of_an_array(tmp_path):
    assert len(decode(numbered_pictures(60), fps=20).seconds) == 3
    assert len(LmmVqaVideoProcessor().decode(numbered_pictures(60), [{"fps": 20}])[0].seconds) == 3


def test_a_picture_is_a_video_of_one_frame(tmp_path):
    gradient = np.linspace(0, 255, 24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8)
    picture = Image.fromarray(gradient)
    picture.save(tmp_path / "picture.png")
    as_file = decode(tmp_path / "picture.png")
    assert as_file.facts.frames == 1
    assert as_file.clips.shape[:2] == (1, 8)
    assert (as_file.clips == as_file.clips[:, :1]).all()
    assert as_file.num_frames.tolist() == [1]
    for source in (picture, gradient, str(tmp_path / "picture.png")):
        assert np.array_equal(decode(source).key_frames, as_file.key_frames)


def test_pictures_are_turned_as_their_exif_data_say(tmp_path):
    gradient = np.linspace(0, 255, 24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8)
    upright, exif = Image.fromarray(gradient), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    upright.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    for source in (tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")):
        assert np.abs(decode(source).key_frames.astype(int) - decode(upright).key_frames).mean() < 3


@pytest.mark.parametrize("problems", [False, True])
def test_frames_are_freed_as_they_come(tmp_path, problems):
    """A frame in a circle of references lives until Python's collector runs, which few objects as large as these do not wake."""
    path = write_clip(tmp_path / "clip.mp4", num_frames=60)
    gc.collect()
    gc.disable()
    try:
        decode_portions(path, lambda video: None, 1, FrameSettings(16, 8, 8), problems=problems)
        assert sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects()) <= 2
    finally:
        gc.enable()


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_videos_stand_upright(tmp_path, degrees):
    gradient = np.linspace(0, 255, 24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8)
    with av.open(str(tmp_path / "turned.mov"), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuvj444p"
        stream.set_display_rotation(degrees)  # counter-clockwise
        container.mux(stream.encode(av.VideoFrame.from_ndarray(gradient, format="rgb24")))
        container.mux(stream.encode(None))
    upright = Image.fromarray(gradient).rotate(degrees, expand=True)
    difference = np.abs(decode(tmp_path / "turned.mov").key_frames[0].astype(int) - decode(upright).key_frames[0])
    assert difference.mean() < 5


@pytest.mark.parametrize(
    "name, codec, pixel_format, size, options, aspect_ratio",
    [
        ("10bit.mp4", "libx264", "yuv420p10le", (96, 64), {}, 1),
        ("422.mkv", "ffv1", "yuv422p10le", (96, 64), {}, 1),
        ("grey.mkv", "ffv1", "gray", (96, 64), {}, 1),
        ("odd.mkv", "ffv1", "yuv420p", (97, 63), {}, 1),
        ("tiny.mkv", "ffv1", "yuv444p", (1, 1), {}, 1),
        ("interlaced.mpg", "mpeg2video", "yuv420p", (96, 64), {"flags": "+ildct+ilme"}, 1),
        ("anamorphic.mp4", "libx264", "yuv420p", (48, 64), {}, 2),
    ],
)
def test_formats(tmp_path, name, codec, pixel_format, size, options, aspect_ratio):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.sample_aspect_ratio = aspect_ratio
        for picture in numbered_pictures(60, size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture + 100, format="rgb24")))
        container.mux(stream.encode(None))
    video = decode(tmp_path / name)
    assert len(video.seconds) == 2
    assert video.key_frames.mean((1, 2, 3)) == pytest.approx([100, 130], abs=6)


def test_a_damaged_file_gives_the_same_frames_on_every_run(tmp_path, caplog):
    path = Path(write_clip(tmp_path / "clip.mkv", num_frames=60, size=(320, 240)))
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(len(data) // 5, len(data), 40):
        data[position] ^= 0xFF
    path.write_bytes(data)
    runs = [decode(path), decode(path), decode(io.BytesIO(data))]
    assert "damaged" in caplog.text
    parts = decode_portions(path, lambda part: part, 1, FrameSettings(16, 8, 8))
    for run in runs[1:]:
        assert np.array_equal(run.key_frames, runs[0].key_frames)
        assert np.array_equal(run.clips, runs[0].clips)
    assert np.array_equal(np.concatenate([part.clips for part in parts]), runs[0].clips)


def test_a_truncated_file_is_scored_with_a_warning(tmp_path, caplog):
    path = write_clip(tmp_path / "clip.avi", num_frames=120, codec="mjpeg", pixel_format="yuvj420p")
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])
    assert len(decode(path).seconds) in (1, 2)
    assert "clip.avi" in caplog.text


def write_song_with_cover(path):
    with av.open(str(path), "w") as container:
        audio = container.add_stream("libmp3lame", rate=44_100)
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 32, 24, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 44_100), np.float32), format="fltp", layout="stereo")
        sound.sample_rate = 44_100
        picture = av.VideoFrame.from_ndarray(numbered_pictures(1)[0], format="rgb24")
        for stream, frame in ((cover, picture), (audio, sound)):
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def test_unreadable_files_name_themselves_and_the_reason(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "folder.mp4").mkdir()
    write_song_with_cover(tmp_path / "song.mp3")
    reasons = {
        "empty.mp4": "Invalid data",
        "text.mp4": "Invalid data",
        "folder.mp4": "Is a directory",
        "song.mp3": "no video stream",
    }
    for name, reason in reasons.items():
        with pytest.raises(VideoDecodingError, match=rf"Could not read .*{name}: .*{reason}"):
            decode(tmp_path / name)
    with pytest.raises(VideoDecodingError, match="Could not read the given BytesIO: "):
        decode(io.BytesIO(b"this is not a video" * 50))
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4: no such file"):
        decode(tmp_path / "missing.mp4")
    for name, target in (("dangling.mp4", "missing.mp4"), ("loop.png", "loop.png")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(FileNotFoundError, match=f"{name}: it is a link that leads nowhere"):
            decode(tmp_path / name)


@pytest.mark.parametrize(
    "video",
    [
        np.zeros((24, 32), np.uint8),
        np.zeros((3, 24, 32, 5), np.uint8),
        np.zeros((3, 0, 32, 3), np.uint8),
        np.zeros((3, 24, 32, 3), np.float32),
        torch.zeros(1, 3, 24, 32, 3, dtype=torch.uint8),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(video):
    with pytest.raises(ValueError, match="got a video array of shape"):
        decode(video)


def test_no_frames_and_unknown_types_are_refused():
    with pytest.raises(VideoDecodingError, match="holds no frame"):
        decode(numbered_pictures(0))
    with pytest.raises(TypeError, match="got a video of type dict"):
        decode({"video": "clip.mp4"})


def test_fragments_are_the_middles_of_cells_at_full_resolution():
    frame = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    mosaic = decode_video(frame, FrameSettings(32, 8, 4, key_frame_fragments=2)).key_frames[0]
    # Cells of 48 x 64 pixels, patches of 16 x 16
    np.testing.assert_array_equal(mosaic[:16, :16], frame[16:32, 24:40])
    np.testing.assert_array_equal(mosaic[16:, 16:], frame[64:80, 88:104])


def test_views_of_a_key_frame():
    pictures = np.random.default_rng(0).integers(0, 256, (60, 96, 128, 3), dtype=np.uint8)
    both = decode_video(pictures, FrameSettings(32, 8, 4, key_frame_fragments=[1, 2]), fps=30)
    assert both.key_frames.shape == (4, 32, 32, 3)  # two seconds, two views
    for view, fragments in enumerate((1, 2)):
        alone = decode_video(pictures, FrameSettings(32, 8, 4, key_frame_fragments=fragments), fps=30)
        assert np.array_equal(both.key_frames[view::2], alone.key_frames)
    assert np.array_equal(both.part(1, 2).key_frames, both.key_frames[2:])


def test_fragments_of_small_frames_overlap_or_the_frames_are_enlarged():
    frame = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    settings = {"key_frame_fragments": 4}
    (overlapping,) = decode_video(frame, FrameSettings(32, 8, 4, **settings)).key_frames
    # Patches of 8 x 8: from edge to edge of 20 rows, and the middles of cells of 10 columns
    for row, top in enumerate((0, 4, 8, 12)):
        for column, left in enumerate((1, 11, 21, 31)):
            patch = overlapping[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            np.testing.assert_array_equal(patch, frame[top : top + 8, left : left + 8])
    (enlarged,) = decode_video(frame, FrameSettings(32, 8, 4, **settings, small_frames="enlarge")).key_frames
    assert enlarged.shape == (32, 32, 3) and not np.array_equal(enlarged, overlapping)
    # Shorter than a patch: enlarged in any case
    assert decode_video(frame[:3, :5], FrameSettings(32, 8, 4, **settings)).key_frames.shape == (1, 32, 32, 3)


def test_large_frames_have_the_same_fragments_however_small_ones_are_cut():
    frame = np.random.default_rng(0).integers(0, 256, (32, 50, 3), dtype=np.uint8)
    both = [FrameSettings(32, 8, 4, key_frame_fragments=4, small_frames=name) for name in ("overlap", "enlarge")]
    overlap, enlarge = (decode_video(frame, settings).key_frames for settings in both)
    assert np.array_equal(overlap, enlarge)


def test_former_checkpoints_enlarge_small_frames():
    saved = LmmVqaVideoProcessor().to_dict()
    assert LmmVqaVideoProcessor.from_dict(saved).small_frames == "overlap"
    del saved["small_frames"]
    assert LmmVqaVideoProcessor.from_dict(saved).small_frames == "enlarge"
    with pytest.raises(ValueError, match="got small_frames='fit', expected 'overlap' or 'enlarge'"):
        FrameSettings(32, 8, 4, small_frames="fit")
