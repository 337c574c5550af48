# Copyright 2026 The LMM-VQA authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The model's own distribution over a fixed set of answers, from at most one forward pass beyond the prefill."""

import torch


class AnswerTree:
    """Prefix tree over tokenised answers, for any tokenizer.

    Where every answer is one token (Llama-3 merges up to three digits) the logits after the prompt are enough. Where
    digits are split ("63" = "6", "3") the probability of "63" also needs the logits after "6": all such inner nodes
    are fed at once, as one short sequence in which each node sees the prompt and its own ancestors only.

    An answer that is also the beginning of others ("6" before "63") gets the probability of *not* going on to any of
    them; an answer that begins no other gets all the mass below it, so "63.5" counts as 63.

    Args:
        answer_ids: token ids of each answer, without end-of-turn token. No answer may be empty or occur twice.
    """

    def __init__(self, answer_ids: list[list[int]]):
        answers = [tuple(ids) for ids in answer_ids]
        if not answers or () in answers or len(set(answers)) != len(answers):
            raise ValueError(
                f"got {len(answers)} answers of which {len(set(answers) - {()})} are distinct and not empty, expected "
                "at least one answer and all of them distinct; tokenise each answer in its context"
            )
        prefixes = {answer[:length] for answer in answers for length in range(1, len(answer))}
        nodes = sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
        row_of = {(): 0} | {node: row for row, node in enumerate(nodes, start=1)}

        self.num_answers = len(answers)
        self.token_ids = [node[-1] for node in nodes]
        self.depths = [len(node) for node in nodes]
        self.visible = [[node[: len(other)] == other for other in nodes] for node in nodes]
        # (answer, row of the logits, token) of every factor of every answer's probability
        self._factors = [
            (index, row_of[answer[:length]], token)
            for index, answer in enumerate(answers)
            for length, token in enumerate(answer)
        ]
        # (answer, row of the logits, tokens that would go on to another answer)
        continuations = {
            node: sorted({a[len(node)] for a in answers if len(a) > len(node) and a[: len(node)] == node})
            for node in nodes
        }
        self._stops = [
            (index, row_of[answer], continuations[answer]) for index, answer in enumerate(answers) if answer in row_of
        ]

    def nodes_behind(self, prompt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        The inner nodes as a sequence behind others.

        Args:
            prompt: (batch, sequence) bool, what a node sees beside itself and its ancestors.

        Returns:
            (batch, nodes) token ids, (batch, nodes) positions, and (batch, nodes, sequence + nodes) bool, what each one sees.
        """
        ids, depths, ancestors = (
            torch.tensor(of_nodes, device=prompt.device) for of_nodes in (self.token_ids, self.depths, self.visible)
        )
        prompts = prompt[:, None].expand(-1, len(ids), -1)
        seen = torch.cat([prompts, ancestors.expand(len(prompt), -1, -1)], dim=-1)
        return ids.expand(len(prompt), -1), prompt.sum(-1, keepdim=True) + depths - 1, seen

    def log_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """
        Args:
            logits: (batch, 1 + number of inner nodes, vocabulary): after the prompt, then after each inner node.

        Returns:
            (batch, num_answers) log probabilities, normalised over the answers.
        """
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        answers, rows, tokens = (
            torch.tensor(column, device=logits.device) for column in zip(*self._factors, strict=True)
        )
        answer_log_probs = log_probs.new_zeros(logits.shape[0], self.num_answers)
        answer_log_probs.index_add_(1, answers, log_probs[:, rows, tokens])
        for answer, row, continuation in self._stops:
            going_on = log_probs[:, row, continuation].exp().sum(-1)
            answer_log_probs[:, answer] += torch.log1p(-going_on.clamp(max=1 - 1e-7))
        return torch.log_softmax(answer_log_probs, dim=-1)


def additive_mask(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """As attention takes it: 0 where something is seen, the lowest number elsewhere."""
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


__all__ = ["AnswerTree", "additive_mask"]
