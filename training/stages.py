"""The stages of training (sections IV-A and IV-D): what each one learns from, what it trains, and how fast."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ..checkpoints.decoder_tokenizer import fix_chat
from ..processing.processing_lmmvqa import LmmVqaProcessor
from .qa_pairs import EXPLAIN


PROJECTORS = ("spatial_projector", "temporal_projector")
# The paper's "Human: <prompt><image-1>...<image-N>, Assistant: <answer>"
HUMAN_ASSISTANT = "human_assistant"


@dataclass(frozen=True)
class Stage:
    """
    Attributes:
        instructs: it learns conversations, else ratings.
        train_parts: what is trained as a whole; the decoder not beside adapters.
        learning_rate, lora_learning_rate: without and with adapters.
        tasks: questions about each rated video, where they are not those of train.py.
        num_train_epochs: 6 are the paper's for quality. Section IV-D names none; one each is LLaVA's choice, as are the
            learning rates.
    """

    instructs: bool
    train_parts: tuple[str, ...]
    learning_rate: float
    lora_learning_rate: float
    num_train_epochs: int
    tasks: tuple[str, ...] = ()


STAGES = {
    "align": Stage(True, PROJECTORS, 1e-3, 1e-3, 1),
    "instruct": Stage(True, (*PROJECTORS, "language_model"), 2e-5, 2e-4, 1),
    "quality": Stage(False, PROJECTORS, 1e-3, 1e-3, 6),
    # Scores beside rationales, or they are forgotten
    "explain": Stage(False, (*PROJECTORS, "language_model"), 2e-5, 2e-4, 1, ("score", EXPLAIN)),
}


def stage_options(name: str, lora_rank: int, use_temporal_tokens: bool) -> list[str]:
    """
    The options of train.py that a stage sets, to stand before those that are given.

    Args:
        name: of the stage.
        lora_rank: 0 without adapters, beside which the decoder is not trained as a whole.
        use_temporal_tokens: of the model: without them it has no temporal projector.

    Raises:
        ValueError: there is no such stage.
    """
    if name not in STAGES:
        raise ValueError(f"got the stage {name!r}, expected one of {', '.join(STAGES)}")
    stage = STAGES[name]
    absent = {"language_model": lora_rank, "temporal_projector": not use_temporal_tokens}
    parts = [part for part in stage.train_parts if not absent.get(part)]
    learning_rate = stage.lora_learning_rate if lora_rank else stage.learning_rate
    return [
        *("--train_parts", *parts),
        *("--learning_rate", str(learning_rate), "--num_train_epochs", str(stage.num_train_epochs)),
        *(["--tasks", *stage.tasks] if stage.tasks else []),
    ]


def check_rows(name: str, rows: list[dict], mixed: list[dict]) -> None:
    """
    Args:
        rows: of `--data`.
        mixed: of `--mix`.

    Raises:
        ValueError: a stage gets rows that it does not learn from.
    """
    kinds = ("conversations", "mos")
    own, other = kinds if STAGES[name].instructs else reversed(kinds)
    for option, kind, of_option in (("data", own, rows), ("mix", other, mixed)):
        wrong = [row for row in of_option if not has(row, kind)]
        if wrong:
            raise ValueError(
                f"got {len(wrong)} rows without {kind} in --{option}, such as {wrong[0]['video']}, expected in the stage "
                f"{name} rows with {own} in --data and, to be trained on beside them, rows with {other} in --mix"
            )


def has(row: dict, kind: str) -> bool:
    """Whether a row is rated ("mos"), or instructs ("conversations")."""
    return row.get(kind) is not None


def set_chat_template(processor: LmmVqaProcessor, chat_template: str) -> None:
    """
    Args:
        chat_template: `HUMAN_ASSISTANT`, or a file in Jinja.

    Raises:
        OSError: there is no such file.
        ValueError: it hides answers, or does not end them.
    """
    is_ours = chat_template == HUMAN_ASSISTANT
    file = files(__package__).joinpath(f"{HUMAN_ASSISTANT}.jinja") if is_ours else Path(chat_template)
    processor.tokenizer.chat_template = file.read_text(encoding="utf-8")
    processor.system_role = fix_chat(processor.tokenizer)
    processor.chat_template = processor.tokenizer.chat_template
