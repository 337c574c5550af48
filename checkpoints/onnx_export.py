"""Writes a model as two ONNX graphs, from pixels to features and on to logits, for ONNX Runtime and for browsers."""

import inspect
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..modeling_lmmvqa.modeling_lmmvqa import LmmVqaForConditionalGeneration
from ..processing.answers_lmmvqa import DAMAGE_ANSWERS, LEVELS, SCORE_ANSWERS
from ..processing.processing_lmmvqa import LmmVqaProcessor


TOWERS, DECODER, BROWSER = "towers.onnx", "decoder.onnx", "browser.json"
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
# The first with Gelu as one operator
OPSET = 20
# Fewer weights are not worth an operator that widens them
FEW_WEIGHTS = 1000


def export_onnx(model: LmmVqaForConditionalGeneration, processor: LmmVqaProcessor, folder: str | Path) -> None:
    """
    Writes a folder for `OnnxModel` and for the page in browser/: `towers.onnx`, `decoder.onnx`, what a browser has to know
    of the processor (`browser.json`), the configuration and the processor.

    Both graphs compute in float32 and take batches of any size. Weights that a checkpoint stores in 16 bits are stored so
    here too, which changes none of them, but where the exporter joins them with a normalisation.

    Args:
        model: in float32 and eval mode.

    Raises:
        ValueError: a model of another kind than the embedded one, see `check_exportable`; the packages of the extra are
            not installed.
        OSError: the folder cannot be written.
    """
    check_packages()
    check_exportable(model, processor)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings, views = processor.video_processor.frame_settings, model.config.key_frame_views
    side, frames = settings.chunk_size, settings.chunk_frames
    # Two videos, of one chunk and of two, the last of which has two clips: of sizes 0 and 1 a graph takes no others
    pixels = (
        torch.zeros(3 * views, 3, settings.key_frame_size, settings.key_frame_size),
        torch.zeros(4, frames, 3, side, side),
        torch.tensor([1, 1, 2]),
        torch.full((4,), frames),
    )
    towers = Towers(model).eval()
    _write(towers, pixels, ["vision_features", "temporal_features"], folder / TOWERS)
    with torch.no_grad():
        features = towers(*pixels)
    prompts = torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long)
    _write(Decoder(model).eval(), (*prompts, torch.tensor([1, 2]), *features), ["logits"], folder / DECODER)
    settings = json.dumps(browser_settings(processor), indent=1) + "\n"
    (folder / BROWSER).write_text(settings, encoding="utf-8")
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)


def check_packages() -> None:
    """
    Raises:
        ValueError: a package of the extra is not installed.
    """
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise ValueError(f"got no {', '.join(missing)}, expected them installed; run pip install 'lmmvqa[onnx]'")


def check_exportable(model: LmmVqaForConditionalGeneration, processor: LmmVqaProcessor) -> None:
    """
    Raises:
        ValueError: a model of another kind than the embedded one; it says in what.
    """
    config, settings = model.config, processor.video_processor.frame_settings
    expected = {
        "use_temporal_tokens": (config.use_temporal_tokens, True),
        "temporal_config.model_type": (config.temporal_config.model_type, "lmmvqa_slowfast"),
        "spatial_reduction": (config.spatial_reduction, "none"),
        "temporal_reduction": (config.temporal_reduction, "mean"),
        "temporal_fusion": (config.temporal_fusion, "decoder"),
        "decoder_attention": (config.decoder_attention, "causal"),
        "chunk_sampling": (settings.chunk_sampling, "second"),
        "keep_incomplete_second": (settings.keep_incomplete_second, True),
        "key_frame_resize": (settings.key_frame_resize, "squeeze"),
        "dtype": (model.dtype, torch.float32),
    }
    if others := [f"{name}={got}, expected {wanted}" for name, (got, wanted) in expected.items() if got != wanted]:
        raise ValueError(f"got a model that is not exported to ONNX, with {'; '.join(others)}")
    if processor.max_window_seconds is None:
        raise ValueError(
            "got a processor without max_window_seconds, expected a model that judges videos in short windows, as the "
            "embedded one does; set how many seconds it was trained on"
        )
    for question, answer_ids in processor.result_questions:
        if long := [ids for ids in answer_ids if len(ids) > 1]:
            raise ValueError(
                f"got a tokenizer that splits {len(long)} answers to {question!r} into several tokens, expected one token "
                "for each; take the tokenizer of the embedded model"
            )


