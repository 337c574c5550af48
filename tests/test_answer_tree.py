"""The answer tree on vocabularies small enough to do by hand."""

import pytest
import torch

from lmmvqa.modeling_lmmvqa.answer_tree_lmmvqa import AnswerTree


def logits(*rows: list[float]) -> torch.Tensor:
    """One video; each row the probabilities of the next token after the prompt, then after each inner node."""
    return torch.tensor(rows).log()[None]


def test_answers_of_one_token_are_read_from_the_logits_after_the_prompt():
    tree = AnswerTree([[0], [2]])
    assert tree.token_ids == []
    probabilities = tree.log_probabilities(logits([0.2, 0.5, 0.3])).exp()
    torch.testing.assert_close(probabilities, torch.tensor([[0.4, 0.6]]))  # 0.2 and 0.3 of 0.5


def test_an_answer_that_begins_another_gets_the_mass_that_does_not_go_on():
    # Tokens "1", "0", end; answers "1", "10", "0"
    tree = AnswerTree([[0], [0, 1], [1]])
    assert (tree.token_ids, tree.depths, tree.visible) == ([0], [1], [[True]])
    probabilities = tree.log_probabilities(logits([0.5, 0.3, 0.2], [0.1, 0.4, 0.5])).exp()
    # "1": 0.5 x (1 - 0.4) = 0.3, "10": 0.5 x 0.4 = 0.2, "0": 0.3; of 0.8 together
    torch.testing.assert_close(probabilities, torch.tensor([[0.375, 0.25, 0.375]]))


def test_an_answer_that_begins_no_other_gets_all_the_mass_below_it():
    tree = AnswerTree([[0, 0], [0, 1]])
    probabilities = tree.log_probabilities(logits([0.1, 0.9], [0.75, 0.25])).exp()
    torch.testing.assert_close(probabilities, torch.tensor([[0.75, 0.25]]))


def test_going_on_to_a_longer_answer_counts_its_first_token_once():
    # "1", "10", "100" and "1000": after "10" the mass that goes on is that of the third "0"
    tree = AnswerTree([[1], [1, 0], [1, 0, 0], [1, 0, 0, 0]])
    rows = [[0.0, 1.0, 0.0], [0.5, 0.1, 0.4], [0.2, 0.4, 0.4], [0.25, 0.25, 0.5]]
    probabilities = tree.log_probabilities(logits(*rows)).exp()
    torch.testing.assert_close(probabilities, torch.tensor([[0.5, 0.4, 0.075, 0.025]]))


def test_inner_nodes_see_their_own_ancestors_only():
    # Inner nodes in order: "1", "2", "10"; answers "100", "101", "2", "20"
    tree = AnswerTree([[1, 0, 0], [1, 0, 1], [2], [2, 0]])
    assert tree.token_ids == [1, 2, 0]
    assert tree.depths == [1, 1, 2]
    assert tree.visible == [[True, False, False], [False, True, False], [True, False, True]]


def test_each_row_of_a_batch_is_normalised_by_itself():
    torch.manual_seed(0)
    tree = AnswerTree([[0], [0, 1], [2, 2]])
    rows = torch.randn(4, 1 + len(tree.token_ids), 3)
    log_probabilities = tree.log_probabilities(rows.bfloat16())
    assert log_probabilities.dtype == torch.float32
    torch.testing.assert_close(log_probabilities.exp().sum(-1), torch.ones(4))
    torch.testing.assert_close(log_probabilities[2:3], tree.log_probabilities(rows[2:3].bfloat16()))


def test_certainty_to_go_on_leaves_a_finite_log_probability():
    tree = AnswerTree([[0], [0, 1]])
    rows = torch.tensor([[[90.0, 0.0], [0.0, 90.0]]])  # the model is sure of the longer answer
    log_probabilities = tree.log_probabilities(rows)
    assert log_probabilities.isfinite().all()
    assert log_probabilities.exp()[0, 1] > 0.999


@pytest.mark.parametrize(
    "answer_ids, message",
    [
        ([], "got 0 answers of which 0"),
        ([[1], []], "got 2 answers of which 1"),
        ([[1], [2], [1]], "got 3 answers of which 2"),
    ],
)
def test_empty_and_repeated_answers_are_refused(answer_ids, message):
    with pytest.raises(ValueError, match=message):
        AnswerTree(answer_ids)
