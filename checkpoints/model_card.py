"""The model card of a checkpoint, filled from its configuration and from the run that trained it."""

import json
import re
from collections import defaultdict
from importlib import resources
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from ..modeling_lmmvqa.modeling_lmmvqa import LmmVqaForConditionalGeneration
from .checkpoint_digest import weights_digest


EVAL_RESULTS = ".eval_results"
TEMPLATE = Path(__file__).with_name("model_card_template.md")
# The task of transformers that these models load for; scoring is a task of their own code
PIPELINE_TAG = "image-text-to-text"
# Our names, and the Hub's
METRICS = {"srcc": "spearmanr", "plcc": "pearsonr", "rmse": "rmse"}
USAGE = """```python
from transformers import pipeline

score = pipeline("video-quality-assessment", model="{name}", trust_remote_code=True)
print(score("clip.mp4"))
```

`pipeline("image-text-to-text", ...)` answers in words to chats with blocks such as `{{"type": "video", "path": "clip.mp4"}}`.
"""
RECIPE = (
    *("num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "world_size", "bf16", "seed"),
)
DATA_OPTIONS = (
    *("tasks", "score_form", "template_sizes", "inference_share", "one_second_share", "versions_a_batch"),
    *("score_noise", "readout_weight", "within_weight", "fidelity_weight", "soft_label_std"),
)


def validation_figures(results: dict[str, dict]) -> list[dict]:
    """What `train.py` measured, {data set: figures}, as `model_index` and `write_eval_results` take it."""
    return [{"dataset": dataset, "split": "validation", **figures} for dataset, figures in results.items()]


def evaluation_figures(file: str | Path, model: str) -> list[dict]:
    """
    What `lmmvqa evaluate` measured of a checkpoint, its metrics.json, as `model_index` and `write_eval_results` take it.

    Args:
        model: folder, or repository that has been loaded.

    Raises:
        OSError: no such file.
        ValueError: it is something else, of other weights, or no score of a whole set was measured.
    """
    try:
        metrics = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError:
        metrics = None
    sets = metrics.get("sets") if isinstance(metrics, dict) else None
    if sets is None:
        raise ValueError(f"got results {file}, expected the metrics.json of `lmmvqa evaluate`; name that file")
    if metrics.get("weights") != weights_digest(model):
        raise ValueError(
            f"got results {file} that name other weights than those of {model}, or none, expected what was measured of these; "
            f"run `lmmvqa evaluate --model {model}`"
        )
    figures = [
        {"dataset": of_set["dataset"], "split": of_set["part"] or "all", **of_set["score"]}
        for of_set in sets
        if "srcc" in of_set.get("score", {})
    ]
    if not figures:
        raise ValueError(
            f"got results {file} without a figure of scores, expected those of the checkpoint itself, not of folds or levels "
            "alone; evaluate it with --tasks score"
        )
    return figures


def model_index(figures: list[dict]) -> list[EvalResult]:
    """The figures as a model card's metadata has them."""
    return [
        EvalResult(
            task_type=PIPELINE_TAG,
            task_name="Video quality assessment",
            dataset_type=of_set["dataset"],
            dataset_name=of_set["dataset"],
            dataset_split=of_set["split"],
            metric_type=METRICS[metric],
            metric_value=of_set[metric],
        )
        for of_set in figures
        for metric in METRICS
        if metric in of_set
    ]


def write_eval_results(folder: str | Path, figures: list[dict]) -> None:
    """
    The same figures in the Hub's newer form, a file for each data set in `.eval_results/`, with a task for each metric. The
    Hub lists those whose data set is one of its benchmarks; https://huggingface.co/docs/hub/eval-results.
    """
    for of_set in figures:
        entries = [
            EvalResultEntry(
                dataset_id=result.dataset_type,
                task_id=result.metric_type,
                value=result.metric_value,
                notes=f"{result.dataset_split}, n = {of_set['n']}",
            )
            for result in model_index([of_set])
        ]
        if entries:
            path = Path(folder, EVAL_RESULTS, f"{of_set['dataset']}_{of_set['split']}.yaml".replace("/", "__"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False), encoding="utf-8")


def with_results(text: str, name: str, figures: list[dict]) -> str:
    """A card whose metadata has these figures too, in place of others of the same data sets, splits and metrics."""

    def what(result: EvalResult) -> tuple:
        return result.dataset_type, result.dataset_split, result.metric_type

    card, added = ModelCard(text), model_index(figures)
    of_others = [result for result in card.data.eval_results or [] if what(result) not in set(map(what, added))]
    card.data.model_name, card.data.eval_results = card.data.model_name or name, of_others + added
    return str(card)


def model_card(model: LmmVqaForConditionalGeneration, name: str, **filling) -> str:
    """
    README.md of a checkpoint.

    Args:
        name: of the repository or folder.
        filling: what `training_model_card` knows beyond the model; without it the card says that nothing was trained.
    """
    parts = []
    for part, module in model.model.named_children():
        parameters = sum(parameter.numel() for parameter in module.parameters())
        if parameters:
            parts.append((part, module.__class__.__name__, parameters))
    results = filling.get("results", {})
    base_models = model.config.base_models or {}
    card_data = ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag=PIPELINE_TAG,
        license=filling.get("license"),
        tags=["lmmvqa", "video-quality-assessment"],
        # What came from a file or folder is in the table only: the Hub takes the names of its repositories
        base_model=[base for base in base_models.values() if "/" in base] or None,
        datasets=[row[0] for row in filling.get("data", [])] or None,
        metrics=list(METRICS.values()) if results else None,
        eval_results=model_index(validation_figures(results)) or None,
    )
    card = ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        name=name,
        usage=USAGE.format(name=name),
        parts=parts,
        base_models=base_models,
        **filling,
    )
    return str(card)


