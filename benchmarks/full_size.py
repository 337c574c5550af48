"""Times scoring with the paper's full-size model (8.4 billion parameters, random weights), stage by stage.

    python benchmarks/full_size.py                      # one GPU of 80 GB, under 8 minutes
    python benchmarks/full_size.py --device cpu --tiny  # the same code on a tiny model, seconds

Needs PyTorch and transformers; `--clip` also PyAV and Pillow. Videos of 8 seconds at 224 x 224, bfloat16 and of the
towers float32, one prompt a video. Seconds are medians over whole batches:

- preprocess: decoding and scaling `--clip`, one video after another on the host; only where it is given
- transfer: pixels (float32, as the processor gives them) to the device
- vision_tower, temporal_tower: pixels to features
- projectors: features to tokens of the decoder
- prefill: tokens to the logits behind the prompt
- readout: those logits to the distribution over the scores, one token each as in Llama-3
- score: all of it from pixels on the device, as users call it; score_split_digits: the same where digits are split

A batch that does not fit is recorded as out of memory, and larger ones are left out.
"""

import argparse
import time

import torch
from full_size_model import (
    MERGED_DIGITS,
    PRESETS,
    ROOT,
    SPLIT_DIGITS,
    build_model,
    environment,
    median_seconds,
    parse,
    peak_gib,
    random_pixels,
    random_prompts,
    write_result,
)

from lmmvqa.modeling_lmmvqa.answer_tree_lmmvqa import AnswerTree


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model of the same parts")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--batch_sizes", nargs="+", type=int, help="default: 1 to 32, with --tiny 1 and 2")
    parser.add_argument("--seconds", type=int, help="length of the videos (default: 8, with --tiny 2)")
    parser.add_argument("--repeats", type=int, help="default: 3, with --tiny 1")
    parser.add_argument("--minutes", type=float, default=6.5, help="no further batch is begun after so long")
    parser.add_argument("--clip", help="video whose preprocessing is timed too")
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/full_size.json"))
    arguments = parse(
        parser,
        argv,
        full={"batch_sizes": [1, 2, 4, 8, 16, 32], "seconds": 8, "repeats": 3},
        tiny={"batch_sizes": [1, 2], "seconds": 2, "repeats": 1},
    )
    deadline = time.monotonic() + 60 * arguments.minutes

    model = build_model(arguments.device, arguments.tiny)
    result = environment(arguments.device, model, __file__) | {
        "video_seconds": arguments.seconds,
        "preprocess_seconds_a_video": preprocess_seconds(arguments.clip, arguments.repeats),
        "runs": [],
    }
    for preset in arguments.presets:
        for name, value in PRESETS[preset].items():
            setattr(model.config, name, value)
        for batch_size in arguments.batch_sizes:
            run = {"preset": preset, "batch_size": batch_size}
            if time.monotonic() > deadline:
                run["not_run"] = f"{arguments.minutes:g} minutes were over"
            else:
                try:
                    run |= measure(model, batch_size, arguments)
                except torch.OutOfMemoryError as error:
                    run["out_of_memory"] = str(error).partition(". ")[0]
            result["runs"].append(run)
            print(run, flush=True)
            write_result(arguments.out, result)  # what is measured stays measured, whatever comes after
            if "out_of_memory" in run:
                torch.cuda.empty_cache()
                break


def preprocess_seconds(clip: str | None, repeats: int) -> float | None:
    if clip is None:
        return None
    from lmmvqa.processing.video_processing_lmmvqa import LmmVqaVideoProcessor

    processor = LmmVqaVideoProcessor()
    return median_seconds(lambda: processor(clip), "cpu", repeats)[0]


@torch.inference_mode()
def measure(model, batch_size: int, arguments: argparse.Namespace) -> dict:
    """Seconds of each stage, and memory, of one preset at one batch size."""
    device, seconds = arguments.device, {}

    def timed(stage, function):
        seconds[stage], result = median_seconds(function, device, arguments.repeats)
        return result

    host_pixels = random_pixels(model, batch_size, arguments.seconds, arguments.tiny)
    prompts = random_prompts(model, batch_size, arguments.seconds)
    pixels = timed("transfer", lambda: {name: tensor.to(device) for name, tensor in host_pixels.items()})
    num_chunks = pixels["num_chunks"]
    vision_features = timed("vision_tower", lambda: model.model.encode_key_frames(pixels["pixel_values"]))
    temporal_features = timed("temporal_tower", lambda: model.model.encode_chunks(pixels["pixel_values_videos"]))
    tokens = timed(
        "projectors",
        lambda: {
            "image": model.model.get_image_features(num_chunks=num_chunks, vision_features=vision_features),
            "video": model.model.get_video_features(num_chunks=num_chunks, temporal_features=temporal_features),
        },
    )
    logits = timed(
        "prefill", lambda: model(**prompts, mm_encoder_outputs=tokens, use_cache=False, logits_to_keep=1).logits
    )
    timed("readout", lambda: AnswerTree(MERGED_DIGITS).log_probabilities(logits))
    vision_features = temporal_features = tokens = logits = None  # their memory counts for no later stage

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    timed("score", lambda: model.answer_log_probabilities(MERGED_DIGITS, **prompts, **pixels))
    peak = peak_gib(device)
    timed("score_split_digits", lambda: model.answer_log_probabilities(SPLIT_DIGITS, **prompts, **pixels))
    return {
        "prompt_tokens": prompts["input_ids"].shape[1],
        "seconds": seconds,
        "videos_a_second": batch_size / (seconds["transfer"] + seconds["score"]),
        "peak_gib": peak,
    }


if __name__ == "__main__":
    main()
