"""Times the paper's training step, batch 32, with the full-size model (random weights): only the projectors train.

    python benchmarks/train_step.py                      # one GPU of 80 GB, under 8 minutes
    python benchmarks/train_step.py --device cpu --tiny  # the same code on a tiny model, seconds

Needs PyTorch and transformers. Towers and decoder are frozen, in float32 and bfloat16; the projectors are float32 under
autocast, their optimiser AdamW. Videos of 8 seconds at 224 x 224, one answer of two tokens a video. A batch is gathered
from the largest portions that fit, halved from the whole batch on: `portion` in the result. Seconds are medians of whole
steps from pixels on the device to changed weights; `cached_seconds` are those of steps from the towers' features.
"""

import argparse
import time

import torch
from full_size_model import (
    PRESETS,
    ROOT,
    build_model,
    environment,
    median_seconds,
    parse,
    peak_gib,
    random_pixels,
    random_prompts,
    write_result,
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model of the same parts")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--checkpointing", nargs="+", choices=["off", "on"], default=["on", "off"])
    parser.add_argument("--batch_size", type=int, help="default: 32, with --tiny 2")
    parser.add_argument("--seconds", type=int, help="length of the videos (default: 8, with --tiny 2)")
    parser.add_argument("--repeats", type=int, help="default: 2, with --tiny 1")
    parser.add_argument("--minutes", type=float, default=6.5, help="nothing further is begun after so long")
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/train_step.json"))
    arguments = parse(
        parser,
        argv,
        full={"batch_size": 32, "seconds": 8, "repeats": 2},
        tiny={"batch_size": 2, "seconds": 2, "repeats": 1},
    )
    deadline = time.monotonic() + 60 * arguments.minutes

    model = build_model(arguments.device, arguments.tiny)
    model.requires_grad_(False)
    trained = []
    for projector in (model.model.spatial_projector, model.model.temporal_projector):
        trained += projector.float().requires_grad_(True).parameters()
    model.train()  # frozen towers stay in eval mode, see LmmVqaModel.train
    result = environment(arguments.device, model, __file__) | {
        "batch_size": arguments.batch_size,
        "video_seconds": arguments.seconds,
        "trained_parameters": sum(parameter.numel() for parameter in trained),
        "runs": [],
    }
    for checkpointing in arguments.checkpointing:
        if checkpointing == "on":
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            model.gradient_checkpointing_disable()
        for preset in arguments.presets:
            for name, value in PRESETS[preset].items():
                setattr(model.config, name, value)
            portion = arguments.batch_size
            run = {"preset": preset, "checkpointing": checkpointing, "out_of_memory": []}
            while portion and "seconds" not in run:
                if time.monotonic() > deadline:
                    run["not_run"] = f"{arguments.minutes:g} minutes were over"
                    break
                try:
                    run |= {"portion": portion} | measure(model, trained, portion, arguments)
                except torch.OutOfMemoryError:
                    run["out_of_memory"].append(portion)
                if "seconds" not in run:
                    torch.cuda.empty_cache()
                    portion //= 2
            result["runs"].append(run)
            print(run, flush=True)
            write_result(arguments.out, result)  # what is measured stays measured, whatever comes after


def measure(model, trained: list[torch.nn.Parameter], portion: int, arguments: argparse.Namespace) -> dict:
    """Seconds of a step from pixels and of one from features, and memory, with so many videos at a time."""
    device, is_cuda = arguments.device, arguments.device.startswith("cuda")
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    optimizer.zero_grad()  # a portion that did not fit leaves some behind
    pixels = {
        name: tensor.to(device)
        for name, tensor in random_pixels(model, portion, arguments.seconds, arguments.tiny).items()
    }
    prompts = random_prompts(model, portion, arguments.seconds)
    prompts["labels"] = torch.full_like(prompts["input_ids"], -100)
    prompts["labels"][:, -2:] = prompts["input_ids"][:, -2:]  # a number and the end of the turn

    def step(visual: dict[str, torch.Tensor]) -> float:
        num_portions = arguments.batch_size // portion
        for _ in range(num_portions):
            with torch.autocast(device.partition(":")[0], torch.bfloat16):
                loss = model(**prompts, **visual, use_cache=False).loss / num_portions
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    seconds, loss = median_seconds(lambda: step(pixels), device, arguments.repeats)
    peak = peak_gib(device)
    with torch.no_grad():
        features = {
            "num_chunks": pixels["num_chunks"],
            "vision_features": model.model.encode_key_frames(pixels["pixel_values"]),
            "temporal_features": model.model.encode_chunks(pixels["pixel_values_videos"]),
        }
    cached_seconds, _ = median_seconds(lambda: step(features), device, arguments.repeats)
    return {
        "prompt_tokens": prompts["input_ids"].shape[1],
        "seconds": seconds,
        "cached_seconds": cached_seconds,
        "peak_gib": peak,
        "loss": loss * (arguments.batch_size // portion),
    }


if __name__ == "__main__":
    main()
