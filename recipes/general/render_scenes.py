"""Renders clips of one second whose answers are known: which way a disc moves, which colour comes first, how many discs there
are, which colour they have, what is wrong and how strongly, and which half looks worse.

    python -m recipes.general.render_scenes --out data/scenes

A key frame is a clip's first frame, and it tells nothing about motion and order: where a disc starts says nothing about
where it goes, and colours come later. So these two kinds of questions are at chance without temporal tokens. Backgrounds
are the contents: each is in one split alone. Writes train.json for `lmmvqa prepare instruction_json`, in sentences, in the
words of a choice and as questions with choices; test.json for `lmmvqa multiple_choice`; generic_qa.json, open questions
about some of its clips, for `lmmvqa vcgbench`; and rated.csv for `lmmvqa prepare csv`, moving discs under noise, rated by a
rule: the MOS falls in a straight line with the noise.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.datasets_scripts.rows import split_by_group
from lmmvqa.evaluation.multiple_choice import ChoiceQuestion


SIZE, FPS = 112, 24
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230), "yellow": (230, 210, 40)}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
KINDS = ("motion", "order", "count", "colour", "damage", "half")
# A strength of 0-1 changes frames, 0-255
DAMAGES = {
    "noise": lambda frames, strength, rng: frames + rng.normal(0, STRONGEST_NOISE * strength, frames.shape),
    "blocks": lambda frames, strength, rng: _blocks(frames, round(2 + 12 * strength)),
    "darkness": lambda frames, strength, rng: frames * (1 - 0.8 * strength),
}
WEAK, STRONG = (0.15, 0.35), (0.65, 1.0)  # strengths that viewers tell apart
HALVES = {"left": np.s_[:, :, : SIZE // 2], "right": np.s_[:, :, SIZE // 2 :]}
SHARES = {"train": 0.75, "test": 0.25}
NUM_OPEN_QUESTIONS = 10
STRONGEST_NOISE = 60.0  # standard deviation (of 255) at MOS 0


@dataclass
class Scene:
    """
    Attributes:
        frames: (FPS, SIZE, SIZE, 3) uint8 RGB.
        questions: {kind: (question, choices, right choice, answer in words)}.
    """

    frames: np.ndarray
    questions: dict[str, tuple[str, tuple[str, ...], str, str]]


@dataclass
class RenderArguments:
    out: str = HfArg(help="New folder for clips and questions.")
    num_clips: int = HfArg(help="Of all kinds together.", default=2000)
    num_rated: int = HfArg(help="Clips under noise, with a rating.", default=200)
    kinds: list[str] = HfArg(help=f"Of questions, some of {', '.join(KINDS)}.", default_factory=lambda: list(KINDS))
    lettered_share: float = HfArg(
        help="Share of questions with lettered choices, for decoders that know letters.", default=0.25
    )
    num_backgrounds: int = HfArg(help="Contents, each in one split alone.", default=100)
    seed: int = 0


def background(seed: int) -> np.ndarray:
    """(SIZE, SIZE, 3) smooth grey waves, in [60, 140]."""
    rng = np.random.default_rng((1, seed))
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    waves = sum(np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in rng.uniform((-4, -4, 0), (4, 4, 1), (4, 3)))
    return np.repeat((100 + 10 * waves)[..., None], 3, axis=-1)


def _with_disc(frame: np.ndarray, colour: str, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    cover = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]  # soft by a pixel
    return frame * (1 - cover) + np.array(COLOURS[colour]) * cover


def render_scene(kind: str, ground: np.ndarray, rng: np.random.Generator) -> Scene:
    """
    Args:
        kind: one of `KINDS`.
        ground: of `background`.
    """
    names = list(COLOURS)
    colour = names[rng.integers(4)]
    of_colour = ("Which colour is the disc?", tuple(names), colour, f"The disc is {colour}.")
    if kind == "motion":
        direction = list(DIRECTIONS)[rng.integers(4)]
        x, y = rng.uniform(0.4 * SIZE, 0.6 * SIZE, 2)
        step = rng.uniform(1.2, 1.8)
        dx, dy = (step * part for part in DIRECTIONS[direction])
        frames = [_with_disc(ground, colour, x + dx * time, y + dy * time, 16) for time in range(FPS)]
        asked = ("Which way does the disc move?", tuple(DIRECTIONS), direction, f"The disc moves {direction}.")
        return Scene(_pixels(frames), {"motion": asked, "colour": of_colour})
    if kind == "order":
        first, second = rng.permutation(names)[:2].tolist()
        x, y = rng.uniform(0.3 * SIZE, 0.7 * SIZE, 2)
        start = int(rng.integers(3, 7))
        shown = dict.fromkeys(range(start, start + 6), first)
        shown |= dict.fromkeys(range(start + 9, start + 15), second)
        frames = [_with_disc(ground, shown[time], x, y, 20) if time in shown else ground for time in range(FPS)]
        asked = ("Which colour appears first?", tuple(names), first, f"First {first} appears, then {second}.")
        return Scene(_pixels(frames), {"order": asked})
    if kind == "count":
        count = int(rng.integers(1, 5))
        cells = rng.permutation(9)[:count]
        frame = ground
        for cell in cells:
            x, y = (SIZE * (0.2 + 0.3 * place) + rng.uniform(-3, 3) for place in divmod(int(cell), 3))
            frame = _with_disc(frame, colour, x, y, 9)
        asked = ("How many discs are there?", ("1", "2", "3", "4"), str(count), f"There are {count}.")
        return Scene(_pixels([frame] * FPS), {"count": asked})
    x, y = rng.uniform(0.3 * SIZE, 0.7 * SIZE, 2)
    frames = np.stack([_with_disc(ground, colour, x, y, 15)] * FPS)
    if kind == "damage":
        damage, level = list(DAMAGES)[rng.integers(len(DAMAGES))], ("weak", "strong")[rng.integers(2)]
        frames = DAMAGES[damage](frames, rng.uniform(*(STRONG if level == "strong" else WEAK)), rng)
        what = ("What is wrong with this video?", tuple(DAMAGES), damage, f"The video suffers from {damage}.")
        strength = ("How strong is the damage?", ("weak", "strong"), level, f"The damage is {level}.")
        return Scene(_pixels(frames), {"damage": what, "strength": strength})
    if kind == "half":
        damage, half = list(DAMAGES)[rng.integers(len(DAMAGES))], list(HALVES)[rng.integers(2)]
        frames[HALVES[half]] = DAMAGES[damage](frames[HALVES[half]], rng.uniform(*STRONG), rng)
        asked = ("Which half looks worse?", tuple(HALVES), half, f"The {half} half looks worse.")
        return Scene(_pixels(frames), {"half": asked})
    return Scene(_pixels(frames), {"colour": of_colour})


def _blocks(frames: np.ndarray, side: int) -> np.ndarray:
    """Squares of so many pixels, each of one colour, that of its first pixel."""
    rows, columns = (np.arange(size) // side * side for size in frames.shape[1:3])
    return frames[:, rows][:, :, columns]


def _pixels(frames: list[np.ndarray] | np.ndarray) -> np.ndarray:
    return np.stack(frames).round().clip(0, 255).astype(np.uint8)


def write_scene(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "12", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def rated_scene(ground: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Frames of a moving disc under noise, and their MOS (0-100) by the rule."""
    frames = render_scene("motion", ground, rng).frames
    strength = rng.random()
    return _pixels(frames + rng.normal(0, STRONGEST_NOISE * strength, frames.shape)), 100 * (1 - strength)


