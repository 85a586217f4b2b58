"""What belongs together, of things that are joined in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def components(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the group of each of `count` things, int64 (N,), of which pairs (P, 2) join some.

    Groups are numbered from 0 in the order of their first members, as those of SciPy's `connected_components`, which
    takes a quarter of a second to import.
    """
    one, other = pairs.T
    least = np.arange(count)  # the smallest number that is known of each group; at most log(N) rounds
    while (least[one] != least[other]).any():
        a, b = least[one], least[other]
        np.minimum.at(least, np.maximum(a, b), np.minimum(a, b))
        while (least[least] != least).any():
            least = least[least]
    numbers: NDArray[np.int64] = np.unique(least, return_inverse=True)[1].astype(np.int64)
    return numbers
