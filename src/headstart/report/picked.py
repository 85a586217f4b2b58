"""Which images a report shows: a bounded number, those first that a person would want to see first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.thinning import of_each

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISTAKES = 24
UNCERTAIN = 12
MATRIX_CLASSES = 24  # up to these, the confusion matrix is shown whole; above, its largest cells beside the diagonal
CELLS = 150  # of mistakes, whose images are shown
OF_A_CELL = 12
OF_ALL_MISTAKES, OF_ALL_HITS = 200, 72
ON_THE_MAP = 400


@dataclass(frozen=True)
class Selection:
    """Rows of the table that are shown.

    Attributes:
        mistakes: Held-out images that were misclassified, the most confident mistake first.
        uncertain: Other held-out images, the one with the smallest probability first.
        cells: True class and predicted class, with the number of images and those of them that are shown.
        on_the_map: A sample of all images, in order.
    """

    mistakes: tuple[int, ...]
    uncertain: tuple[int, ...]
    cells: tuple[tuple[int, int, int, tuple[int, ...]], ...]
    on_the_map: tuple[int, ...]


def select(
    rows: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> Selection:
    """Choose the images.

    Args:
        rows: The measured rows, (M,).
        probabilities: Of these, (M, C).
        labels: Class index of every row of the table, (N,).
    """
    truth, predicted = labels[rows], probabilities.argmax(1)
    confidence = probabilities.max(1)
    surest = np.argsort(-confidence, kind="stable")
    wrong = surest[predicted[surest] != truth[surest]]
    mistakes = wrong[:MISTAKES]
    left = surest[::-1]
    uncertain = left[~np.isin(left, mistakes)][:UNCERTAIN]
    return Selection(
        mistakes=tuple(rows[mistakes].tolist()),
        uncertain=tuple(rows[uncertain].tolist()),
        cells=_cells(rows[surest], truth[surest], predicted[surest], probabilities.shape[1]),
        on_the_map=sample(rows[wrong], labels),
    )


def _cells(
    rows: NDArray[np.int64], truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> tuple[tuple[int, int, int, tuple[int, ...]], ...]:
    """The cells with images, mistakes first and the most frequent first; of a cell, the surest predictions."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, pair in zip(rows.tolist(), zip(truth.tolist(), predicted.tolist(), strict=True), strict=True):
        found[pair].append(row)
    order = sorted(found, key=lambda pair: (-len(found[pair]), pair))
    mistakes = [pair for pair in order if pair[0] != pair[1]][: CELLS if classes <= MATRIX_CLASSES else CELLS // 3]
    hits = [pair for pair in order if pair[0] == pair[1]] if classes <= MATRIX_CLASSES else []
    cells = []
    for pairs, room in ((mistakes, OF_ALL_MISTAKES), (hits, OF_ALL_HITS)):
        images = room
        for number, pair in enumerate(pairs):
            share = images // (len(pairs) - number)  # what one cell leaves of its share goes to the others
            shown = tuple(found[pair][: min(OF_A_CELL, max(1, share))])
            images -= len(shown)
            cells.append((*pair, len(found[pair]), shown))
    return tuple(cells)


def sample(first: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[int, ...]:
    """Mistakes, up to a quarter of the room, and of the others a part of each class, spread over the table.

    Args:
        first: Rows of the mistakes.
        labels: The class of every row of the table, or another number by which its images are divided, (N,).
    """
    if len(labels) <= ON_THE_MAP:
        return tuple(range(len(labels)))
    kept = first[: ON_THE_MAP // 4]
    others = np.setdiff1d(np.arange(len(labels)), kept)
    spread = others[of_each(labels[others], ON_THE_MAP - len(kept))]
    return tuple(sorted({*kept.tolist(), *spread.tolist()}))
