"""What the model's distribution over the score answers misses of the MOS, beside the paper's cross-entropy (Eq. 10)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..modeling_lmmvqa.answer_tree_lmmvqa import AnswerTree, additive_mask


# Of errors in the squared loss, so that it is about as large as the cross-entropy
MOS_UNIT = 25.0
# An answer stands for all that is rounded to it, twice; in units of the distance between answers
VARIANCE_OF_ROUNDING = 2 / 12
TINY = 1e-8  # the square root has no slope at 0


def last_prompt_positions(labels: torch.Tensor) -> torch.Tensor:
    """(batch,) places before the first answer token of each row of `labels` (batch, sequence): their logits decide it."""
    return (labels != -100).int().argmax(-1) - 1


SCORE_LOSS_WEIGHTS = ("readout_weight", "within_weight", "fidelity_weight")


@dataclass
class ScoreLoss:
    """
    Errors of the model's distribution over the score answers, with gradients, for any tokenizer.

    Where every answer is one token, all that is needed are the logits after the prompt. Where numbers are split, the inner
    nodes of the `AnswerTree` go through the decoder behind the chat, as `with_answer_nodes` has it: ten tokens for digits.

    Args:
        answer_ids: `LmmVqaProcessor.score_answer_ids`.
        answer_values: the scores that they stand for, evenly spaced.
        readout_weight: of the squared error of the expected score, in units of 25 MOS.
        within_weight: of the squared error of differences within a content, as a multiple of readout_weight: all that their
            content does to the expected score is taken off before the error is squared.
        fidelity_weight: of the fidelity loss (Tsai et al., 2007; for quality UNIQUE, Zhang et al., 2021) between each two rows
            of one data set: how likely the first is the better one, by the two distributions and by their MOS. Scales of
            different data sets are never compared.
        soft_label_std: standard deviation (MOS) of the normal distribution about the MOS that is learned in place of the one
            answer (DeQA-Score, You et al., 2025, there over five levels), and of a MOS in the fidelity loss; 0 for neither.

    Raises:
        ValueError: a within_weight without readout_weight; or soft labels so narrow that their mean is the nearest answer
            and not the MOS.
    """

    answer_ids: list[list[int]]
    answer_values: Sequence[float]
    readout_weight: float = 0.0
    within_weight: float = 0.0
    fidelity_weight: float = 0.0
    soft_label_std: float = 0.0

    def __post_init__(self):
        if self.within_weight and not self.readout_weight:
            raise ValueError(
                f"got within_weight={self.within_weight} without readout_weight, expected both: the first is in units of the "
                "second; add --readout_weight 1"
            )
        self.step = self.answer_values[1] - self.answer_values[0]
        if 0 < self.soft_label_std < self.step / 2:
            raise ValueError(
                f"got soft_label_std={self.soft_label_std} for answers {self.step:g} MOS apart, expected at least "
                f"{self.step / 2:g}, or the mean of the soft labels is not the MOS"
            )
        self.tree = AnswerTree(self.answer_ids)

    @property
    def is_used(self) -> bool:
        """Whether anything is added to the cross-entropy."""
        return any((self.readout_weight, self.fidelity_weight, self.soft_label_std))

    def hard_labels(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """
        (batch, sequence) `labels` of what the cross-entropy learns: with soft labels no score, but where its turn ends.
        """
        if not self.soft_label_std:
            return labels
        is_answer = labels != -100
        ends = is_answer.cumsum(-1) == is_answer.sum(-1, keepdim=True)
        return labels.masked_fill(~scores.isnan()[:, None] & ~(ends & is_answer), -100)

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
        places = torch.arange(length, device=is_text.device)
        # Padding sees itself: of nothing, attention has no mean
        chat = (places <= places[:, None]) & is_text[:, None] | (places == places[:, None])
        prompt = is_text & (places <= last_prompt_positions(inputs["labels"])[:, None])  # (batch, sequence)
        nodes, node_positions, of_nodes = self.tree.nodes_behind(prompt)
        of_chat = torch.cat([chat, chat.new_zeros(batch_size, length, nodes.shape[1])], dim=-1)
        seen = torch.cat([of_chat, of_nodes], dim=1)[:, None]  # (batch, 1, sequence + nodes, sequence + nodes)
        positions = (is_text.cumsum(-1) - 1).clamp(min=0)
        return inputs | {
            "input_ids": torch.cat([inputs["input_ids"], nodes], dim=1),
            "labels": torch.cat([inputs["labels"], torch.full_like(nodes, -100)], dim=1),
            "attention_mask": additive_mask(seen, dtype),
            "position_ids": torch.cat([positions, node_positions], dim=1),
        }

    def log_probabilities(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """
        Args:
            logits: (batch, sequence + nodes, vocabulary) that the model gives to `with_answer_nodes`.
            labels: (batch, sequence) of the collator.

        Returns:
            (batch, answers), of rows that ask no score too.
        """
        rows, length = torch.arange(len(labels), device=labels.device), labels.shape[1]
        after_prompt = logits[rows, last_prompt_positions(labels)][:, None]  # (batch, 1, vocabulary)
        return self.tree.log_probabilities(torch.cat([after_prompt, logits[:, length:]], dim=1))

    def __call__(
        self, log_probabilities: torch.Tensor, scores: torch.Tensor, contents: torch.Tensor, data_sets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            log_probabilities: (batch, answers).
            scores: (batch,) MOS, NaN for rows that ask no score: they lose nothing.
            contents: (batch,) numbers of contents, -1 for none.
            data_sets: (batch,) numbers of data sets.

        Returns:
            The weighted errors, and the cross-entropy with soft labels, each summed over the rows. Of a batch without any
            score too they hang on the model: ZeRO-3 needs the same graph in every process.
        """
        asked, mos = ~scores.isnan(), scores.nan_to_num()
        answers = torch.tensor(self.answer_values, device=scores.device)
        probabilities = log_probabilities.exp()
        expected = probabilities @ answers  # (batch,)
        error = torch.where(asked, (expected - mos) / MOS_UNIT, 0.0)
        squared_error = error.square().sum()
        if self.within_weight:
            # A row that asks no score, or of no content, is a version of itself alone, and misses nothing
            same = ((contents[:, None] == contents) & (contents >= 0)).float().fill_diagonal_(1.0)
            within = error - same @ error / same.sum(1)
            squared_error = squared_error + self.within_weight * within.square().sum()
        errors = self.readout_weight * squared_error
        if self.fidelity_weight:
            variances = probabilities @ answers.square() - expected.square()
            compared = asked[:, None] & asked & (data_sets[:, None] == data_sets)
            compared = compared.float().fill_diagonal_(0.0)  # (batch, batch)
            of_pairs = fidelity_loss(
                better_probabilities(expected, variances, self.step),
                better_probabilities(mos, torch.full_like(mos, self.soft_label_std**2), self.step),
            )
            # Of each row the mean over those it is compared with
            fidelity = (of_pairs * compared / compared.sum(1, keepdim=True).clamp(min=1)).sum()
            errors = errors + self.fidelity_weight * fidelity
        if not self.soft_label_std:
            return errors, errors.new_zeros(())
        targets = (-0.5 * ((answers - mos[:, None]) / self.soft_label_std).square()).softmax(-1)  # (batch, answers)
        soft = torch.where(asked, -(targets * log_probabilities).sum(-1), 0.0).sum()
        return errors, soft


def better_probabilities(means: torch.Tensor, variances: torch.Tensor, step: float) -> torch.Tensor:
    """
    How likely each row is better than each other one, by Thurstone's model: qualities are normal and independent.

    Args:
        means, variances: (batch,).
        step: between answers.

    Returns:
        (batch, batch).
    """
    deviations = (variances[:, None] + variances + VARIANCE_OF_ROUNDING * step**2).sqrt()
    return torch.special.ndtr((means[:, None] - means) / deviations)


def fidelity_loss(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """0 where two probabilities are equal, 1 where they are opposite certainties; element by element."""
    agreement = ((predicted * true + TINY).sqrt(), ((1 - predicted) * (1 - true) + TINY).sqrt())
    return 1 - sum(agreement)
