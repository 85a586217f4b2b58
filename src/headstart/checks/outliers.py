"""Outliers: images far from all others, by the distance to their k-th nearest neighbour (Ramaswamy et al. 2000).

The tenth neighbour and not the nearest, so that a handful of strays that resemble each other are found too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.checks.findings import Finding
from headstart.checks.subject import Subject
from headstart.core.inverted import Neighbours
from headstart.core.text import quoted
from headstart.core.thinning import evenly
from headstart.core.vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS = 10
MIN_IMAGES = 30  # with fewer there is no usual distance
# Robust standard deviations above what is usual. On ants-bees its placeholder picture has 5.2 and the next photo 3.7;
# on 1,797 digits one has 4.9 and the next 3.7. A single digit among the photos has 4.1 to 4.7, one of three 3.5 to
# 4.5; photos among the digits have more than 30.
THRESHOLD = 4.0
# Images that each is compared with; more would only cost time.
MAX_REFERENCES = 20_000
# Spreads below this are those of copies and of rounding.
LEAST_SPREAD = 1e-3
_BLOCK = 1024
_NORMAL_MAD = 1.4826  # the standard deviation of a normal distribution, in median absolute deviations


def find(subject: Subject) -> list[Finding]:
    """The outliers; none where there are no embeddings, or fewer than `MIN_IMAGES` different images."""
    if not subject.embedded or len(np.unique(subject.different)) < MIN_IMAGES:
        return []
    wanted = _neighbours(subject)
    if subject.neighbours is None:
        distances = neighbour_distances(subject.compressed, subject.different, wanted)
    else:
        distances = _among(subject.neighbours, subject.different, wanted)
    scores, usual = _scores(distances, subject.labels)
    if subject.neighbours is not None:  # some of the nearest were missed: of what stands out, all are looked at
        out = np.flatnonzero(scores >= THRESHOLD)
        unit = unit_rows(subject.compressed)
        distances[out] = _distances(unit, subject.different, out, np.arange(len(unit)), wanted[out])
        scores, usual = _scores(distances, subject.labels)
    findings = []
    for place in np.flatnonzero(scores >= THRESHOLD):
        row = subject.data.table.rows[place]
        findings.append(Finding(
            "outlier",
            f"{quoted(row.path)} is unlike all other images: its nearest neighbours are at a cosine distance of "
            f"{distances[place]:.2f}, where {usual[place]:.2f} is usual. Look at it: does it belong here?",
            (row.path,),
            {"label": row.label, "distance": round(float(distances[place]), 4),
             "usual_distance": round(float(usual[place]), 4), "deviations": round(float(scores[place]), 2),
             "split": row.split},
            severity=float(scores[place]),
        ))  # fmt: skip
    return findings


def neighbour_distances(
    features: NDArray[np.float32], groups: NDArray[np.int64], neighbours: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosine distance in 0..2 of each image to its k-th nearest image of another group, (N,).

    Args:
        features: float32 (N, R).
        groups: Group number of each, (N,): copies of an image are no neighbours of it.
        neighbours: The k of each image, (N,), at least 1; it is lowered where there are fewer images.
    """
    unit = unit_rows(features)
    some = evenly(len(unit), MAX_REFERENCES)
    return _distances(unit, groups, np.arange(len(unit)), some, neighbours)


def _distances(
    unit: NDArray[np.float32],
    groups: NDArray[np.int64],
    rows: NDArray[np.int64],
    some: NDArray[np.int64],
    neighbours: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The same of some rows (M,), whose neighbours are looked for among some others; k for each of these rows."""
    references, reference_groups = unit[some], groups[some]
    most = int(min(neighbours.max(initial=1), len(some) - 1))
    distances = np.empty(len(rows))
    step = min(_BLOCK, max(1, _BLOCK * MAX_REFERENCES // len(some)))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        similarity = unit[rows[block]] @ references.T
        similarity[groups[rows[block], None] == reference_groups] = -np.inf
        similarity.partition(len(some) - most, axis=1)
        distances[block] = _kth(similarity[:, len(some) - most :], neighbours[block])
    return distances


def _among(neighbours: Neighbours, groups: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same, by neighbours (N, K) that are known."""
    others = groups[neighbours.rows] != groups[:, None]
    return _kth(np.where(others, neighbours.cosine, -np.inf), wanted)


def _kth(cosines: NDArray[np.float32], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance to the k-th nearest of some rows, of which cosines (B, K) are known; -inf for none."""
    nearest = np.sort(cosines, axis=1)[:, ::-1]  # the nearest first
    k = np.minimum(wanted, np.maximum(np.isfinite(nearest).sum(1), 1))
    found = nearest[np.arange(len(nearest)), k - 1]
    result: NDArray[np.float64] = (1 - np.where(np.isfinite(found), found, 1.0)).astype(np.float64)
    return result


def _scores(
    distances: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each distance is from what is usual, in robust standard deviations, and what is usual, (N,)."""
    middle = float(np.median(distances))
    spread = max(_NORMAL_MAD * float(np.median(np.abs(distances - middle))), LEAST_SPREAD)
    usual = np.full(len(distances), middle)
    for label in np.unique(labels):  # of a class that is more varied than the others, more is usual
        rows = labels == label
        if rows.sum() >= MIN_IMAGES:
            usual[rows] = max(middle, float(np.median(distances[rows])))
    return (distances - usual) / spread, usual


def _neighbours(subject: Subject) -> NDArray[np.int64]:
    """How many neighbours each image should have: no more than half of the others of its class."""
    sizes = np.zeros(len(subject), np.int64)
    for label in np.unique(subject.labels):
        rows = subject.labels == label
        sizes[rows] = len(np.unique(subject.different[rows]))
    return np.clip((sizes - 1) // 2, 1, NEIGHBOURS)
