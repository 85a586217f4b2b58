"""Out-of-fold scores, fitted fast: for judging labels, not for a result.

`headstart.heads.linear` chooses C for each set, which costs more than everything here. One C is enough to rank labels
by: on digits and photos with 2 to 20 % wrong labels, choosing it changed precision and recall by three points at most,
in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.thinning import of_each
from headstart.heads import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

# scikit-learn's C. A tenth of where the probe's search begins, since a stronger penalty follows wrong labels less; for
# features of this variance in all, which is 1 in each of the 1,280 directions of lite0, where it was measured.
C = 1e-2
VARIANCE = 1280.0
# Images that one fit learns from; more do not change the ranking, they would only cost time.
MAX_FIT = 20_000
# Scores that are held in memory, 400 MB; more are computed when they are asked for.
MAX_HELD = 50_000_000


def deal(
    groups: NDArray[np.int64], labels: NDArray[np.int64], digests: Sequence[str], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """A fold for each image, int64 (N,), each class as evenly as the groups allow; groups stay together.

    It depends on the content of the images alone, not on their order. Unlike `headstart.partition.draw.deal_folds` it
    takes any set: a fold may hold all images of a class.

    Args:
        groups: Group number of each image, (N,).
        labels: Class index of each, (N,).
        digests: SHA-256 of each image file.
        folds: Their number, at least 2.
        seed: Another seed is another deal.
    """
    salt = seed.to_bytes(8, "little")
    keys = np.array([blake2b(one.encode("ascii"), digest_size=8, salt=salt).digest() for one in digests], "S8")
    order = np.lexsort((keys, groups))  # within each group by key
    first = order[np.unique(groups[order], return_index=True)[1]]  # of each group the member with the smallest key
    dealt = first[np.lexsort((keys[first], labels[first]))]  # class by class, in the order of the keys
    fold_of = np.empty(groups.max() + 1, np.int64)
    for members in np.split(dealt, np.flatnonzero(np.diff(labels[dealt])) + 1):
        # Each class begins with a fold of its own, which does not depend on the names of the classes.
        begin = int(digests[members[0]][:8], 16)
        fold_of[groups[members]] = (begin + np.arange(len(members))) % folds
    result: NDArray[np.int64] = fold_of[groups]
    return result


def centred(compressed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (N, R) with mean 0 in each column, and a variance of `VARIANCE` in all; zeros where nothing varies."""
    z: NDArray[np.float32] = compressed - compressed.mean(0, dtype=np.float64).astype(np.float32)
    variance = float(np.einsum("nr,nr->", z, z, dtype=np.float64)) / len(z)
    z *= np.float32(np.sqrt(VARIANCE / variance)) if variance > 1e-12 else np.float32(0)
    return z


class OutOfFold:
    """Fits that leave a fold out, each begun where the last one ended: that saves most of the iterations.

    Args:
        z: Features, float32 (N, R).
        labels: Class index of each, int64 (N,).
        classes: Number C of classes.
        c: scikit-learn's C.
    """

    def __init__(self, z: NDArray[np.float32], labels: NDArray[np.int64], *, classes: int, c: float = C) -> None:
        self._z, self._labels, self._classes, self._c = z, labels, classes, c
        self._last: softmax.Solution | None = None

    def scores(
        self, folds: NDArray[np.int64], learn: NDArray[np.bool_], weights: NDArray[np.float32] | None = None
    ) -> Scores:
        """Scores of every image, by a model that was fitted on the other folds.

        Args:
            folds: Fold of each image, (N,).
            learn: Which images may be trained on, bool (N,).
            weights: Weight of each image, (N,); None for 1.
        """
        z, labels = self._z, self._labels
        weights = np.ones(len(z), np.float32) if weights is None else weights
        models = {}
        for fold in np.unique(folds).tolist():
            inside = np.flatnonzero((folds != fold) & learn)
            if not len(inside):
                continue
            if len(inside) > MAX_FIT:
                inside = inside[of_each(labels[inside], MAX_FIT)]
            self._last = softmax.solve(
                z[inside], labels[inside], classes=self._classes, c=self._c,
                sample_weight=weights[inside], start=self._last, decrement=softmax.DECREMENT,
            )  # fmt: skip
            models[fold] = self._last
        return Scores(z, folds, models, self._classes)


class Scores:
    """Scores of images, each by the model of its fold; held in memory where they are not too many.

    Args:
        z: Features, float32 (N, R).
        folds: Fold of each, (N,).
        models: Of each fold; the scores of a fold without one are 0.
        classes: Number C of classes.
    """

    def __init__(
        self, z: NDArray[np.float32], folds: NDArray[np.int64], models: Mapping[int, softmax.Solution], classes: int
    ) -> None:
        self._z, self._folds, self._models, self._classes = z, folds, models, classes
        self._step = len(z) if len(z) * classes <= MAX_HELD else max(1, MAX_HELD // 8 // classes)
        self._held = self._computed(np.arange(len(z))) if self._step >= len(z) else None

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scores (M, C) of some images."""
        return self._computed(rows) if self._held is None else self._held[rows]

    def blocks(self) -> Iterator[NDArray[np.int64]]:
        """All images in order, as many at once as there is memory for."""
        for begin in range(0, len(self._z), self._step):
            yield np.arange(begin, min(begin + self._step, len(self._z)))

    def _computed(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        result = np.zeros((len(rows), self._classes))
        for fold, model in self._models.items():
            outside = self._folds[rows] == fold
            result[outside] = self._z[rows[outside]] @ model.weights + model.bias
        return result
