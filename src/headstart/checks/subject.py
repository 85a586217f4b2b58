"""What is checked: the images of a table, with everything that one pass over them gave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headstart.data.components import components
from headstart.features.dataset import Dataset
from headstart.partition.draw import join_groups
from headstart.partition.duplicates import Pairs
from headstart.settings.recipe import FULL_RANGE
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNLABELLED = -1
# Directions of the embedding that are kept: on digits and photos the fit on them finds as many wrong labels as on all
# 1,280, in a fifth of the time.
COMPONENTS = 256


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        data: The images; without embeddings, what needs them is left out.
        input_px: Side of the square that the network takes.
        near: Pairs of rows that show nearly the same.
        refusal: Why `train` refuses the images, and what to do; empty where it trains.
        white_level: With which they were decoded; see `headstart.preprocess.spec.Preprocess`.
    """

    data: Dataset
    input_px: int
    near: Pairs
    refusal: str = ""
    white_level: int = FULL_RANGE

    def __len__(self) -> int:
        """Number N of images."""
        return len(self.data)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of their numbers."""
        return self.data.table.classes

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each image, int64 (N,); `UNLABELLED` where the source gives none.

        All are of one kind where an image has any number of labels.
        """
        if not TARGETS[self.data.table.task].exclusive:
            return np.zeros(len(self), np.int64)
        place = {label: i for i, label in enumerate(self.classes)}
        return np.array(
            [UNLABELLED if row.label is None else place[row.label] for row in self.data.table.rows], np.int64
        ).reshape(-1)

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

    @cached_property
    def compressed(self) -> NDArray[np.float32]:
        """Embeddings in the `COMPONENTS` directions along which they are longest, float32 (N, R); not centred.

        Raises:
            ValueError: There are no embeddings.
        """
        x = self.data.matrix
        if len(x) < x.shape[1]:  # from the smaller of the two products; both have the same directions
            values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
            kept = values > max(float(values[-1]), 1e-30) * 1e-7
            values, vectors = values[kept][::-1][:COMPONENTS], vectors[:, kept][:, ::-1][:, :COMPONENTS]
            return np.ascontiguousarray(vectors * np.sqrt(values), np.float32)
        axes = np.linalg.eigh((x.T @ x).astype(np.float64))[1][:, ::-1][:, :COMPONENTS]
        return np.ascontiguousarray(x @ axes.astype(np.float32))


def connected(groups: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join groups (N,) that a pair of rows (P, 2) connects, over any number of steps; the smallest number stays."""
    if not len(pairs):
        return groups
    numbers, place = np.unique(groups, return_inverse=True)
    component = components(len(numbers), place[pairs])
    first = np.unique(component, return_index=True)[1]
    result: NDArray[np.int64] = numbers[first][component][place]
    return result
