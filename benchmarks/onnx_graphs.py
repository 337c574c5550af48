"""The embedded default in ONNX Runtime beside PyTorch: how far scores move, how long both take, what int8 costs.

`lmmvqa export --onnx --out runs/onnx`, then
`python benchmarks/onnx_graphs.py --onnx runs/onnx --shared ../shared --out benchmarks/results/onnx.json`.
Of each video the first `--seconds` are scored, by each engine in turn, from the same decoded frames. Time is CPU time of
all threads, towers and answers together, which other processes on the machine hardly lengthen. The file is written after
each video.
"""

import argparse
import json
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from lmmvqa.checkpoints.checkpoint_digest import weights_digest
from lmmvqa.checkpoints.onnx_export import DECODER, TOWERS
from lmmvqa.modeling_lmmvqa.pipeline_lmmvqa import choose_answers
from lmmvqa.processing import VideoDecodingError
from lmmvqa.scoring.onnx_model import OnnxModel
from lmmvqa.scoring.scorer import default_checkpoint, load_scorer


# The operators that are quantised in each graph
QUANTIZED = {
    "int8 decoder": {DECODER: ["MatMul", "Gemm"]},
    "int8": {DECODER: ["MatMul", "Gemm"], TOWERS: ["Conv", "MatMul"]},
}
VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".ts")


def choose_videos(shared: Path, num_clips: int, num_images: int) -> list[Path]:
    """The smallest files among the clips, and photographs."""
    clips = [path for name in ("clips", "clips_real") for path in (shared / name).iterdir()]
    clips = sorted((path for path in clips if path.suffix in VIDEO_SUFFIXES), key=lambda path: path.stat().st_size)
    images = sorted((shared / "images").glob("*.jpg"))
    return clips[:num_clips] + images[:: len(images) // num_images][:num_images]


def quantize(folder: Path, out: Path, graphs: dict[str, list[str]]) -> None:
    """
    Copies a folder of `export_onnx` with dynamic int8 in some graphs.

    Args:
        graphs: the operators that are quantised in each graph.
    """
    out.mkdir()
    for path in folder.iterdir():
        if path.name not in graphs:
            (out / path.name).write_bytes(path.read_bytes())
    for name, operators in graphs.items():
        options = onnxruntime.SessionOptions()
        # The quantiser looks for weights, not for what widens them
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(out / f"{name}.float32")
        onnxruntime.InferenceSession(folder / name, options, ["CPUExecutionProvider"])
        quantize_dynamic(
            options.optimized_model_filepath,
            out / name,
            op_types_to_quantize=operators,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        Path(options.optimized_model_filepath).unlink()


@torch.no_grad()
def score(model, processor, decoded) -> tuple[float, float]:
    """Score and CPU seconds."""
    start = time.process_time()
    encoded = processor.video_processor.encode([decoded], model)
    ((windows, (scores, *damages), facts),) = choose_answers(model, processor, encoded, processor.result_questions)
    result = processor.post_process_window_scores(windows, scores, facts, *damages)
    return result.score, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint folder or repository that was exported (default: embedded)")
    parser.add_argument("--onnx", type=Path, required=True, help="folder of lmmvqa export --onnx", metavar="DIR")
    parser.add_argument("--shared", type=Path, required=True, help="folder of clips, clips_real and images")
    parser.add_argument("--num_clips", type=int, default=50)
    parser.add_argument("--num_images", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--quantized", nargs="*", default=list(QUANTIZED), choices=list(QUANTIZED))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scorer = load_scorer(arguments.model, "cpu")
    processor = scorer.processor
    engines, sizes = {"torch": scorer.model}, {}
    with tempfile.TemporaryDirectory() as work:
        folders = {"float32": arguments.onnx}
        for name in arguments.quantized:
            folders[name] = Path(work) / name
            quantize(arguments.onnx, folders[name], QUANTIZED[name])
        for name, folder in folders.items():
            engines[name] = OnnxModel.load(folder)
            sizes[name] = sum((folder / file).stat().st_size for file in (TOWERS, DECODER))
    packages = ("lmmvqa", "torch", "onnx", "onnxruntime", "onnxscript")
    report = {
        "model": arguments.model or "embedded default",
        "weights": weights_digest(arguments.model or default_checkpoint()),
        "versions": {package: version(package) for package in packages},
        "threads": arguments.threads,
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
    }
    rows, chunks = [], 0
    for path in choose_videos(arguments.shared, arguments.num_clips, arguments.num_images):
        try:
            (decoded,) = processor.video_processor.decode(str(path))
        except VideoDecodingError as error:
            print(error)
            continue
        decoded = decoded.part(0, arguments.seconds)
        chunks += len(decoded.seconds)
        rows.append({name: score(model, processor, decoded) for name, model in engines.items()})
        print(
            path.name,
            {name: [round(figure, 3) for figure in of_engine] for name, of_engine in rows[-1].items()},
            flush=True,
        )
        report |= {"load average": os.getloadavg()[0], "videos": len(rows), "seconds of video": chunks}
        report["engines"] = {name: figures(rows, name, chunks) | {"bytes": sizes.get(name)} for name in engines}
        report["scores"] = {name: [round(row[name][0], 4) for row in rows] for name in engines}
        if arguments.out:
            Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["engines"], indent=1))


def figures(rows: list[dict], name: str, chunks: int) -> dict[str, float]:
    differences = [abs(row[name][0] - row["torch"][0]) for row in rows]
    return {
        "largest difference": round(max(differences), 5),
        "mean difference": round(sum(differences) / len(rows), 5),
        "cpu seconds a second of video": round(sum(row[name][1] for row in rows) / chunks, 4),
    }


if __name__ == "__main__":
    main()
