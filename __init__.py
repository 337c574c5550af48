"""LMM-VQA: perceived quality of videos. `from lmmvqa import load_scorer`, then `load_scorer()("clip.mp4")`."""

from importlib.metadata import version


__all__ = ["__version__", "load_scorer"]
__version__ = version("lmmvqa")


def __getattr__(name: str):
    # Importing transformers takes seconds: the command line's help does without it
    if name == "load_scorer":
        from .scoring.scorer import load_scorer

        return load_scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
