"""Pretrains the default's temporal tower on what is known without people: which frames were frozen, dropped or shaken.

`python -m recipes.default.pretrain_temporal_tower --clips ROWS [ROWS ...] --photographs ROWS --work DIR --out FILE`

Moving windows are cut from training clips (those without damage in time) and from photographs that drift under the window.
Each step freezes, drops or shakes the frames of a batch of them anew, as `chain_rendering` does to whole clips; the
tower learns to say what was done, to which share of the frames, how far the picture is now from what it was, and how fast
it moved. A clip is filled up to its length by its last frame, which the tower leaves out, as it is where users' videos
are scored. A run that is stopped goes on from DIR.
"""

import math
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_model
from scipy.stats import spearmanr
from torch import nn
from tqdm import tqdm
from transformers import set_seed
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.modeling_lmmvqa import LmmVqaForConditionalGeneration, LmmVqaSlowFastModel

from .pretrain_vision_tower import shows_its_damage
from .small_model import CHUNK_FRAGMENTS, CHUNK_FRAMES, CHUNK_SIZE, small_temporal_config
from .tower_training import train_tower


CELLS = 4  # windows of a clip, which make a mosaic of 2 x 2 patches as `FrameScaler` makes one of 4 x 4
PATCH = CHUNK_SIZE // CHUNK_FRAGMENTS
MARGIN = 16  # pixels that frames may be shaken by
WINDOW = PATCH + 2 * MARGIN
FRAMES = 30  # of a window
FEWEST_FRAMES = 15  # of a chunk; more are of a second of 16 to 30 frames
KINDS = ("none", "freeze", "drop", "shake")
HELD_OUT_WINDOWS = 600
HELD_OUT_BATCHES = 16
UNSEEN = 0.5  # mean squared difference (of 255²) below which a change is not there: the picture stood still
MEAN, STD = 0.45 * 255, 0.225 * 255


@dataclass
class PretrainArguments:
    clips: list[str] = HfArg(help="Folders of rows of `lmmvqa prepare degraded_contents`.")
    photographs: str = HfArg(help="Rows of photographs.")
    work: str = HfArg(help="Folder for the state to go on from.")
    out: str = HfArg(help="Safetensors file for the tower.")
    start: str | None = HfArg(
        help="Checkpoint folder whose temporal tower it goes on from; a new one without.", default=None
    )
    windows: int | None = HfArg(help="Take so many files, drawn at random; they fill memory.", default=None)
    steps: int = HfArg(help="Batches of the one-cycle schedule.", default=4000)
    stop_step: int | None = HfArg(help="Stop after so many of them.", default=None)
    batch_size: int = HfArg(help="Windows a batch.", default=32)
    learning_rate: float = HfArg(help="Highest of the one-cycle schedule.", default=2e-3)
    log_steps: int = HfArg(help="Batches between two validations.", default=250)
    seed: int = HfArg(help="Of weights, windows and distortions.", default=0)


def clip_windows(path: str, seed: str) -> np.ndarray | None:
    """(CELLS, FRAMES, WINDOW, WINDOW, 3) uint8 from random places of a clip, or None where it is too small or short."""
    rng = random.Random(seed)
    with av.open(path) as container:
        stream = container.streams.video[0]
        if min(stream.width, stream.height) < WINDOW:
            return None
        places = [
            (rng.randrange(stream.height - WINDOW + 1), rng.randrange(stream.width - WINDOW + 1)) for _ in range(CELLS)
        ]
        frames = []
        for frame in container.decode(stream):
            picture = frame.to_ndarray(format="rgb24")
            frames.append(np.stack([picture[top : top + WINDOW, left : left + WINDOW] for top, left in places]))
            if len(frames) == FRAMES:
                return np.stack(frames, axis=1)
    return None


