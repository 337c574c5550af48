"""Motion tokens behind each key frame, and the norm behind their projection."""

import pytest
import torch
from conftest import tiny_config, tiny_pair, tiny_tokenizer
from huggingface_hub.errors import StrictDataclassError
from test_score_losses import batch_of, learn

from lmmvqa.checkpoints.assemble import PRESETS
from lmmvqa.modeling_lmmvqa import LmmVqaConfig
from lmmvqa.training.qa_pairs import QaPairs
from lmmvqa.training.trained_parts import train_only


OPTIONS = {
    name: PRESETS["interleaved"][name] for name in PRESETS["interleaved"] if name in LmmVqaConfig.__annotations__
}


@torch.no_grad()
def test_each_chunks_token_stands_behind_its_key_frames(clips):
    model, processor = tiny_pair(**OPTIONS)
    inputs = processor(processor.video_processor.encode(clips[2:], model))
    image, video = model.config.image_token_id, model.config.video_token_id
    ids = inputs["input_ids"][0].tolist()
    start = ids.index(image)
    assert ids[start : start + 15] == ([image] * 4 + [video]) * 3 and ids.count(video) == 3

    seen = {}
    model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    expected = model(**inputs).video_hidden_states
    placed = seen["inputs_embeds"][0, [start + 4, start + 9, start + 14]]
    assert torch.equal(placed, expected) and len({tuple(row) for row in placed.tolist()}) == 3
    torch.testing.assert_close(placed.mean(-1), torch.zeros(3), atol=1e-5, rtol=0)  # which a LayerNorm gives
    torch.testing.assert_close(placed.std(-1, correction=0), torch.ones(3), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "options", [{"temporal_reduction": "mean"}, {"spatial_reduction": "mean"}, {"temporal_fusion": "vision"}]
)
def test_tokens_that_are_no_chunks_own_are_not_interleaved(options):
    with pytest.raises(StrictDataclassError, match="got temporal_placement='interleaved' with spatial_reduction"):
        tiny_config(tiny_tokenizer(), **OPTIONS | options)


def test_a_tiny_model_learns_with_interleaved_tokens(clips):
    model, processor = tiny_pair(**OPTIONS)
    train_only(model, ["spatial_projector", "temporal_projector", "language_model"])
    rows = [
        {"video": clip, "mos": mos, "dataset": "tiny"} for clip, mos in zip(clips, (10.0, 50.0, 90.0), strict=True)
    ]
    batch = batch_of(processor, QaPairs(rows, ("score",), {}, inference_share=1.0))
    before = model.model.temporal_projector.norm.weight.clone()
    learn(model, batch, 30)
    assert not torch.equal(model.model.temporal_projector.norm.weight, before)
    scores = [result.score for result in model.eval().rate_videos(processor, clips)]
    assert scores == pytest.approx([10, 50, 90], abs=5)
