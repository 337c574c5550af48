"""Named problems with their times: each kind is found in a rendered clip that has it, and nothing in one that has none."""

import itertools
import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from scipy.ndimage import gaussian_filter

from lmmvqa.commands.command_line import main
from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.processing import LmmVqaVideoProcessor
from lmmvqa.processing.problems_lmmvqa import KINDS


FPS, SECONDS, SIZE = 25, 4, (320, 192)


def pan(num_frames=FPS * SECONDS, step=3):
    """Frames (height, width) of a camera that pans over a scene of sharp and smooth parts."""
    rng = np.random.default_rng(0)
    width, height = SIZE[0] + step * num_frames, SIZE[1]
    coarse, fine = (gaussian_filter(rng.standard_normal((height, width)), sigma) for sigma in (12, 1))
    scene = 128 + 40 * coarse / coarse.std() + 18 * fine / fine.std()
    for left in range(0, width, 60):  # things with edges
        scene[30 + left % 90 : 70 + left % 90, left : left + 25] += 60
    scene = scene.clip(16, 235).astype(np.uint8)
    return [scene[:, step * index : step * index + SIZE[0]] for index in range(num_frames)]


def write(path, frames, times=None):
    """Grey frames as near-lossless H.264; `times` in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "8", "preset": "veryfast"})
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 12_000)
        for index, grey in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.stack([grey] * 3, -1), format="rgb24")
            frame.time_base = Fraction(1, 12_000)
            frame.pts = round((index / FPS if times is None else times[index]) * 12_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def find(video, portion=None):
    processor = LmmVqaVideoProcessor(key_frame_size=32, chunk_size=32, chunk_frames=8)
    *_, facts = processor.decode_portions(video, lambda part: part.facts, portion, problems=True)
    return facts.problems


def in_between(frames, change, first=FPS, end=2 * FPS):
    return [*frames[:first], *map(change, frames[first:end]), *frames[end:]]


def black(frames):
    return in_between(frames, lambda frame: np.full_like(frame, 16))


def blank(frames):
    return in_between(frames, lambda frame: np.full_like(frame, 110))


def letterbox(frames):
    def add_bars(frame):
        frame = frame.copy()
        frame[:24] = frame[-24:] = 16
        return frame

    return in_between(frames, add_bars)


def flashing(frames):
    flashes = itertools.cycle([0, 0, 120, 120, 120])
    return in_between(frames, lambda frame: (frame.astype(int) + next(flashes)).clip(0, 255).astype(np.uint8))


def interlacing(frames):
    woven = [frame.copy() for frame in frames]
    for frame, after in zip(woven[FPS : 2 * FPS], frames[FPS + 1 :], strict=False):
        frame[1::2] = after[1::2]
    return woven


def blocking(frames):
    return in_between(frames, lambda frame: frame[4::8, 4::8].repeat(8, 0).repeat(8, 1))


def blur(frames):
    return in_between(frames, lambda frame: gaussian_filter(frame, 4))


def freeze(frames):
    return in_between(frames, lambda frame: frames[FPS])


def dropped_frames(frames):
    return in_between(frames, lambda frame: frames[FPS], FPS, FPS + 4)


def judder(frames):
    """The motion of 10 frames a second in 25: shown 2 and 3 times."""
    return [*frames[:FPS], *(frames[index * 2 // 5 * 5 // 2] for index in range(FPS, 2 * FPS)), *frames[2 * FPS :]]


FAULTS = {
    "black": black,
    "blank": blank,
    "letterbox": letterbox,
    "flashing": flashing,
    "interlacing": interlacing,
    "blocking": blocking,
    "blur": blur,
    "freeze": freeze,
    "dropped_frames": dropped_frames,
    "judder": judder,
}


def test_every_kind_has_a_fault_here():
    assert set(FAULTS) == set(KINDS)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_one_second_is_found_with_its_times_and_nothing_else(kind, tmp_path):
    (problem,) = find(write(tmp_path / "clip.mkv", FAULTS[kind](pan())))
    assert problem["kind"] == kind
    assert problem["start"] == pytest.approx(1, abs=0.25)
    assert problem["end"] == pytest.approx(1.16 if kind == "dropped_frames" else 2, abs=0.25)
    assert problem["strength"] > 0


def test_a_clip_without_faults_has_no_problem(tmp_path):
    assert find(write(tmp_path / "clip.mkv", pan())) == []
    assert find(write(tmp_path / "slow.mkv", pan(step=1))) == []


def test_a_picture_has_no_problem(tmp_path):
    Image.fromarray(pan(1)[0]).save(tmp_path / "picture.png")
    assert find(str(tmp_path / "picture.png")) == []


def test_gaps_in_time_stamps_are_dropped_frames_too(tmp_path):
    frames = [(index / FPS, frame) for index, frame in enumerate(pan()) if not 50 <= index < 53]
    times, shown = zip(*frames, strict=True)
    (problem,) = find(write(tmp_path / "clip.mkv", shown, times))
    assert problem == {"kind": "dropped_frames", "start": 1.96, "end": 2.12, "strength": pytest.approx(0.16)}


def test_frames_that_stand_twice_as_long_all_the_time_are_no_problem(tmp_path):
    """A slow rate is no fault of its own; neither is a fast one of which every second frame is a repeat."""
    frames = pan(step=6)[:50]
    assert find(write(tmp_path / "slow.mkv", frames, [2 * index / FPS for index in range(50)])) == []
    doubled = [frame for frame in frames for _ in range(2)]
    assert find(write(tmp_path / "doubled.mkv", doubled, [index / 60 for index in range(100)])) == []


def test_faults_at_the_end_end_with_the_video(tmp_path):
    frames = pan()
    (frozen,) = find(write(tmp_path / "frozen.mkv", [*frames[:75], *[frames[75]] * 25]))
    (black,) = find(write(tmp_path / "black.mkv", [*frames[:75], *[np.zeros_like(frames[0])] * 25]))
    assert (frozen["kind"], black["kind"]) == ("freeze", "black")
    assert [frozen["start"], black["start"]] == [3, 3]
    assert [frozen["end"], black["end"]] == [pytest.approx(4, abs=0.05)] * 2


def test_portions_and_frames_that_are_not_sampled_change_nothing(tmp_path):
    video = write(tmp_path / "clip.mkv", blur(freeze(pan())[::-1]))
    whole = find(video)
    assert whole
    assert find(video, portion=1) == whole
    fast = LmmVqaVideoProcessor(key_frame_size=32, chunk_size=32, chunk_frames=2, chunk_sampling="first_frames")
    assert fast.decode_portions(video, lambda part: part.facts, problems=True)[-1].problems == whole


def test_damage_starts_over_and_finds_the_same_each_time(tmp_path):
    video = write(tmp_path / "clip.mkv", freeze(pan()))
    data = bytearray((tmp_path / "clip.mkv").read_bytes())
    middle = len(data) * 3 // 4
    data[middle : middle + 200] = bytes(200)
    (tmp_path / "clip.mkv").write_bytes(data)
    found = find(video)
    assert ("freeze", 1.0) in [(problem["kind"], problem["start"]) for problem in found]
    assert found == find(video)


def test_a_stream_that_changes_its_size_is_watched_on(tmp_path):
    """Two H.264 streams one after the other, in one elementary stream."""
    parts = []
    for name, frames in (("large", black(pan())), ("small", [frame[:96, :160] for frame in black(pan())])):
        with av.open(str(tmp_path / f"{name}.h264"), "w", "h264") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
            stream.height, stream.width = frames[0].shape
            stream.pix_fmt = "yuv420p"
            for grey in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.stack([grey] * 3, -1), format="rgb24")))
            container.mux(stream.encode(None))
        parts.append((tmp_path / f"{name}.h264").read_bytes())
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    problems = find(str(tmp_path / "both.h264"))
    assert [problem["start"] for problem in problems if problem["kind"] == "black"] == pytest.approx([1, 5], abs=0.1)


def test_results_have_problems_where_they_are_asked_for(tiny, tmp_path, capsys):
    video = write(tmp_path / "clip.mkv", freeze(pan()))
    model, processor = tiny
    scorer = VideoQualityAssessmentPipeline(model=model, processor=processor)
    plain, asked = scorer(video), scorer(video, problems=True)
    assert plain["problems"] is None
    assert asked["problems"] == [{"kind": "freeze", "start": 1.0, "end": 2.0, "strength": 1.0}]
    assert {**asked, "problems": None} == plain
    batch = scorer([video, video], problems=True, batch_size=2)
    assert [row["problems"] for row in batch] == [asked["problems"]] * 2

    for part in tiny:
        part.save_pretrained(tmp_path / "model")
    assert main(["score", "--model", str(tmp_path / "model"), "--json", "--problems", video]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == asked["problems"]
    assert main(["score", "--model", str(tmp_path / "model"), "--problems", video]) == 0
    assert capsys.readouterr().out.rstrip().endswith("(freeze 1.0-2.0 s)")

    out = tmp_path / "rows.parquet"
    assert main(["score", "--model", str(tmp_path / "model"), "--problems", "--out", str(out), video]) == 0
    assert parquet.read_table(out).to_pylist()[0]["problems"] == asked["problems"]
    with pytest.raises(SystemExit):
        main(["score", "--model", str(tmp_path / "model"), "--out", str(out), video])
    assert "problems" in capsys.readouterr().err
