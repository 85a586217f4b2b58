"""Splits and folds of images that count for several labels: each part holds its share of each label, and of pairs.

It is iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011), with pairs of labels as Szymański and
Kajdanowicz (2017) have them: what has the rarest label is dealt first, to the part that lacks most. Here whole groups
are dealt; a part is judged by all labels and pairs of the group at once; and in the end groups move, or change places,
where that brings the parts nearer to their shares. All numbers are whole ones, so that every machine deals alike.

Measured against the package `iterative-stratification` on sets without groups, in `docs/multi-label.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Strata = Sequence[tuple[int, ...]]
    Dealt = Sequence[tuple[bytes, list[int]]]  # the key of a group, and its rows

MOST_PAIRS = 1000  # that are balanced, the most frequent ones
PASSES = 4  # over all groups in the end; a fifth hardly moved any
_SCALE = 1000  # of a share of an image
_WEIGHT = 1 << 20  # of a pair, divided by its images: what is rare counts more
_OF_A_LABEL = 16  # as much more weighs a label than a pair
_FORBIDDEN = np.int64(1) << 62


@dataclass(frozen=True)
class _Column:
    """What a group counts for: places of labels, of pairs, and of all images; and how often, both (K,)."""

    places: NDArray[np.int64]
    images: NDArray[np.int64]


class _Parts:
    """Parts that fill, and how far each is from what it should hold."""

    def __init__(
        self, totals: NDArray[np.int64], wanted: NDArray[np.int64], labels: int, shares: Sequence[float]
    ) -> None:
        self.away = -wanted  # (F, K), in `_SCALE` of an image
        self._weights = _WEIGHT // np.maximum(totals, 1)
        self._weights[:labels] *= _OF_A_LABEL
        # A small part is as far away by fewer images; and so all parts fill alike.
        self._per_share = np.array([round(_SCALE / share) for share in shares], np.int64)

    def cost(self, group: _Column) -> NDArray[np.int64]:
        """What is added to the squared distances of all labels where a group goes into each part, (F,)."""
        step = _SCALE * group.images
        added = (2 * self.away[:, group.places] + step) * group.images
        result: NDArray[np.int64] = (added @ self._weights[group.places]) * self._per_share // _SCALE
        return result

    def put(self, group: _Column, part: int, sign: int = 1) -> None:
        """Into a part, or out of it."""
        self.away[part, group.places] += sign * _SCALE * group.images


def deal(strata: Strata, dealt: Dealt, shares: Sequence[float], least_left: int = 0) -> NDArray[np.int64]:
    """The part of each image, int64 (N,).

    Args:
        strata: The labels of each image, (N,).
        dealt: The groups with their keys, in the order of the keys.
        shares: Of each part, which sum to 1.
        least_left: Groups of each label that stay outside of the last part.
    """
    labels = 1 + max((one for own in strata for one in own), default=-1)
    pairs = _frequent(strata, labels, least=max(2, len(shares)))
    columns = [_column(strata, rows, labels, pairs) for _, rows in dealt]
    width = labels + len(pairs) + 1
    totals = np.zeros(width, np.int64)
    for one in columns:
        totals[one.places] += one.images
    wanted = np.array([[round(int(n) * share * _SCALE) for n in totals] for share in shares], np.int64)
    if least_left:  # the last is what is held out: one of each label
        wanted[-1, :labels] = np.where(totals[:labels] > 0, np.maximum(wanted[-1, :labels], _SCALE), 0)
    parts = _Parts(totals, wanted, labels, shares)
    rarity = [int(totals[one.places].min()) for one in columns]
    order = sorted(range(len(dealt)), key=lambda i: (-len(dealt[i][1]), rarity[i], dealt[i][0]))
    bound = _Bound(strata, dealt, least_left, len(shares))
    part_of = np.full(len(dealt), -1, np.int64)
    for i in order:
        part_of[i] = _best(parts.cost(columns[i]) + bound.forbidden(i, -1), dealt[i][0])
        parts.put(columns[i], int(part_of[i]))
        bound.put(i, -1, int(part_of[i]))
    _improve(parts, columns, part_of, order, bound)
    result = np.empty(len(strata), np.int64)
    for (_, rows), part in zip(dealt, part_of.tolist(), strict=True):
        result[rows] = part
    return result


class _Bound:
    """How many groups of each label stay outside of the last part."""

    def __init__(self, strata: Strata, dealt: Dealt, least: int, parts: int) -> None:
        self._own = [sorted({one for row in rows for one in strata[row]}) for _, rows in dealt]
        self._left = Counter(one for own in self._own for one in own)
        self._least, self._parts = least, parts

    def forbidden(self, group: int, now: int) -> NDArray[np.int64]:
        """What the last part costs more where too few groups would stay, (F,)."""
        result = np.zeros(self._parts, np.int64)
        inside = now == self._parts - 1
        if self._least and not inside and any(self._left[one] <= self._least for one in self._own[group]):
            result[-1] = _FORBIDDEN
        return result

    def put(self, group: int, now: int, then: int) -> None:
        """A group goes from one part into another."""
        change = int(now == self._parts - 1) - int(then == self._parts - 1)
        if self._least and change:
            for one in self._own[group]:
                self._left[one] += change


def _improve(
    parts: _Parts, columns: Sequence[_Column], part_of: NDArray[np.int64], order: Sequence[int], bound: _Bound
) -> None:
    """Move groups, one after another, to where they lower the distances."""
    for _ in range(PASSES):
        moved = 0
        for i in reversed(order):  # the small and frequent ones first
            now = int(part_of[i])
            parts.put(columns[i], now, -1)
            costs = parts.cost(columns[i]) + bound.forbidden(i, now)
            then = int(costs.argmin())
            if costs[then] < costs[now]:
                bound.put(i, now, then)
                part_of[i], moved = then, moved + 1
            parts.put(columns[i], int(part_of[i]))
        if not moved:
            break


def _best(costs: NDArray[np.int64], key: bytes) -> int:
    """The cheapest part; of several as cheap the one that the key of the group says."""
    cheapest = np.flatnonzero(costs == costs.min())
    return int(cheapest[int.from_bytes(key[8:], "little") % len(cheapest)])


def _frequent(strata: Strata, labels: int, least: int) -> dict[tuple[int, int], int]:
    """The place of each pair of labels that enough images have, behind those of the labels."""
    counts = Counter(pair for own in strata for pair in combinations(sorted(own), 2))
    most = sorted(((-n, pair) for pair, n in counts.items() if n >= least))[:MOST_PAIRS]
    return {pair: labels + place for place, (_, pair) in enumerate(sorted(most, key=lambda one: one[1]))}


def _column(strata: Strata, rows: Sequence[int], labels: int, pairs: dict[tuple[int, int], int]) -> _Column:
    counts: Counter[int] = Counter()
    for row in rows:
        own = sorted(strata[row])
        counts.update(own)
        counts.update(pairs[pair] for pair in combinations(own, 2) if pair in pairs)
    counts[labels + len(pairs)] = len(rows)  # all images
    places = sorted(counts)
    return _Column(np.array(places, np.int64), np.array([counts[one] for one in places], np.int64))
