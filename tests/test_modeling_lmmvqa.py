"""The model: counts, cached generation, batches, frozen towers, features in place of pixels, the answer readout."""

from itertools import product

import pytest
import torch
from conftest import tiny_config, tiny_pair, tiny_processor, tiny_tokenizer
from tokenizers import pre_tokenizers

from lmmvqa.modeling_lmmvqa import LmmVqaForConditionalGeneration
from lmmvqa.processing.video_decoding_lmmvqa import EncodedVideo


GREEDY = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}


@pytest.fixture(scope="module")
def inputs(tiny, clips):
    """Three videos of different length in one batch."""
    return tiny[1](clips)


@pytest.fixture(scope="module")
def decoded(tiny, clips):
    return tiny[1].video_processor.decode(clips)


def encode(model, processor, videos) -> list[EncodedVideo]:
    return processor.video_processor.encode(videos, model)


def split_digits_tokenizer():
    """Every digit a token of its own, as in Llama-2: "63" is "6", "3"."""
    tokenizer = tiny_tokenizer()
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, tokenizer.backend_tokenizer.pre_tokenizer]
    )
    return tokenizer


def with_split_digits(model):
    return tiny_processor(model.config, split_digits_tokenizer())


@torch.no_grad()
def brute_force(model, answers, input_ids, **inputs) -> torch.Tensor:
    """Log probabilities of the answers to one prompt, each token of each answer by a forward pass of its own."""
    del inputs["attention_mask"]
    known = {}

    def next_token(prefix: tuple[int, ...]) -> torch.Tensor:
        if prefix not in known:
            ids = torch.cat([input_ids, torch.tensor([prefix], dtype=input_ids.dtype)], dim=1)
            known[prefix] = model(input_ids=ids, **inputs).logits[0, -1].log_softmax(-1)
        return known[prefix]

    scores = []
    for answer in map(tuple, answers):
        score = sum(next_token(answer[:index])[token] for index, token in enumerate(answer))
        longer = {tuple(other[: len(answer) + 1]) for other in answers if len(other) > len(answer)}
        going_on = [prefix[-1] for prefix in longer if prefix[:-1] == answer]
        if going_on:
            score = score + torch.log(1 - next_token(answer)[going_on].exp().sum())
        scores.append(score)
    return torch.stack(scores).log_softmax(-1)


# generation


def test_cached_generation_equals_uncached(tiny, inputs):
    cached = tiny[0].generate(**inputs, **GREEDY)
    assert cached.shape[1] == inputs["input_ids"].shape[1] + 6
    assert torch.equal(cached, tiny[0].generate(**inputs, **GREEDY, use_cache=False))
    assert torch.equal(cached, tiny[0].generate(**inputs, **GREEDY, prefill_chunk_size=16))


@pytest.mark.parametrize("options", [{}, {"temporal_fusion": "vision"}, {"use_temporal_tokens": False}])
def test_beams_and_several_sequences(decoded, options):
    model, processor = tiny_pair(**options)
    inputs = processor(decoded)
    several = {"num_beams": 3, "num_return_sequences": 2}
    beams = model.generate(**inputs, **GREEDY, **several)
    assert torch.equal(beams, model.generate(**inputs, **GREEDY, **several, use_cache=False))
    assert len(beams) == 6
    single = model.generate(**processor(decoded[1]), **GREEDY, **several)
    assert torch.equal(beams[2:4, -6:], single[:, -6:])


def test_the_towers_see_each_key_frame_and_clip_once_a_generate(decoded):
    model, processor = tiny_pair()
    calls = []
    for name in ("vision_tower", "temporal_tower"):
        getattr(model.model, name).register_forward_hook(
            lambda _, given, output, name=name: calls.extend([name] * len(given[0]))
        )
    inputs = processor(decoded)
    model.generate(**inputs, **GREEDY, num_beams=2)
    num_chunks, num_clips = (int(inputs[name].sum()) for name in ("num_chunks", "num_clips"))
    assert num_clips == 4 * num_chunks  # thirty frames a second in clips of eight
    assert calls == ["vision_tower"] * num_chunks + ["temporal_tower"] * num_clips


# one batch, one video, one checkpoint


