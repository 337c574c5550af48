"""How far the score moves where the picture does not, and which frames it does not see.

    python benchmarks/invariance.py --clips ../shared/clips --out benchmarks/results/invariance.json

`--settings '{"chunk_sampling": "second", "keep_incomplete_second": true}'` asks the same of another rule than the model's own.

Ten clips are scored as they are and after changes that hardly anybody sees: packets copied from MP4 to Matroska, lossless
re-encoding, every frame twice at twice the rate, the first frame and the first five cut off, mirroring, two rows and
columns cut off at the top left, enlargement to twice the size. All but the first are written as lossless H.264 (x264, qp 0)
in the clip's own pixel format and time stamps, so that `lossless` is what the others stand beside.

Then the frames of a clip of 2.5 seconds at 24 to 120 frames a second are replaced by noise one after the other, those of its
second whole second and those of the last half: `unseen` is the share of frames that change nothing in the towers' inputs.
For the first, middle and last frame of both parts the score of a file is asked too: `agree` says in how many it changed where
the inputs did, and stayed to the last digit where they did not.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from itertools import chain, islice, pairwise
from pathlib import Path

import av
import numpy as np
import torch

from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.scoring.scorer import load_scorer


# Camera clips, animation and film of 176 x 144 to 1280 x 720, 24 to 30 frames a second, sharp and compressed
CLIPS = [
    "scikitvideo__carphone_pristine.mp4",
    "psychopy__testMovie.mp4",
    "gradio__b.mp4",
    "shared-assets__bug_video_640.mp4",
    "scikitvideo__bikes.mp4",
    "shared-assets__friday.mp4",
    "sam2__bedroom.mp4",
    "shared-assets__flower.mp4",
    "scikitvideo__bigbuckbunny.mp4",
    "moviepy__example2.mp4",
]
RATES = (24, 25, 30, 50, 60, 120)
NOISE_SIZE = (160, 90)
NOISE_SECONDS = Fraction(5, 2)

Frames = Iterable[av.VideoFrame]


# Changes of frames, whose time stamps count half ticks


def leave(frames: Frames) -> Frames:
    return frames


def double(frames: Frames) -> Iterator[av.VideoFrame]:
    half = 0
    for frame, after in pairwise(chain(frames, [None])):
        half = (after.pts - frame.pts) // 2 if after is not None else half  # of the last one, as of the one before
        yield frame
        frame.pts += half
        yield frame


def start_later(frames: Frames, count: int) -> Frames:
    return islice(frames, count, None)


def filtered(frames: Frames, name: str, options: str = "") -> Iterator[av.VideoFrame]:
    """Through a filter of FFmpeg."""
    graph = None
    for frame in frames:
        if graph is None:
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            graph.link_nodes(source, graph.add(name, options), graph.add("buffersink")).configure()
        graph.push(frame)
        yield graph.pull()


CHANGES = {
    "lossless": leave,
    "doubled frames": double,
    "1 frame later": partial(start_later, count=1),
    "5 frames later": partial(start_later, count=5),
    "mirrored": partial(filtered, name="hflip"),
    "2 pixels cropped": partial(filtered, name="crop", options="iw-2:ih-2:2:2"),
    "twice the size": partial(filtered, name="scale", options="2*iw:2*ih:flags=bicubic"),
}


def remux(source: Path, path: Path) -> None:
    """Copies packets to Matroska."""
    with av.open(str(source)) as read, av.open(str(path), "w", "matroska") as written:
        video = read.streams.best("video")
        copied = written.add_stream_from_template(video)
        for packet in read.demux(video):
            if packet.dts is not None:
                packet.stream = copied
                written.mux(packet)


def rewrite(source: Path, path: Path, change: Callable[[Frames], Frames]) -> None:
    """Changes frames and writes them as lossless H.264 in MP4."""
    with av.open(str(source)) as read:
        video = read.streams.best("video")
        frames = change(_in_half_ticks(read.decode(video)))
        write_lossless(path, frames, video.average_rate, video.codec_context)


def _in_half_ticks(frames: Frames) -> Iterator[av.VideoFrame]:
    for frame in frames:
        frame.pts, frame.time_base = 2 * frame.pts, frame.time_base / 2
        yield frame


def write_lossless(path: Path, frames: Frames, rate: Fraction, like: av.VideoCodecContext | None = None) -> None:
    """
    Args:
        frames: of one size; time starts with the first of them.
        rate: frames a second, the nominal one.
        like: what the colours are said to be.
    """
    with av.open(str(path), "w", "mp4") as written:
        stream = None
        for frame in frames:
            if stream is None:
                start = frame.pts
                stream = written.add_stream("libx264", rate=rate, options={"qp": "0", "preset": "ultrafast"})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                stream.codec_context.time_base = frame.time_base
                for name in ("color_range", "color_primaries", "color_trc", "colorspace", "sample_aspect_ratio"):
                    if like is not None and getattr(like, name):
                        setattr(stream.codec_context, name, getattr(like, name))
            pts = frame.pts
            frame.pts, frame.pict_type = pts - start, 0  # the source's key frames are not this one's
            written.mux(stream.encode(frame))
            frame.pts = pts
        written.mux(stream.encode(None))


def score_changes(scorer: VideoQualityAssessmentPipeline, source: Path, folder: Path) -> dict:
    """The score of a clip, and by how much each change moves it."""
    score = scorer(str(source))["score"]
    path = folder / "changed"
    remux(source, path)
    moved = {"remux": scorer(str(path))["score"] - score}
    for name, change in CHANGES.items():
        rewrite(source, path, change)
        moved[name] = scorer(str(path))["score"] - score
    return {"score": score, "moved": moved}


# Frames that are not seen


def first_frames(source: Path, count: int) -> np.ndarray:
    """The first frames of a clip, there and back again where it is too short, small: (count, height, width, 3) uint8."""
    width, height = NOISE_SIZE
    with av.open(str(source)) as read:
        frames = [
            frame.to_ndarray(format="rgb24", width=width, height=height)
            for frame in islice(read.decode(video=0), count)
        ]
    there_and_back = frames + frames[-2:0:-1]
    return np.stack([there_and_back[index % len(there_and_back)] for index in range(count)])


def unseen_frames(scorer: VideoQualityAssessmentPipeline, source: Path, rate: int, folder: Path) -> dict:
    """Which frames can be noise without a change, and whether scores of files say the same."""
    count = round(rate * NOISE_SECONDS)
    frames = first_frames(source, count)
    noise = np.random.default_rng(0).integers(0, 256, frames.shape[1:], np.uint8)

    def replaced(index: int) -> np.ndarray:
        return np.concatenate([frames[:index], noise[None], frames[index + 1 :]])

    def inputs(array: np.ndarray) -> dict:
        return dict(scorer.processor.video_processor([array], video_metadata=[{"fps": rate}]))

    def score(array: np.ndarray) -> float:
        path = folder / "noise"
        pictures = [
            av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p") for picture in array
        ]
        for index, picture in enumerate(pictures):
            picture.pts, picture.time_base = index, Fraction(1, rate)
        write_lossless(path, pictures, rate)
        return scorer(str(path))["score"]

    before, score_before = inputs(frames), score(frames)
    result, agree = {}, []
    for name, part in {
        "of a whole second": range(rate, 2 * rate),
        "of the last half second": range(2 * rate, count),
    }.items():
        seen = {}
        for index in part:
            after = inputs(replaced(index))
            seen[index] = any(not torch.equal(before[key], after[key]) for key in before)
        result[name] = {"unseen": 1 - sum(seen.values()) / len(part), "frames": len(part)}
        agree += [
            (score(replaced(index)) != score_before) == seen[index]
            for index in (part[0], part[len(part) // 2], part[-1])
        ]
    return result | {"agree": f"{sum(agree)} of {len(agree)}"}


def table(report: dict) -> str:
    """Both parts as Markdown."""
    names = list(report["largest"])
    lines = [["clip", "size, rate", "score", *names], ["---", "---", *["---:"] * (len(names) + 1)]]
    for clip in report["clips"]:
        moved = [f"{clip['moved'][name]:+.2f}" for name in names]
        lines.append([clip["clip"], clip["size, rate"], f"{clip['score']:.1f}", *moved])
    lines.append(["largest change", "", "", *(f"{value:.2f}" for value in report["largest"].values())])
    rates = report["noise"]
    lines += [[""], ["frames a second", *rates], ["---", *["---:"] * len(rates)]]
    for part in ("of a whole second", "of the last half second"):
        lines.append([f"frames {part} that can be noise", *(f"{of[part]['unseen']:.0%}" for of in rates.values())])
    lines.append(["scores of files agree", *(of["agree"] for of in rates.values())])
    return "\n".join(f"| {' | '.join(map(str, line))} |" if line != [""] else "" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint folder or repository (default: embedded)")
    parser.add_argument("--clips", type=Path, default=Path("../shared/clips"), help="folder that holds the ten clips")
    parser.add_argument("--only", nargs="+", default=CLIPS, metavar="CLIP", help="other clips of that folder")
    parser.add_argument("--rates", type=int, nargs="*", default=RATES, help="frames a second for the noise")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON: other settings of the video processor")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for the figures; its tables go beside it, as Markdown")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scorer = load_scorer(arguments.model, "cpu")
    for name, value in arguments.settings.items():
        setattr(scorer.processor.video_processor, name, value)
    clips, noise = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            source = arguments.clips / name
            with av.open(str(source)) as read:
                video = read.streams.best("video")
                size = f"{video.width} x {video.height}, {float(video.average_rate):.5g}"
            clips.append({"clip": name, "size, rate": size, **score_changes(scorer, source, Path(folder))})
            print(json.dumps(clips[-1]), file=sys.stderr, flush=True)
        for rate in arguments.rates:
            noise[rate] = unseen_frames(scorer, source, rate, Path(folder))
            print(rate, json.dumps(noise[rate]), file=sys.stderr, flush=True)
    report = {
        "command": " ".join(["python", *sys.argv]),
        "model": arguments.model or "embedded default",
        "settings": arguments.settings,
        "versions": {name: version(name) for name in ("av", "torch", "transformers")},
        "clips": clips,
        "largest": {name: max(abs(clip["moved"][name]) for clip in clips) for name in clips[0]["moved"]},
        "noise": noise,
    }
    print(table(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(table(report) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
