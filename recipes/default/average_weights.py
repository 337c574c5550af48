"""Averages the weights of checkpoints that were trained from one start (model soups, arXiv 2203.05482).

`python -m recipes.default.average_weights --models DIR DIR --out DIR`
"""

from dataclasses import dataclass, field

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, HfArgumentParser

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.checkpoints.training_videos import TrainingVideos, list_training_videos, save_training_videos


@dataclass
class AverageArguments:
    models: list[str] = field(metadata={"help": "Trained checkpoint folders, of the same shapes and frozen towers."})
    out: str = field(metadata={"help": "Folder for the average, with the first one's buffers and processor."})


def main() -> None:
    (arguments,) = HfArgumentParser(AverageArguments).parse_args_into_dataclasses()
    models = [AutoModelForImageTextToText.from_pretrained(folder) for folder in arguments.models]
    with torch.no_grad():  # parameters, not state dicts: those have tied ones twice
        for same in zip(*(model.parameters() for model in models), strict=True):
            same[0].copy_(torch.stack(same).mean(0))
    save_checkpoint(models[0], AutoProcessor.from_pretrained(arguments.models[0]), arguments.out)
    lists = [list_training_videos([], folder) for folder in arguments.models]
    videos = dict.fromkeys(video for listed in lists for video in listed.videos)
    unlisted = dict.fromkeys(name for listed in lists for name in listed.unlisted)
    save_training_videos(TrainingVideos(list(videos), list(unlisted)), arguments.out)


if __name__ == "__main__":
    main()