def test_a_batch_row_equals_the_single_row(tiny, inputs, decoded):
    model, processor = tiny
    with torch.no_grad():
        batch_logits = model(**inputs, logits_to_keep=1).logits
    answer_ids = processor.score_answer_ids
    batch = processor.post_process_scores(model.answer_log_probabilities(answer_ids, **inputs))
    for index, video in enumerate(decoded):
        row = processor(video)
        with torch.no_grad():
            torch.testing.assert_close(batch_logits[index], model(**row, logits_to_keep=1).logits[0])
        (single,) = processor.post_process_scores(model.answer_log_probabilities(answer_ids, **row))
        assert abs(batch[index].score - single.score) < 0.01
        assert abs(batch[index].score_std - single.score_std) < 0.01
    assert len({round(result.score, 3) for result in batch}) == 3  # the videos are not the same to the model


@pytest.mark.parametrize("options", [{}, {"vision": "clip", "spatial_projector_type": "perceiver"}])
def test_reload_gives_identical_logits(tmp_path, decoded, options):
    model, processor = tiny_pair(**options)
    inputs = processor(decoded)
    model.save_pretrained(tmp_path)
    reloaded = LmmVqaForConditionalGeneration.from_pretrained(tmp_path)
    assert not reloaded.training
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, reloaded(**inputs).logits)


def test_embeddings_in_place_of_ids(tiny, inputs):
    model = tiny[0]
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    rest = {name: tensor for name, tensor in inputs.items() if name != "input_ids"}
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, model(inputs_embeds=embeddings, **rest).logits)
    with pytest.raises(ValueError, match="exactly one"):
        model(inputs_embeds=embeddings, **inputs)


def test_gradient_checkpointing_changes_no_gradient(decoded):
    gradients = []
    for is_checkpointed in (False, True):
        model, processor = tiny_pair()
        if is_checkpointed:
            model.activation_checkpointing_enable()
        model.train()
        inputs = processor(decoded)
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[0], gradients[1])


# placeholders


@pytest.mark.parametrize(
    "before, after, message",
    [
        ("<|key_frame|>", "<|key_frame|>" * 2, "got 48 placeholders with token id 5 in the prompts for 24 visual"),
        ("<|key_frame|>", "", "got 0 placeholders with token id 5 in the prompts for 24 visual"),
        ("<|video|>", "<|video|>" * 2, "got 6 placeholders with token id 6 in the prompts for 3 visual"),
        ("<|video|>", "", "got 0 placeholders with token id 6 in the prompts for 3 visual"),
    ],
)
def test_wrong_placeholder_counts_raise_with_both_numbers(tiny, inputs, before, after, message):
    model, processor = tiny
    chats = [text.replace(before, after) for text in processor.batch_decode(inputs["input_ids"])]
    text = processor.tokenizer(chats, padding=True, return_tensors="pt", add_special_tokens=False)
    with pytest.raises(ValueError, match=message):
        model(**{**inputs, **text})


def test_placeholders_without_a_video_raise(tiny, inputs):
    with pytest.raises(ValueError, match="got 24 placeholders with token id 5 in the prompts for 0 visual"):
        tiny[0](input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])


def test_chunks_without_their_number_raise(tiny, inputs):
    model = tiny[0].model
    for features, name in (
        (model.get_image_features, "pixel_values"),
        (model.get_video_features, "pixel_values_videos"),
    ):
        with pytest.raises(ValueError, match="got chunks without num_chunks"):
            features(inputs[name])


# options

COMBINATIONS = product(
    ["vit", "mlp", "perceiver"], ["none", "mean"], ["mean", "none"], ["decoder", "vision"], [True, False]
)


@pytest.mark.parametrize("projector, spatial, temporal, fusion, use_temporal_tokens", COMBINATIONS)
def test_every_combination_of_options(decoded, projector, spatial, temporal, fusion, use_temporal_tokens):
    model, processor = tiny_pair(
        spatial_projector_type=projector,
        spatial_reduction=spatial,
        temporal_reduction=temporal,
        temporal_fusion=fusion,
        use_temporal_tokens=use_temporal_tokens,
    )
    inputs = processor(decoded)
    with torch.no_grad():
        outputs = model(**inputs)
    assert outputs.logits.isfinite().all()
    assert len(outputs.image_hidden_states) == (inputs["input_ids"] == model.config.image_token_id).sum()
    temporal_tokens = 0 if outputs.video_hidden_states is None else len(outputs.video_hidden_states)
    assert temporal_tokens == (inputs["input_ids"] == model.config.video_token_id).sum()
    assert hasattr(model.model, "temporal_tower") == use_temporal_tokens