def photograph_windows(path: str, seed: str) -> np.ndarray:
    """(CELLS, FRAMES, WINDOW, WINDOW, 3) uint8: a photograph drifts, zooms and trembles under the windows."""
    rng = random.Random(seed)
    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture = picture.reduce(rng.choice((1, 1, 2, 3)))
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float()  # (3, height, width)
    size = torch.tensor([pixels.shape[2], pixels.shape[1]])  # x before y, as grid_sample has it
    times = torch.arange(FRAMES).float()[:, None]
    speed, angle = math.exp(rng.uniform(math.log(0.1), math.log(8))), rng.uniform(0, 2 * math.pi)
    path_ = times * speed * torch.tensor([math.cos(angle), math.sin(angle)])  # (FRAMES, 2) pixels
    if rng.random() < 0.5:  # a hand that trembles
        phases = torch.tensor([[rng.uniform(0, 6.3), rng.uniform(0, 6.3)]])
        path_ = path_ + rng.uniform(0, 3) * torch.sin(times * rng.uniform(0.1, 0.6) + phases)
    zoom = 1 + times * rng.uniform(-0.004, 0.004)  # (FRAMES, 1)
    offsets = torch.arange(WINDOW).float() - WINDOW / 2
    grid = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1)  # (WINDOW, WINDOW, 2)
    cells = []
    for _ in range(CELLS):
        centre = torch.tensor([rng.random(), rng.random()]) * size - size / 2
        places = (centre + grid) * zoom[..., None, None] + path_[:, None, None] + size / 2
        sampled = nn.functional.grid_sample(
            pixels.expand(FRAMES, -1, -1, -1),
            2 * (places + 0.5) / size - 1,
            mode="bicubic",
            padding_mode="reflection",
            align_corners=False,
        )  # (FRAMES, 3, WINDOW, WINDOW)
        cells.append(sampled.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return np.stack(cells)


def all_windows(clips: list[dict], photographs: list[dict], seed: int, most: int | None = None) -> list[np.ndarray]:
    """The windows of these files, of `most` drawn at random where there are more: 1.3 MB each, they stay in memory."""
    tasks = [(clip_windows, row["video"]) for row in clips if shows_its_damage(row)]
    tasks += [(photograph_windows, row["video"]) for row in photographs]
    if most is not None and most < len(tasks):
        tasks = random.Random(f"{seed}:windows").sample(tasks, most)
    with ThreadPoolExecutor(2) as pool:
        windows = pool.map(lambda task: task[0](task[1], f"{seed}:{task[1].rsplit('/', 1)[-1]}"), tasks)
        return [w for w in tqdm(windows, total=len(tasks), desc="windows", mininterval=5) if w is not None]


def draw_shifts(frames: int, rng: random.Random) -> np.ndarray:
    """(frames, 2) whole pixels by which a picture is shaken: single frames jump, or all of them swing as in a hand."""
    shifts = np.zeros((frames, 2), dtype=int)
    if rng.random() < 0.4:
        reach = rng.randint(1, MARGIN)
        for frame in rng.sample(range(frames), max(1, round(rng.uniform(0.08, 1) * frames))):
            shifts[frame] = rng.randint(-reach, reach), rng.randint(-reach, reach)
        return shifts
    reach = math.exp(rng.uniform(0, math.log(MARGIN)))
    turn = 2 * math.pi * rng.uniform(1.5, 5) / rng.choice((24, 25, 30, 60))
    phases = np.array([rng.uniform(0, 6.3)]) + np.array([0, 1.7])
    times = np.arange(frames)[:, None]
    swing = 0.6 * np.sin(2.3 * turn * times + phases) + 0.4 * np.sin(turn * times + 2 * phases)
    return np.rint(reach * swing).astype(int)


def draw_order(kind: str, frames: int, rng: random.Random) -> np.ndarray:
    """Which frame is shown in place of each."""
    shown = np.arange(frames)
    if kind == "freeze":
        frozen = max(2, round(rng.uniform(0.1, 0.85) * frames))
        first = rng.randrange(frames - frozen + 1)
        shown[first : first + frozen] = first
    elif kind == "drop":
        held = round(math.exp(rng.uniform(math.log(2), math.log(13))) - 0.5)
        if rng.random() < 0.5:  # every frame is held
            return shown // held * held
        of_pair = (shown + rng.randrange(2 * held)) % (2 * held)  # of every second group, its first frame
        shown = np.maximum(0, np.where(of_pair < held, shown - of_pair, shown))
    return shown


def distort(windows: np.ndarray, frames: int, rng: random.Random) -> tuple[torch.Tensor, int, torch.Tensor]:
    """
    One chunk of so many frames of these windows with one distortion in time.

    Returns:
        (frames, 3, 2 * PATCH, 2 * PATCH) in 0-255; the kind's index; log mean squared change, share of frames changed
        and log speed, each scaled to about 0-1.
    """
    kind = rng.choice(KINDS)
    order = np.arange(FRAMES)
    shifts = np.zeros((FRAMES, 2), dtype=int)
    if rng.random() < 0.1:
        order[:] = rng.randrange(FRAMES)  # a still picture, whatever is done to it
    after = order[draw_order(kind, FRAMES, rng)]
    if kind == "shake":
        shifts = draw_shifts(FRAMES, rng)

    start = rng.randrange(FRAMES - frames + 1)
    times = slice(start, start + frames)
    before = mosaic(windows, order[times], np.zeros((frames, 2), dtype=int))
    chunk = mosaic(windows, after[times], shifts[times])
    changes = (chunk - before).square().mean((1, 2, 3))  # (frames,)
    change, share = changes.mean(), (changes > UNSEEN).float().mean()
    speed = (before[1:] - before[:-1]).square().mean()
    degrees = torch.stack([change.clamp(min=UNSEEN).log() / 8, share, speed.clamp(min=UNSEEN).log() / 8])
    seen = KINDS.index(kind) if change > UNSEEN else 0

    # What must not matter: light, contrast, noise, which way is up
    chunk = chunk * rng.uniform(0.4, 1.2) + rng.uniform(-20, 20)
    if rng.random() < 0.3:
        chunk = chunk + torch.randn_like(chunk) * rng.uniform(0, 12)
    flips = [axis for axis in (2, 3) if rng.random() < 0.5]
    return chunk.clamp(0, 255).flip(flips), seen, degrees


def mosaic(windows: np.ndarray, order: np.ndarray, shifts: np.ndarray) -> torch.Tensor:
    """The frames in this order, each shifted by so many (down, right) pixels: (frames, 3, 2 * PATCH, 2 * PATCH)."""
    frames = [
        windows[:, frame, MARGIN + down : MARGIN + down + PATCH, MARGIN + right : MARGIN + right + PATCH]
        for frame, (down, right) in zip(order, shifts, strict=True)
    ]
    cells = torch.from_numpy(np.stack(frames)).unflatten(1, (2, 2))  # (frames, 2, 2, PATCH, PATCH, 3)
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3).float()