def conversation(
    questions: list[tuple[str, tuple[str, ...], str, str]], rng: np.random.Generator, lettered_share: float = 0.25
) -> list[dict]:
    """
    Turns about one clip: each question with its choices in one of their rotations, or without them, half of these to be
    answered by a choice and half in a sentence.
    """
    turns = []
    for text, choices, right, answer in questions:
        form = rng.random()
        if form < (1 + lettered_share) / 2:
            question = ChoiceQuestion("", "", text, choices, choices.index(right), "")
            rotations = question.rotations(in_words=form >= lettered_share)
            text, answers, order = rotations[rng.integers(len(rotations))]
            answer = answers[order.index(choices.index(right))]
        turns += [{"from": "human", "value": text}, {"from": "gpt", "value": answer}]
    return turns


def main() -> None:
    (arguments,) = HfArgumentParser(RenderArguments).parse_args_into_dataclasses()
    out = Path(arguments.out)
    (out / "clips").mkdir(parents=True)
    splits = split_by_group(map(str, range(arguments.num_backgrounds)), SHARES, arguments.seed)
    train, test, asked = [], [], []
    for number in range(arguments.num_clips):
        rng = np.random.default_rng((arguments.seed, number))
        kind, ground = arguments.kinds[number % len(arguments.kinds)], int(rng.integers(arguments.num_backgrounds))
        scene, name = render_scene(kind, background(ground), rng), f"clips/{number}.mp4"
        write_scene(out / name, scene.frames)
        if splits[str(ground)] == "train":
            turns = conversation(list(scene.questions.values()), rng, arguments.lettered_share)
            train.append({"video": name, "kind": kind, "conversations": turns})
            continue
        for of_kind, (text, choices, right, in_words) in scene.questions.items():
            test.append(
                {"video": name, "question": text, "candidates": choices, "correct_ans": right, "kind": of_kind}
            )
            asked.append((of_kind, {"video_name": name.removesuffix(".mp4"), "Q": text, "A": in_words}))
    with (out / "rated.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video", "mos", "split", "group"])
        for number in range(arguments.num_rated):
            rng = np.random.default_rng((arguments.seed, 1, number))
            ground, name = int(rng.integers(arguments.num_backgrounds)), f"clips/rated-{number}.mp4"
            frames, mos = rated_scene(background(ground), rng)
            write_scene(out / name, frames)
            split = "train" if splits[str(ground)] == "train" else "validation"
            table.writerow([name, f"{mos:.2f}", split, str(ground)])
    # Spread over the kinds
    asked = [record for _, record in sorted(asked, key=lambda of: of[0])]
    chosen = asked[:: max(1, len(asked) // NUM_OPEN_QUESTIONS)][:NUM_OPEN_QUESTIONS]
    for name, records in (("train", train), ("test", test), ("generic_qa", chosen)):
        (out / f"{name}.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {len(records)} records")


if __name__ == "__main__":
    main()
