"""What a run of train.py will take, before it starts: memory of a device, steps, the feature cache on disk.

Nothing is allocated: the model is built of fake tensors, and what a forward pass keeps for the backward pass is
counted.
"""

import math
import os
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import av
import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, TrainingArguments

from ..datasets_scripts.rows import row_media
from ..processing.processing_lmmvqa import LmmVqaProcessor
from .qa_pairs import QaPairs, level_thresholds
from .trained_parts import add_lora, train_only


# Section IV-A
PAPER_BATCH_SIZE = 32
# Of one accelerator, and the share of it that a plan may fill: the rest is for what no plan knows, such as kernels'
# workspaces and fragments
DEVICE_BYTES, FILLED = 80e9, 0.9
SAMPLED_VIDEOS = 64


@dataclass
class TrainingMemory:
    """
    Bytes on one device that holds the whole model; FSDP and ZeRO-3 share weights, gradients and moments out.

    Attributes:
        weights: by dtype.
        gradients: of what is trained.
        moments: AdamW's two of each trained weight.
        copies: of weights, as mixed precision makes them of what is trained, once for all questions.
        activations: of one question about the longest video, in a batch of others.
        tokens: of that question's sequence.
    """

    weights: dict[torch.dtype, int]
    gradients: int
    moments: int
    copies: int
    activations: int
    tokens: int

    def total(self, batch_size: int) -> int:
        model = sum(self.weights.values()) + self.gradients + self.moments + self.copies
        return model + batch_size * self.activations

    def largest_batch(self, at_most: int) -> int:
        """The largest of `at_most`, its half, its quarter ... that fits `DEVICE_BYTES`; 1 where none does."""
        while at_most > 1 and self.total(at_most) > FILLED * DEVICE_BYTES:
            at_most //= 2
        return at_most


