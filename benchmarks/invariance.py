"""How far the score moves where the picture does not, and which frames it does not see.

    python benchmarks/invariance.py --shared ../shared --out benchmarks/results/invariance.json

Ten clips are scored as they are and after changes that hardly anybody sees: packets copied from MP4 to Matroska, lossless
re-encoding, every frame twice at twice the rate, the first frame and the first five cut off, mirroring, two rows and
columns cut off at the top left, enlargement to twice the size. All but the first are written as lossless H.264 (x264, qp 0)
in the clip's own pixel format and time stamps, so that `lossless` is what the others stand beside.

Then the frames of a clip of 2.5 seconds at 24 to 120 frames a second are replaced by noise one after the other, those of its
second whole second and those of the last half: `unseen` is the share of frames that change nothing in the towers' inputs.
For the first, middle and last frame of both parts the score of a file is asked too: `agree` says in how many it changed where
the inputs did, and stayed to the last digit where they did not.

`--settings '{"chunk_sampling": "second", "keep_incomplete_second": true}'` asks all of it once more under other settings of
the video processor than the model's own; for a model that was trained under its own, such figures are information alone.
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

from lmmvqa.checkpoints.checkpoint_digest import weights_digest
from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.processing.frame_scaler_lmmvqa import filter_graph
from lmmvqa.scoring.scorer import default_checkpoint, load_scorer


# Face, film, people, plant, animal, robot (50 frames a second), dusk, phone, snow, phone screen (60): 176 x 144 to 1280 x 720
CLIPS = [
    "clips/scikitvideo__carphone_pristine.mp4",
    "clips/moviepy__example2.mp4",
    "clips/gradio__b.mp4",
    "clips/shared-assets__flower.mp4",
    "clips_real/animal__ffmpeg-concat__cat-portrait.mp4",
    "clips_real/robot__Depth-Anything-3__unitree-flip.mp4",
    "clips_real/driving-dark__cosmos-predict1__dusk-traffic.mp4",
    "clips_real/phone-portrait__assets-for-api-docs__nails.mp4",
    "clips_real/sport-snow__Tune-A-Video__snowboard.mp4",
    "clips_real/screen-app__assets-for-api-docs__drawer.mp4",
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
        graph = graph or filter_graph(frame, (name, options))
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


class Rules:
    """A scorer under the settings of its video processor, and under others."""

    def __init__(self, scorer: VideoQualityAssessmentPipeline, others: list[dict]):
        self._scorer, self._processor = scorer, scorer.processor.video_processor
        own = {name: getattr(self._processor, name) for settings in others for name in settings}
        self._rules = {"own": own, **{json.dumps(settings): own | settings for settings in others}}

    def __iter__(self) -> Iterator[str]:
        """The names of the rules, each of which is in force while it is looked at."""
        for rule, settings in self._rules.items():
            self._set(settings)
            yield rule
        self._set(self._rules["own"])

    def _set(self, settings: dict) -> None:
        for name, value in settings.items():
            setattr(self._processor, name, value)

    def score(self, path: Path) -> dict[str, float]:
        """A file's score under each."""
        return {rule: self._scorer(str(path))["score"] for rule in self}

    def inputs(self, frames: np.ndarray, rate: int) -> dict[str, dict[str, torch.Tensor]]:
        """What the towers get of (frames, height, width, 3) uint8, under each."""
        return {rule: dict(self._processor([frames], video_metadata=[{"fps": rate}])) for rule in self}


def score_changes(rules: Rules, source: Path, folder: Path) -> dict[str, dict]:
    """The score of a clip, and by how much each change moves it, under each rule."""
    path = folder / "changed"
    before = rules.score(source)
    remux(source, path)
    after = {"remux": rules.score(path)}
    for name, change in CHANGES.items():
        rewrite(source, path, change)
        after[name] = rules.score(path)
    return {
        rule: {"score": score, "moved": {name: scores[rule] - score for name, scores in after.items()}}
        for rule, score in before.items()
    }


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