def read_model_card(file: str | Path) -> str:
    """
    Raises:
        ValueError: there is no such file, it is no UTF-8, or its metadata are no YAML.
    """
    if not Path(file).is_file():
        raise ValueError(f"got no model card at {file}; write one and name it with --card")
    try:
        text = Path(file).read_text(encoding="utf-8")
        ModelCard(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"got a model card {file} that cannot be read, expected UTF-8 with metadata in YAML between lines of ---; mend it: {error}"
        ) from error
    return text


def complete_model_card(text: str, name: str) -> str:
    """
    Any card of a repository, with the task that loads and the lines that score a clip where it lacks them.

    Args:
        name: of the repository or folder.
    """
    card = ModelCard(text)
    if card.data.pipeline_tag in (
        None,
        "video-classification",
    ):  # the latter is what our cards said, and does not load
        card.data.library_name, card.data.pipeline_tag = "transformers", PIPELINE_TAG
    if 'pipeline("video-quality-assessment"' not in card.text:
        card.text = f"{card.text.rstrip()}\n\n## Use with transformers\n\n{USAGE.format(name=name)}"
    return str(card)


def card_file(model: str | None) -> Path | None:
    """
    Args:
        model: folder of a checkpoint, or a repository on the Hub, of which no card is fetched; None is the embedded one.

    Returns:
        The model's card; None where none is at hand.
    """
    file = resources.files("lmmvqa") / "model_card.md" if model is None else Path(model) / "README.md"
    return file if file.is_file() else None


def known_limits(model: str | None) -> list[str]:
    """What the card of a model says under "Limits", a paragraph or a point of a list each; `model` as in `card_file`."""
    card = card_file(model)
    text = "" if card is None else card.read_text(encoding="utf-8")
    section = re.search(r"^## Limits\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    points = re.split(r"\n\s*\n|^- ", section[1], flags=re.MULTILINE) if section else []
    return [" ".join(point.split()) for point in points if point.strip()]


def carry_model_card(model: str | None, folder: str | Path, calibrated_to: str) -> None:
    """
    A checkpoint's card to a folder that holds it with another scale; nothing where it has none.

    Args:
        model: see `card_file`.
        calibrated_to: what its scores were fitted to.
    """
    card = card_file(model)
    if card is not None:
        added = f"\n## Calibration\n\nScores were fitted to {calibrated_to} (`calibration.json`). Figures above are of before.\n"
        (Path(folder) / "README.md").write_text(card.read_text(encoding="utf-8") + added, encoding="utf-8")


def training_model_card(
    model: LmmVqaForConditionalGeneration,
    name: str,
    model_args,
    data_args,
    training_args,
    train_rows: list[dict],
    metrics: dict,
) -> str:
    """
    README.md of a checkpoint that `train.py` made: what it started from, what it saw, and what was measured.

    Args:
        name: of the repository or folder.
        model_args, data_args, training_args: the dataclasses of `train.py`.
        train_rows: rows that were trained on, see `datasets_scripts/rows.py`.
        metrics: as `train.py` computes them.
    """
    mos = defaultdict(list)
    for row in train_rows:
        mos[row["dataset"]].append(row["mos"])
    recipe = {"stage": model_args.stage} | {option: getattr(training_args, option) for option in RECIPE}
    del recipe["num_train_epochs" if training_args.max_steps > 0 else "max_steps"]  # which does not count
    recipe |= {option: getattr(data_args, option) for option in DATA_OPTIONS}
    recipe |= {option: getattr(model_args, option) for option in ("lora_rank", "lora_parts")}
    adapted = [f"{part} by adapters" for part in model_args.lora_parts] if model_args.lora_rank else []
    return model_card(
        model,
        name,
        start=model_args.model,
        trained_parts=[*model_args.train_parts, *adapted],
        recipe=recipe,
        rated=any(row["mos"] is not None for row in train_rows),
        instructed=any(row.get("conversations") for row in train_rows),
        data=[(dataset, len(values), *_ends(values)) for dataset, values in sorted(mos.items())],
        results=metrics.get("validation", {}),
        license=model_args.license,
    )


def _ends(mos: list[float | None]) -> tuple[str, str]:
    """Lowest and highest MOS of a data set as text; of conversations, which are not rated, a dash each."""
    rated = [value for value in mos if value is not None]
    return (f"{min(rated):.1f}", f"{max(rated):.1f}") if rated else ("-", "-")