def browser_settings(processor: LmmVqaProcessor) -> dict:
    """What the processor does, as JSON for browser/: sizes, statistics of pixels from 0 to 255, prompts, answers, readout."""
    video_processor = processor.video_processor
    settings = video_processor.frame_settings

    def question(text: str, answers: list[str], answer_ids: list[list[int]]) -> dict:
        chat = processor.prompt(text)
        lengths = range(1, processor.max_window_seconds + 1)
        return {
            # of windows of one chunk, of two ...
            "prompts": [processor.expanded_token_ids(chat, num_chunks) for num_chunks in lengths],
            "answers": answers,
            "answer_ids": [token for (token,) in answer_ids],
        }

    answers = {"score": SCORE_ANSWERS, "damage": list(DAMAGE_ANSWERS)}
    questions = zip(answers.items(), processor.result_questions, strict=False)  # models may know the first alone
    image_mean, image_std = video_processor.statistics(video_processor.image_mean, video_processor.image_std)
    chunk_mean, chunk_std = video_processor.statistics(video_processor.chunk_mean, video_processor.chunk_std)
    return {
        "key_frame_size": settings.key_frame_size,
        "key_frame_fragments": settings.key_frame_views,
        "small_frames": settings.small_frames,
        "image_mean": [255 * value for value in image_mean],
        "image_std": [255 * value for value in image_std],
        "chunk_size": settings.chunk_size,
        "chunk_fragments": settings.chunk_fragments,
        "chunk_frames": settings.chunk_frames,
        "chunk_mean": [255 * value for value in chunk_mean],
        "chunk_std": [255 * value for value in chunk_std],
        "questions": {name: question(text, given, ids) for (name, given), (text, ids) in questions},
        "score_map": processor.score_map,
        "score_std_scale": processor.score_std_scale,
        "damage_frequencies": processor.damage_frequencies,
        "levels": LEVELS,
        "level_thresholds": list(processor.level_thresholds),
    }


class Towers(nn.Module):
    """Pixels to features, as `LmmVqaForConditionalGeneration.encode_pixels`, without a loop over chunks."""

    def __init__(self, model: LmmVqaForConditionalGeneration):
        super().__init__()
        self.model = model.model

    def forward(self, pixel_values, pixel_values_videos, num_clips, num_frames):
        vision_features = self.model.encode_key_frames(pixel_values)  # (chunks, tokens, vision hidden_size)
        clips = self.model.encode_clips(pixel_values_videos, num_frames)  # (clips, temporal feature_size)
        weights = _members(num_clips, clips.shape[0]) * num_frames  # (chunks, clips)
        return vision_features, weights @ clips / weights.sum(1, keepdim=True)


class Decoder(nn.Module):
    """Features and prompts to the logits after each prompt, without a loop over videos."""

    def __init__(self, model: LmmVqaForConditionalGeneration):
        super().__init__()
        self.model, self.lm_head, self.config = model.model, model.lm_head, model.config

    def forward(self, input_ids, attention_mask, num_chunks, vision_features, temporal_features):
        key_frames = self.model.spatial_projector(vision_features).flatten(0, 1)  # (key-frame tokens, hidden_size)
        chunks = self.model.temporal_projector(temporal_features)  # (chunks, hidden_size)
        videos = _members(num_chunks, chunks.shape[0]) @ chunks / num_chunks[:, None]  # (videos, hidden_size)
        embeddings = self.model.get_input_embeddings()(input_ids)  # (videos, sequence, hidden_size)
        embeddings = _place(key_frames, input_ids == self.config.image_token_id, embeddings)
        embeddings = _place(videos, input_ids == self.config.video_token_id, embeddings)

        # The library's own making of masks cannot be exported; one of four dimensions it takes as it is
        places = torch.arange(input_ids.shape[1])
        is_seen = attention_mask.bool()[:, None] & (places[:, None] >= places)  # (videos, sequence, sequence)
        mask = torch.where(is_seen, 0.0, torch.finfo(embeddings.dtype).min)[:, None]
        outputs = self.model.language_model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=(attention_mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
        )
        return self.lm_head(outputs.last_hidden_state[:, -1])  # (videos, vocabulary)


def _members(counts: torch.Tensor, total: int) -> torch.Tensor:
    """(groups,) sizes of groups in a row to (groups, total), 1 where the group has the item."""
    ends = counts.cumsum(0)[:, None]
    items = torch.arange(total)
    return ((items < ends) & (items >= ends - counts[:, None])).float()


def _place(tokens: torch.Tensor, mask: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Tokens in order to where the mask says."""
    index = (mask.flatten().cumsum(0) - 1).clamp(min=0).view(mask.shape)
    return torch.where(mask[..., None], tokens[index], embeddings)


def _write(graph: nn.Module, example: tuple[torch.Tensor, ...], output_names: list[str], path: Path) -> None:
    import onnx

    names = list(inspect.signature(graph.forward).parameters)
    batch, sequence = {0: torch.export.Dim.DYNAMIC}, {1: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        graph,
        example,
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=names,
        output_names=output_names,
        dynamic_shapes={
            name: batch | sequence if name in ("input_ids", "attention_mask") else batch for name in names
        },
    )
    proto = program.model_proto
    _strip(proto.graph)
    _store_halves(proto.graph)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


def _strip(graph) -> None:
    """Takes away what the exporter notes of each operator's origin: a tenth of the file, with paths of this machine."""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]


def _store_halves(graph) -> None:
    """Stores weights in 16 bits where that loses nothing; ONNX Runtime widens them once, when it loads the graph."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weights in graph.initializer:
        if weights.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weights)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if values.size >= FEW_WEIGHTS and np.array_equal(halves.astype(np.float32), values):
            name = weights.name
            weights.CopyFrom(numpy_helper.from_array(halves, f"{name}_half"))
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
