"""Pairs of looks that may be near, among many: a k-d tree (Bentley 1975) of their longest directions.

A difference is no longer in some orthogonal directions than in all, so that no pair is missed; whether one is near in
all directions is for the caller to see. Each direction is either of the parts that the mirror leaves as they are, or of
those whose sign it changes: a mirrored look differs in the signs of its coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from headstart.partition.looks import ODD

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.spatial import cKDTree

# More directions leave fewer pairs to be looked at, and take longer to search.
_DIRECTIONS = 10
_BLOCK = 8192  # looks whose neighbours are searched at once
_MOST = 4_000_000  # pairs at once, but for those of a single look
_SLACK = 1e-4  # of a distance that is computed in single precision


class NearLooks:
    """Looks, sorted so that near ones are found.

    Args:
        parts: Of each look, float32 (N, 256); see `headstart.partition.looks.Looks`.
        workers: Threads; they change the time and nothing else.
    """

    def __init__(self, parts: NDArray[np.float32], workers: int = 1) -> None:
        from scipy.spatial import cKDTree

        directions, self._turned = _longest(parts)
        self._places = np.empty((len(parts), directions.shape[1]))
        for begin in range(0, len(parts), _BLOCK):
            self._places[begin : begin + _BLOCK] = parts[begin : begin + _BLOCK] @ directions
        self._tree: cKDTree = cKDTree(self._places)
        self._workers = workers

    def pairs(self, distance: float, *, mirrored: bool) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The pairs that may be within a distance, the smaller number first: (P,) and (P,), a block after another.

        Args:
            distance: Of two looks, in 0..2.
            mirrored: Of one look and the mirror image of the other.
        """
        queries = np.where(self._turned, -self._places, self._places) if mirrored else self._places
        reach = distance + _SLACK
        for begin in range(0, len(queries), _BLOCK):
            block = queries[begin : begin + _BLOCK]
            counts = self._tree.query_ball_point(block, reach, workers=self._workers, return_length=True)
            near = np.flatnonzero(counts > (0 if mirrored else 1))  # an unturned look is near itself
            # Where looks are alike without number: so many at once that there is memory for their pairs.
            parts = np.cumsum(counts[near]) // _MOST
            for some in np.split(near, np.flatnonzero(np.diff(parts)) + 1):
                found = self._tree.query_ball_point(block[some], reach, workers=self._workers)
                one = np.repeat(some + begin, counts[some])
                other = np.fromiter((row for rows in found for row in rows), np.int64, len(one))
                yield one[one < other], other[one < other]


def _longest(parts: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Orthonormal directions (256, K) in which looks vary most, and which of these change their sign in the mirror."""
    squares, mean = np.zeros((parts.shape[1], parts.shape[1])), parts.mean(0, dtype=np.float64)
    for begin in range(0, len(parts), _BLOCK):
        block = parts[begin : begin + _BLOCK]
        squares += block.T @ block
    covariance = squares / len(parts) - np.outer(mean, mean)
    variances, axes = [], []
    for kept in (~ODD, ODD):
        along, across = np.linalg.eigh(covariance[np.ix_(kept, kept)])
        variances.append(along)
        axes.append(np.zeros((len(ODD), len(along))))
        axes[-1][kept] = across
    longest = np.argsort(-np.concatenate(variances), kind="stable")[:_DIRECTIONS]
    turned = np.repeat([False, True], [len(one) for one in variances])
    return np.concatenate(axes, axis=1)[:, longest].astype(np.float32), turned[longest]
