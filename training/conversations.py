"""Conversations that are longer than the decoder's context: how they are cut, and who is told."""

from collections.abc import Iterable

from ..datasets_scripts.rows import row_media
from ..processing.context_lmmvqa import visual_token_counts
from ..processing.processing_lmmvqa import VIDEO_MARK, LmmVqaProcessor


def fit_conversations(
    rows: Iterable[dict], processor: LmmVqaProcessor, max_positions: int
) -> tuple[list[dict], list[str]]:
    """
    Rows whose conversations fit into the decoder's context: a longer one keeps its first turns, as many whole questions
    with their answers as fit beside one second of each of its videos and pictures.

    Args:
        rows: rated ones pass as they are.
        max_positions: the decoder's `max_position_embeddings`.

    Returns:
        The rows, and a line for each one that was cut.

    Raises:
        ValueError: a conversation of which not even the first answer fits.
    """
    fitting, notes = [], []
    for row in rows:
        if row.get("conversations"):
            turns, media = row["conversations"], row_media(row)
            num_marks = _num_marks(turns)
            if num_marks != len(media):
                raise ValueError(
                    f"got a conversation about {row['video']} with {num_marks} {VIDEO_MARK} in the user's turns for "
                    f"{len(media)} media, expected as many"
                )
            kept = turns[: _num_kept(turns, processor, max_positions)]
            if not kept:
                raise ValueError(
                    f"got a conversation about {row['video']} whose first answer ends beyond {max_positions} positions, "
                    "expected it within the decoder's context; take the row out, or choose a smaller spatial_grid_size "
                    "or a decoder of longer context"
                )
            if len(kept) < len(turns):
                notes.append(f"cut: the last {len(turns) - len(kept)} of {len(turns)} turns about {row['video']}")
                row = {**row, "conversations": kept, "media": media[: _num_marks(kept)]}
        fitting.append(row)
    return fitting, notes


def _num_marks(turns: list[dict]) -> int:
    return sum(turn["content"].count(VIDEO_MARK) for turn in turns if turn["role"] == "user")


def _num_kept(turns: list[dict], processor: LmmVqaProcessor, max_positions: int) -> int:
    of_one_second = sum(visual_token_counts(processor, 1))
    kept = len(turns)
    while kept > 1:  # one turn is the system's
        chat = processor.conversation_prompt(turns[:kept])
        num_marks = _num_marks(turns[:kept])
        # A token is a byte or more: most chats need not be tokenised
        if len(chat.encode()) + num_marks * of_one_second <= max_positions:
            return kept
        num_tokens = len(processor.tokenizer(chat, add_special_tokens=False)["input_ids"])
        if num_tokens + num_marks * (of_one_second - 1) <= max_positions:
            return kept
        kept -= 2
    return 0
