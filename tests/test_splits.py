"""Splits as properties: stratified, undivided groups, no dependence on order, few moves, and linear time.

And the parts that they make of a table: near duplicates on one side, leaks of the source's own splits counted.
"""

from __future__ import annotations

import time
from collections import Counter
from hashlib import sha256
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headstart.core.errors import SourceError
from headstart.data.table import ImageTable, Row
from headstart.data.traits import Traits
from headstart.features.dataset import Dataset
from headstart.partition.divide import divide
from headstart.partition.draw import deal_folds, holdout, join_groups
from headstart.partition.roles import Partition, Role
from headstart.settings.recipe import Recipe
from helpers import strata


def digest(name: object) -> str:
    return sha256(str(name).encode()).hexdigest()


def digests(count: int) -> list[str]:
    return [digest(i) for i in range(count)]


sizes = st.lists(st.integers(3, 40), min_size=2, max_size=5)
seeds = st.integers(0, 2**63 - 1)


@given(sizes, seeds, st.floats(0.05, 0.5))
def test_holdout_is_stratified(sizes: list[int], seed: int, share: float) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    held = holdout(strata(labels), range(len(labels)), digests(len(labels)), share=share, seed=seed)
    for size, n in zip(sizes, np.bincount(labels[held], minlength=len(sizes)), strict=True):
        assert abs(n - size * share) <= 1
        assert 1 <= n <= size - 2


@given(sizes, seeds, st.integers(2, 12))
def test_folds_are_stratified(sizes: list[int], seed: int, folds: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    dealt = deal_folds(strata(labels), range(len(labels)), digests(len(labels)), folds=folds, seed=seed)
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
    held = holdout(strata(labels), groups, files, share=share, seed=seed)
    dealt = deal_folds(strata(labels), groups, files, folds=folds, seed=seed)
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
    shuffled = strata(labels[order]), [groups[i] for i in order], [files[i] for i in order]
    for split in (
        lambda *args: holdout(*args, share=0.25, seed=seed),
        lambda *args: deal_folds(*args, folds=3, seed=seed),
    ):
        assert np.array_equal(split(strata(labels), groups, files)[order], split(*shuffled))


def test_seed_chooses() -> None:
    labels = np.zeros(100, int)
    one, again, other = (holdout(strata(labels), range(100), digests(100), share=0.3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    folds = [deal_folds(strata(labels), range(100), digests(100), folds=5, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(folds[0], folds[1])
    assert (folds[0] != folds[2]).sum() > 50


@pytest.mark.parametrize("size", [400, 401, 404])
def test_an_added_image_moves_few_others(size: int) -> None:
    labels = np.arange(size + 1) % 2
    before = {}
    for added in (0, 1):
        n = size + added
        files = [digest(f"{i}") for i in range(n)]
        held = holdout(strata(labels[:n]), range(n), files, share=0.2, seed=3)
        folds = deal_folds(strata(labels[:n]), range(n), files, folds=5, seed=3)
        if not added:
            before = {"held": held, "folds": folds}
    assert (held[:size] != before["held"]).sum() <= 2
    assert (folds[:size] != before["folds"]).mean() < 0.12  # dealing in turns would move four fifths


@given(
    st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 5).map(str))), max_size=30),
    st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=8),
)
def test_join_groups_is_the_smallest_equivalence(
    rows: list[tuple[int, str | None]], pairs: list[tuple[int, int]]
) -> None:
    files, named = [digest(one) for one, _ in rows], [group for _, group in rows]
    pairs = [pair for pair in pairs if max(pair) < len(rows)]
    beside: dict[int, set[int]] = {row: set() for row in range(len(rows))}
    for one, other in pairs:
        beside[one].add(other)
        beside[other].add(one)
    got = join_groups(files, named, pairs)
    # Independent: flood each component over rows that share a file or a group, or are a pair.
    seen: dict[int, int] = {}
    for start in range(len(rows)):
        todo = [] if start in seen else [start]
        while todo:
            row = todo.pop()
            if row in seen:
                continue
            seen[row] = start
            todo += [i for i in range(len(rows)) if files[i] == files[row] or (named[row] and named[i] == named[row])]
            todo += beside[row]
    assert [got[i] == got[j] for i in range(len(rows)) for j in range(i)] == [
        seen[i] == seen[j] for i in range(len(rows)) for j in range(i)
    ]


