"""An exported folder is complete: it gives the same scores where LMM-VQA is not installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import full_disk, tiny_pair
from huggingface_hub import ModelCard, RepoUrl
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from lmmvqa.checkpoints import export
from lmmvqa.checkpoints.checkpoint_digest import weights_digest
from lmmvqa.checkpoints.export import export_checkpoint
from lmmvqa.checkpoints.model_card import PIPELINE_TAG
from lmmvqa.checkpoints.training_videos import (
    TrainingVideo,
    TrainingVideos,
    load_training_videos,
    save_training_videos,
)
from lmmvqa.commands.command_line import main


# Runs in a process of its own; prints one line of JSON
ELSEWHERE = """
import contextlib, importlib, io, json, pathlib, re, sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lmmvqa":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NotInstalled())
try:
    importlib.import_module("lmmvqa.modeling_lmmvqa")
    sys.exit("lmmvqa can be imported")
except ModuleNotFoundError:
    pass

import torch
from PIL import Image
from transformers import (
    AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoProcessor, pipeline
)
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

torch.set_num_threads(1)
folder, clip = sys.argv[1:]
load = {"trust_remote_code": True}
processor = AutoProcessor.from_pretrained(folder, **load)
inputs = processor(clip)
found = {
    "config": type(AutoConfig.from_pretrained(folder, **load)).__name__,
    "video_processor": AutoVideoProcessor.from_pretrained(folder, **load).to_dict(),
    "processor": processor.to_dict(),
}
for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
    model = auto_class.from_pretrained(folder, **load)
    scores = processor.post_process_scores(model.answer_log_probabilities(processor.score_answer_ids, **inputs))
    found[auto_class.__name__] = [str(model.dtype), scores[0].score]
base = AutoModel.from_pretrained(folder, **load)
with torch.no_grad():
    difference = base(**inputs).last_hidden_state - model.model(**inputs).last_hidden_state
found["AutoModel"] = [type(base).__name__, difference.abs().max().item()]
for task in ({}, {"task": "video-quality-assessment"}):
    score = pipeline(model=folder, **task, **load)
    found[f"pipeline {len(task)}"] = [score(clip), score([clip, clip], batch_size=2)]
    found[f"generated {len(task)}"] = score.model.generate(**inputs, max_new_tokens=4, do_sample=False).tolist()
answer = pipeline("image-text-to-text", model=folder, **load)
for block in ({"type": "video", "path": clip}, {"type": "image", "image": Image.new("RGB", (32, 24))}):
    chat = [{"role": "user", "content": [block, {"type": "text", "text": "How good?"}]}]
    words = answer(text=chat, max_new_tokens=4, generate_kwargs={"do_sample": False}, return_full_text=False)
    found[f"answer to {block['type']}"] = words[0]["generated_text"]
lines = re.findall("```python\\n(.*?)```", pathlib.Path(folder, "README.md").read_text(), re.DOTALL)
with contextlib.redirect_stdout(io.StringIO()) as printed:
    exec("\\n".join(lines), {})
found["card"] = eval(printed.getvalue())
model.save_pretrained("again")
processor.save_pretrained("again")
found["saved again"] = sorted(path.name for path in pathlib.Path("again").iterdir())
found["package"] = sorted(name for name in sys.modules if name.partition(".")[0] == "lmmvqa")
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=["lite", "clip"])
def exported(request, tmp_path_factory):
    """The folder, and the model and processor it was written from."""
    folder = tmp_path_factory.mktemp("exported") / request.param
    model, processor = tiny_pair(vision=request.param)
    if request.param == "clip":  # and calibrated
        processor.score_map = [1 + 4 * (score / 100) ** 2 for score in range(101)]
        processor.score_std_scale = 0.06
    export_checkpoint(model, processor, folder, "# A tiny model")
    return folder, model, processor


