"""The vectors that are most like some others, of any number: what is held in memory does not grow with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from headstart.core.vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
_BLOCK = 1024  # vectors compared at once


class Nearest(Generic[T]):
    """For each of some vectors the nearest that are added, by cosine.

    Args:
        asked: float32 (Q, D).
        count: How many for each, at most.
    """

    def __init__(self, asked: NDArray[np.float32], count: int) -> None:
        self._asked = unit_rows(asked)
        self._count = count
        self._best: list[list[tuple[float, T]]] = [[] for _ in self._asked]
        self._block: list[tuple[NDArray[np.float32], T]] = []
        self.added = 0

    def add(self, embedding: NDArray[np.float32], what: T) -> None:
        """Look at one more, float32 (D,)."""
        self._block.append((embedding, what))
        self.added += 1
        if len(self._block) == _BLOCK:
            self._compare()

    def found(self) -> list[list[tuple[float, T]]]:
        """For each vector the most similar with their cosines, in -1..1; of the same cosine, the first added first."""
        if self._block:
            self._compare()
        return self._best

    def _compare(self) -> None:
        cosines = self._asked @ unit_rows(np.stack([one for one, _ in self._block])).T  # (Q, B)
        for place, row in enumerate(cosines):
            nearest = np.argsort(-row, kind="stable")[: self._count]
            candidates = [(float(row[i]), self._block[i][1]) for i in nearest]
            self._best[place] = sorted((*self._best[place], *candidates), key=lambda one: -one[0])[: self._count]
        self._block.clear()