def test_a_group_and_a_file_of_the_same_name_are_not_joined() -> None:
    assert len(set(join_groups(["a", "b"], ["b", None]))) == 2


def test_a_large_group_is_balanced_by_the_others() -> None:
    labels, groups = np.zeros(40, int), [0] * 18 + list(range(1, 23))
    folds = deal_folds(strata(labels), groups, digests(40), folds=2, seed=0)
    assert abs((folds == 0).sum() - 20) <= 1


def test_two_images_of_a_class_are_two_folds() -> None:
    assert set(deal_folds([(0,), (0,), (1,), (1,)], range(4), digests(4), folds=5, seed=0)) == {0, 1}


def several(images: int, labels: int, seed: int) -> list[tuple[int, ...]]:
    """Labels that occur together, from frequent to rare; some images have none."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(images, 3)) @ rng.normal(size=(3, labels)) + rng.logistic(size=(images, labels))
    cuts = [np.quantile(scores[:, i], 1 - share) for i, share in enumerate(np.geomspace(0.03, 0.4, labels))]
    return [tuple(np.flatnonzero(row > cuts).tolist()) for row in scores]


def off(of: list[tuple[int, ...]], part: np.ndarray, number: int, share: float) -> tuple[float, float]:
    """How many images a part is off, at most by labels and on average by pairs that ten images have."""

    def count(rows: list[tuple[int, ...]], size: int) -> Counter[tuple[int, ...]]:
        return Counter(one for own in rows for one in combinations(own, size))

    inside = [own for own, one in zip(of, part, strict=True) if one == number]
    labels, pairs = (
        [abs(count(inside, size)[one] - share * n) for one, n in count(of, size).items() if n >= 10 * (size - 1)]
        for size in (1, 2)
    )
    return max(labels), float(np.mean(pairs))


@pytest.mark.parametrize("seed", range(4))
def test_folds_and_what_is_held_out_hold_the_share_of_each_label_and_of_pairs(seed: int) -> None:
    of = several(400, 8, seed)
    folds = deal_folds(of, range(400), digests(400), folds=5, seed=seed)
    held = holdout(of, range(400), digests(400), share=0.2, seed=seed)
    found = [off(of, part, number, 0.2) for part, number in (*((folds, number) for number in range(5)), (held, True))]
    assert max(labels for labels, _ in found) <= 1.6
    by_chance = np.random.default_rng(seed).permutation(np.arange(400) % 5)
    pairs = np.mean([pairs for _, pairs in found])
    assert pairs < 0.6 * np.mean([off(of, by_chance, number, 0.2)[1] for number in range(5)])
    assert np.ptp(np.bincount(folds)) <= 3
    assert abs(held.sum() - 80) <= 2


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_several_labels_stay_together_in_any_order_of_files(seed: int) -> None:
    rng = np.random.default_rng(seed)
    of, files = several(300, 6, seed), digests(300)
    groups = rng.integers(0, 120, 300).tolist()
    order = rng.permutation(300)
    other = [groups[row] + 7 for row in order], [files[row] for row in order]
    for made, again in (
        (deal_folds(of, groups, files, folds=4, seed=seed),
         deal_folds([of[row] for row in order], *other, folds=4, seed=seed)),
        (holdout(of, groups, files, share=0.25, seed=seed),
         holdout([of[row] for row in order], *other, share=0.25, seed=seed)),
    ):  # fmt: skip
        assert all(len(set(made[np.array(groups) == group])) == 1 for group in set(groups))
        np.testing.assert_array_equal(made[order], again)
    assert not np.array_equal(deal_folds(of, groups, files, folds=4, seed=9), made)


def test_of_rare_labels_one_is_held_out_and_two_groups_stay() -> None:
    of = [(0,) if number % 3 else (0, 1) for number in range(60)]
    of[:3] = [(0, 2), (2,), (0, 2)]
    for seed in range(5):
        held = holdout(of, range(60), digests(60), share=0.1, seed=seed)
        assert sum(2 in own for own, one in zip(of, held, strict=True) if one) == 1
        held = holdout(of, [0, 0, 1, *range(2, 59)], digests(60), share=0.1, seed=seed)
        assert not held[:3].any()  # of two groups none can go


@pytest.mark.slow
@pytest.mark.parametrize("classes", [100, 10_000])
def test_a_hundred_thousand_images_are_dealt_in_seconds(classes: int) -> None:
    n = 100_000
    labels, files = np.arange(n) % classes, digests(n)
    start = time.perf_counter()
    groups = join_groups(files, [str(i // 2) if i % 10 == 0 else None for i in range(n)])
    held = holdout(strata(labels), groups, files, share=0.2, seed=0)
    folds = deal_folds(strata(labels), groups, files, folds=5, seed=0)
    assert time.perf_counter() - start < 10
    assert held.sum() == 20_000
    assert np.bincount(folds).min() == 20_000


@given(sizes, seeds, st.integers(1, 30), st.randoms(use_true_random=False))
def test_added_images_move_at_most_as_many_others_of_their_class(
    sizes: list[int], seed: int, added: int, random
) -> None:
    """A larger class also gives more, but never takes back an image for any other reason than the order."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    more = np.array([random.randrange(len(sizes)) for _ in range(added)])
    before = holdout(strata(labels), range(len(labels)), digests(len(labels)), share=0.2, seed=seed)
    every = np.concatenate([labels, more])
    after = holdout(strata(every), range(len(every)), digests(len(every)), share=0.2, seed=seed)[: len(labels)]
    for label, number in enumerate(sizes):
        new = int((more == label).sum())
        assert (before != after)[labels == label].sum() <= new
        if not new:
            assert np.array_equal(before[labels == label], after[labels == label])
        assert number


