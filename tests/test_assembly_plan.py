"""The plan of an assembly: known sizes of public models, and token counts that the processor confirms."""

import json

import pytest
from conftest import tiny_pair, write_clip
from test_decoder_tokenizer import llama_3, prepared

from lmmvqa.checkpoints.assembly_plan import assembly_plan, seconds_in_context, text_tokens


CLIP_L = {
    "model_type": "clip",
    "projection_dim": 768,
    "text_config": {"model_type": "clip_text_model", "hidden_size": 768, "intermediate_size": 3072},
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "image_size": 224,
    },
}
LLAMA_3_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def sources(tmp_path):
    """Folders that hold a config.json and nothing else, and a file of weights that nobody reads."""
    for name, config in (("clip", CLIP_L), ("llama", LLAMA_3_8B)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    (tmp_path / "SLOWFAST_8x8_R50.pyth").touch()
    return tuple(str(tmp_path / name) for name in ("clip", "SLOWFAST_8x8_R50.pyth", "llama"))


def test_the_papers_model(sources):
    rows = [line.split() for line in assembly_plan(*sources).splitlines()]
    parameters = {" ".join(row[:-5]): row[-5] for row in rows[1:7]}
    assert parameters == {
        "vision tower": "303,179,776",
        "spatial projector": f"{12 * 1024**2 + 13 * 1024 + 4096 * 1025:,}",
        "temporal tower": "33,644,488",  # 34,566,488 without the Kinetics head
        "temporal projector": f"{2304 * 4096 + 4096:,}",
        "decoder": "8,030,261,248",
        "total": "8,393,321,416",
    }
    towers, rest = 303_179_776 + 33_644_488, 8_393_321_416 - 303_179_776 - 33_644_488
    half = 4 * towers + 2 * rest  # towers stay in float32
    assert rows[6][-4:] == ["33.57", "GB", f"{half / 1e9:.2f}", "GB"]
    assert rows[1][-4:] == ["1.21", "GB", "1.21", "GB"]
    text = assembly_plan(*sources)
    # 224 linear layers of 218,103,808 parameters a block are packed, the rest stays
    packed = 32 * 218_103_808
    for name, weight in (("int8", 1), ("4 bits", 0.5)):
        expected = (half - 2 * packed + weight * packed) / 1e9
        assert f"linear layers in {name}, the rest as there: {expected:.2f} GB" in text
    assert "visual tokens: 256 a second of video, and 1 a video" in text
    assert "text tokens: not counted, no tokenizer" in text
    assert text.endswith("context: 8,192 positions, at most 31 s of video")


def test_options_and_a_tokenizer_change_the_plan(sources):
    llama_3().save_pretrained(sources[2])
    text = assembly_plan(*sources, spatial_grid_size=8)
    assert "visual tokens: 64 a second of video, and 1 a video" in text
    prompt = len(llama_3().tokenize(prepared(llama_3()).prompt())) - 1
    assert f"text tokens: {prompt} of the score question's chat, at most 4 of an answer" in text
    assert text.endswith(f"context: 8,192 positions, {(8192 - 1 - prompt - 4) // 64} s of video")
    assert "any length" in assembly_plan(*sources, spatial_reduction="mean")
    clip, _, llama = sources
    assert "temporal" not in assembly_plan(clip, None, llama, use_temporal_tokens=False).partition("visual")[0]
    assert "temporal tower: none was named, SlowFast 8x8 R50 is counted" in assembly_plan(clip, None, llama)


@pytest.mark.parametrize(
    "options", [{}, {"temporal_reduction": "none"}, {"temporal_fusion": "vision"}, {"use_temporal_tokens": False}]
)
def test_the_longest_video_fits_and_one_second_more_does_not(options, tmp_path):
    model, processor = tiny_pair(**options)
    prompt, answer = text_tokens(processor)
    model.config.text_config.max_position_embeddings = prompt + answer + 30
    seconds = seconds_in_context(model.config, prompt + answer)
    assert seconds > 2
    lengths = []
    for count in (seconds, seconds + 1):
        clip = write_clip(tmp_path / f"{count}.mp4", num_frames=4 * count, fps=4)
        lengths.append(processor(clip)["input_ids"].shape[1] + answer)
    assert lengths[0] <= model.config.text_config.max_position_embeddings < lengths[1]
