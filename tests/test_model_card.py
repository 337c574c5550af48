"""The card of a trained checkpoint: valid metadata, and every figure from the run."""

import json
from types import SimpleNamespace

import pytest
import yaml
from conftest import tiny_pair
from huggingface_hub import ModelCard, parse_eval_result_entries

from lmmvqa.checkpoints.checkpoint_digest import weights_digest
from lmmvqa.checkpoints.model_card import (
    DATA_OPTIONS,
    PIPELINE_TAG,
    RECIPE,
    complete_model_card,
    evaluation_figures,
    model_card,
    training_model_card,
    validation_figures,
    with_results,
    write_eval_results,
)


ROWS = [{"dataset": "lsvq", "mos": 20.0}, {"dataset": "lsvq", "mos": 80.0}, {"dataset": "mine", "mos": 50.0}]
METRICS = {
    "validation": {
        "lsvq": {"n": 40, "srcc": 0.876543, "krcc": 0.7, "plcc": 0.88, "rmse": 9.5},
        "mine": {"n": 2, "error": "got 2 pairs, expected at least 4"},
    }
}


@pytest.fixture(scope="module")
def card():
    model, _ = tiny_pair()
    model.config.base_models = {"vision_tower": "openai/clip-vit-large-patch14", "temporal_tower": "R50.pyth"}
    options = dict.fromkeys(RECIPE, 1) | {"learning_rate": 3e-4}
    text = training_model_card(
        model,
        "me/lmmvqa-mine",
        SimpleNamespace(
            model="me/assembled",
            stage="quality",
            train_parts=["spatial_projector"],
            license="apache-2.0",
            lora_rank=8,
            lora_parts=["language_model"],
        ),
        SimpleNamespace(**dict.fromkeys(DATA_OPTIONS, 0.5) | {"tasks": ["score"]}),
        SimpleNamespace(**options),
        ROWS,
        METRICS,
    )
    return ModelCard(text)


def test_metadata_is_what_the_hub_shows(card):
    data = card.data.to_dict()
    assert data["base_model"] == ["openai/clip-vit-large-patch14"]  # a file is no repository
    assert data["datasets"] == ["lsvq", "mine"]
    assert (data["license"], data["pipeline_tag"]) == ("apache-2.0", "image-text-to-text")
    assert data["metrics"] == ["spearmanr", "pearsonr", "rmse"]
    (entry,) = data["model-index"]
    assert [(m["type"], m["value"]) for result in entry["results"] for m in result["metrics"]] == [
        ("spearmanr", 0.876543),
        ("pearsonr", 0.88),
        ("rmse", 9.5),
    ]
    assert yaml.safe_load(str(card).split("---")[1])["library_name"] == "transformers"


def test_text_holds_the_run(card):
    for line in (
        "| vision_tower | LmmVqaEfficientNetLiteModel | 3,720 | openai/clip-vit-large-patch14 |",
        "| temporal_tower | LmmVqaSlowFastModel |",
        "Started from `me/assembled`; trained: spatial_projector, language_model by adapters; everything else stayed",
        "| `stage` | quality |",
        "| `max_steps` | 1 |",
        "| `versions_a_batch` | 0.5 |",
        "| `learning_rate` | 0.0003 |",
        "| `inference_share` | 0.5 |",
        "| `lora_rank` | 8 |",
        "| lsvq | 2 | 20.0 | 80.0 |",
        "| lsvq | 40 | 0.877 | 0.700 | 0.880 | 9.50 |",
        'model="me/lmmvqa-mine", trust_remote_code=True',
    ):
        assert line in card.text, line
    assert "| mine | 2 | |" not in card.text and "num_train_epochs" not in card.text


def test_a_card_that_is_complete_stays_as_it_is(card):
    assert complete_model_card(str(card), "another") == str(card)


