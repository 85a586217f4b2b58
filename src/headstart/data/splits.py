"""Which images are held out. Stratified by class, seeded, and whole groups stay on one side.

The order in which groups are dealt out is that of a seeded hash of their content. So the result depends neither on the
order nor on the names of the files, and images that are added leave most others where they were.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def join_groups(digests: Sequence[str], groups: Sequence[str | None]) -> list[int]:
    """One group number a row, shared by rows of the same file or named group, over any number of steps.

    Args:
        digests: Content digest of each image.
        groups: The user's group of each image, or None.
    """
    parent = list(range(len(digests)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[Hashable, int] = {}
    for row, (digest, group) in enumerate(zip(digests, groups, strict=True)):
        for key in (("file", digest), ("group", group)):
            if key[1] is not None:
                a, b = root(first.setdefault(key, row)), root(row)
                parent[max(a, b)] = min(a, b)
    return [root(row) for row in range(len(digests))]


def holdout(
    labels: NDArray[np.int64], groups: Sequence[int], digests: Sequence[str], *, share: float, seed: int
) -> NDArray[np.bool_]:
    """Choose the held-out images, bool (N,): close to `share` of each class, and never all of one.

    Args:
        labels: Class index of each image, (N,).
        groups: Group number of each image.
        digests: Content digest of each image.
        share: Share to hold out, in (0, 1).
        seed: Another seed is another choice.
    """
    counts = np.bincount(labels)
    target = np.minimum(np.maximum(np.floor(counts * share + 0.5), 1), counts - 1)
    held = np.zeros(len(labels), bool)
    taken = np.zeros(len(counts))
    for rows in _dealt(groups, digests, seed):
        wanted = np.bincount(labels[rows], minlength=len(counts))
        if np.all((taken + wanted <= target) | (wanted == 0)):
            held[rows] = True
            taken += wanted
    return held


def deal_folds(
    labels: NDArray[np.int64], groups: Sequence[int], digests: Sequence[str], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """Deal all images into folds, int64 (N,), each class as evenly as the groups allow.

    The number of folds is lowered to the number of groups of the smallest class, and is at least 2.

    Args:
        labels: Class index of each image, (N,).
        groups: Group number of each image.
        digests: Content digest of each image.
        folds: Folds wanted, at least 2.
        seed: Another seed is another deal.
    """
    groups = list(groups)
    smallest = min(len({group for group, label in zip(groups, labels, strict=True) if label == one})
                   for one in np.unique(labels))  # fmt: skip
    folds = max(2, min(folds, smallest))
    filled = np.zeros((folds, int(labels.max()) + 1))
    result = np.empty(len(labels), np.int64)
    # Large groups first, while there is still room to even out; the hash decides among equals.
    for rows in sorted(_dealt(groups, digests, seed), key=len, reverse=True):
        classes, wanted = np.unique(labels[rows], return_counts=True)
        burden = (filled[:, classes] * wanted).sum(1)
        fold = min(range(folds), key=lambda one: (burden[one], filled[one].sum(), one))
        filled[fold, classes] += wanted
        result[rows] = fold
    return result


def _dealt(groups: Sequence[int], digests: Sequence[str], seed: int) -> list[list[int]]:
    """The rows of each group, in the order of a seeded hash of the group's content."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    salt = seed.to_bytes(8, "little")

    def key(rows: list[int]) -> bytes:
        content = min(digests[row] for row in rows)
        return blake2b(content.encode("ascii"), digest_size=16, salt=salt).digest()

    return sorted(members.values(), key=key)
