"""The paper's ablations, Tables VII and VIII, and our own: variants of one checkpoint, trained alike and compared on held-out videos.

    python benchmarks/ablations.py --model BASE --data ROWS [ROWS ...] --work DIR --out FILE -- OPTIONS OF train.py

BASE is an untrained checkpoint, as `lmmvqa assemble` writes one; `--decoder_b` is another, assembled with another
decoder. Each run starts from BASE with one change, goes through train.py under the same options, and scores the test
splits of the rows. Of what a change leaves alone the weights are those of BASE; projectors of another shape are drawn by
the run's seed. Towers are frozen, and their features computed once for all runs that share them.

A finished run leaves `result.json` in its folder under DIR and is not run again; one that was stopped goes on where
train.py last saved. Its weights are removed when it is finished, unless `--keep`. All finished runs under DIR come into
the tables, which are printed and written to FILE (JSON, and Markdown beside it).
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict, disable_progress_bars
from scipy.stats import spearmanr
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from lmmvqa.checkpoints.assemble import meta_model
from lmmvqa.checkpoints.checkpoint_digest import checkpoint_digest
from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.datasets_scripts.folder_seal import SEAL_FILE, seal_folder, write_whole
from lmmvqa.datasets_scripts.rows import load_rows, rows_digest, split_by_group
from lmmvqa.evaluation.metrics import agreement
from lmmvqa.evaluation.predictions import predict_scores
from lmmvqa.modeling_lmmvqa import LmmVqaConfig, LmmVqaForConditionalGeneration
from lmmvqa.processing.context_lmmvqa import TOKEN_LAYOUT, visual_token_counts
from lmmvqa.training.feature_cache import FeatureCache
from lmmvqa.training.run_settings import read_rows


TRAIN_PY = Path(__file__).resolve().parents[1] / "train.py"

# Equal for all runs
SETTINGS = ("model", "decoder_b", "data", "test_data", "splits", "data_share", "train_parts", "train_options")

# Each row of the tables is what its run changes: options of LmmVqaConfig and of the video processor, and these of how it
# is trained. A row that changes nothing, as "ViT" where BASE has that projector, is the run `base`
LEARNED = {
    "readout_weight": 0.0,
    "soft_label_std": 0.0,
    "fidelity_weight": 0.0,
    "score_form": "numbers",
}  # of train.py
ADAPTED = {"vision_blocks": 0}  # so many last blocks of the vision tower are trained too, and its features not cached
TRAINING = {"tasks": "score level", "data_share": 1.0, "decoder": "A", **LEARNED, **ADAPTED}
VIEWS = "key_frame_fragments"
TABLES = {
    "Table VII: decoder, temporal tokens, multi-task": {
        "decoder A, temporal tokens, both questions": {},
        "decoder B": {"decoder": "B"},
        "without temporal tokens": {"use_temporal_tokens": False},
        "without multi-task: score questions alone": {"tasks": "score"},
    },
    "Table VIII (a): spatial projector": {
        "ViT": {"spatial_projector_type": "vit"},
        "MLP": {"spatial_projector_type": "mlp"},
        "Perceiver": {"spatial_projector_type": "perceiver"},
    },
    "Table VIII (b): share of the training contents": {
        "25 %": {"data_share": 0.25},
        "50 %": {"data_share": 0.5},
        "75 %": {"data_share": 0.75},
        "100 %": {},
    },
    "Table VIII (c): tokens a key frame": {
        "4": {"spatial_grid_size": 2},
        "16": {"spatial_grid_size": 4},
        "64": {"spatial_grid_size": 8},
        "256": {"spatial_grid_size": 16},
    },
    "Where the paper can be read in two ways": {
        "tokens of every key frame (Eq. 4)": {"spatial_reduction": "none"},
        "mean over key frames (Algorithm 1)": {"spatial_reduction": "mean"},
        "temporal token joins in the decoder's width (Eq. 8)": {"temporal_fusion": "decoder"},
        "temporal token joins before the ViT layer": {"temporal_fusion": "vision"},
        "one temporal token a chunk, behind all key frames": {"temporal_reduction": "none"},
        "the same, each behind its key frame": {"temporal_reduction": "none", "temporal_placement": "interleaved"},
        "LayerNorm behind the temporal projection": {"temporal_projector_norm": True},
    },
    "The code in circulation": {
        "mean over key frames before the projector": {"spatial_reduction": "mean_features"},
        "LayerNorm behind the spatial projection": {"spatial_projector_norm": True},
        "MMCA in the decoder": {"decoder_attention": "mmca"},
        "all of it, and temporal tokens before the ViT layer": {
            "spatial_reduction": "mean_features",
            "spatial_projector_norm": True,
            "temporal_projector_norm": True,
            "temporal_fusion": "vision",
            "decoder_attention": "mmca",
        },
    },
    "Beside the paper: views of a key frame": {
        "squeezed, and a mosaic at its own resolution": {VIEWS: [1, 4]},
        "squeezed alone": {VIEWS: 1},
        "the mosaic alone": {VIEWS: 4},
    },
    "Beside the paper: the vision tower": {"frozen": {}, "its last two blocks are trained too": {"vision_blocks": 2}},
    "Beside the paper: losses and answers": {
        "cross-entropy alone (Eq. 10)": {"readout_weight": 0.0},
        "squared error of the expected score too": {"readout_weight": 1.0},
        "soft labels of 5 MOS in place of one answer": {"soft_label_std": 5.0},
        "fidelity loss": {"fidelity_weight": 1.0},
        "five categories in place of numbers": {"score_form": "categories"},
    },
}


def base_options(model: str, train_options: list[str]) -> dict:
    """What the base is, for every name that a row of the tables may change."""
    config, video_processor = AutoConfig.from_pretrained(model), AutoProcessor.from_pretrained(model).video_processor
    names = {name for table in TABLES.values() for row in table.values() for name in row}
    options = {name: getattr(config, name) for name in names - TRAINING.keys() - {VIEWS}} | TRAINING
    options[VIEWS] = video_processor.key_frame_fragments
    given = {
        name: train_options[train_options.index(f"--{name}") + 1] for name in LEARNED if f"--{name}" in train_options
    }
    return options | {name: type(LEARNED[name])(value) for name, value in given.items()}


def changed(row: dict, base: dict) -> dict:
    """What a row of the tables changes of the base with these options."""
    return {name: value for name, value in row.items() if value != base[name]}


def run_name(change: dict) -> str:
    """The folder of a run, and its name in `--only` and `--leave_out`."""
    return "-".join(f"{name}={value}" for name, value in change.items()).replace(" ", "") or "base"


def changed_config(base: str, change: dict) -> LmmVqaConfig:
    """The base's configuration with a run's options."""
    config = AutoConfig.from_pretrained(base)
    for name, value in change.items():
        if name == VIEWS:
            config.key_frame_views = len(value) if isinstance(value, list) else 1
        elif name not in TRAINING:
            setattr(config, name, value)
    if "spatial_grid_size" in change and config.vision_config.model_type == "lmmvqa_efficientnet_lite":
        # This tower takes statistics over the cells of its own grid, there is no finer one to pool from
        config.vision_config.grid_size = change["spatial_grid_size"]
    return config


def check(base: str, change: dict) -> None:
    """
    Raises:
        ValueError: the base cannot be changed so.
    """
    try:
        size = AutoProcessor.from_pretrained(base).video_processor.key_frame_size
        meta_model(changed_config(base, change), size)
    except ValueError as error:
        raise ValueError(
            f"got the run {run_name(change)}, which {base} cannot make, expected one that it can; add "
            f"--leave_out {run_name(change)}: {error}"
        ) from error


def write_start(base: str, change: dict, seed: int, folder: Path) -> None:
    """
    Writes the checkpoint that a run starts from: the base's weights, and by the seed those of changed projectors.

    Raises:
        ValueError: the base lacks weights of another part.
    """
    config = changed_config(base, change)
    torch.manual_seed(seed)
    model, info = LmmVqaForConditionalGeneration.from_pretrained(
        base, config=config, dtype="auto", ignore_mismatched_sizes=True, output_loading_info=True
    )
    new = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if others := sorted(name for name in new if "_projector." not in name):
        raise ValueError(f"got {base} without {', '.join(others)}, expected new weights in projectors alone")
    processor = AutoProcessor.from_pretrained(base)
    for name in TOKEN_LAYOUT:
        setattr(processor, name, getattr(config, name))
    if VIEWS in change:
        processor.video_processor.key_frame_fragments = change[VIEWS]
    save_checkpoint(model, processor, folder)


def write_share(rows: str, share: float, folder: Path) -> None:
    """
    Writes the training rows of a share of the contents, those of a smaller share being among those of a larger one;
    and no others: no run is chosen by its validation.
    """
    train = load_rows(rows)["train"]
    part_of = split_by_group(train["group"], {"taken": share, "left": 1 - share})
    taken = [index for index, group in enumerate(train["group"]) if part_of[group] == "taken"]
    DatasetDict({"train": train.select(taken)}).save_to_disk(folder)


def cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Stopwatch:
    """Wall time and CPU time of this process: on a CPU that others use too, only the second says anything."""

    def __init__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self._wall, "cpu_seconds": time.process_time() - self._cpu}


def train(arguments: argparse.Namespace, start: str, data: list[str], change: dict, seed: int, trained: Path) -> dict:
    """Runs train.py; returns what it measured and how long it took, in processes that began at the last checkpoint."""
    has_temporal_tokens = change.get("use_temporal_tokens", AutoConfig.from_pretrained(start).use_temporal_tokens)
    parts = [part for part in arguments.train_parts if has_temporal_tokens or not part.startswith("temporal_")]
    if blocks := change.get("vision_blocks"):
        parts.append(f"vision_tower:{blocks}")
    options = [
        *("--model", start, "--data", *data, "--output_dir", trained),
        *(() if change.keys() & ADAPTED else ("--feature_cache", arguments.feature_cache)),
        *("--train_parts", *parts, "--tasks", *change.get("tasks", TRAINING["tasks"]).split()),
        *("--seed", seed, *arguments.train_options),
        *(part for name in LEARNED.keys() & change.keys() for part in (f"--{name}", change[name])),
    ]
    was_stopped = any(trained.glob("checkpoint-*")) or (trained / "train_results.json").is_file()
    cpu_seconds = cpu_seconds_of_children()
    subprocess.run([sys.executable, TRAIN_PY, *map(str, options)], check=True)
    metrics = json.loads((trained / "train_results.json").read_text())
    return {
        "loss": metrics["train_loss"],
        "was_stopped": was_stopped,
        "seconds": metrics["train_runtime"],
        "cpu_seconds": cpu_seconds_of_children() - cpu_seconds,
    }


def load(arguments: argparse.Namespace, folder: str | Path, cache: str | Path, dtype: torch.dtype | str = "auto"):
    """A checkpoint on the device, with a cache of its towers' features."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).to(arguments.device)
    processor = AutoProcessor.from_pretrained(folder)
    return model, processor, FeatureCache(cache, model.eval().requires_grad_(False), processor)


