"""The graphs of a tiny model, in ONNX Runtime, answer as the model does in PyTorch."""

import json

import onnx
import pytest
from conftest import tiny_pair, write_clip

from lmmvqa.checkpoints.onnx_export import BROWSER, DECODER, TOWERS, export_onnx
from lmmvqa.commands.command_line import main
from lmmvqa.scoring.onnx_model import OnnxModel


# Exporting takes half a minute of a core, whatever the model's size
pytestmark = pytest.mark.timeout(900)


def small_pair(**options):
    """A tiny model of two views a key frame, which judges two seconds at once, stored in 16 bits as checkpoints are."""
    model, processor = tiny_pair(key_frame_views=2, **options)
    processor.max_window_seconds = 2
    return model.half().float(), processor


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder, and the model and processor it was written from."""
    folder = tmp_path_factory.mktemp("onnx")
    model, processor = small_pair()
    export_onnx(model, processor, folder)
    return folder, model, processor


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """One of three seconds in two windows, one whose seconds have two clips, and one shorter than a second."""
    folder = tmp_path_factory.mktemp("videos")
    return [
        write_clip(folder / "windows.mp4", num_frames=24, fps=8, seed=1),
        write_clip(folder / "clips.mp4", num_frames=24, fps=15, seed=2),
        write_clip(folder / "short.mp4", num_frames=5, fps=8, seed=3),
    ]


def test_results_are_those_of_pytorch(exported, videos):
    folder, model, processor = exported
    results = OnnxModel.load(folder).rate_videos(processor, videos)
    expected = model.rate_videos(processor, videos)
    assert len(results[0].windows) == 2 and results[1].windows is None
    assert len({round(result.score, 2) for result in expected}) == 3
    for result, of_pytorch in zip(results, expected, strict=True):
        assert result.score == pytest.approx(of_pytorch.score, abs=1e-3)
        assert result.score_std == pytest.approx(of_pytorch.score_std, abs=1e-3)
        assert result.level_probabilities == pytest.approx(of_pytorch.level_probabilities, abs=1e-4)
        assert (result.level, result.answer) == (of_pytorch.level, of_pytorch.answer)


def test_graphs_hold_16_bits_a_weight_and_no_path(exported):
    folder, *_ = exported
    for name in (TOWERS, DECODER):
        assert b".py" not in (folder / name).read_bytes()
    large = [weights for weights in onnx.load(folder / DECODER).graph.initializer if len(weights.raw_data) > 4000]
    assert large and all(weights.data_type == onnx.TensorProto.FLOAT16 for weights in large)


def test_the_browser_is_told_prompts_and_answers(exported):
    folder, _, processor = exported
    settings = json.loads((folder / BROWSER).read_text())
    prompts = settings["questions"]["score"]["prompts"]
    assert prompts == [processor.expanded_token_ids(processor.prompt(), count) for count in (1, 2)]
    assert settings["questions"].keys() == {"score"}  # this model knows no other
    assert processor.tokenizer.decode(settings["questions"]["score"]["answer_ids"][63]) == "63"
    assert settings["key_frame_fragments"] == [1, 2]


def test_a_model_of_another_kind_is_refused(tmp_path):
    model, processor = small_pair(spatial_reduction="mean")
    with pytest.raises(ValueError, match="spatial_reduction=mean, expected none"):
        export_onnx(model, processor, tmp_path)
    model, processor = small_pair()
    processor.max_window_seconds = None
    with pytest.raises(ValueError, match="without max_window_seconds"):
        export_onnx(model, processor, tmp_path)
    assert not any(tmp_path.iterdir())


def test_options_of_a_repository_are_refused(model, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", "--onnx", "--model", model, "--out", str(tmp_path / "out"), "--push", "me/mine", "--private"])
    assert "got --push, --private with --onnx" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_graphs_is_refused(model):
    with pytest.raises(ValueError, match=f"without {TOWERS} and {DECODER}"):
        OnnxModel.load(model)
