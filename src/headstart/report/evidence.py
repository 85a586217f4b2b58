"""What speaks for a prediction: the training images that are most like an image; and how mixed the classes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.report.layout import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 256  # rows compared at once, which bounds the memory to that many times N


def nearest(
    features: NDArray[np.float32], rows: Sequence[int], parts: Sequence[str], *, count: int
) -> dict[int, list[tuple[int, float]]]:
    """The training images that are most like each of some images, by the cosine of their embeddings.

    An image of a fold of a cross-validation has those of the other folds, which its own model has learnt from.

    Args:
        features: Embeddings of all images, float32 (N, D).
        rows: The images that are asked about.
        parts: The part of each image, (N,).
        count: How many of them at most.

    Returns:
        For each of `rows`, pairs of a row and a similarity in -1..1, the most similar first.
    """
    part = np.array(parts)
    folds = np.char.startswith(part, "fold ")
    learnt = np.flatnonzero((part == "train") | folds)
    if not len(learnt) or not len(rows):
        return {row: [] for row in rows}
    lengths = np.sqrt(np.einsum("nd,nd->n", features[learnt], features[learnt], dtype=np.float64))
    found = {}
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(rows[start : start + _BLOCK])
        cosines = (unit_rows(features[block]) @ features[learnt].T) / np.maximum(lengths, 1e-12)  # (B, T)
        cosines[block[:, None] == learnt] = -np.inf
        cosines[(part[block][:, None] == part[learnt]) & folds[learnt]] = -np.inf
        for row, similarities in zip(block.tolist(), cosines, strict=True):
            best = np.argsort(-similarities, kind="stable")[:count]
            found[row] = [
                (int(learnt[i]), float(similarities[i].clip(-1, 1))) for i in best if np.isfinite(similarities[i])
            ]
    return found


def like_their_own(features: NDArray[np.float32], labels: NDArray[np.int64], *, count: int = 10) -> NDArray[np.float64]:
    """Of the `count` images that are most like each image, the share that is of its own class, (N,), in 0..1."""
    count = min(count, len(features) - 1)
    if count < 1:
        return np.ones(len(features))
    unit, shares = unit_rows(features), np.empty(len(features))
    for start in range(0, len(unit), _BLOCK):
        cosines = unit[start : start + _BLOCK] @ unit.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        best = cosines.argpartition(-count, axis=1)[:, -count:]
        shares[start + rows] = (labels[best] == labels[start + rows][:, None]).mean(1)
    return shares