def unseen_frames(rules: Rules, source: Path, rate: int, folder: Path) -> dict[str, dict]:
    """Which frames can be noise without a change, and whether scores of files say the same, under each rule."""
    count = round(rate * NOISE_SECONDS)
    frames = first_frames(source, count)
    noise = np.random.default_rng(0).integers(0, 256, frames.shape[1:], np.uint8)

    def replaced(index: int) -> np.ndarray:
        return np.concatenate([frames[:index], noise[None], frames[index + 1 :]])

    def score(array: np.ndarray) -> dict[str, float]:
        path = folder / "noise"
        pictures = [av.VideoFrame.from_ndarray(each, format="rgb24").reformat(format="yuv420p") for each in array]
        for index, picture in enumerate(pictures):
            picture.pts, picture.time_base = index, Fraction(1, rate)
        write_lossless(path, pictures, rate)
        return rules.score(path)

    before, score_before = rules.inputs(frames, rate), score(frames)
    result = {rule: {} for rule in before}
    agree = {rule: [] for rule in before}
    parts = {"of a whole second": range(rate, 2 * rate), "of the last half second": range(2 * rate, count)}
    for part, indices in parts.items():
        seen = {rule: {} for rule in before}
        for index in indices:
            for rule, after in rules.inputs(replaced(index), rate).items():
                seen[rule][index] = any(not torch.equal(before[rule][key], after[key]) for key in after)
        for index in (indices[0], indices[len(indices) // 2], indices[-1]):
            for rule, after in score(replaced(index)).items():
                agree[rule].append((after != score_before[rule]) == seen[rule][index])
        for rule, of_rule in seen.items():
            result[rule][part] = {"unseen": 1 - sum(of_rule.values()) / len(indices), "frames": len(indices)}
    return {rule: of_rule | {"agree": f"{sum(agree[rule])} of {len(agree[rule])}"} for rule, of_rule in result.items()}


def tables(report: dict) -> str:
    """Both parts of each rule as Markdown."""
    parts = []
    for rule, found in report["rules"].items():
        names = list(found["largest"])
        lines = [["clip", "size, frames a second", "score", *names], ["---", "---", *["---:"] * (len(names) + 1)]]
        for clip in found["clips"]:
            moved = [f"{clip['moved'][name]:+.2f}" for name in names]
            lines.append([clip["clip"], clip["size, frames a second"], f"{clip['score']:.1f}", *moved])
        lines.append(["largest change", "", "", *(f"{value:.2f}" for value in found["largest"].values())])
        parts += [f"# {rule}", _markdown(lines)]
        rates = found["noise"]
        lines = [["frames a second", *rates], ["---", *["---:"] * len(rates)]]
        for part in ("of a whole second", "of the last half second"):
            lines.append([f"frames {part} that can be noise", *(f"{of[part]['unseen']:.0%}" for of in rates.values())])
        lines.append(["scores of files agree", *(of["agree"] for of in rates.values())])
        parts.append(_markdown(lines))
    return "\n\n".join(parts)


def _markdown(lines: list[list]) -> str:
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint folder or repository (default: embedded)")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder that holds the clips")
    parser.add_argument("--clips", nargs="+", default=CLIPS, help="other clips of that folder")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, help="frames a second for the noise")
    parser.add_argument("--settings", type=json.loads, nargs="*", default=[], help="JSON: other rules, see above")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for the figures; its tables go beside it, as Markdown")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rules = Rules(load_scorer(arguments.model, "cpu"), arguments.settings)
    found = {rule: {"clips": [], "noise": {}} for rule in rules}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.clips:
            source = arguments.shared / name
            with av.open(str(source)) as read:
                video = read.streams.best("video")
                size = f"{video.width} x {video.height}, {float(video.average_rate):.5g}"
            for rule, changes in score_changes(rules, source, Path(folder)).items():
                found[rule]["clips"].append({"clip": name, "size, frames a second": size, **changes})
            print(json.dumps([of_rule["clips"][-1] for of_rule in found.values()]), file=sys.stderr, flush=True)
        for rate in arguments.rates:
            for rule, unseen in unseen_frames(rules, source, rate, Path(folder)).items():
                found[rule]["noise"][rate] = unseen
            print(
                rate, json.dumps([of_rule["noise"][rate] for of_rule in found.values()]), file=sys.stderr, flush=True
            )
    for of_rule in found.values():
        clips = of_rule["clips"]
        of_rule["largest"] = {name: max(abs(clip["moved"][name]) for clip in clips) for name in clips[0]["moved"]}
    report = {
        "command": " ".join(["python", *sys.argv]),
        "model": arguments.model or "embedded default",
        "weights": weights_digest(arguments.model or default_checkpoint()),
        "versions": {name: version(name) for name in ("av", "torch", "transformers")},
        "rules": found,
    }
    print(tables(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(tables(report) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
