"""Which images are held out. Stratified by label, seeded, and whole groups stay on one side.

The order in which groups are dealt out is that of a seeded hash of their content. So the result depends neither on the
order nor on the names of the files, and images that are added leave most others where they were. An image changes its
side only where

- an added image comes before it in that order and takes its place, or its class may give one more: with `n` added
  images of a class, at most about `n` others of it move, and usually fewer;
- an added image joins its group, or two groups, as a copy or near duplicate does: the group is then dealt out again;
- it is dealt into folds in a group of several: large groups are dealt first, to even out, whoever was there before;
- images have any number of labels: `headstart.partition.iterative` then keeps the shares of all labels, which any
  image may change.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.partition import iterative

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The classes that each image counts for: one, or any number where the task is another; see `headstart.targets`.
Strata = Sequence[tuple[int, ...]]
# With one group of a class left, nothing of it remains to choose the head's C with.
GROUPS_TO_LEARN_FROM = 2
NOTHING = -1  # what an image counts for of which nothing is true


def join_groups(digests: Sequence[str], groups: Sequence[str | None], pairs: Iterable[Sequence[int]] = ()) -> list[int]:
    """One group number a row, shared by rows of the same file, named group or pair, over any number of steps.

    Args:
        digests: Content digest of each image.
        groups: The user's group of each image, or None.
        pairs: Two rows each that belong together, such as near duplicates.
    """
    parent = list(range(len(digests)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(one: int, other: int) -> None:
        a, b = root(one), root(other)
        parent[max(a, b)] = min(a, b)

    first: dict[Hashable, int] = {}
    for row, (digest, group) in enumerate(zip(digests, groups, strict=True)):
        for key in (("file", digest), ("group", group)):
            if key[1] is not None:
                join(first.setdefault(key, row), row)
    for one, other in pairs:
        join(one, other)
    return [root(row) for row in range(len(digests))]


def holdout(
    strata: Strata, groups: Sequence[int], digests: Sequence[str], *, share: float, seed: int
) -> NDArray[np.bool_]:
    """Choose the held-out images, bool (N,): close to `share` of each class, and two groups of each class stay.

    Args:
        strata: What each image counts for, (N,).
        groups: Group number of each image.
        digests: Content digest of each image.
        share: Share to hold out, in (0, 1).
        seed: Another seed is another choice.
    """
    if _several(strata):
        dealt = _dealt(groups, digests, seed)
        return np.asarray(iterative.deal(strata, dealt, [1 - share, share], GROUPS_TO_LEARN_FROM) == 1)
    strata = [one or (NOTHING,) for one in strata]  # else all of them would be held out
    target = {one: max(math.floor(n * share + 0.5), 1) for one, n in _images(strata).items()}
    left = groups_of_each(strata, groups)
    held = np.zeros(len(strata), bool)
    taken: Counter[int] = Counter()
    for _, rows in _dealt(groups, digests, seed):
        wanted = _images(strata[row] for row in rows)
        if all(taken[one] + n <= target[one] and left[one] > GROUPS_TO_LEARN_FROM for one, n in wanted.items()):
            held[rows] = True
            for one, n in wanted.items():
                taken[one] += n
                left[one] -= 1
    return held


def deal_folds(
    strata: Strata, groups: Sequence[int], digests: Sequence[str], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """Deal all images into folds, int64 (N,), each class as evenly as the groups allow.

    The number of folds is lowered to the number of groups of the smallest class, and is at least 2.

    Args:
        strata: What each image counts for, (N,).
        groups: Group number of each image.
        digests: Content digest of each image.
        folds: Folds wanted, at least 2.
        seed: Another seed is another deal.

    Raises:
        SourceError: Groups that mix classes leave no fold that spares every class an image elsewhere.
    """
    folds = max(2, min([folds, *groups_of_each(strata, groups).values()]))
    places = np.repeat(np.arange(len(strata)), [len(one) for one in strata])  # (P,)
    numbers = np.fromiter(chain.from_iterable(strata), np.int64)  # (P,)
    deal = _deal_several if _several(strata) else _deal
    for number in range(folds, 1, -1):
        result = deal(strata, groups, digests, number, seed)
        outside = (numbers[result[places] != fold] for fold in range(number))
        if all(len(np.unique(one)) == len(np.unique(numbers)) for one in outside):
            return result
    raise SourceError(
        "The groups mix the classes in such a way that no fold can be held out without losing a whole class.",
        "Make the groups smaller; or divide the images into train and val yourself, where they are not.",
    )


def _deal(strata: Strata, groups: Sequence[int], digests: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    even = {one: n // folds for one, n in _images(strata).items()}
    filled = {one: [0] * folds for one in even}  # images of each class and fold
    total = [0] * folds
    result = np.empty(len(strata), np.int64)

    def put(rows: list[int], fold: int | None = None) -> None:
        """Into this fold, or into the one that has least of these classes."""
        wanted = _images(strata[row] for row in rows)
        if fold is None:
            burden = [sum(filled[one][fold] * n for one, n in wanted.items()) for fold in range(folds)]
            fold = min(range(folds), key=lambda one: (burden[one], total[one], one))
        for one, n in wanted.items():
            filled[one][fold] += n
        total[fold] += len(rows)
        result[rows] = fold

    dealt = _dealt(groups, digests, seed)
    # Large groups first, while there is still room to even out; the hash decides among equals.
    for _, rows in sorted((one for one in dealt if len(one[1]) > 1), key=lambda one: len(one[1]), reverse=True):
        put(rows)
    # A single image goes where its own hash says while there is room, so that other images do not move it.
    over = []
    for key, rows in dealt:
        if len(rows) == 1:
            fold = int.from_bytes(key[8:], "little") % folds
            if all(filled[one][fold] < even[one] for one in strata[rows[0]]):
                put(rows, fold)
            else:
                over.append(rows)
    for rows in over:
        put(rows)
    return result


def _deal_several(
    strata: Strata, groups: Sequence[int], digests: Sequence[str], folds: int, seed: int
) -> NDArray[np.int64]:
    return iterative.deal(strata, _dealt(groups, digests, seed), [1 / folds] * folds)


def _several(strata: Strata) -> bool:
    """Whether an image counts for several, or for none: then shares are kept by `headstart.partition.iterative`."""
    return any(len(one) != 1 for one in strata)


def groups_of_each(strata: Iterable[tuple[int, ...]], groups: Iterable[int]) -> Counter[int]:
    """How many groups have an image of each class."""
    own = zip(strata, groups, strict=True)
    return Counter(one for one, _ in {(one, group) for counts_for, group in own for one in counts_for})


def _images(strata: Iterable[tuple[int, ...]]) -> Counter[int]:
    """How many images there are of each class."""
    return Counter(chain.from_iterable(strata))


def _dealt(groups: Sequence[int], digests: Sequence[str], seed: int) -> list[tuple[bytes, list[int]]]:
    """The rows of each group, in the order of a seeded hash of the group's content, after that hash (16 bytes)."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    salt = seed.to_bytes(8, "little")

    def key(rows: list[int]) -> bytes:
        content = min(digests[row] for row in rows)
        return blake2b(content.encode("ascii"), digest_size=16, salt=salt).digest()

    return sorted((key(rows), rows) for rows in members.values())