def draw_batch(windows: list[np.ndarray], size: int, rng: random.Random) -> tuple[torch.Tensor, ...]:
    """
    Chunks (size, CHUNK_FRAMES, 3, side, side) as the tower takes them, each with its number of frames (size,), kind
    (size,) and degrees (size, 3).
    """
    num_frames = [rng.choice((24, 25, 29, 30, rng.randint(FEWEST_FRAMES, FRAMES))) for _ in range(size)]
    drawn = [distort(rng.choice(windows), frames, rng) for frames in num_frames]
    chunks, kinds, degrees = zip(*drawn, strict=True)
    whole = [torch.cat([chunk, chunk[-1:].expand(CHUNK_FRAMES - len(chunk), -1, -1, -1)]) for chunk in chunks]
    return (torch.stack(whole) - MEAN) / STD, torch.tensor(num_frames), torch.tensor(kinds), torch.stack(degrees)


@torch.no_grad()
def start_with_derivatives(fast_stem: nn.Conv3d) -> None:
    """
    Sets the fast pathway's first filters to blurred derivatives in time, rising, falling and bending both ways: frozen,
    dropped and shaken frames show in them at once.
    """
    _, in_channels, frames, height, _ = fast_stem.weight.shape
    middle = frames // 2
    derivatives = torch.zeros(4, frames)
    derivatives[0, middle - 1 : middle + 1] = torch.tensor([-1.0, 1.0])
    derivatives[1] = -derivatives[0]
    derivatives[2, middle - 1 : middle + 2] = torch.tensor([-1.0, 2.0, -1.0])
    derivatives[3] = -derivatives[2]
    blur = torch.hann_window(height + 2, periodic=False)[1:-1]
    blur = blur[:, None] * blur / blur.sum() ** 2
    fast_stem.weight[:4] = derivatives[:, None, :, None, None] * blur / in_channels


