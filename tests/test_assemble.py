"""Assembling: every part keeps its weights and its outputs, and what does not fit is refused by name."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY_TEMPORAL
from deterministic import fill
from safetensors.torch import load_file, save_file
from test_convert_weights import LAYOUTS
from test_decoder_tokenizer import llama_3, smollm2
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    ResNetConfig,
    ResNetModel,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    VideoMAEConfig,
    VideoMAEModel,
)

from lmmvqa.checkpoints.assemble import assemble, parse_option, preset_options
from lmmvqa.checkpoints.assembly_plan import assembly_plan
from lmmvqa.commands.command_line import main
from lmmvqa.modeling_lmmvqa import LmmVqaSlowFastConfig, LmmVqaSlowFastModel
from lmmvqa.modeling_lmmvqa.mmca_lmmvqa import MMCA


VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}
OPTIONS = {"spatial_grid_size": 2, "chunk_size": 32, "chunk_frames": 8}


def save_decoder(folder, model_class=LlamaForCausalLM, config_class=LlamaConfig, tokenizer=smollm2, **options):
    tokenizer = tokenizer()
    torch.manual_seed(1)
    options = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, **TEXT, **options}
    model_class(config_class(**options)).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of a random CLIP, SlowFast and Llama, by name."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    clip = CLIPModel(CLIPConfig(vision_config=VISION, text_config={**text, "vocab_size": 50}))
    clip.save_pretrained(folder / "vision")
    fill(LmmVqaSlowFastModel(TINY_TEMPORAL)).save_pretrained(folder / "temporal")
    save_decoder(folder / "decoder", tie_word_embeddings=True)
    return {name: str(folder / name) for name in ("vision", "temporal", "decoder")}


def load(folder, **options):
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values())
    return model, AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def assembled(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("assembled")
    assemble(**parts, out=folder, dtype=torch.float32, **OPTIONS)
    return load(folder)


# each part as it was


@torch.no_grad()
def test_key_frame_features_are_clips(assembled, parts):
    clip = CLIPVisionModel.from_pretrained(parts["vision"])
    pixel_values = torch.randn(3, 3, 32, 32)
    expected = clip(pixel_values, output_hidden_states=True).hidden_states[-2][:, 1:]  # (3, 16, 32)
    model = assembled[0].model
    got = model.vision_tower(pixel_values, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert torch.equal(got, expected)
    cells = expected.unflatten(1, (2, 2, 2, 2)).mean((2, 4)).flatten(1, 2)  # 2 x 2 cells of 2 x 2 tokens
    torch.testing.assert_close(model.encode_key_frames(pixel_values), cells)


@torch.no_grad()
def test_motion_features_are_slowfasts(assembled, parts):
    slowfast = LmmVqaSlowFastModel.from_pretrained(parts["temporal"])
    chunks = torch.randn(1, 8, 3, 32, 32)
    assert torch.equal(assembled[0].model.encode_chunks(chunks), slowfast(chunks).pooler_output)


@torch.no_grad()
def test_features_beside_a_bfloat16_decoder_are_those_in_float32(assembled, parts, tmp_path):
    assemble(**parts, out=tmp_path / "out", **OPTIONS)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    for name in ("vision_tower", "temporal_tower"):
        assert {tensor.dtype for key, tensor in stored.items() if name in key and tensor.is_floating_point()} == {
            torch.float32
        }
    expected = assembled[0].model
    key_frames, chunks = torch.randn(2, 3, 32, 32), torch.randn(2, 8, 3, 32, 32)
    for dtype in ("auto", torch.bfloat16, torch.float16):
        model = load(tmp_path / "out", dtype=dtype)[0].model
        assert model.dtype != torch.float32
        assert torch.equal(model.encode_key_frames(key_frames), expected.encode_key_frames(key_frames))
        assert torch.equal(model.encode_chunks(chunks), expected.encode_chunks(chunks))


@pytest.mark.parametrize(
    "decoder",
    [
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": False},
        {"tokenizer": llama_3, "tie_word_embeddings": False},
        {"vocab_size": 300},  # more rows than tokens, as Qwen has
        {"model_class": Qwen2ForCausalLM, "config_class": Qwen2Config, "tie_word_embeddings": True},
    ],
)
@torch.no_grad()
def test_logits_on_text_are_the_decoders(decoder, parts, tmp_path):
    decoder = save_decoder(tmp_path / "decoder", **decoder)
    assemble(parts["vision"], parts["temporal"], decoder, tmp_path / "out", **OPTIONS)
    model, processor = load(tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(decoder)
    types = {name: {tensor.dtype for tensor in part.parameters()} for name, part in model.model.named_children()}
    assert types.pop("vision_tower") == types.pop("temporal_tower") == {torch.float32}
    assert set().union(*types.values()) == {plain.dtype, model.lm_head.weight.dtype} == {torch.bfloat16}
    inputs = processor.tokenizer(["How good is it?", "Is it 63?"], padding=True, return_tensors="pt")
    logits, expected = model(**inputs).logits, plain(**inputs).logits
    assert torch.equal(logits[..., : expected.shape[-1]], expected)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == plain.config.tie_word_embeddings


@torch.no_grad()
def test_added_placeholders_are_never_the_likeliest(assembled):
    model, processor = assembled
    assert len(processor.tokenizer) == model.config.text_config.vocab_size == len(smollm2()) + 2
    logits = model(**processor.tokenizer("How good?", return_tensors="pt")).logits[0, :, : len(smollm2())]
    added = model(**processor.tokenizer("How good?", return_tensors="pt")).logits[0, :, len(smollm2()) :]
    torch.testing.assert_close(added, logits.mean(-1, keepdim=True).expand_as(added), atol=0.02, rtol=0)


def test_a_vision_model_alone(parts, tmp_path):
    CLIPVisionModel.from_pretrained(parts["vision"]).save_pretrained(tmp_path / "clip")
    assemble(str(tmp_path / "clip"), parts["temporal"], parts["decoder"], tmp_path / "alone", **OPTIONS)
    assemble(**parts, out=tmp_path / "whole", **OPTIONS)
    alone, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "whole"))
    assert alone.keys() == whole.keys() and all(torch.equal(alone[name], whole[name]) for name in whole)


def test_public_slowfast(parts, tmp_path):
    weights = fill(LmmVqaSlowFastModel(LmmVqaSlowFastConfig())).state_dict()
    rename, head = LAYOUTS["PySlowFast"]
    public = {rename(key): tensor for key, tensor in weights.items()} | {head + "bias": torch.zeros(400)}
    torch.save({"model_state": public}, tmp_path / "SLOWFAST_8x8_R50.pyth")
    options = {**OPTIONS, "spatial_projector_intermediate_size": 48}
    pyth = str(tmp_path / "SLOWFAST_8x8_R50.pyth")
    assemble(parts["vision"], pyth, parts["decoder"], tmp_path / "out", torch.float32, **options)
    tower = load(tmp_path / "out")[0].model.temporal_tower
    assert all(torch.equal(tensor, weights[name]) for name, tensor in tower.state_dict().items())


def test_a_vision_tower_without_cls_token_and_with_its_own_normalisation(parts, tmp_path):
    SiglipVisionModel(SiglipVisionConfig(**VISION)).save_pretrained(tmp_path / "vision")
    arguments = (str(tmp_path / "vision"), parts["temporal"], parts["decoder"], tmp_path / "out")
    with pytest.raises(ValueError, match="without preprocessor_config.json.*image_mean"):
        assemble(*arguments, **OPTIONS)
    half = [0.5, 0.5, 0.5]
    (tmp_path / "vision" / "preprocessor_config.json").write_text(json.dumps({"image_mean": half, "image_std": half}))
    with pytest.raises(ValueError, match="got 15 tokens a key frame.*set vision_feature_select_strategy=full"):
        assemble(*arguments, **OPTIONS)
    assemble(*arguments, vision_feature_select_strategy="full", **OPTIONS)
    video_processor = load(tmp_path / "out")[1].video_processor
    assert (video_processor.image_mean, video_processor.key_frame_size) == (half, 32)


TOWERS = {
    "registers": (Dinov2WithRegistersModel, Dinov2WithRegistersConfig(**VISION, num_register_tokens=4), {}),
    "dinov2": (Dinov2Model, Dinov2Config(**VISION), {}),
    "dinov3": (DINOv3ViTModel, DINOv3ViTConfig(**VISION, num_register_tokens=4), {}),
    "siglip": (SiglipVisionModel, SiglipVisionConfig(**VISION), {"vision_feature_select_strategy": "full"}),
    "clip": (CLIPVisionModel, CLIPVisionConfig(**VISION), {}),
}


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_towers_of_other_kinds_and_sizes_give_their_patches(name, size, parts, tmp_path):
    tower_class, config, options = TOWERS[name]
    tower = tower_class(config).eval()
    tower.save_pretrained(tmp_path / "vision")
    half = [0.5, 0.5, 0.5]
    options = {**OPTIONS, **options, "key_frame_size": size, "image_mean": half, "image_std": half}
    assemble(str(tmp_path / "vision"), parts["temporal"], parts["decoder"], tmp_path / "out", **options)
    model, processor = load(tmp_path / "out")
    assert processor.video_processor.key_frame_size == size
    pictures = torch.randn(2, 3, size, size)
    interpolation = {"interpolate_pos_encoding": True} if name in ("clip", "siglip") else {}
    hidden = tower(pictures, output_hidden_states=True, **interpolation).hidden_states[-2]
    side = size // 8
    patches = hidden[:, -(side**2) :].unflatten(1, (2, side // 2, 2, side // 2))  # 2 x 2 cells
    torch.testing.assert_close(model.model.encode_key_frames(pictures), patches.mean((2, 4)).flatten(1, 2))


def test_a_grid_that_cannot_be_pooled_is_refused_with_what_can(parts, tmp_path):
    with pytest.raises(
        ValueError, match="grid of 4 x 4 tokens.*to one of 4, 2, 1, or key_frame_size to a multiple of 24"
    ):
        assemble(**parts, out=tmp_path / "out", **OPTIONS | {"spatial_grid_size": 3})
    assemble(**parts, out=tmp_path / "out", **OPTIONS | {"spatial_grid_size": 3, "key_frame_size": 24})
    with pytest.raises(ValueError, match="got 17 tokens.*set vision_feature_select_strategy=default"):
        assemble(**parts, out=tmp_path / "other", **OPTIONS, vision_feature_select_strategy="full")


def test_a_tower_of_any_aspect_is_refused(parts, tmp_path):
    config = Siglip2VisionConfig(**{name: VISION[name] for name in VISION if name != "image_size"}, num_patches=16)
    Siglip2VisionModel(config).save_pretrained(tmp_path / "vision")
    options = {**OPTIONS, "key_frame_size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    with pytest.raises(ValueError, match="Siglip2VisionModel, which wants .*pixel_attention_mask.*fixed resolution"):
        assemble(str(tmp_path / "vision"), parts["temporal"], parts["decoder"], tmp_path / "out", **options)


# the whole


def test_scores_and_answers(assembled, clips):
    model, processor = assembled
    inputs = processor(clips[:2])
    (first, second) = processor.post_process_scores(
        model.answer_log_probabilities(processor.score_answer_ids, **inputs)
    )
    assert 0 < first.score < 100 and first.score != second.score
    generated = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert generated.shape[1] <= inputs["input_ids"].shape[1] + 3
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id
    assert processor.tokenizer.eos_token_id in model.generation_config.eos_token_id


def test_the_same_command_gives_the_same_weights_whatever_the_size_of_files(parts, tmp_path):
    assemble(**parts, out=tmp_path / "one", **OPTIONS)
    assemble(**parts, out=tmp_path / "many", max_shard_size="100KB", **OPTIONS)
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    one, many = load(tmp_path / "one")[0].state_dict(), load(tmp_path / "many")[0].state_dict()
    assert all(torch.equal(one[name], many[name]) for name in one)
    assert one["model.spatial_projector.linear.weight"].std() > 0.01


def test_the_folder_is_complete_and_names_its_parts(parts, tmp_path):
    assemble(**parts, out=tmp_path / "out", **OPTIONS)
    model, _ = load(tmp_path / "out")
    names = {"vision_tower": "vision", "temporal_tower": "temporal", "language_model": "decoder"}
    assert model.config.base_models == names  # not where they lie on this machine
    card = (tmp_path / "out" / "README.md").read_text()
    assert "projectors have not been trained" in card and "| vision_tower | CLIPVisionModel |" in card
    assert (tmp_path / "out" / "modeling_lmmvqa.py").is_file()
    texts = [file.read_text() for file in (tmp_path / "out").glob("*.json")]
    assert not any(str(tmp_path.parent) in text or parts["decoder"] in text for text in texts)


def test_the_end_of_a_turn_joins_the_decoders_own_end(parts, tmp_path):
    decoder = save_decoder(tmp_path / "decoder", tokenizer=llama_3)
    assemble(parts["vision"], parts["temporal"], decoder, tmp_path / "out", **OPTIONS)
    model, processor = load(tmp_path / "out")
    ends = processor.tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    assert model.generation_config.eos_token_id == ends
    assert model.config.text_config.vocab_size == len(llama_3())


def test_several_views_of_a_key_frame(parts, tmp_path, clips):
    options = {**OPTIONS, "key_frame_fragments": [1, 2]}
    assemble(**parts, out=tmp_path / "out", **options)
    model, processor = load(tmp_path / "out")
    assert model.config.key_frame_views == processor.key_frame_views == 2
    assert model(**processor(clips[0])).logits.isfinite().all()
    one, two = (assembly_plan(**parts, **settings) for settings in (OPTIONS, options))
    assert "visual tokens: 4 a second" in one and "visual tokens: 8 a second" in two


def test_without_temporal_tower(parts, tmp_path, clips):
    options = preset_options("wo-temporal") | OPTIONS
    with pytest.raises(ValueError, match="got the temporal tower .* with use_temporal_tokens=False, expected none"):
        assemble(**parts, out=tmp_path / "out", **options)
    assemble(parts["vision"], None, parts["decoder"], tmp_path / "out", **options)
    model, processor = load(tmp_path / "out")
    assert not hasattr(model.model, "temporal_tower")
    assert model(**processor(clips[0])).logits.isfinite().all()
    with pytest.raises(ValueError, match="got no temporal tower with use_temporal_tokens=True, expected one"):
        assemble(parts["vision"], None, parts["decoder"], tmp_path / "other", **OPTIONS)


def test_the_preset_of_the_code_in_circulation(parts, tmp_path, clips):
    assemble(**parts, out=tmp_path / "out", **preset_options("circulating") | OPTIONS)
    model, processor = load(tmp_path / "out")
    assert model.config.decoder_attention == "mmca"
    assert model.model.language_model.config._attn_implementation == MMCA
    assert model(**processor(clips[0])).logits.isfinite().all()


# what is refused


def damaged(folder, tmp_path, drop, add):
    shutil.copytree(folder, tmp_path / "damaged")
    file = tmp_path / "damaged" / "model.safetensors"
    weights = load_file(file)
    del weights[drop]
    save_file(weights | {add: torch.zeros(1)}, file, metadata={"format": "pt"})
    return str(tmp_path / "damaged")


@pytest.mark.parametrize(
    "part, drop, add, missing",
    [
        ("vision", "vision_model.post_layernorm.bias", "vision_model.extra", "post_layernorm.bias"),
        ("temporal", "stem.slow.norm.bias", "stem.extra", "stem.slow.norm.bias"),
        ("decoder", "model.norm.weight", "model.extra", "model.norm.weight"),
    ],
)
def test_missing_and_unexpected_keys(part, drop, add, missing, parts, tmp_path):
    other = {part: damaged(parts[part], tmp_path, drop, add)}
    with pytest.raises(ValueError, match=f"missing: {missing}; unexpected: .*extra"):
        assemble(**parts | other, out=tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()


def test_a_head_that_is_more_than_linear(parts, tmp_path):
    options = {"model_class": Gemma2ForCausalLM, "config_class": Gemma2Config, "head_dim": 8, "pad_token_id": 0}
    decoder = save_decoder(tmp_path / "decoder", **options)  # caps its logits at 30
    with pytest.raises(ValueError, match="Gemma2ForCausalLM whose logits are not those of a plain linear head"):
        assemble(parts["vision"], parts["temporal"], decoder, tmp_path / "out", **OPTIONS)


@torch.no_grad()
def test_a_head_with_a_bias(parts, tmp_path):
    options = {"model_class": PhiForCausalLM, "config_class": PhiConfig}
    decoder = save_decoder(tmp_path / "decoder", **options)
    assemble(parts["vision"], parts["temporal"], decoder, tmp_path / "zero", **OPTIONS)
    load(tmp_path / "zero")  # nothing is lost with a bias of zero
    file = tmp_path / "decoder" / "model.safetensors"
    weights = load_file(file)
    save_file(weights | {"lm_head.bias": weights["lm_head.bias"] + 1}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="PhiForCausalLM whose logits are not those of a plain linear head"):
        assemble(parts["vision"], parts["temporal"], decoder, tmp_path / "one", **OPTIONS)


def test_a_head_tied_to_embeddings_of_another_name(parts, tmp_path):
    options = {"n_embd": 32, "n_head": 4, "n_layer": 1, "tie_word_embeddings": True}
    decoder = save_decoder(tmp_path / "decoder", GPT2LMHeadModel, GPT2Config, **options)
    with pytest.raises(ValueError, match="GPT2Model, which ties its head to other embeddings"):
        assemble(parts["vision"], parts["temporal"], decoder, tmp_path / "out", **OPTIONS)


def test_a_folder_in_use(parts, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="which is not empty"):
        assemble(**parts, out=tmp_path, **OPTIONS)


def test_options():
    assert parse_option("spatial_grid_size=8") == ("spatial_grid_size", 8)
    assert parse_option("use_temporal_tokens=false") == ("use_temporal_tokens", False)
    assert parse_option("spatial_projector_type=mlp") == ("spatial_projector_type", "mlp")
    assert isinstance(parse_option("projector_dropout=0")[1], float)
    assert parse_option("image_mean=[0.5, 0.5, 0.5]") == ("image_mean", [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="got the options image_token_id, expected some of"):
        parse_option("image_token_id=7")
    with pytest.raises(
        ValueError,
        match="got the preset 'big', expected one of paper, paper-64, general, interleaved, circulating, wo-temporal, llama-2",
    ):
        preset_options("big")


def test_without_a_connection_it_is_said_at_once(parts, tmp_path, monkeypatch, capsys):
    tried = []

    def head(address):
        tried.append(address)
        raise OSError("no route")

    monkeypatch.setattr("lmmvqa.checkpoints.hub_connection.get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr("lmmvqa.checkpoints.base_models.AutoConfig", None)  # which would try for a minute
    with pytest.raises(SystemExit) as stop:
        main(["assemble", "--dry-run", "--vision", "nobody/nothing", "--decoder", parts["decoder"]])
    assert stop.value.code == 2 and len(tried) == 1
    error = capsys.readouterr().err
    assert "got model 'nobody/nothing', which is no folder here" in error and error.endswith("no route\n")


def test_a_dry_run_of_folders_needs_no_connection(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lmmvqa.checkpoints.hub_connection.get_session", None)
    for name in ("vision", "decoder"):
        (tmp_path / name).mkdir()
        shutil.copy(os.path.join(parts[name], "config.json"), tmp_path / name)
    folders = ["--vision", str(tmp_path / "vision"), "--decoder", str(tmp_path / "decoder")]
    assert main(["assemble", "--dry-run", *folders, "--set", "spatial_grid_size=2"]) == 0
    assert "vision tower" in capsys.readouterr().out


def test_gguf_needs_its_reader(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("lmmvqa.checkpoints.base_models.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'lmmvqa\[gguf\]'"):
        assemble(parts["vision"], parts["temporal"], "llama.gguf", tmp_path / "out", **OPTIONS)


def test_gguf_of_another_architecture(parts, tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "qwen.gguf", "qwen2")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="of architecture qwen2, expected llama"):
        assemble(parts["vision"], parts["temporal"], str(tmp_path / "qwen.gguf"), tmp_path / "out", **OPTIONS)


@pytest.mark.parametrize("cut", [0, 3, 10, 24, 60, 100, "random", "flipped"])
def test_malformed_gguf_is_one_sentence_that_names_it(parts, tmp_path, cut):
    gguf = pytest.importorskip("gguf")
    file = tmp_path / "llama.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((8, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = file.read_bytes()
    if cut == "random":
        content = np.random.default_rng(0).bytes(5000)
    elif cut == "flipped":  # the number of its tensors
        content = content[:8] + b"\xff" * 8 + content[16:]
    else:
        content = content[:cut]
    file.write_bytes(content)
    with pytest.raises(ValueError, match="^got .*llama.gguf, which cannot be read, expected"):
        assemble(parts["vision"], parts["temporal"], str(file), tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["vision", "temporal", "decoder"])
def test_cut_weights_are_one_sentence_that_names_them(parts, tmp_path, capsys, part):
    folder = tmp_path / part
    shutil.copytree(parts[part], folder)
    os.truncate(folder / "model.safetensors", 5000)
    sources = [word for name, source in (parts | {part: str(folder)}).items() for word in (f"--{name}", source)]
    options = [word for name, value in OPTIONS.items() for word in ("--set", f"{name}={value}")]
    with pytest.raises(SystemExit) as stop:
        main(["assemble", *sources, "--out", str(tmp_path / "out"), *options])
    error = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and f"error: got {folder}" in error and "cannot be read" in error


# the command


def test_command(parts, tmp_path, capsys, clips):
    options = [word for name, value in OPTIONS.items() for word in ("--set", f"{name}={value}")]
    sources = [word for name, folder in parts.items() for word in (f"--{name}", folder)]
    out = str(tmp_path / "out")
    assert main(["assemble", *sources, "--out", out, "--dtype", "float32", *options]) == 0
    assert "random" in capsys.readouterr().out
    assert load(out)[0].dtype == torch.float32
    assert main(["score", "--model", out, clips[0]]) == 0


@pytest.mark.parametrize(
    "more, message",
    [
        ([], "got no --out"),
        (["--dry-run", "--preset", "big"], "got the preset 'big'"),
        (["--dry-run", "--set", "spatial_grid_size=2.5"], "'spatial_grid_size' expected int"),
        (["--dry-run", "--set", "spatial_grid_size=two"], "got spatial_grid_size=two, expected a value in JSON"),
        (
            ["--dry-run", "--set", "use_temporal_tokens=False"],
            "got use_temporal_tokens=False, expected a value in JSON",
        ),
    ],
)
def test_wrong_use(more, message, parts, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["assemble", "--vision", parts["vision"], "--decoder", parts["decoder"], *more])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.fixture
def other_models(parts, tmp_path):
    """Folders of models that are none of the parts asked for, by name."""
    models = {
        "videomae": VideoMAEModel(
            VideoMAEConfig(
                hidden_size=32, num_hidden_layers=1, num_attention_heads=4, image_size=32, patch_size=8, num_frames=8
            )
        ),
        "resnet": ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])),
    }
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
    return {name: str(tmp_path / name) for name in models} | {"clip": parts["vision"], "llama": parts["decoder"]}


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize(
    "more, message",
    [
        (["--decoder", "{clip}"], "got {clip} of type clip, which writes no text, expected a chat model"),
        (
            ["--vision", "{videomae}"],
            "got {videomae} of type videomae, which takes video, expected a model that takes image",
        ),
        (["--vision", "{llama}"], "got {llama} of type llama, which takes text, expected a model that takes image"),
        (
            ["--vision", "{resnet}"],
            "got {resnet} of type resnet, whose stages are [8, 16] wide, expected a tower of one",
        ),
        (
            ["--temporal", "{clip}"],
            "got {clip} of type clip, which takes image and text, expected a model that takes video",
        ),
        (
            ["--temporal", "gone.pyth"],
            "got gone.pyth, expected a file that is here; mend its name, or download it first",
        ),
        (["--temporal", "gone.safetensors"], "got gone.safetensors, expected a file that is here"),
        (["--preset", "wo-temporal"], "with use_temporal_tokens=False, expected none"),
        (["--set", "vision_feature_layer=-9"], "with 4 hidden states, expected -4 to 3; set one of these"),
        (["--set", "vision_feature_layer=4"], "with 4 hidden states, expected -4 to 3; set one of these"),
        (["--set", "projector_dropout=2"], "error: got projector_dropout=2.0, expected a share from 0 to below 1"),
        (["--set", "spatial_grid_size=0"], "error: got spatial_grid_size=0, expected a whole number from 1 on"),
        (["--set", "spatial_reduction=men"], "'spatial_reduction' expected one of ('none', 'mean', 'mean_features')"),
        (
            ["--set", "key_frame_size=4"],
            "got key_frame_size=4 for a CLIPVisionModel, expected a tower that makes tokens",
        ),
        (
            ["--set", "key_frame_fragments=3"],
            "got key_frame_fragments=3 for key_frame_size=32, expected a divisor of 32",
        ),
        (
            ["--set", "spatial_projector_type=perceiver", "--set", "spatial_projector_num_attention_heads=5"],
            "got spatial_projector_num_attention_heads=5 for features of 32, expected a divisor of 32",
        ),
    ],
)
def test_what_cannot_be_assembled_is_one_line_of_the_run_and_of_its_plan(
    more, message, dry, parts, other_models, tmp_path, capsys
):
    sources = [word for name, folder in parts.items() for word in (f"--{name}", folder)]
    options = [word for name, value in OPTIONS.items() for word in ("--set", f"{name}={value}")]
    more = [word.format(**other_models) for word in more]
    with pytest.raises(SystemExit) as stop:
        main(["assemble", *sources, "--out", str(tmp_path / "out"), *options, *more, *["--dry-run"] * dry])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message.format(**other_models) in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_plan_for_a_folder_in_use_is_refused(parts, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        main(["assemble", "--dry-run", "--vision", parts["vision"], "--out", str(tmp_path)])
    assert "which is not empty, expected a new one" in capsys.readouterr().err
