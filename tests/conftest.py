"""Tiny random models and clips written by PyAV: nothing here is downloaded and nothing takes a second."""

import importlib.util
import io
import os
import resource
import sys
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, LlamaConfig, pipeline

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.datasets_scripts.rows import CONVERSATION_FEATURES, save_rows
from lmmvqa.modeling_lmmvqa import (
    LmmVqaConfig,
    LmmVqaEfficientNetLiteConfig,
    LmmVqaForConditionalGeneration,
    LmmVqaProcessor,
    LmmVqaSlowFastConfig,
    LmmVqaVideoProcessor,
)
from lmmvqa.processing.context_lmmvqa import TOKEN_LAYOUT
from recipes.default.small_tokenizer import KEY_FRAME_TOKEN, VIDEO_TOKEN, small_tokenizer


# Tiny models gain nothing from a second thread, and where other processes share the cores its waits cost minutes; nor do
# those in processes of their own
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

TINY_TEMPORAL = LmmVqaSlowFastConfig(slow_stem_channels=4, fast_stem_channels=4, depths=[1, 1, 1, 1])
TINY_LITE = LmmVqaEfficientNetLiteConfig(
    stem_channels=4,
    out_channels=[4, 6, 8, 8, 8, 8, 8],
    num_block_repeats=[1, 1, 1, 1, 1, 1, 1],
    out_blocks=[1, 3],
    grid_size=2,
)


def write_clip(
    path, num_frames=30, fps=30, size=(96, 64), codec="libx264", pixel_format="yuv420p", seed=0, times=None
):
    """A clip of a moving grating; `times` (seconds) are its frames' time stamps where they are not even."""
    width, height = size
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 6), rng.uniform(0.2, 1.0)
    x = np.arange(width)[None, :] / 5 + np.arange(height)[:, None] / 9
    times = [index / fps for index in range(num_frames)] if times is None else times
    time_base = Fraction(1, 12_000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = time_base
        if codec.startswith("libvpx"):  # whose threads may wait for each other for ever
            stream.codec_context.thread_count = 1
        for time in times:
            grating = (127 + 100 * np.sin(x + phase + speed * time * 30)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.stack([grating, grating[::-1], grating], -1), format="rgb24")
            frame.pts, frame.time_base = round(time / time_base), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def tiny_tokenizer():
    processor_texts = ["You are an expert.", "How good is the quality of this video? poor, fair or good."]
    return small_tokenizer(processor_texts, vocab_size=400)


def tiny_config(tokenizer, vision="lite", hidden_size=32, **options):
    """The vision tower's features are 28 (lite) or 32 (clip) wide."""
    vision_config = {
        "lite": TINY_LITE,
        "clip": CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        ),
    }[vision]
    text_config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    options = {
        "vision_feature_layer": -1 if vision == "lite" else -2,
        "vision_feature_select_strategy": "full" if vision == "lite" else "default",
        "spatial_grid_size": 2,
        "spatial_projector_num_attention_heads": 4,
        "spatial_projector_intermediate_size": 48,
    } | options
    return LmmVqaConfig(
        vision_config=vision_config.to_dict(),
        temporal_config=TINY_TEMPORAL.to_dict(),
        text_config=text_config.to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids(KEY_FRAME_TOKEN),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO_TOKEN),
        **options,
    )


def tiny_processor(config, tokenizer):
    views = list(range(1, config.key_frame_views + 1))
    return LmmVqaProcessor(
        LmmVqaVideoProcessor(
            key_frame_size=32, key_frame_fragments=views if len(views) > 1 else 1, chunk_size=32, chunk_frames=8
        ),
        tokenizer,
        key_frame_token=KEY_FRAME_TOKEN,
        video_token=VIDEO_TOKEN,
        **{name: getattr(config, name) for name in TOKEN_LAYOUT},
    )


def tiny_pair(seed=0, **options):
    """A tiny random model, every weight of which matters, and its processor."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    config = tiny_config(tokenizer, **options)
    model = LmmVqaForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:  # the library's initialisation is so small that answers would hardly differ
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model, tiny_processor(config, tokenizer)


@pytest.fixture(scope="session")
def tiny():
    return tiny_pair()


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    """A folder of the tiny model and its processor, as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("model")
    for part in tiny:
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def scorer(tiny):
    return pipeline("video-quality-assessment", model=tiny[0], processor=tiny[1])


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Three clips of 1, 2 and 3 seconds."""
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"{n}s.mp4", num_frames=30 * n, seed=n) for n in (1, 2, 3)]


class Pipe(io.BytesIO):
    """Bytes that come once."""

    def seekable(self):
        return False

    def seek(self, *arguments):
        raise io.UnsupportedOperation("seek")


class Broken(io.BytesIO):
    """A file object that fails when `fails_at` bytes are read."""

    def __init__(self, data, error, fails_at=0):
        super().__init__(data)
        self.error, self.fails_at = error, fails_at

    def read(self, size=-1):
        if self.tell() >= self.fails_at:
            raise self.error
        return super().read(size)


@contextmanager
def full_disk(num_bytes: int):
    """No file can grow beyond so many bytes, whoever writes it in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# train.py

TRAIN_PY = Path(__file__).resolve().parents[1] / "train.py"


@pytest.fixture(scope="session")
def train():
    """train.py as a module."""
    spec = importlib.util.spec_from_file_location("train", TRAIN_PY)
    module = importlib.util.module_from_spec(spec)
    sys.modules["train"] = module  # checkpoints pickle its arguments by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(*tiny_pair(), folder, torch.float32)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """A folder of six rows to train on and three to validate with."""
    folder = tmp_path_factory.mktemp("rows")
    splits = ["train"] * 6 + ["validation"] * 3
    for index in range(9):
        write_clip(folder / f"{index}.mp4", num_frames=30 + 30 * (index % 2), seed=index)
    rows = [
        {"video": f"{index}.mp4", "mos": 10.0 * (index + 1), "dataset": "tiny", "split": split, "group": str(index)}
        for index, split in enumerate(splits)
    ]
    save_rows(rows, [], "tiny", folder)
    return folder


@pytest.fixture
def talk(tmp_path, clips):
    """A folder of four conversations to train on, one of them about two clips, and one to validate with."""
    turns = [("user", "<video>\nHow good?"), ("assistant", "63"), ("user", "A word?"), ("assistant", "poor")]
    media = [*([clip] for clip in clips), clips[:2], [clips[0]]]
    rows = [
        {
            "video": of_row[0],
            "mos": None,
            "dataset": "talk",
            "split": "validation" if index == 4 else "train",
            "group": str(index),
            "media": of_row,
            "conversations": [
                {"role": role, "content": text.replace("<video>", "<video>" * len(of_row))} for role, text in turns
            ],
        }
        for index, of_row in enumerate(media)
    ]
    save_rows(rows, [], "talk", tmp_path / "talk", CONVERSATION_FEATURES)
    return tmp_path / "talk"


@pytest.fixture
def arguments(checkpoint, rows, tmp_path):
    return [
        *("--model", checkpoint, "--data", rows, "--output_dir", tmp_path / "run", "--export_dir", tmp_path / "mine"),
        *("--max_steps", 2, "--per_device_train_batch_size", 4, "--use_cpu", "--save_strategy", "no"),
    ]


def run(train, monkeypatch, arguments, *more) -> dict[str, torch.Tensor]:
    """Runs train.py in this process; returns the exported tensors."""
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, [*arguments, *more])])
    train.main()
    return load_file(Path(arguments[arguments.index("--export_dir") + 1]) / "model.safetensors")


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}