@torch.no_grad()
def validate(tower: nn.Module, head: nn.Module, batches: list[tuple[torch.Tensor, ...]]) -> dict[str, float]:
    tower.eval()
    outputs = torch.cat([head(tower(chunks, num_frames).pooler_output) for chunks, num_frames, _, _ in batches])
    kinds = torch.cat([kinds for *_, kinds, _ in batches])
    degrees = torch.cat([degrees for *_, degrees in batches])
    tower.train()
    return {
        "kind_accuracy": (outputs[:, : len(KINDS)].argmax(-1) == kinds).float().mean().item(),
        **{
            f"{name}_srcc": float(spearmanr(outputs[:, len(KINDS) + k], degrees[:, k]).statistic)
            for k, name in enumerate(("change", "share", "speed"))
        },
    }


def load_first_tower(start: str | None) -> LmmVqaSlowFastModel:
    if start:
        return LmmVqaForConditionalGeneration.from_pretrained(start).model.temporal_tower.train()
    tower = LmmVqaSlowFastModel(small_temporal_config()).train()
    start_with_derivatives(tower.stem.fast.conv)
    return tower


def main() -> None:
    (arguments,) = HfArgumentParser(PretrainArguments).parse_args_into_dataclasses()
    set_seed(arguments.seed)
    for folder in (Path(arguments.out).parent, Path(arguments.work)):
        folder.mkdir(parents=True, exist_ok=True)
    photographs, of_folders = load_rows(arguments.photographs), [load_rows(folder) for folder in arguments.clips]
    clips = {part: [row for rows in of_folders for row in rows[part]] for part in ("train", "validation")}
    windows = all_windows(clips["train"], photographs["train"], arguments.seed, arguments.windows)
    held_out = all_windows(clips["validation"], photographs["validation"], arguments.seed, HELD_OUT_WINDOWS)
    rng = random.Random(f"{arguments.seed}:validation")
    validation = [draw_batch(held_out, arguments.batch_size, rng) for _ in range(HELD_OUT_BATCHES)]

    tower = load_first_tower(arguments.start)
    head = nn.Linear(tower.config.feature_size, len(KINDS) + 3)

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(f"{arguments.seed}:training:{step}")
        chunks, num_frames, kinds, degrees = draw_batch(windows, arguments.batch_size, rng)
        # float32: bfloat16 rounds the differences between frames away
        outputs = head(tower(chunks, num_frames).pooler_output)
        loss = nn.functional.cross_entropy(outputs[:, : len(KINDS)], kinds)
        return loss + 10 * nn.functional.mse_loss(outputs[:, len(KINDS) :], degrees)

    train_tower(tower, head, loss_of, lambda: validate(tower, head, validation), arguments, arguments.stop_step)
    save_model(tower, arguments.out)


if __name__ == "__main__":
    main()
