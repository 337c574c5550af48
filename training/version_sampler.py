"""The order of an epoch in which versions of one content come in one batch, so that they can be compared."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler


class VersionSampler(Sampler[int]):
    """
    Every index once an epoch, in runs of `versions` indices of one content, drawn anew in each epoch. Runs are shuffled, and so
    is what fills no run of its own. A batch holds whole runs where its size is a multiple of `versions`.

    Args:
        contents: of each index, -1 for none.
        versions: indices of a run.
        seed: of all that is drawn; all processes of a run draw the same.
    """

    def __init__(self, contents: Sequence[int], versions: int, seed: int):
        self.contents, self.versions, self.seed = contents, versions, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.contents)

    def set_epoch(self, epoch: int) -> None:
        """The order depends on the seed and the epoch alone, so that a resumed run has the same."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}:{self.epoch}")
        of_contents = defaultdict(list)
        for index, content in enumerate(self.contents):
            of_contents[content].append(index)
        rest, runs = of_contents.pop(-1, []), []
        for indices in of_contents.values():
            rng.shuffle(indices)
            whole = len(indices) // self.versions * self.versions
            runs += [indices[start : start + self.versions] for start in range(0, whole, self.versions)]
            rest += indices[whole:]
        rng.shuffle(rest)
        runs += [rest[start : start + self.versions] for start in range(0, len(rest), self.versions)]
        short = runs.pop() if len(runs[-1]) < self.versions else []
        rng.shuffle(runs)
        return iter([index for run in (*runs, short) for index in run])