@pytest.mark.parametrize("grid_size", [4, 2])
@pytest.mark.parametrize("projector", ["vit", "perceiver"])
def test_clip_tower_on_smaller_grids(decoded, grid_size, projector):
    model, processor = tiny_pair(vision="clip", spatial_grid_size=grid_size, spatial_projector_type=projector)
    with torch.no_grad():
        outputs = model(**processor(decoded))
    assert len(outputs.image_hidden_states) == 6 * grid_size**2  # six key frames
    assert outputs.logits.isfinite().all()


def test_clip_features_are_the_chosen_layer_without_cls_pooled_to_the_grid(decoded):
    model, processor = tiny_pair(vision="clip", spatial_grid_size=2)
    pixels = processor.video_processor(decoded[0])["pixel_values"]
    with torch.no_grad():
        layer = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2]
        features = model.model.encode_key_frames(pixels)
    top_left = layer[0, 1:].reshape(4, 4, -1)[:2, :2].mean((0, 1))  # 4 x 4 patches to 2 x 2
    torch.testing.assert_close(features[0, 0], top_left)


@pytest.mark.parametrize(
    "options",
    [
        {"vision": "clip", "vision_feature_select_strategy": "full"},  # 17 tokens with CLS
        {"vision": "clip", "spatial_grid_size": 3},
        {"vision": "lite", "vision_feature_select_strategy": "default"},  # no CLS to drop
    ],
)
def test_a_grid_that_does_not_fit_raises(decoded, options):
    model, processor = tiny_pair(**options)
    with pytest.raises(
        ValueError, match="expected a (square grid; set vision|side that spatial_grid_size=3 divides; set spatial)"
    ):
        model(**processor(decoded[0]))


@pytest.mark.parametrize("pathway", ["slow", "fast", "both"])
def test_pathways_of_the_temporal_tower(decoded, pathway):
    model, processor = tiny_pair()
    model.config.temporal_config.pathway = pathway
    model = LmmVqaForConditionalGeneration(model.config).eval()
    feature_size = {"slow": 128, "fast": 128, "both": 256}[pathway]
    assert model.model.temporal_projector.in_features == feature_size
    with torch.no_grad():
        assert model(**processor(decoded)).logits.isfinite().all()


# frozen towers


def test_frozen_towers_stay_in_eval_mode(decoded):
    model, processor = tiny_pair()
    model.requires_grad_(False)
    model.model.temporal_tower.requires_grad_(True)
    model.train()
    assert not any(module.training for module in model.model.vision_tower.modules())
    assert all(module.training for module in model.model.temporal_tower.modules())
    assert model.model.spatial_projector.training and model.model.language_model.training

    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    model(**processor(decoded))
    moved = {name for name, tensor in model.named_buffers() if not torch.equal(tensor, before[name])}
    running = {name for name in before if "running" in name or "num_batches" in name}
    assert moved == {name for name in running if name.startswith("model.temporal_tower")}

    model.eval()
    assert not any(module.training for module in model.modules())


# features in place of pixels


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temporal_fusion": "vision"},
        {"use_temporal_tokens": False},
        {"temporal_reduction": "none", "spatial_reduction": "mean"},
        {"vision": "clip", "spatial_projector_type": "perceiver"},
    ],
)
def test_features_give_the_logits_of_pixels(decoded, options):
    model, processor = tiny_pair(**options)
    inputs = processor(encode(model, processor, decoded))
    assert "pixel_values" not in inputs and "pixel_values_videos" not in inputs
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, model(**processor(decoded)).logits)