def run(arguments: argparse.Namespace, change: dict, seed: int, test_rows: list[dict], folder: Path) -> dict:
    """Trains and scores one variant."""
    base = arguments.decoder_b if change.get("decoder") == "B" else arguments.model
    start = base
    if change.keys() - TRAINING.keys():
        start = folder / "start"
        write_start(base, change, seed, start)
    data = [folder / "rows" / str(index) for index in range(len(arguments.data))]
    share = arguments.data_share * change.get("data_share", TRAINING["data_share"])
    for rows, taken in zip(arguments.data, data, strict=True):
        write_share(rows, share, taken)

    # Beforehand, so that the time of training is that of training alone; in the precision that train.py computes in
    is_mixed = {"--bf16", "--fp16"} & set(arguments.train_options)
    model, _, cache = load(arguments, start, arguments.feature_cache, "auto" if is_mixed else torch.float32)
    videos = [row["video"] for rows in map(load_rows, data) for row in rows["train"]]
    watch = Stopwatch()
    num_computed = 0 if change.keys() & ADAPTED else cache.build(videos + [row["video"] for row in test_rows])
    features = {"videos": num_computed, **watch.read()}
    tokens = visual_token_counts(model.config, 1)
    del model, cache

    training = train(arguments, str(start), list(map(str, data)), change, seed, folder / "trained")

    trained = folder / "trained"
    # Of a tower that no other run has, nothing is left
    cache = trained / "features" if change.keys() & ADAPTED else arguments.feature_cache
    model, processor, cache = load(arguments, trained, cache)
    videos = [row["video"] for row in test_rows]
    watch = Stopwatch()
    scores = [result.score for result in predict_scores(model, processor, videos, cache=cache)]
    decoder = {"videos": len(videos), **watch.read()}
    timed = videos[:: len(videos) // arguments.timed_videos + 1]
    watch = Stopwatch()
    predict_scores(model, processor, timed, batch_size=1)
    scoring = {"videos": len(timed), **watch.read()}
    return {
        "run": run_name(change),
        "change": change,
        "seed": seed,
        "training_videos": sum(len(load_rows(rows)["train"]) for rows in data),
        "key_frame_tokens": tokens[0],
        "temporal_tokens": tokens[1],
        "trained_parameters": sum(
            parameter.numel()
            for part in arguments.train_parts
            if hasattr(model.model, part)
            for parameter in getattr(model.model, part).parameters()
        ),
        "features": features,
        "training": training,
        "scoring": scoring,
        "scoring_cached": decoder,
        "predictions": [
            {name: row[name] for name in ("dataset", "split", "group", "video", "mos")}
            | {"video": os.path.basename(row["video"]), "score": score, "error": None}
            for row, score in zip(test_rows, scores, strict=True)
        ],
    }


def run_all(arguments: argparse.Namespace) -> None:
    """Runs what is not finished, in the order of the tables, seed after seed."""
    base = base_options(arguments.model, arguments.train_options)
    changes = [changed(row, base) for table in TABLES.values() for row in table.values()]
    changes = {run_name(change): change for change in changes}
    if not arguments.decoder_b:
        del changes[run_name({"decoder": "B"})]
    if unknown := {*arguments.only, *arguments.leave_out} - changes.keys():
        raise ValueError(f"got the runs {', '.join(sorted(unknown))}, expected some of {', '.join(changes)}")
    for name in arguments.leave_out if not arguments.only else changes.keys() - {*arguments.only}:
        changes.pop(name)
    for change in changes.values():
        check(arguments.model, change)

    train_rows, test_rows = read_rows(arguments.data)["train"], []
    for rows in map(load_rows, dict.fromkeys(arguments.test_data or arguments.data)):
        test_rows += [row for split in arguments.splits if split in rows for row in rows[split]]
    if not test_rows:
        raise ValueError(f"got no rows in the splits {', '.join(arguments.splits)}, expected some to compare runs on")
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    for name in ("model", "decoder_b"):
        settings[f"{name}_digest"] = settings[name] and checkpoint_digest(settings[name])
    settings |= {"train_rows": rows_digest(train_rows), "test_rows": rows_digest(test_rows)}
    seal_folder(arguments.work, settings, ["runs/*"])
    for seed in arguments.seeds:
        for name, change in changes.items():
            folder = arguments.work / "runs" / name / f"seed{seed}"
            if (folder / "result.json").exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            print(f"run {name}, seed {seed}", flush=True)
            result = run(arguments, change, seed, test_rows, folder)
            write_whole(folder / "result.json", json.dumps(result, indent=1) + "\n")
            if not arguments.keep:
                for name in ("start", "trained", "rows"):
                    shutil.rmtree(folder / name, ignore_errors=True)
            done = {key: result[key] for key in ("run", "seed", "training", "scoring", "scoring_cached")}
            print(json.dumps(done), flush=True)


# Tables


def difference(runs: dict[int, list[dict]], base: dict[int, list[dict]], samples: int = 1000) -> dict:
    """
    SRCC of a variant less that of the base on the same videos, the mean over the seeds that both have.

    Args:
        runs, base: predictions by seed, the same videos in the same order.

    Returns:
        `srcc`, and its 95 % `interval` over contents drawn with replacement: it knows what other videos would give,
        not what another seed would.
    """
    seeds = sorted(runs.keys() & base.keys())
    mos = np.array([row["mos"] for row in base[seeds[0]]])
    groups = defaultdict(list)
    for index, row in enumerate(base[seeds[0]]):
        groups[row["group"]].append(index)
    members = [np.array(indices) for indices in groups.values()]
    scores = {seed: [np.array([row["score"] for row in of[seed]]) for of in (runs, base)] for seed in seeds}

    def mean_difference(drawn: np.ndarray) -> float:
        pairs = [[spearmanr(of[drawn], mos[drawn]).statistic for of in scores[seed]] for seed in seeds]
        return float(np.mean([one - other for one, other in pairs]))

    rng = np.random.default_rng(0)
    draws = (rng.integers(len(members), size=len(members)) for _ in range(samples))
    values = [mean_difference(np.concatenate([members[group] for group in draw])) for draw in draws]
    return {
        "srcc": mean_difference(np.arange(len(mos))),
        "interval": np.quantile(values, [0.025, 0.975]).tolist(),
        "contents": len(members),
        "seeds": seeds,
    }


def report(arguments: argparse.Namespace) -> dict:
    """All finished runs, and how they compare with the base on each test set."""
    results = defaultdict(dict)
    for file in sorted((arguments.work / "runs").glob("*/seed*/result.json")):
        result = json.loads(file.read_text())
        results[result["run"]][result["seed"]] = result
    predictions = {
        name: {seed: _by_test_set(result["predictions"]) for seed, result in by_seed.items()}
        for name, by_seed in results.items()
    }
    runs = []
    for name, by_seed in results.items():
        figures = {}
        for test_set in next(iter(predictions[name].values())):
            figures[test_set] = {
                "seeds": {
                    seed: agreement(*([row[key] for row in of[test_set]] for key in ("score", "mos")))
                    for seed, of in predictions[name].items()
                }
            }
            pair = [
                {seed: of[test_set] for seed, of in predictions[which].items()}
                for which in (name, "base")
                if which in predictions
            ]
            if name != "base" and len(pair) == 2 and pair[0].keys() & pair[1].keys():
                figures[test_set]["less_base"] = difference(*pair)
        runs.append(
            {
                "run": name,
                "figures": figures,
                "seeds": {
                    seed: {key: value for key, value in result.items() if key not in ("predictions", "run", "change")}
                    for seed, result in by_seed.items()
                },
            }
        )
    return {
        "command": " ".join(["python", *sys.argv]),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "settings": json.loads((arguments.work / SEAL_FILE).read_text(encoding="utf-8")),
        "base_options": base_options(arguments.model, arguments.train_options),
        "runs": runs,
    }


def _by_test_set(rows: list[dict]) -> dict[str, list[dict]]:
    test_sets = defaultdict(list)
    for row in rows:
        test_sets[f"{row['dataset']} {row['split']}"].append(row)
    return test_sets


def tables(result: dict) -> str:
    """The paper's tables in Markdown. Several seeds: the mean of each figure, and every SRCC beside it."""
    by_name = {run["run"]: run for run in result["runs"]}
    base = result["base_options"]
    test_sets = list(dict.fromkeys(name for run in result["runs"] for name in run["figures"]))
    unit = "CPU s" if result["device"] == "cpu" else "s"
    clock = "cpu_seconds" if result["device"] == "cpu" else "seconds"
    lines = []
    for title, rows in TABLES.items():
        header = ["", *(f"{name}: SRCC / PLCC" for name in test_sets), "SRCC less base's [95 %]", "tokens a second"]
        header += [f"training, {unit}", f"scoring, {unit} a video", f"of it projectors and decoder, {unit}"]
        lines += [f"**{title}**", "", _line(header), _line(["---"] * len(header))]
        for label, row in rows.items():
            run = by_name.get(run_name(changed(row, base)))
            cells = [_figures(run, name) for name in test_sets] if run else ["not run"] * len(test_sets)
            if run:
                cells.append("; ".join(_difference(run, name) for name in test_sets))
                seeds = list(run["seeds"].values())
                cells.append(f"{seeds[0]['key_frame_tokens']}")
                trainings = [seed["training"][clock] for seed in seeds if not seed["training"]["was_stopped"]]
                cells.append(f"{np.mean(trainings):.0f}" if trainings else "was stopped")
                for name in ("scoring", "scoring_cached"):
                    cells.append(f"{np.mean([seed[name][clock] / seed[name]['videos'] for seed in seeds]):.3f}")
            lines.append(_line([label, *cells, *[""] * (len(header) - 1 - len(cells))]))
        lines.append("")
    counts = [f"{name}: {_count(result['runs'], name)}" for name in test_sets]
    return "\n".join([*lines, f"Test videos: {'; '.join(counts)}."])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figures(run: dict, test_set: str) -> str:
    seeds = list(run["figures"][test_set]["seeds"].values())
    means = " / ".join(f"{np.mean([seed[key] for seed in seeds]):.3f}" for key in ("srcc", "plcc"))
    of_each = ", ".join(f"{seed['srcc']:.3f}" for seed in seeds)
    return means if len(seeds) == 1 else f"{means} (SRCC {of_each})"


def _difference(run: dict, test_set: str) -> str:
    less_base = run["figures"][test_set].get("less_base")
    if less_base is None:
        return ""
    low, high = less_base["interval"]
    verdict = "not distinguishable " if low <= 0 <= high else ""
    return f"{verdict}{less_base['srcc']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _count(runs: list[dict], test_set: str) -> int:
    return next(iter(runs[0]["figures"][test_set]["seeds"].values()))["n"]


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    split = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="untrained checkpoint folder or repository")
    parser.add_argument("--decoder_b", help="another one, which differs in its decoder")
    parser.add_argument("--data", nargs="+", required=True, help="folders of rows: their training split is trained on")
    parser.add_argument("--test_data", nargs="+", default=[], help="folders of rows to compare on (default: --data)")
    parser.add_argument("--splits", nargs="+", default=["test", "test_1080p"], help="of the rows to compare on")
    parser.add_argument("--data_share", type=float, default=1.0, help="of the contents, to train every run on less")
    parser.add_argument("--train_parts", nargs="+", default=["spatial_projector", "temporal_projector"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="these runs")
    parser.add_argument("--leave_out", nargs="+", default=[], metavar="RUN", help="all but these runs")
    parser.add_argument("--feature_cache", help="folder for the towers' features (default: under --work)")
    parser.add_argument("--device", default=str(torch.accelerator.current_accelerator() or "cpu"))
    parser.add_argument("--timed_videos", type=int, default=20, help="videos scored one by one, to take the time")
    parser.add_argument("--keep", action="store_true", help="keep the weights of finished runs")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and their results")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; a .md beside it takes the tables")
    arguments = parser.parse_args(argv[:split])
    arguments.train_options = argv[split + 1 :]
    arguments.feature_cache = arguments.feature_cache or str(arguments.work / "feature_cache")
    disable_progress_bars()

    run_all(arguments)
    result = report(arguments)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    arguments.out.with_suffix(".md").write_text(tables(result) + "\n", encoding="utf-8")
    print(tables(result))


if __name__ == "__main__":
    main()