def video_seconds(videos: list[str]) -> np.ndarray:
    """
    Lengths in seconds, as containers announce them, of about `SAMPLED_VIDEOS` videos spread over the list; 0 of
    pictures, and of what training will find to be damaged.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    lengths = []
    for video in videos[:: max(1, len(videos) // SAMPLED_VIDEOS)]:
        lengths.append(0.0)
        if not os.path.exists(video):
            raise FileNotFoundError(f"got {video}, which is not there, expected a video; put it back")
        with suppress(av.FFmpegError), av.open(video) as container:
            lengths[-1] = (container.duration or 0) / av.time_base
    return np.array(lengths)


def training_memory(
    model_args, training_args: TrainingArguments | Namespace, num_chunks: int, chat: str | None = None
) -> TrainingMemory:
    """
    Activations are what autograd keeps of the projectors, of what is trained beside them, of the decoder and of the
    loss, and the float32 gradient and the half copy of the logits. With activation checkpointing each decoder layer
    keeps its input, and one of them everything. Logits are counted at every position, as losses on scores need them;
    without such a loss only those of answers are computed, and a run takes less.

    Args:
        model_args: `train.py`'s.
        training_args: `train.py`'s, or its options before they are parsed.
        num_chunks: of the longest video.
        chat: a question with its answer; the score question by default.
    """
    config = AutoConfig.from_pretrained(model_args.model)
    processor = AutoProcessor.from_pretrained(model_args.model)
    chat = chat or processor.prompt(answer="100")
    num_text_tokens = len(processor.tokenizer(chat, add_special_tokens=False)["input_ids"]) - 1
    mixed = torch.bfloat16 if training_args.bf16 else torch.float16 if training_args.fp16 else None
    dtype = config.dtype if mixed and config.dtype else torch.float32
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
        train_only(model, model_args.train_parts)
        if model_args.lora_rank:
            adapted = add_lora(model, model_args.lora_rank, model_args.train_parts, model_args.lora_parts)
            model = adapted.get_base_model()
    with FakeTensorMode(allow_non_fake_inputs=True):  # VideoMAE has a table of positions that is no weight
        _make_fake(model.train())
        weights, trained = {}, 0
        for tensor in [*model.parameters(), *model.buffers()]:
            size = tensor.numel() * tensor.element_size()
            weights[tensor.dtype] = weights.get(tensor.dtype, 0) + size
            trained += size if tensor.requires_grad else 0
        kept = partial(_kept, model, processor, num_chunks, num_text_tokens, mixed)
        copies, activations, tokens = _activations(kept)
        text_config = config.get_text_config()
        if training_args.activation_checkpointing or training_args.gradient_checkpointing:
            layers = text_config.num_hidden_layers
            model.activation_checkpointing_enable()
            # Layers' inputs are met, and what is kept inside of a layer is not
            _, outside, _ = _activations(kept)
            activations = outside + (activations - outside) // layers
    logits = tokens * text_config.vocab_size
    activations += logits * (4 + (mixed or torch.float32).itemsize)
    return TrainingMemory(weights, trained, 2 * trained, copies, activations, tokens)


def _make_fake(model: PreTrainedModel) -> None:
    """Weights on the meta device, which mixed precision does not know, to fake ones of a CPU; tied ones stay tied."""
    fakes = {}  # by id, with the tensors so that no other takes their ids
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in fakes:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype)
                    if isinstance(tensor, torch.nn.Parameter):
                        fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
                    fakes[id(tensor)] = fake, tensor
                tensors[name] = fakes[id(tensor)][0]


def _activations(kept: Callable[[int], tuple[int, int]]) -> tuple[int, int, int]:
    """Bytes that a forward pass keeps beside weights, once and of each question, and the tokens of a question."""
    (one, num_tokens), (two, _) = kept(1), kept(2)
    return 2 * one - two, two - one, num_tokens


def _kept(
    model: PreTrainedModel,
    processor: LmmVqaProcessor,
    num_chunks: int,
    num_text_tokens: int,
    mixed: torch.dtype | None,
    batch_size: int,
) -> tuple[int, int]:
    """Bytes that a forward pass of so many questions keeps beside weights, and the tokens of a question."""
    towers, config = model.model, model.config
    video_processor = processor.video_processor
    weights = {tensor.untyped_storage()._cdata for tensor in model.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = tensor  # alive, so that no other storage takes its place
        return tensor

    side = video_processor.key_frame_size
    pictures = torch.zeros(batch_size * num_chunks * config.key_frame_views, 3, side, side)
    chunks = None
    if config.use_temporal_tokens:
        side = video_processor.chunk_size
        chunks = torch.zeros(batch_size * num_chunks, video_processor.chunk_frames, 3, side, side)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", mixed or torch.bfloat16, enabled=mixed is not None),
    ):
        features = {"temporal_features": None if chunks is None else towers.encode_chunks(chunks)}
        count = np.full(batch_size, num_chunks)  # no fake tensor, since it is read
        vision = towers.encode_key_frames(pictures)
        image = towers.get_image_features(num_chunks=count, vision_features=vision, **features)
        video = towers.get_video_features(num_chunks=count, **features) if config.use_temporal_tokens else None
        text = model.get_input_embeddings()(torch.zeros(batch_size, num_text_tokens, dtype=torch.long))
        parts = [torch.stack(list(output.pooler_output)) for output in (image, video) if output is not None]
        embeddings = torch.cat(
            [*(part.to(text.dtype) for part in parts), text], dim=1
        )  # (batch, sequence, hidden_size)
        hidden = towers.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        labels = torch.zeros(hidden.shape[:2], dtype=torch.long)
        model.loss_function(
            logits=model.lm_head(hidden), labels=labels, vocab_size=config.get_text_config().vocab_size
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), embeddings.shape[1]


def longest_chat(processor: LmmVqaProcessor, rows: list[dict]) -> str | None:
    """Of rows with conversations the one of most text; None where there are none."""
    conversations = [row["conversations"] for row in rows if row.get("conversations")]
    if not conversations:
        return None
    longest = max(conversations, key=lambda turns: sum(len(turn["content"]) for turn in turns))
    return processor.conversation_prompt(longest)


def longest_part(processor: LmmVqaProcessor, seconds: float, max_positions: int, chat: str | None = None) -> int:
    """
    Chunks of a video so long that are seen at once: all, or those of its longest window; beside a conversation, as many
    as fit.
    """
    num_chunks = max(1, int(seconds) if not processor.video_processor.keep_incomplete_second else round(seconds))
    if chat is not None:
        return min(num_chunks, processor.longest_fitting([num_chunks], chat, max_positions))
    windows = processor.windows(np.arange(num_chunks), processor.prompt(answer="100"), max_positions)
    return max(window.end_chunk - window.first_chunk for window in windows)


def _memory_of_longest(model_args, training_args, rows: list[dict]) -> tuple[TrainingMemory, np.ndarray]:
    """`training_memory` of the longest of these videos, and what `video_seconds` says of them."""
    processor = AutoProcessor.from_pretrained(model_args.model)
    max_positions = AutoConfig.from_pretrained(model_args.model).get_text_config().max_position_embeddings
    lengths, chat = video_seconds([row["video"] for row in rows]), longest_chat(processor, rows)
    num_chunks = longest_part(processor, lengths.max(), max_positions, chat)
    return training_memory(model_args, training_args, num_chunks, chat), lengths


def default_batch(options: Namespace, rows: list[dict]) -> list[str]:
    """
    Options of train.py for the paper's batch of 32 over all processes, as many questions at a time as fit 80 GB beside
    the model. The loss is the same, however the batch is divided.

    Args:
        options: those that were given.
        rows: to train on.

    Raises:
        ValueError: accumulated steps and processes do not divide that batch.
    """
    accumulated, processes = options.gradient_accumulation_steps, int(os.environ.get("WORLD_SIZE", 1))
    at_most, rest = divmod(PAPER_BATCH_SIZE, accumulated * processes)
    if rest:
        raise ValueError(
            f"got gradient_accumulation_steps={accumulated} in {processes} processes, expected numbers that divide the "
            f"paper's batch of {PAPER_BATCH_SIZE}; set --per_device_train_batch_size for another batch"
        )
    memory, _ = _memory_of_longest(options, options, rows)
    batch_size = memory.largest_batch(at_most)
    accumulated *= at_most // batch_size
    return ["--per_device_train_batch_size", str(batch_size), "--gradient_accumulation_steps", str(accumulated)]


def cache_bytes_a_chunk(model_args) -> int:
    """What the feature cache stores of one chunk, as float16."""
    config = AutoConfig.from_pretrained(model_args.model)
    side = AutoProcessor.from_pretrained(model_args.model).video_processor.key_frame_size
    with torch.device("meta"), torch.no_grad():
        towers = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).model.eval()
        features = towers.encode_key_frames(torch.zeros(config.key_frame_views, 3, side, side)).numel()
    return 2 * (features + config.temporal_feature_size * config.use_temporal_tokens)


def training_plan(model_args, data_args, training_args, rows: dict[str, list[dict]]) -> str:
    """
    What the run will take, as text. Lengths are of a sample of the training videos, so the longest one may be missed.

    Args:
        model_args, data_args, training_args: the dataclasses of `train.py`.
        rows: by split.

    Raises:
        OSError, ValueError: there is no such model.
    """
    memory, lengths = _memory_of_longest(model_args, training_args, rows["train"])
    batch_size, accumulated = training_args.per_device_train_batch_size, training_args.gradient_accumulation_steps
    whole = batch_size * accumulated * training_args.world_size
    weights = ", ".join(
        f"{_gb(size)} in {str(dtype).removeprefix('torch.')}" for dtype, size in memory.weights.items()
    )
    of_question = f"{_gb(memory.activations)} a question of {memory.tokens:,} tokens"
    room = f"{FILLED:.0%} of {_gb(DEVICE_BYTES)}"
    lines = [
        f"videos: {lengths.mean():.1f} s on average and {lengths.max():.1f} s at most, of {len(lengths)} looked at",
        "memory of a device that holds the whole model:",
        f"  weights      {_gb(sum(memory.weights.values()))}: {weights}",
        f"  gradients    {_gb(memory.gradients)}",
        f"  moments      {_gb(memory.moments)}, AdamW's",
        f"  copies       {_gb(memory.copies)}, of weights in half precision",
        f"  activations  {_gb(batch_size * memory.activations)}: {of_question}",
        f"  in all       {_gb(memory.total(batch_size))}, beside what kernels take",
    ]
    if memory.total(batch_size) > FILLED * DEVICE_BYTES:
        lines.append(f"  more than {room}: lower per_device_train_batch_size, or add --activation_checkpointing")
    pairs = QaPairs(rows["train"], tuple(data_args.tasks), level_thresholds(rows["train"]))
    steps = training_args.max_steps
    if steps <= 0:
        batches = math.ceil(len(pairs) / (batch_size * training_args.world_size))
        steps = math.ceil(math.ceil(batches / accumulated) * training_args.num_train_epochs)
    lines.append(
        f"batch: {batch_size} a device x {accumulated} accumulated x {training_args.world_size} processes = {whole}; "
        f"{len(pairs):,} questions, {steps:,} steps"
    )
    num_videos = len({file for of_split in rows.values() for row in of_split for file in row_media(row)})
    stored = cache_bytes_a_chunk(model_args) * num_videos * max(1.0, lengths.mean())
    lines.append(f"feature cache: about {_gb(stored)} for {num_videos:,} videos")
    lines.append("hours: not known before a step is timed; benchmarks/train_step.py times those of the paper's model")
    return "\n".join(lines)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
