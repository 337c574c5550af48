"""Parts of towers that are trained: their last blocks, or adapters beside their layers, and what stays as it was."""

import pytest
import torch
from conftest import tiny_pair
from peft import PeftModel

from lmmvqa.training.data_collator import LmmVqaDataCollator
from lmmvqa.training.feature_cache import FeatureCache
from lmmvqa.training.trained_parts import EMBEDDINGS, add_lora, train_only, trained_state


@pytest.fixture
def clip_pair():
    """A CLIP of two blocks, both of which are used."""
    return tiny_pair(vision="clip", vision_feature_layer=-1, use_temporal_tokens=False)


def learn(model, processor, clips) -> set[str]:
    """Takes some steps on two answers; returns the names of weights and statistics that moved."""
    rows = [
        {"video": clip, "question": "How good?", "answer": answer, "score": float(answer)}
        for clip, answer in zip(clips, ["10", "90"], strict=False)
    ]
    batch = LmmVqaDataCollator(processor, 4096)(rows)
    inputs = {name: value for name, value in batch.items() if name not in ("scores", "contents", "data_sets")}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
    losses = []
    for _ in range(8):
        loss = model.train()(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(("layer", "blocks"), [(-1, [1]), (-2, [0])])
def test_the_last_block_that_is_used_learns_alone(layer, blocks, clips):
    model, processor = tiny_pair(vision="clip", vision_feature_layer=layer, use_temporal_tokens=False)
    train_only(model, ["vision_tower:1"])
    moved = learn(model, processor, clips)
    # Keys' bias changes no attention, so its gradient is rounding
    expected = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert moved <= expected and moved | {name for name in expected if "k_proj.bias" in name} == expected
    assert {int(name.partition(".layers.")[2].partition(".")[0]) for name in moved} == set(blocks)


def test_statistics_move_beside_trained_weights_alone_and_are_saved(clips):
    model, processor = tiny_pair(use_temporal_tokens=False)
    blocks = len(model.model.vision_tower.blocks)
    train_only(model, ["spatial_projector", "vision_tower:1"])
    moved = learn(model, processor, clips)
    statistics = {name for name in moved if "running" in name or "num_batches" in name}
    assert statistics and all(f"vision_tower.blocks.{blocks - 1}." in name for name in statistics)
    assert moved <= trained_state(model)


def test_embeddings_learn_beside_a_frozen_decoder(clip_pair, clips):
    model, processor = clip_pair
    train_only(model, ["spatial_projector", EMBEDDINGS])
    moved = learn(model, processor, clips)
    of_decoder = {name for name in moved if "spatial_projector" not in name}
    assert of_decoder == {"model.language_model.embed_tokens.weight", "lm_head.weight"}  # tied here


def test_adapters_of_a_vision_tower_learn_and_merge(clip_pair, clips):
    model, processor = clip_pair
    adapted = add_lora(model, 2, ["spatial_projector"], ("vision_tower",))
    assert isinstance(adapted, PeftModel)
    moved = learn(adapted, processor, clips)
    lora = {name for name in moved if ".lora_" in name}
    assert len(lora) == 2 * 2 * 6 and all("vision_tower" in name for name in lora)
    assert all("spatial_projector" in name for name in moved - lora)
    inputs = processor(clips)
    with torch.no_grad():
        expected = adapted.eval()(**inputs).logits
        merged = adapted.merge_and_unload()(**inputs).logits
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("parts", "lora_parts", "message"),
    [
        (["vision_tower:3"], None, "expected a number from 1 to the 2 blocks"),
        (["vision_tower:0"], None, "expected a number from 1 to the 2 blocks"),
        (["language_model:1"], None, "got the part 'language_model:1' in train_parts"),
        (["vision_tower:1"], ["language_model"], "expected whole parts beside adapters"),
        (["vision_tower"], ["vision_tower"], "with vision_tower in train_parts, expected one of the two"),
        ([], ["spatial_projector"], "got 'spatial_projector' in lora_parts"),
    ],
)
def test_what_cannot_be_trained_is_refused(clip_pair, parts, lora_parts, message):
    model, _ = clip_pair
    with pytest.raises(ValueError, match=message):
        add_lora(model, 2, parts, lora_parts) if lora_parts else train_only(model, parts)


def test_convolutions_have_no_adapters():
    with pytest.raises(ValueError, match="'temporal_tower' in lora_parts, which has no linear layers"):
        add_lora(tiny_pair()[0], 2, [], ["temporal_tower"])


@pytest.mark.parametrize("lora", [False, True])
def test_features_of_a_tower_that_changes_are_not_cached(clip_pair, tmp_path, lora):
    model, processor = clip_pair
    train_only(model, ["spatial_projector"] if lora else ["spatial_projector", "vision_tower:1"])
    if lora:
        add_lora(model, 2, ["spatial_projector"], ["vision_tower"])
    with pytest.raises(ValueError, match="got a vision tower that is being trained, expected a frozen one; leave"):
        FeatureCache(tmp_path, model, processor)


def test_adapters_without_a_rank_are_refused(train):
    with pytest.raises(ValueError, match="got lora_parts vision_tower without lora_rank"):
        train.ModelArguments(model="any", lora_parts=["vision_tower"])