def test_the_folder_is_complete(exported):
    folder, model, _ = exported
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "config.json", "generation_config.json", "model.safetensors"),
        *("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
        *("configuration_lmmvqa.py", "modeling_lmmvqa.py", "modeling_slowfast.py", "modeling_efficientnet_lite.py"),
        *("answer_tree_lmmvqa.py", "pipeline_lmmvqa.py"),
        *("dataset_columns_lmmvqa.py", "decisions_lmmvqa.py"),
        *(
            "processing_lmmvqa.py",
            "video_processing_lmmvqa.py",
            "video_decoding_lmmvqa.py",
            "video_reading_lmmvqa.py",
            "video_inputs_lmmvqa.py",
            "video_source_lmmvqa.py",
            "video_opening_lmmvqa.py",
            "problems_lmmvqa.py",
            "time_stamps_lmmvqa.py",
            "reading_limits_lmmvqa.py",
            "mmca_lmmvqa.py",
            "picture_reading_lmmvqa.py",
            "answers_lmmvqa.py",
            "context_lmmvqa.py",
            "readout_lmmvqa.py",
            "frame_scaler_lmmvqa.py",
        ),
    }
    card = ModelCard.load(folder / "README.md")
    assert card.text.startswith("# A tiny model\n") and card.data.pipeline_tag == PIPELINE_TAG
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_lmmvqa.LmmVqaConfig",
        "AutoModel": "modeling_lmmvqa.LmmVqaModel",
        "AutoModelForDecision": "modeling_lmmvqa.LmmVqaForDecision",
        "AutoModelForImageTextToText": "modeling_lmmvqa.LmmVqaForConditionalGeneration",
        "AutoModelForMultimodalLM": "modeling_lmmvqa.LmmVqaForConditionalGeneration",
    }
    pipelines = {name: entry["impl"] for name, entry in config["custom_pipelines"].items()}
    assert pipelines == {"video-quality-assessment": "pipeline_lmmvqa.VideoQualityAssessmentPipeline"}
    processor_config = json.loads((folder / "processor_config.json").read_text())
    auto_map = processor_config["auto_map"] | processor_config["video_processor"]["auto_map"]
    assert auto_map == {
        "AutoProcessor": "processing_lmmvqa.LmmVqaProcessor",
        "AutoVideoProcessor": "video_processing_lmmvqa.LmmVqaVideoProcessor",
    }
    generation_config = json.loads((folder / "generation_config.json").read_text())
    assert generation_config["eos_token_id"] == model.config.text_config.eos_token_id


def test_scores_elsewhere_are_those_here(exported, clips, tmp_path):
    folder, model, processor = exported
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    # As the card has them
    (tmp_path / folder.name).symlink_to(folder)
    shutil.copy(clips[1], tmp_path / "clip.mp4")
    command = [sys.executable, "-c", ELSEWHERE, str(folder), clips[1]]
    finished = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])

    here = pipeline("video-quality-assessment", model=model, processor=processor)
    expected, inputs = here(clips[1]), processor(clips[1])
    expected = {
        name: pytest.approx(value, abs=1e-4) if isinstance(value, float | dict) else value
        for name, value in expected.items()
    }
    generated = model.generate(**inputs, max_new_tokens=4, do_sample=False).tolist()
    for task in (0, 1):
        assert found[f"pipeline {task}"] == [expected, [expected, expected]]
        assert found[f"generated {task}"] == generated
    assert found["card"] == expected
    answer = pipeline(PIPELINE_TAG, model=model, processor=processor)
    for block in ({"type": "video", "path": clips[1]}, {"type": "image", "image": Image.new("RGB", (32, 24))}):
        chat = [{"role": "user", "content": [block, {"type": "text", "text": "How good?"}]}]
        words = answer(text=chat, max_new_tokens=4, generate_kwargs={"do_sample": False}, return_full_text=False)
        assert found[f"answer to {block['type']}"] == words[0]["generated_text"]
    for auto_class in ("AutoModelForImageTextToText", "AutoModelForMultimodalLM"):
        assert found[auto_class] == ["torch.float32", expected["score"]]
    assert found["AutoModel"] == ["LmmVqaModel", 0]
    assert found["config"] == "LmmVqaConfig"
    assert found["saved again"] == sorted({path.name for path in folder.iterdir()} - {"README.md"})
    assert found["package"] == []
    saved = json.loads((folder / "processor_config.json").read_text())
    for settings, loaded in ((saved, found["processor"]), (saved["video_processor"], found["video_processor"])):
        assert {name: loaded[name] for name in settings.keys() - {"auto_map", "video_processor"}} == {
            name: settings[name] for name in settings.keys() - {"auto_map", "video_processor"}
        }


