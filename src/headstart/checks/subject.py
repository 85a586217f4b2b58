"""What is checked: the images of a table, with everything that one pass over them gave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.inverted import Neighbours
from headstart.core.vectors import compressed
from headstart.data.components import components
from headstart.features.dataset import Dataset
from headstart.partition.draw import join_groups
from headstart.partition.duplicates import Pairs
from headstart.settings.recipe import FULL_RANGE
from headstart.targets import TARGETS
from headstart.targets.labels import TRUE, Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNLABELLED = -1


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        data: The images; without embeddings, what needs them is left out.
        input_px: Side of the square that the network takes; 0 where that is not known.
        near: Pairs of rows that show nearly the same.
        refusal: Why `train` refuses the images, and what to do; empty where it trains.
        white_level: With which they were decoded; see `headstart.preprocess.spec.Preprocess`.
        directions: What `compressed` gives, where the embeddings themselves are not in memory, float32 (N, R).
        neighbours: The nearest images of each by these, where they have been looked for already.
        workers: Threads; they change the time and nothing else.
    """

    data: Dataset
    input_px: int
    near: Pairs
    refusal: str = ""
    white_level: int = FULL_RANGE
    directions: NDArray[np.float32] | None = None
    neighbours: Neighbours | None = None
    workers: int = 1

    def __len__(self) -> int:
        """Number N of images."""
        return len(self.data)

    @property
    def exclusive(self) -> bool:
        """Whether an image is of exactly one class, and has not any number of labels."""
        return TARGETS[self.data.table.task].exclusive

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of their numbers."""
        return self.data.table.classes

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each image, int64 (N,); `UNLABELLED` where the source gives none.

        All are of one kind where an image has any number of labels.
        """
        if not self.exclusive:
            return np.zeros(len(self), np.int64)
        place = {label: i for i, label in enumerate(self.classes)}
        return np.array(
            [UNLABELLED if row.label is None else place[row.label] for row in self.data.table.rows], np.int64
        ).reshape(-1)

    @cached_property
    def images(self) -> NDArray[np.int64]:
        """Number of images of each class, or with each label, int64 (C,)."""
        if not self.exclusive:
            return np.asarray((self.truth == TRUE).sum(0), np.int64)
        return np.bincount(self.labels[self.labels != UNLABELLED], minlength=len(self.classes))

    @cached_property
    def truth(self) -> NDArray[np.int8]:
        """What is said of each image and label where there are several, int8 (N, C): see `headstart.targets.labels`."""
        return Labels.of(self.data.table, self.classes).labels

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Group number of each image, int64 (N,): copies, near duplicates and the user's groups share one."""
        joined = join_groups(self.data.digests, [row.group for row in self.data.table.rows])
        return connected(np.array(joined, np.int64).reshape(-1), self.near.rows)

    @cached_property
    def different(self) -> NDArray[np.int64]:
        """Number of each image's group that counts as one image, int64 (N,): copies and near duplicates share it."""
        joined = join_groups(self.data.digests, [None] * len(self))
        return connected(np.array(joined, np.int64).reshape(-1), self.near.rows)

    @property
    def embedded(self) -> bool:
        """Whether there are embeddings."""
        return self.data.features is not None or self.directions is not None

    @cached_property
    def compressed(self) -> NDArray[np.float32]:
        """Embeddings in the directions along which they are longest; see `headstart.core.vectors.compressed`.

        Raises:
            ValueError: There are no embeddings.
        """
        return compressed(self.data.matrix) if self.directions is None else self.directions


def connected(groups: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join groups (N,) that a pair of rows (P, 2) connects, over any number of steps; the smallest number stays."""
    if not len(pairs):
        return groups
    numbers, place = np.unique(groups, return_inverse=True)
    component = components(len(numbers), place[pairs])
    first = np.unique(component, return_index=True)[1]
    result: NDArray[np.int64] = numbers[first][component][place]
    return result
