"""Evidence for a prediction: the training images most similar to an image; and how mixed the classes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.vectors import unit_rows
from headstart.partition.roles import Partition, Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1024  # rows that are compared at once


def nearest(
    features: NDArray[np.float32], rows: Sequence[int], partition: Partition, *, count: int
) -> dict[int, list[tuple[int, float]]]:
    """The training images that are most like each of some images, by the cosine of their embeddings.

    An image of a fold of a cross-validation has those of the other folds, which its own model was trained on.

    Args:
        features: Embeddings of all images, float32 (N, D).
        rows: The images that are asked about.
        partition: What each image was for.
        count: How many of them at most.

    Returns:
        For each of `rows`, pairs of a row and a similarity in -1..1, the most similar first.
    """
    asked, folds = np.asarray(rows, np.int64), partition.folds
    learnt = partition.roles == Role.TRAIN
    if not learnt.any() or not len(asked):
        return {row: [] for row in rows}
    unit = unit_rows(features[asked])
    cosines = np.empty((len(asked), len(features)), np.float32)
    for start in range(0, len(features), _BLOCK):  # a whole copy of the features may be too much
        block = slice(start, start + _BLOCK)
        cosines[:, block] = unit @ unit_rows(features[block]).T
    cosines[:, ~learnt] = -np.inf
    cosines[np.arange(len(asked)), asked] = -np.inf
    if partition.cross_validated:
        cosines[folds[asked][:, None] == folds] = -np.inf
    found = {}
    for row, similarities in zip(asked.tolist(), cosines, strict=True):
        best = np.argsort(-similarities, kind="stable")[:count]
        found[row] = [(int(i), float(similarities[i].clip(-1, 1))) for i in best if np.isfinite(similarities[i])]
    return found


def like_their_own(features: NDArray[np.float32], labels: NDArray[np.int64], *, count: int = 10) -> NDArray[np.float64]:
    """Of the `count` images that are most like each image, the share that is of its own class, (N,), in 0..1."""
    shares = np.ones(len(features))
    for rows, best in _neighbours(features, count):
        shares[rows] = (labels[best] == labels[rows][:, None]).mean(1)
    return shares


def like_their_own_label(
    features: NDArray[np.float32], truth: NDArray[np.bool_], *, count: int = 10
) -> list[float | None]:
    """Of the `count` images that are most like one with a label, the mean share that has it too.

    Args:
        features: Embeddings, float32 (N, D).
        truth: The labels that each image has, (N, C).
        count: Of the images that are looked at.

    Returns:
        The share in 0..1 of each label, (C,); None where no image has it.
    """
    shares = np.zeros(truth.shape[1])
    for rows, best in _neighbours(features, count):
        shares += (truth[best].mean(1) * truth[rows]).sum(0)
    return [float(share / images) if images else None for share, images in zip(shares, truth.sum(0), strict=True)]


def _neighbours(features: NDArray[np.float32], count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Blocks of rows (B,), and the rows that are most like each of them, (B, K); nothing of a single image."""
    count = min(count, len(features) - 1)
    if count < 1:
        return
    unit = unit_rows(features)
    for start in range(0, len(unit), _BLOCK):
        cosines = unit[start : start + _BLOCK] @ unit.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        yield start + rows, cosines.argpartition(-count, axis=1)[:, -count:]
