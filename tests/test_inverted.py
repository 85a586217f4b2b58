"""An inverted file: all rows within a distance, and nearly all of the nearest, whatever the order and the threads."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.core.inverted import InvertedFile
from headstart.core.vectors import unit_rows
from headstart.partition import duplicates
from headstart.partition.duplicates import near_duplicates

ROWS = 3000


@pytest.fixture(scope="module")
def unit() -> np.ndarray:
    """Rows in clusters of different sizes, with a few pairs that are near."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 24))
    rows = centres[rng.integers(0, 40, ROWS) ** 2 % 40] + 0.5 * rng.normal(size=(ROWS, 24))
    rows[1::50] = rows[::50] + 0.02 * rng.normal(size=(60, 24))
    return unit_rows(rows.astype(np.float32))


@pytest.mark.parametrize("cosine", [0.9975, 0.95, 0.7])
def test_all_pairs_within_a_distance_are_found(cosine: float, unit: np.ndarray) -> None:
    queries = np.concatenate([unit[:500], -unit[:20], unit_rows(np.random.default_rng(1).normal(size=(50, 24)))])
    queries = queries.astype(np.float32)
    found = [np.stack(pair, axis=1) for pair in InvertedFile.of(unit).within(queries, cosine)]
    one, other = np.nonzero(queries @ unit.T >= cosine)
    got = np.concatenate(found)
    assert sorted(map(tuple, got.tolist())) == sorted(zip(one.tolist(), other.tolist(), strict=True))


def test_nearly_all_of_the_nearest_are_found(unit: np.ndarray) -> None:
    file = InvertedFile.of(unit)
    products = unit @ unit.T
    np.fill_diagonal(products, -np.inf)
    wanted = np.argsort(-products, axis=1)[:, :10]
    recalls = []
    for lists in (4, 16, len(file.centres)):
        found = file.nearest(10, lists)
        pairs = zip(found.rows.tolist(), wanted.tolist(), strict=True)
        recalls.append(np.mean([len(set(a) & set(b)) / 10 for a, b in pairs]))
        np.testing.assert_allclose(
            found.cosine, np.take_along_axis(products, found.rows.astype(np.int64), axis=1), atol=1e-6
        )
    assert recalls[0] < recalls[1]
    assert recalls[1] > 0.9
    assert recalls[2] > 0.999


def test_order_and_threads_change_nothing(unit: np.ndarray) -> None:
    one, other = (InvertedFile.of(unit, workers).nearest(5, 8) for workers in (1, 3))
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.cosine, other.cosine)
    order = np.random.default_rng(2).permutation(ROWS)
    shuffled = InvertedFile.of(unit[order]).nearest(5, 8)
    same = [set(order[a].tolist()) == set(b) for a, b in zip(shuffled.rows, one.rows[order].tolist(), strict=True)]
    assert np.mean(same) > 0.999


@pytest.mark.parametrize("count", [1, 2, 5])
def test_hardly_any_rows(count: int) -> None:
    rows = unit_rows(np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32))
    found = InvertedFile.of(rows).nearest(4, 16)
    assert found.rows.shape == (count, 4)
    assert np.isfinite(found.cosine).sum(1).tolist() == [min(4, count - 1)] * count


def test_copies_without_number_and_zeros() -> None:
    rows = unit_rows(np.concatenate([np.ones((300, 8)), np.zeros((20, 8))]).astype(np.float32))
    file = InvertedFile.of(rows)
    assert sum(len(one) for one, _ in file.within(rows[:1], 0.9)) == 300
    assert np.isfinite(file.nearest(5, 8).cosine[:300]).all()


def test_looks_in_lists_are_the_pairs_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    coarse = rng.normal(128, 45, (1500, 8, 8)).clip(0, 255)
    pictures = np.kron(coarse, np.ones((1, 4, 4)))
    pictures[700:800] = pictures[:100] + rng.normal(0, 1, (100, 32, 32))
    pictures[800:900] = pictures[100:200, :, ::-1] + rng.normal(0, 1, (100, 32, 32))
    prints = pictures.clip(0, 255).astype(np.uint8).reshape(1500, -1)
    wanted = near_duplicates(prints)
    monkeypatch.setattr(duplicates, "MANY_IMAGES", 0)
    got = near_duplicates(prints, workers=2)
    assert len(wanted) >= 190
    np.testing.assert_array_equal(got.rows, wanted.rows)
    np.testing.assert_array_equal(got.mirrored, wanted.mirrored)
    np.testing.assert_allclose(got.similarity, wanted.similarity, atol=1e-6)
