"""Fewer rows of many: evenly spaced, and of each kind its share."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headstart.core.thinning import evenly, of_each


@given(st.integers(0, 3000), st.integers(2, 400))
def test_spaces_differ_by_one_at_most(count: int, most: int) -> None:
    rows = evenly(count, most)
    assert len(rows) == min(count, most)
    if count:
        assert (rows[0], rows[-1]) == (0, count - 1)
    if len(rows) > 1:
        assert np.ptp(np.diff(rows)) <= 1
        assert np.diff(rows).min() >= 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=300), st.integers(2, 100))
def test_each_kind_has_its_share(kinds: list[int], most: int) -> None:
    labels = np.array(kinds)
    rows = of_each(labels, most)
    assert len(np.unique(rows)) == len(rows) == min(len(labels), most)
    assert (np.diff(labels[rows]) >= 0).all()
    for kind in np.unique(labels):
        assert (np.diff(rows[labels[rows] == kind]) > 0).all()
        share = len(rows) * (labels == kind).mean()
        assert abs((labels[rows] == kind).sum() - share) <= 2
