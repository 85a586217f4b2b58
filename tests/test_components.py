"""What is joined in pairs, against SciPy's graphs, number for number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from headstart.data.components import components


def check(count: int, pairs: np.ndarray) -> None:
    before = pairs.copy()
    got = components(count, pairs)
    graph = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(count, count))
    assert np.array_equal(got, connected_components(graph, directed=False)[1])
    assert got.dtype == np.int64
    assert np.array_equal(pairs, before)


@given(st.data(), st.integers(1, 60))
def test_groups_and_their_numbers_are_scipys(data: st.DataObject, count: int) -> None:
    thing = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(thing, thing), max_size=2 * count))
    check(count, np.array(pairs, np.int64).reshape(-1, 2))


@pytest.mark.parametrize("seed", range(3))
def test_long_ways(seed: int) -> None:
    """A chain, a star around its largest number, and trees of any shape, none of which takes many rounds."""
    rng, count = np.random.default_rng(seed), 20_000
    order = rng.permutation(count)
    check(count, np.stack([order[:-1], order[1:]], axis=1))
    check(count, np.stack([np.arange(count - 1), np.full(count - 1, count - 1)], axis=1))
    parent = (rng.random(count - 1) * np.arange(1, count)).astype(np.int64)
    tree = np.stack([order[parent], order[1:]], axis=1)
    check(count, tree)
    check(count, tree[rng.random(count - 1) < 0.9])


def test_nothing_is_joined() -> None:
    check(5, np.empty((0, 2), np.int64))
