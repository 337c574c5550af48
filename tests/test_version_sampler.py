"""VersionSampler: versions of one content stand together, every index comes once."""

from collections import Counter

import pytest

from lmmvqa.training.version_sampler import VersionSampler


CONTENTS = [0] * 7 + [-1] * 6 + [1] * 4 + [2]  # runs of four: one of 0, one of 1; 3 + 1 + 6 are left


def runs(sampler: VersionSampler, size: int) -> list[list[int]]:
    order = list(sampler)
    return [[CONTENTS[index] for index in order[start : start + size]] for start in range(0, len(order), size)]


def test_every_index_comes_once_in_each_epoch():
    sampler = VersionSampler(CONTENTS, 4, seed=0)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(len(CONTENTS))) and len(sampler) == len(CONTENTS)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("seed", range(5))
def test_versions_of_a_content_stand_together(seed):
    of_one = Counter(run[0] for run in runs(VersionSampler(CONTENTS, 4, seed), 4) if len(set(run)) == 1)
    assert of_one[0] >= 1 and of_one[1] == 1


def test_a_resumed_run_draws_the_same():
    first, second = (VersionSampler(CONTENTS, 2, seed=3) for _ in range(2))
    for sampler in (first, second):
        sampler.set_epoch(5)
    assert list(first) == list(second)


@pytest.mark.parametrize("contents", [[-1] * 5, [0] * 3, [0, 1, 2]])
def test_rows_without_other_versions_are_not_lost(contents):
    assert sorted(VersionSampler(contents, 4, seed=0)) == list(range(len(contents)))