# --- the parts of a table -------------------------------------------------------------------------------------------


def blotches(seed: int) -> np.ndarray:
    """A picture that no other seed's is like, uint8 (48, 48)."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    return np.asarray(Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC))


def trait(pixels: np.ndarray, seed: int = 0) -> Traits:
    """The traits of a picture, which is written anew with other noise for each seed."""
    noise = np.random.default_rng(seed).normal(0, 1.5, pixels.shape) if seed else 0
    image = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).resize(
        (32, 32), Image.Resampling.BILINEAR
    )
    return Traits(48, 48, "PNG", 1, "", 0.0, 0.0, 0.0, image.tobytes())


Given = list[tuple[str, int, str | None]]  # class, which picture it shows, split; a minus for a mirrored one


def parts_of(images: Given, groups: list[str | None] | None = None, **settings: Any) -> Partition:
    """Divide a table whose images are all other files; those of the same picture are near duplicates."""
    rows = tuple(
        Row(f"{number}.png", label, split, groups[number] if groups else None)
        for number, (label, _, split) in enumerate(images)
    )
    table = ImageTable("photos", None, rows)
    traits = [trait(blotches(abs(picture))[:, :: 1 if picture >= 0 else -1], number + 1)
              for number, (_, picture, _) in enumerate(images)]  # fmt: skip
    return divide(Dataset(table, tuple(digest(row.path) for row in rows), tuple(traits)), Recipe(**settings))


def sides(parts: Partition, images: Given) -> dict[int, set[str]]:
    """The parts in which each picture is."""
    found: dict[int, set[str]] = {}
    for (_, picture, _), name in zip(images, parts.names(), strict=True):
        found.setdefault(abs(picture), set()).add(name)
    return found


TRIPLES: Given = [
    ("ab"[number % 2], number * (-1 if way == 2 else 1), None) for way in range(3) for number in range(1, 91)
]


@pytest.mark.parametrize("measure_by", ["holdout", "folds"])
@pytest.mark.parametrize("seed", [0, 1])
def test_near_duplicates_stay_on_one_side(measure_by: Any, seed: int) -> None:
    """Each picture in three files, one of them mirrored."""
    parts = parts_of(TRIPLES, measure_by=measure_by, seed=seed)
    assert len(sides(parts, TRIPLES)) == 90
    assert all(len(one) == 1 for one in sides(parts, TRIPLES).values())
    assert not parts.leaked.any()
    assert "270 images are near duplicates" in "\n".join(parts.notes)
    folds = {(abs(TRIPLES[row][1]), fold) for row, fold in enumerate(parts.folds) if fold >= 0}
    assert len(folds) == len({picture for picture, _ in folds})


def test_the_draw_of_near_duplicates_knows_no_order() -> None:
    order = np.random.default_rng(5).permutation(len(TRIPLES))
    rows = [Row(f"{number}.png", label) for number, (label, _, _) in enumerate(TRIPLES)]
    traits = [trait(blotches(abs(picture)), number + 1) for number, (_, picture, _) in enumerate(TRIPLES)]
    names = []
    for places in (range(len(rows)), order):
        table = ImageTable("photos", None, tuple(rows[i] for i in places))
        files, known = tuple(digest(row.path) for row in table.rows), tuple(traits[i] for i in places)
        got = divide(Dataset(table, files, known), Recipe())
        names.append(dict(zip((row.path for row in table.rows), got.names(), strict=True)))
    assert names[0] == names[1]


def test_an_added_near_duplicate_joins_the_side_of_its_group() -> None:
    images: Given = [("ab"[number % 2], number, None) for number in range(300)]
    before = parts_of(images)
    more = [*images, ("a", 4, None), ("b", 7, None), ("b", 1000, None)]
    after = parts_of(more)
    assert (np.array(before.names()) != np.array(after.names())[:300]).sum() <= 5
    assert all(len(one) == 1 for one in sides(after, more).values())


def test_near_duplicates_join_the_groups_of_the_user() -> None:
    """A chain: a group, of which one image is a near duplicate of one of another group."""
    images: Given = [("ab"[number % 2], number // 2, None) for number in range(240)]
    groups = [f"{number % 2} {number // 6}" for number in range(240)]
    parts = parts_of(images, groups)
    joined: dict[str, set[str]] = {}
    for group, name in zip(groups, parts.names(), strict=True):
        joined.setdefault(group, set()).add(name)
    assert all(len(one) == 1 for one in joined.values())
    assert all(len(one) == 1 for one in sides(parts, images).values())


def test_a_video_of_a_class_is_told_and_not_divided() -> None:
    """Of one class most images are frames of one scene: they are one group, and only the others are held out."""
    images: Given = [("a", 1, None)] * 80 + [("a", number, None) for number in range(100, 140)]
    images += [("b", number, None) for number in range(200, 320)]
    parts = parts_of(images, measure_by="holdout", holdout=0.4)
    names = np.array(parts.names())
    assert set(names[:80]) == {"train"}
    assert 30 <= (names[80:120] == "test").sum() < 40
    assert any("80 of the 120 images of 'a' belong together" in note for note in parts.notes)
    by_folds = parts_of(images, measure_by="folds")
    assert len(set(by_folds.names()[:80])) == 1


@pytest.mark.parametrize("measure_by", ["auto", "folds"])
def test_a_class_that_is_one_video_is_divided_all_the_same(measure_by: Any) -> None:
    """Else nothing could be learnt. It is said, and the images whose like was learnt from are known."""
    images: Given = [("a", 1, None)] * 100 + [("b", number, None) for number in range(2, 202)]
    parts = parts_of(images, measure_by=measure_by)
    measured = np.array(parts.names()) != "train"
    assert measured[:100].any()
    assert np.array_equal(parts.leaked, measured & (np.arange(300) < 100))
    assert any("So many images of 'a' are near duplicates of one another" in note for note in parts.notes)
    assert not any("images of 'b' are near" in note for note in parts.notes)


def test_classes_that_near_duplicates_mix_are_divided_all_the_same() -> None:
    """A still camera: all images of both classes look alike to the fingerprint."""
    images: Given = [("ab"[number % 2], 1, None) for number in range(300)]
    parts = parts_of(images)
    assert (parts.split, len(parts.held_out())) == ("test", 60)
    assert parts.leaked[parts.held_out()].all()
    assert any("their numbers may be far too optimistic" in note for note in parts.notes)


def split_by_hand(copied: int, mirrored: int = 0) -> Given:
    """100 train images and 40 val images, of which some show what train images do."""
    images: Given = [("ab"[number % 2], number, "train") for number in range(100)]
    shown = [*range(2, 2 + copied), *range(-50, -50 + mirrored)]
    return images + [
        ("ab"[number % 2], shown[number] if number < len(shown) else 500 + number, "val") for number in range(40)
    ]


def test_leaks_of_given_splits_are_known() -> None:
    images = split_by_hand(6, mirrored=4)
    parts = parts_of(images)
    assert np.flatnonzero(parts.leaked).tolist() == list(range(100, 110))
    assert any(note.startswith("10 val images are also in train (the same file or group, or a near duplicate)")
               for note in parts.notes)  # fmt: skip
    assert not parts_of(split_by_hand(0)).leaked.any()


def test_groups_of_the_user_leak_too() -> None:
    groups: list[str | None] = [None] * 140
    groups[3] = groups[120] = groups[121] = "the same nest"
    parts = parts_of(split_by_hand(0), groups)
    assert np.flatnonzero(parts.leaked).tolist() == [120, 121]
    assert any("2 val images are also in train (the same file or group):" in note for note in parts.notes)


def test_where_all_leaks_nothing_is_measured() -> None:
    with pytest.raises(SourceError, match="All 40 val images are also in train"):
        parts_of(split_by_hand(40))


def test_val_images_that_leak_do_not_count_where_test_images_are_measured() -> None:
    images = [*split_by_hand(40), *(("ab"[number % 2], 700 + number, "test") for number in range(20))]
    parts = parts_of(images)
    assert parts.split == "test"
    assert not any("also in train" in note for note in parts.notes)
    assert np.flatnonzero(parts.leaked).tolist() == list(range(100, 140))


def test_folds_pool_train_and_val_and_leave_test_alone() -> None:
    images = [*split_by_hand(0), *(("ab"[number % 2], 700 + number, "test") for number in range(20))]
    parts = parts_of(images, measure_by="folds", folds=4)
    assert parts.cross_validated
    assert np.array_equal(parts.of(Role.TRAIN), np.arange(140))
    assert set(parts.names()[140:]) == {"test"}
    assert Counter(parts.names()[:140]) == {f"fold {number}": 35 for number in range(1, 5)}
    assert not len(parts.held_out())
    notes = "\n".join(parts.notes)
    assert "train and val are pooled" in notes
    assert "test images were used neither for training nor for measuring" in notes


def test_holdout_is_held_out_however_few_there_are() -> None:
    images: Given = [("ab"[number % 2], number, None) for number in range(20)]
    assert parts_of(images).cross_validated  # the probe's own choice
    parts = parts_of(images, measure_by="holdout")
    assert (parts.split, len(parts.held_out())) == ("test", 4)
    pairs: Given = [("ab"[number % 2], number // 4, None) for number in range(12)]
    groups = [f"{number // 4} {number % 2}" for number in range(12)]
    with pytest.raises(SourceError, match="None of 12 images can be held out"):
        parts_of(pairs, groups, measure_by="holdout")
