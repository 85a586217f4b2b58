"""Splits as properties: stratified, undivided groups, no dependence on order, few moves, and linear time."""

from __future__ import annotations

import time
from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.data.splits import deal_folds, holdout, join_groups


def digest(name: object) -> str:
    return sha256(str(name).encode()).hexdigest()


def digests(count: int) -> list[str]:
    return [digest(i) for i in range(count)]


sizes = st.lists(st.integers(3, 40), min_size=2, max_size=5)
seeds = st.integers(0, 2**63 - 1)


@given(sizes, seeds, st.floats(0.05, 0.5))
def test_holdout_is_stratified(sizes: list[int], seed: int, share: float) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    held = holdout(labels, range(len(labels)), digests(len(labels)), share=share, seed=seed)
    for size, n in zip(sizes, np.bincount(labels[held], minlength=len(sizes)), strict=True):
        assert abs(n - size * share) <= 1
        assert 1 <= n <= size - 2


@given(sizes, seeds, st.integers(2, 12))
def test_folds_are_stratified(sizes: list[int], seed: int, folds: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    dealt = deal_folds(labels, range(len(labels)), digests(len(labels)), folds=folds, seed=seed)
    used = min(folds, *sizes)
    assert set(dealt) == set(range(used))
    for label in range(len(sizes)):
        counts = np.bincount(dealt[labels == label], minlength=used)
        assert counts.max() - counts.min() <= 1


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, list[int], list[str]]:
    """Labels, groups of one class each with at least three groups a class, digests."""
    labels: list[int] = []
    groups: list[int] = []
    for label in range(draw(st.integers(2, 4))):
        for size in draw(st.lists(st.integers(1, 6), min_size=3, max_size=12)):
            groups += [max(groups, default=-1) + 1] * size
            labels += [label] * size
    return np.array(labels), groups, digests(len(labels))


@given(grouped(), seeds, st.integers(2, 6), st.floats(0.05, 0.5))
def test_groups_are_never_divided_and_no_class_is_lost(data, seed: int, folds: int, share: float) -> None:
    labels, groups, files = data
    held = holdout(labels, groups, files, share=share, seed=seed)
    dealt = deal_folds(labels, groups, files, folds=folds, seed=seed)
    for part in (held, dealt):
        for group in set(groups):
            assert len({part[i] for i in range(len(labels)) if groups[i] == group}) == 1
    classes = set(labels)
    rest = [(label, group) for label, group, out in zip(labels, groups, held, strict=True) if not out]
    assert min(Counter(label for label, _ in set(rest)).values()) >= 2  # and so folds can be dealt of the rest
    assert set(labels[~held]) == classes
    for fold in set(dealt):
        assert set(labels[dealt != fold]) == classes


@given(grouped(), seeds, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(data, seed: int, random) -> None:
    labels, groups, files = data
    order = list(range(len(labels)))
    random.shuffle(order)
    shuffled = labels[order], [groups[i] for i in order], [files[i] for i in order]
    for split in (
        lambda *args: holdout(*args, share=0.25, seed=seed),
        lambda *args: deal_folds(*args, folds=3, seed=seed),
    ):
        assert np.array_equal(split(labels, groups, files)[order], split(*shuffled))


def test_seed_chooses() -> None:
    labels = np.zeros(100, int)
    one, again, other = (holdout(labels, range(100), digests(100), share=0.3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    folds = [deal_folds(labels, range(100), digests(100), folds=5, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(folds[0], folds[1])
    assert (folds[0] != folds[2]).sum() > 50


@pytest.mark.parametrize("size", [400, 401, 404])
def test_an_added_image_moves_few_others(size: int) -> None:
    labels = np.arange(size + 1) % 2
    before = {}
    for added in (0, 1):
        n = size + added
        files = [digest(f"{i}") for i in range(n)]
        held = holdout(labels[:n], range(n), files, share=0.2, seed=3)
        folds = deal_folds(labels[:n], range(n), files, folds=5, seed=3)
        if not added:
            before = {"held": held, "folds": folds}
    assert (held[:size] != before["held"]).sum() <= 2
    assert (folds[:size] != before["folds"]).mean() < 0.12  # dealing in turns would move four fifths


@given(st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 5).map(str))), max_size=30))
def test_join_groups_is_the_smallest_equivalence(rows: list[tuple[int, str | None]]) -> None:
    files, named = [digest(one) for one, _ in rows], [group for _, group in rows]
    got = join_groups(files, named)
    # Independent: flood each component over rows that share a file or a group.
    seen: dict[int, int] = {}
    for start in range(len(rows)):
        todo = [] if start in seen else [start]
        while todo:
            row = todo.pop()
            if row in seen:
                continue
            seen[row] = start
            todo += [i for i in range(len(rows)) if files[i] == files[row] or (named[row] and named[i] == named[row])]
    assert [got[i] == got[j] for i in range(len(rows)) for j in range(i)] == [
        seen[i] == seen[j] for i in range(len(rows)) for j in range(i)
    ]


def test_a_group_and_a_file_of_the_same_name_are_not_joined() -> None:
    assert len(set(join_groups(["a", "b"], ["b", None]))) == 2


def test_a_large_group_is_balanced_by_the_others() -> None:
    labels, groups = np.zeros(40, int), [0] * 18 + list(range(1, 23))
    folds = deal_folds(labels, groups, digests(40), folds=2, seed=0)
    assert abs((folds == 0).sum() - 20) <= 1


def test_two_images_of_a_class_are_two_folds() -> None:
    assert set(deal_folds(np.array([0, 0, 1, 1]), range(4), digests(4), folds=5, seed=0)) == {0, 1}


@pytest.mark.parametrize("classes", [100, 10_000])
def test_a_hundred_thousand_images_are_dealt_in_seconds(classes: int) -> None:
    n = 100_000
    labels, files = np.arange(n) % classes, digests(n)
    start = time.perf_counter()
    groups = join_groups(files, [str(i // 2) if i % 10 == 0 else None for i in range(n)])
    held = holdout(labels, groups, files, share=0.2, seed=0)
    folds = deal_folds(labels, groups, files, folds=5, seed=0)
    assert time.perf_counter() - start < 10
    assert held.sum() == 20_000
    assert np.bincount(folds).min() == 20_000