def test_here_the_installed_classes_are_used(exported):
    folder, model, _ = exported
    for options in ({}, {"trust_remote_code": True}):
        assert type(AutoModelForImageTextToText.from_pretrained(folder, **options)) is type(model)


def test_weights_stored_in_half_load_as_float32(tmp_path, clips):
    model, processor = tiny_pair()
    export_checkpoint(model, processor, tmp_path, "# Half the size", dtype=torch.float16)
    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16, torch.int64}  # BatchNorm counts batches
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert {buffer.dtype for buffer in loaded.buffers()} == {torch.float32, torch.int64}
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name).half().float())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}  # as it was
    scores = [pipeline("video-quality-assessment", model=m, processor=processor)(clips[0]) for m in (model, loaded)]
    assert scores[0]["score"] == pytest.approx(scores[1]["score"], abs=0.1)


def test_towers_beside_weights_stored_in_bfloat16_stay_in_float32(tmp_path):
    model, processor = tiny_pair(vision="clip")
    export_checkpoint(model, processor, tmp_path, "# Half the size", dtype=torch.bfloat16)
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float32 if "_tower." in name else torch.bfloat16), name
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).model
    key_frames, chunks = torch.randn(2, 3, 32, 32), torch.randn(2, 8, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.encode_key_frames(key_frames), model.model.encode_key_frames(key_frames))
        assert torch.equal(loaded.encode_chunks(chunks), model.model.encode_chunks(chunks))


def test_an_export_of_what_was_exported(exported, tmp_path):
    """Nothing is lost on the way, and nothing left over."""
    folder = exported[0]
    model, processor = (auto.from_pretrained(folder) for auto in (AutoModelForImageTextToText, AutoProcessor))
    export_checkpoint(model, processor, tmp_path, "# A tiny model")
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()}
    for file in ("processor_config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file
    configs = [json.loads((path / "config.json").read_text()) for path in (tmp_path, folder)]
    for config in configs:
        for part in ("vision_config", "temporal_config", "text_config"):
            config[part].pop("dtype", None)  # loading adds it
    assert configs[0] == configs[1]


def test_a_plain_save_is_complete_too(exported, tmp_path):
    """`save_pretrained`, and so Trainer and `push_to_hub`, lose no code file."""
    folder = exported[0]
    model, processor = (auto.from_pretrained(folder) for auto in (AutoModelForImageTextToText, AutoProcessor))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()} - {"README.md"}
    for code in folder.glob("*.py"):
        assert (tmp_path / code.name).read_bytes() == code.read_bytes()
    config, saved_config = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path))
    for name in ("auto_map", "custom_pipelines"):
        assert saved_config[name] == config[name]