@pytest.mark.parametrize(
    "options, is_projected",
    [
        ({}, True),
        ({"spatial_projector_type": "mlp", "key_frame_views": 2, "spatial_projector_norm": True}, True),
        ({"vision": "clip", "spatial_projector_type": "perceiver", "temporal_reduction": "none"}, True),
        ({"use_temporal_tokens": False, "spatial_reduction": "mean"}, True),
        ({"decoder_attention": "mmca", "temporal_projector_norm": True}, True),
        ({"spatial_reduction": "mean_features"}, False),  # projected once the video's other key frames are known
        ({"temporal_fusion": "vision"}, False),
        ({"vision": "clip", "hidden_size": 32}, False),  # tokens are no smaller
    ],
)
def test_portions_are_kept_as_tokens_where_those_are_smaller(clips, options, is_projected):
    model, processor = tiny_pair(**{"hidden_size": 16} | options)
    decoded = processor.video_processor.decode(clips[:2])
    portions = [
        [
            processor.video_processor.encode_portion(video.part(chunk, chunk + 1), model)
            for chunk in range(len(video.seconds))
        ]
        for video in decoded
    ]
    encoded = [processor.video_processor.join_portions(of_video) for of_video in portions]
    config = model.config
    width = config.text_config.hidden_size if is_projected else config.vision_config.hidden_size
    for of_video, video in zip(portions, decoded, strict=True):
        for portion in of_video:
            features = portion.vision_features
            assert features.shape[0] == 1 and features.shape[2] == width
            assert features.untyped_storage().nbytes() == 4 * features.numel()  # nothing larger is behind it
        assert len(of_video) == len(video.seconds)
    if is_projected:
        tokens = config.key_frame_views * config.spatial_grid_size**2
        assert encoded[0].vision_features.shape[1] == tokens
    with torch.no_grad():
        torch.testing.assert_close(model(**processor(encoded)).logits, model(**processor(decoded)).logits)
    (half,) = encode(model.bfloat16(), processor, decoded[:1])
    assert half.vision_features.dtype == torch.bfloat16
    assert half.temporal_features is None or half.temporal_features.dtype == torch.bfloat16


@pytest.mark.parametrize("fusion", ["decoder", "vision"])
def test_key_frame_features_beside_chunks(decoded, fusion):
    model, processor = tiny_pair(temporal_fusion=fusion)
    encoded = [
        EncodedVideo(
            encoding.vision_features, clips=video.clips, num_clips=video.num_clips, num_frames=video.num_frames
        )
        for encoding, video in zip(encode(model, processor, decoded), decoded, strict=True)
    ]
    with torch.no_grad():
        torch.testing.assert_close(model(**processor(encoded)).logits, model(**processor(decoded)).logits)


def test_a_batch_of_videos_in_several_forms_is_refused(decoded):
    model, processor = tiny_pair()
    encoded = encode(model, processor, decoded[:2])
    wider = EncodedVideo(encoded[1].vision_features.repeat(1, 1, 2), encoded[1].temporal_features)
    without = EncodedVideo(encoded[1].vision_features)
    for other, what in ((decoded[1], "pixels"), (wider, "features of"), (without, "features of")):
        with pytest.raises(ValueError, match=f"in 2 forms .*{what}.* expected one: give all of them as files"):
            processor([encoded[0], other])


# the answer readout


@pytest.mark.parametrize("digits", ["merged", "split"])
@pytest.mark.parametrize("task", ["score", "level"])
def test_answer_log_probabilities_equal_brute_force(tiny, decoded, digits, task):
    model, processor = tiny
    if digits == "split":
        processor = with_split_digits(model)
    score_lengths = {len(ids) for ids in processor.score_answer_ids}
    assert score_lengths == ({1} if digits == "merged" else {1, 2, 3})

    answer_ids = getattr(processor, f"{task}_answer_ids")
    question = getattr(processor, f"{task}_question")
    features = encode(model, processor, decoded[:1])
    inputs = processor(features, text=[processor.prompt(question)])
    log_probabilities = model.answer_log_probabilities(answer_ids, **inputs)
    torch.testing.assert_close(log_probabilities[0], brute_force(model, answer_ids, **inputs), atol=2e-5, rtol=0)
    torch.testing.assert_close(log_probabilities.exp().sum(), torch.tensor(1.0))
    assert torch.equal(log_probabilities, model.answer_log_probabilities(answer_ids, **inputs))


def test_split_digits_in_a_batch(tiny, decoded):
    model = tiny[0]
    processor = with_split_digits(model)
    answer_ids = processor.score_answer_ids
    batch = model.answer_log_probabilities(answer_ids, **processor(decoded))
    singles = [model.answer_log_probabilities(answer_ids, **processor(video)) for video in decoded]
    torch.testing.assert_close(batch, torch.cat(singles), atol=2e-5, rtol=0)


