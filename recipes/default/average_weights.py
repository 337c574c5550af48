"""The mean of a trained checkpoint's weights and those that it went on from (WiSE-FT, arXiv 2109.01903).

`python -m recipes.default.average_weights --start DIR --model DIR --share 0.5 --out DIR` writes a whole checkpoint folder.
All but the weights is the trained one's. The mean of weights that lie far apart is no model: validate it.
"""

from dataclasses import dataclass

from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.hf_argparser import HfArg, HfArgumentParser

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.checkpoints.training_videos import carry_training_videos


@dataclass
class AverageArguments:
    start: str = HfArg(help="Checkpoint folder that the training went on from.")
    model: str = HfArg(help="Trained checkpoint folder.")
    share: float = HfArg(help="Weight of the trained one in the mean, 0 to 1.")
    out: str = HfArg(help="Folder for the mean.")


def main() -> None:
    (arguments,) = HfArgumentParser(AverageArguments).parse_args_into_dataclasses()
    start = AutoModelForImageTextToText.from_pretrained(arguments.start).state_dict()
    model = AutoModelForImageTextToText.from_pretrained(arguments.model)
    weights = model.state_dict()
    for name, trained in weights.items():  # counts of batches stay the trained one's
        if trained.is_floating_point():
            weights[name] = start[name].to(trained.dtype).lerp(trained, arguments.share)
    model.load_state_dict(weights)
    save_checkpoint(model, AutoProcessor.from_pretrained(arguments.model), arguments.out)
    carry_training_videos(arguments.model, arguments.out)


if __name__ == "__main__":
    main()
