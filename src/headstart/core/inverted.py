"""Near rows among many: an inverted file (Sivic and Zisserman 2003), in products of matrices.

Rows are sorted into lists, each around a centre (k-means on the sphere: Dhillon and Modha 2001). The nearest rows of a
row are looked for in the lists whose centres are nearest: a few are missed.

The lists do not depend on the order of the rows, nor anything on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from headstart.core.errors import ImageError
from headstart.core.thinning import evenly
from headstart.core.threads import one_blas_thread
from headstart.core.work import Threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
# Rows of a list are about half the square root of all: then looking for lists costs as much as looking in them.
_LISTS = 2.0
_SAMPLE, _ROUNDS = 64, 4  # rows for each centre that k-means looks at, and its rounds
_BLOCK = 2048  # rows of a product


class Neighbours(NamedTuple):
    """The nearest rows of each row, itself left out.

    Attributes:
        rows: int32 (N, K), in no order.
        cosine: Of the angle to each, float32 (N, K); -inf where there are fewer rows.
    """

    rows: NDArray[np.int32]
    cosine: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class InvertedFile:
    """Rows in lists.

    Attributes:
        unit: Rows of length 1, float32 (N, R); a row of zeros is near nothing.
        centres: Of the lists, of length 1, float32 (L, R).
        order: The rows, list after list, int64 (N,).
        starts: Where each list starts in `order`, int64 (L + 1,).
        workers: Threads; they change the time and nothing else.
    """

    unit: NDArray[np.float32]
    centres: NDArray[np.float32]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    workers: int = 1

    @classmethod
    def of(cls, unit: NDArray[np.float32], workers: int = 1) -> InvertedFile:
        """Sort rows of length 1, float32 (N, R), into lists."""
        # In an order that is that of the content, evenly spaced rows are the same however the rows are ordered.
        ordered = np.lexsort(unit[:, : min(4, unit.shape[1])].T)
        lists = max(1, min(len(unit), round(_LISTS * len(unit) ** 0.5)))
        sample = unit[ordered[evenly(len(unit), _SAMPLE * lists)]]
        centres = sample[evenly(len(sample), lists)]
        for _ in range(_ROUNDS):
            places = _nearest_centres(sample, centres, workers)
            by_list = np.argsort(places, kind="stable")
            held, starts = np.unique(places[by_list], return_index=True)
            sums = np.add.reduceat(sample[by_list].astype(np.float64), starts)
            centres = centres.copy()
            centres[held] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        places = _nearest_centres(unit, centres, workers)
        order = np.argsort(places, kind="stable")
        return cls(unit, centres, order, np.searchsorted(places[order], np.arange(lists + 1)), workers)

    def members(self, one: int) -> NDArray[np.int64]:
        """The rows of a list."""
        return self.order[self.starts[one] : self.starts[one + 1]]

    def nearest(self, count: int, lists: int) -> Neighbours:
        """The nearest rows of each row, of those in some lists.

        Args:
            count: K, how many are wanted.
            lists: In how many lists they are looked for: those whose centres are nearest to that of its own list.
        """
        lists = min(lists, len(self.centres))
        rows = np.zeros((len(self.unit), count), np.int32)
        cosine = np.full((len(self.unit), count), -np.inf, np.float32)

        def one(number: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
            own = self.members(number)
            near = np.argpartition(-(self.centres @ self.centres[number]), lists - 1)[:lists]
            others = np.sort(np.concatenate([self.members(place) for place in near.tolist()]))
            kept = min(count, len(others))
            found = np.zeros((len(own), kept), np.int32)
            best = np.full((len(own), kept), -np.inf, np.float32)
            candidates = self.unit[others]
            for begin in range(0, len(own), _BLOCK):
                part = own[begin : begin + _BLOCK]
                products = self.unit[part] @ candidates.T
                products[others == part[:, None]] = -np.inf
                top = np.argpartition(products, len(others) - kept, axis=1)[:, len(others) - kept :]
                found[begin : begin + _BLOCK] = others[top]
                best[begin : begin + _BLOCK] = np.take_along_axis(products, top, axis=1)
            return own, found, best

        for own, found, best in _each(one, range(len(self.centres)), self.workers):
            rows[own, : found.shape[1]] = found
            cosine[own, : best.shape[1]] = best
        return Neighbours(rows, cosine)


def _nearest_centres(rows: NDArray[np.float32], centres: NDArray[np.float32], workers: int) -> NDArray[np.int64]:
    def one(begin: int) -> NDArray[np.int64]:
        place: NDArray[np.int64] = (rows[begin : begin + _BLOCK] @ centres.T).argmax(1)
        return place

    return np.concatenate(list(_each(one, range(0, len(rows), _BLOCK), workers)))


def _each(work: Callable[[int], T], items: Iterable[int], workers: int) -> Iterator[T]:
    """The results in order, with one thread for each product."""
    with one_blas_thread():
        for result in Threads(workers).run(work, items):
            if isinstance(result, ImageError):  # nothing here raises it
                raise result
            yield result