def test_merged_digits_cost_one_forward_pass_and_split_digits_two(tiny, inputs, decoded):
    model, processor = tiny
    calls = []
    hook = model.model.language_model.register_forward_hook(lambda *_: calls.append(1))
    model.answer_log_probabilities(processor.score_answer_ids, **inputs)
    assert len(calls) == 1
    processor = with_split_digits(model)
    model.answer_log_probabilities(processor.score_answer_ids, **processor(decoded))
    assert len(calls) == 3
    hook.remove()


def test_right_padding_is_refused(tiny, inputs):
    model, processor = tiny
    flipped = {"input_ids": inputs["input_ids"].flip(1), "attention_mask": inputs["attention_mask"].flip(1)}
    with pytest.raises(ValueError, match="padding_side='left'"):
        model.answer_log_probabilities(processor.score_answer_ids, **{**inputs, **flipped})


@pytest.mark.parametrize("vision", ["lite", "clip"])
@pytest.mark.parametrize("digits", ["merged", "split"])
def test_bfloat16_runs(decoded, vision, digits):
    model, processor = tiny_pair(vision=vision)
    if digits == "split":
        processor = with_split_digits(model)
    inputs, answer_ids = processor(decoded), processor.score_answer_ids
    scores = []
    for dtype in (torch.float32, torch.bfloat16):
        log_probabilities = model.to(dtype).answer_log_probabilities(answer_ids, **inputs)
        assert log_probabilities.dtype == torch.float32
        scores.append([result.score for result in processor.post_process_scores(log_probabilities)])
    assert scores[1] == pytest.approx(scores[0], abs=3)
    assert model.generate(**inputs, **GREEDY).shape[0] == 3


@pytest.mark.parametrize("vision", ["lite", "clip"])
@torch.no_grad()
def test_mixed_precision_leaves_towers_in_float32(vision):
    model = tiny_pair(vision=vision)[0].model
    for encode, pixels in (
        (model.encode_key_frames, torch.randn(2, 3, 32, 32)),
        (model.encode_chunks, torch.randn(2, 8, 3, 32, 32)),
    ):
        expected = encode(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(encode(pixels), expected)


@torch.no_grad()
def test_a_new_model_in_bfloat16_has_towers_in_float32():
    config = tiny_config(tiny_tokenizer(), vision="clip")
    # Flash attention takes half precision alone
    config.vision_config._attn_implementation = "flash_attention_2"
    model = LmmVqaForConditionalGeneration._from_config(config, dtype=torch.bfloat16).model
    types = {name: part.dtype for name, part in model.named_children() if name.endswith(("_tower", "_model"))}
    assert types.pop("language_model") == torch.bfloat16 and set(types.values()) == {torch.float32}
    assert model.vision_tower.config._attn_implementation == "sdpa"


def test_chunks_seen_together_are_as_seen_alone(tiny):
    model = tiny[0].model
    torch.manual_seed(0)
    chunks, key_frames = torch.randn(5, 8, 3, 32, 32), torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        for encode, pixels in ((model.encode_chunks, chunks), (model.encode_key_frames, key_frames)):
            alone = torch.cat([encode(pixels[index : index + 1]) for index in range(5)])
            torch.testing.assert_close(encode(pixels), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("temporal_fusion", ["decoder", "vision"])
@pytest.mark.parametrize("spatial_projector_type", ["vit", "mlp", "perceiver"])
def test_each_view_has_a_vector_of_its_own(spatial_projector_type, temporal_fusion):
    settings = {"spatial_projector_type": spatial_projector_type, "temporal_fusion": temporal_fusion}
    model, _ = tiny_pair(key_frame_views=2, **settings)
    projector = model.model.spatial_projector
    embedding = projector.view_embedding
    torch.nn.init.normal_(embedding.weight)
    is_joined = temporal_fusion == "vision"
    features = torch.randn(3, 8 + is_joined, embedding.weight.shape[1])
    added = embedding(features) - features
    torch.testing.assert_close(added[:, :4], embedding.weight[0].expand(3, 4, -1))
    torch.testing.assert_close(added[:, 4:8], embedding.weight[1].expand(3, 4, -1))
    assert not added[:, 8:].any()
    projector(features).sum().backward()
    assert embedding.weight.grad is not None
    one_view, _ = tiny_pair(**settings)
    assert not any("view_embedding" in name for name in one_view.state_dict())
