"""What the model's distribution over the answers 0 to 100 misses of the MOS, beside the paper's cross-entropy (Eq. 10)."""

from dataclasses import dataclass

import torch

from ..modeling_lmmvqa.answer_tree_lmmvqa import AnswerTree


# Of errors in the squared loss, so that it is about as large as the cross-entropy
MOS_UNIT = 25.0


def last_prompt_positions(labels: torch.Tensor) -> torch.Tensor:
    """(batch,) places before the first answer token of each row of `labels` (batch, sequence): their logits decide it."""
    return (labels != -100).int().argmax(-1) - 1


@dataclass
class ScoreLoss:
    """
    Errors of the model's distribution over the score answers, with gradients, for any tokenizer.

    Where every answer is one token, all that is needed are the logits after the prompt. Where numbers are split, the inner
    nodes of the `AnswerTree` go through the decoder behind the chat, as `with_answer_nodes` has it: ten tokens for digits.

    Args:
        answer_ids: `LmmVqaProcessor.score_answer_ids`.
        readout_weight: of the squared error of the expected score, in units of 25 MOS.
        within_weight: of the squared error of differences within a content, as a multiple of readout_weight: all that their
            content does to the expected score is taken off before the error is squared.
    """

    answer_ids: list[list[int]]
    readout_weight: float = 0.0
    within_weight: float = 0.0

    def __post_init__(self):
        self.tree = AnswerTree(self.answer_ids)

    def with_answer_nodes(self, inputs: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """
        The model's inputs with the tree's inner nodes behind each row, which see the row's prompt and their own ancestors,
        and which the row does not see.

        Args:
            inputs: of `LmmVqaDataCollator`; the attention mask becomes (batch, 1, sequence, sequence), 0 where it is seen.
            dtype: of that mask, the decoder's.
        """
        if not self.tree.token_ids:
            return inputs
        is_text = inputs["attention_mask"].bool()  # (batch, sequence)
        batch_size, length = is_text.shape
        device, num_nodes = is_text.device, len(self.tree.token_ids)
        places = torch.arange(length, device=device)
        # Padding sees itself: of nothing, attention has no mean
        chat = (places <= places[:, None]) & is_text[:, None] | (places == places[:, None])
        prompt = is_text & (places <= last_prompt_positions(inputs["labels"])[:, None])  # (batch, sequence)
        ancestors = torch.tensor(self.tree.visible, device=device).expand(batch_size, -1, -1)
        of_chat = torch.cat([chat, chat.new_zeros(batch_size, length, num_nodes)], dim=-1)
        of_nodes = torch.cat([prompt[:, None].expand(-1, num_nodes, -1), ancestors], dim=-1)
        hidden = ~torch.cat([of_chat, of_nodes], dim=1)[:, None]  # (batch, 1, sequence + nodes, sequence + nodes)
        depths = torch.tensor(self.tree.depths, device=device)
        nodes = torch.tensor(self.tree.token_ids, device=device).expand(batch_size, -1)
        return inputs | {
            "input_ids": torch.cat([inputs["input_ids"], nodes], dim=1),
            "labels": torch.cat([inputs["labels"], torch.full_like(nodes, -100)], dim=1),
            "attention_mask": torch.zeros_like(hidden, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min),
            "position_ids": torch.cat(
                [(is_text.cumsum(-1) - 1).clamp(min=0), prompt.sum(-1, keepdim=True) + depths - 1], dim=1
            ),
        }

    def log_probabilities(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """
        Args:
            logits: (batch, sequence + nodes, vocabulary) that the model gives to `with_answer_nodes`.
            labels: (batch, sequence) of the collator.

        Returns:
            (batch, 101), of rows that ask no score too.
        """
        rows, length = torch.arange(len(labels), device=labels.device), labels.shape[1]
        after_prompt = logits[rows, last_prompt_positions(labels)][:, None]  # (batch, 1, vocabulary)
        return self.tree.log_probabilities(torch.cat([after_prompt, logits[:, length:]], dim=1))

    def __call__(self, log_probabilities: torch.Tensor, scores: torch.Tensor, contents: torch.Tensor) -> torch.Tensor:
        """
        Args:
            log_probabilities: (batch, 101).
            scores: (batch,) MOS, NaN for rows that ask no score: they lose nothing.
            contents: (batch,) numbers of contents, -1 for none.

        Returns:
            The weighted losses, summed over the rows. Of a batch without any score too they hang on the model: ZeRO-3 needs
            the same graph in every process.
        """
        asked = ~scores.isnan()
        expected = log_probabilities.exp() @ torch.arange(101.0, device=log_probabilities.device)  # (batch,)
        error = torch.where(asked, (expected - scores) / MOS_UNIT, 0.0)
        squared_error = error.square().sum()
        if self.within_weight:
            # A row that asks no score, or of no content, is a version of itself alone, and misses nothing
            same = ((contents[:, None] == contents) & (contents >= 0)).float().fill_diagonal_(1.0)
            within = error - same @ error / same.sum(1)
            squared_error = squared_error + self.within_weight * within.square().sum()
        return self.readout_weight * squared_error