def test_export_command_pushes_the_complete_folder(exported, tmp_path, monkeypatch, capsys):
    folder, _, _ = exported
    pushed = {}

    def create_repo(repo_id, private, exist_ok, token):
        pushed[repo_id] = {"private": private, "exist_ok": exist_ok}
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(repo_id, folder_path, commit_message, token):
        pushed[repo_id]["files"] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}

    monkeypatch.setattr(export, "create_repo", create_repo)
    monkeypatch.setattr(export, "upload_folder", upload_folder)
    out = tmp_path / "out"
    assert main(["export", "--model", str(folder), "--out", str(out), "--push", "me/mine", "--private"]) == 0
    assert "pushed to https://huggingface.co/me/mine" in capsys.readouterr().out
    assert (pushed["me/mine"]["private"], pushed["me/mine"]["exist_ok"]) == (True, True)
    assert pushed["me/mine"]["files"].keys() == {path.name for path in folder.iterdir()}
    assert pushed["me/mine"]["files"]["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def test_export_command_carries_results_and_adds_those_of_an_evaluation(exported, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(exported[0], folder)
    (folder / ".eval_results").mkdir()
    (folder / ".eval_results" / "lsvq_validation.yaml").write_text("[]")
    of_set = {"dataset": "mine", "part": "test", "score": {"n": 9, "srcc": 0.5}}
    whole = {"dataset": "konvid_1k", "part": None, "score": {"n": 9, "krcc": 0.5, "srcc": 0.4}}
    measured = {"weights": weights_digest(str(folder)), "sets": [of_set, whole]}
    (tmp_path / "metrics.json").write_text(json.dumps(measured))
    out = tmp_path / "out"
    assert (
        main(["export", "--model", str(folder), "--out", str(out), "--results", str(tmp_path / "metrics.json")]) == 0
    )
    assert {path.name for path in (out / ".eval_results").iterdir()} == {
        "lsvq_validation.yaml",
        "mine_test.yaml",
        "konvid_1k_all.yaml",
    }
    of_mine, of_konvid = ModelCard.load(out / "README.md").data.eval_results
    assert (of_mine.dataset_name, of_mine.dataset_split, of_mine.metric_value) == ("mine", "test", 0.5)
    assert (of_konvid.dataset_name, of_konvid.dataset_split, of_konvid.metric_value) == ("konvid_1k", "all", 0.4)


def test_an_export_over_another_keeps_nothing_of_it(exported, tmp_path):
    folder, out = tmp_path / "folder", tmp_path / "out"
    for copy in (folder, out):
        shutil.copytree(exported[0], copy)
    (out / ".eval_results").mkdir()
    (out / ".eval_results" / "other_test.yaml").write_text("[]")
    for name in ("selfcheck.json", "calibration.json"):
        (out / name).write_text("{}")
    save_training_videos(TrainingVideos([TrainingVideo("other", "one", "one", "0123456789abcdef")], []), out)
    assert main(["export", "--model", str(folder), "--out", str(out)]) == 0
    assert not any((out / name).exists() for name in (".eval_results", "selfcheck.json", "calibration.json"))
    assert load_training_videos(out) is None


def test_an_export_writes_over_nothing_but_an_export(exported, tmp_path, capsys):
    folder = tmp_path / "folder"
    shutil.copytree(exported[0], folder)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "dataset_dict.json").write_text("{}")
    for out, message in (("folder", "holds the model itself"), ("rows", "holds dataset_dict.json")):
        with pytest.raises(SystemExit) as stop:
            main(["export", "--model", str(folder), "--out", str(tmp_path / out)])
        assert stop.value.code == 2 and message in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["dataset_dict.json"]


@pytest.mark.parametrize("room", [0, 2_000, 100_000])
def test_export_to_a_full_disk_is_one_line(exported, tmp_path, capsys, room):
    folder, _, _ = exported
    with full_disk(room), pytest.raises(SystemExit) as stop:
        main(["export", "--model", str(folder), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and error.startswith("lmmvqa export: error: ") and "File too large" in error
    assert main(["export", "--model", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("error", [*HfHubHTTPError.__bases__, OfflineModeIsEnabled])
def test_a_push_without_connection_is_one_line_and_loses_nothing(exported, tmp_path, monkeypatch, capsys, error):
    folder, _, _ = exported

    def create_repo(*arguments, **options):
        raise error("no route to the Hub")

    monkeypatch.setattr(export, "create_repo", create_repo)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(["export", "--model", str(folder), "--out", str(out), "--push", "me/mine"])
    captured = capsys.readouterr()
    assert stop.value.code == 2 and captured.out == f"wrote {out}\n"
    message = captured.err.splitlines()[-1]
    assert message.startswith(f"lmmvqa export: error: got no upload of {out} to me/mine") and "no route" in message


def test_export_command_wants_a_card(exported, tmp_path, capsys):
    folder, model, processor = exported
    model.save_pretrained(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["export", "--model", str(tmp_path), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "name it with --card" in capsys.readouterr().err


@pytest.mark.parametrize(
    "card, more, message",
    [
        (b"---\nlicense: [\n---\n", [], "card.md that cannot be read, expected UTF-8 with metadata in YAML"),
        ("é".encode("latin-1"), [], "card.md that cannot be read, expected UTF-8 with metadata in YAML"),
        (b"# Mine\n", ["--private"], "got --private without --push"),
    ],
)
def test_what_an_export_cannot_use_is_said_before_it_is_written(exported, tmp_path, capsys, card, more, message):
    (tmp_path / "card.md").write_bytes(card)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(["export", "--model", str(exported[0]), "--out", str(out), "--card", str(tmp_path / "card.md"), *more])
    assert stop.value.code == 2 and message in capsys.readouterr().err and not out.exists()


def test_big_weights_are_split(tmp_path):
    model, processor = tiny_pair()
    export.save_checkpoint(model, processor, tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert all(torch.equal(p, model.get_parameter(name)) for name, p in loaded.named_parameters())
