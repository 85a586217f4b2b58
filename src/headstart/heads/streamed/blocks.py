"""Rows of embeddings with their classes, of which a block at a time is in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np

from headstart.core.errors import ImageError
from headstart.core.threads import one_blas_thread
from headstart.core.work import Threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class Block(NamedTuple):
    """Some rows.

    Attributes:
        features: float32 (n, D).
        labels: Class index of each, int64 (n,).
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]


class Blocks(Protocol):
    """Rows in a fixed order; `read` may be called from several threads at once."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each row, int64 (N,)."""
        ...

    def __len__(self) -> int:
        """Number of blocks."""
        ...

    def read(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The features, float32 (n, D), and the labels, int64 (n,), of a block; n may be 0."""
        ...

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features of some rows, float32 (M, D); their numbers rise."""
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """Rows that are in memory; see `Blocks`.

    Attributes:
        features: float32 (N, D).
        labels: int64 (N,).
        rows: Of a block.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    rows: int = 4096

    def __len__(self) -> int:
        return math.ceil(len(self.labels) / self.rows)

    def read(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The features and the labels of a block."""
        part = slice(number * self.rows, (number + 1) * self.rows)
        return self.features[part], self.labels[part]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features of some rows."""
        return self.features[rows]


@dataclass(frozen=True)
class Each:
    """How passes over all blocks are made.

    Attributes:
        blocks: The rows.
        workers: Threads; they change the time and nothing else.
        advance: Called with 1 after each pass.
    """

    blocks: Blocks
    workers: int
    advance: Callable[[int], None]

    def run(self, work: Callable[[Block], T]) -> Iterator[T]:
        """Do the work on each block, and give the results in order."""

        def one(number: int) -> T:
            return work(Block(*self.blocks.read(number)))

        with one_blas_thread():  # one thread a block, and none inside the matrix products
            for result in Threads(self.workers).run(one, range(len(self.blocks))):
                if isinstance(result, ImageError):  # no block raises it
                    raise result
                yield result
        self.advance(1)
