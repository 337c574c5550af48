"""The options of commands that load a model, and the loading."""

from dataclasses import dataclass

from ..scoring.options import option
from .output import quiet_libraries


@dataclass(kw_only=True)
class ModelOptions:
    model: str | None = option("checkpoint folder or Hub repository (default: the embedded model)", default=None)
    device: str | None = option("as PyTorch names it (default: the accelerator where there is one)", default=None)


def load(options: ModelOptions, **settings):
    """The pipeline, and the folder or repository it comes from; `settings` as in `load_scorer`."""
    quiet_libraries()
    from ..scoring.scorer import default_checkpoint, load_scorer

    model = options.model or default_checkpoint()
    return load_scorer(model, options.device, **settings), model