@pytest.mark.parametrize(
    "text, tag",
    [
        ("# Mine\n", PIPELINE_TAG),
        ("---\nlicense: mit\n---\n# Mine\n", PIPELINE_TAG),
        ("---\nlicense: mit\npipeline_tag: video-classification\n---\n# Mine\n", PIPELINE_TAG),  # loads nowhere
        ("---\nlicense: mit\npipeline_tag: video-text-to-text\n---\n# Mine\n", "video-text-to-text"),
    ],
)
def test_any_card_is_completed(text, tag):
    card = ModelCard(complete_model_card(text, "me/mine"))
    assert (card.data.pipeline_tag, card.data.license) == (tag, "mit" if "mit" in text else None)
    assert card.text.startswith("# Mine\n")
    for line in (
        "from transformers import pipeline",
        'model="me/mine", trust_remote_code=True)',
        'print(score("clip.mp4"))',
    ):
        assert line in card.text


def test_an_untrained_model_says_so():
    text = model_card(tiny_pair()[0], "mine")
    assert "its answers mean nothing yet" in text
    assert "Training data" not in text and "Results" not in text


def test_results_stand_in_the_newer_form_too(card, tmp_path):
    write_eval_results(tmp_path, validation_figures(METRICS["validation"]))
    (file,) = (tmp_path / ".eval_results").iterdir()  # of the other set nothing was measured
    assert file.name == "lsvq_validation.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(file.read_text()))
    of_card = [(result.dataset_type, result.metric_type, result.metric_value) for result in card.data.eval_results]
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in entries] == of_card
    assert {entry.notes for entry in entries} == {"validation, n = 40"}


EVALUATED = {
    "sets": [
        {"dataset": "lsvq", "part": "test", "score": {"n": 9, "srcc": 0.5, "plcc": 0.6, "rmse": 7.0}},
        {"dataset": "lsvq", "part": "validation", "score": {"n": 9, "srcc": 0.75}},
        {"dataset": "mine", "part": "test", "level": {"n": 9}},
    ]
}


def test_an_evaluation_joins_the_results_of_a_card(card, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(EVALUATED | {"weights": weights_digest(str(tmp_path))}))
    figures = evaluation_figures(tmp_path / "metrics.json", str(tmp_path))
    joined = ModelCard(with_results(str(card), "another", figures))
    found = {(r.dataset_split, r.metric_type): r.metric_value for r in joined.data.eval_results}
    assert found == {
        ("test", "spearmanr"): 0.5,
        ("test", "pearsonr"): 0.6,
        ("test", "rmse"): 7.0,
        ("validation", "spearmanr"): 0.75,
        ("validation", "pearsonr"): 0.88,
        ("validation", "rmse"): 9.5,
    }
    assert joined.data.model_name == "me/lmmvqa-mine" and joined.text == card.text
    new = ModelCard(with_results("# Mine\n", "mine", figures))
    assert (new.data.model_name, len(new.data.eval_results)) == ("mine", 4)


@pytest.mark.parametrize(
    "text, message",
    [
        ("| SRCC |", "expected the metrics.json of `lmmvqa evaluate`"),
        ('[{"sets": []}]', "expected the metrics.json of `lmmvqa evaluate`"),
        ('{"method": "niqe"}', "expected the metrics.json of `lmmvqa evaluate`"),
        (json.dumps(EVALUATED), "other weights than those of .*, or none"),
        (json.dumps(EVALUATED | {"weights": "0" * 64}), "other weights than those of .*, or none"),
        (
            '{"weights": "%s", "sets": [{"dataset": "mine", "part": null, "level": {"n": 9}, "folds": []}]}',
            "without a figure of scores",
        ),
    ],
)
def test_other_results_are_refused(tmp_path, text, message):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    weights = weights_digest(str(tmp_path))
    (tmp_path / "results").write_text(text.replace("%s", weights))
    with pytest.raises(ValueError, match=f"got results {tmp_path / 'results'}.*{message}"):
        evaluation_figures(tmp_path / "results", str(tmp_path))
