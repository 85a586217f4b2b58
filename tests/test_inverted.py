"""An inverted file: nearly all of the nearest rows, whatever the order and the threads."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.core.inverted import InvertedFile
from headstart.core.vectors import unit_rows

ROWS = 3000


@pytest.fixture(scope="module")
def unit() -> np.ndarray:
    """Rows in clusters of different sizes, with a few pairs that are near."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 24))
    rows = centres[rng.integers(0, 40, ROWS) ** 2 % 40] + 0.5 * rng.normal(size=(ROWS, 24))
    rows[1::50] = rows[::50] + 0.02 * rng.normal(size=(60, 24))
    return unit_rows(rows.astype(np.float32))


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
    assert np.isfinite(file.nearest(5, 8).cosine[:300]).all()
