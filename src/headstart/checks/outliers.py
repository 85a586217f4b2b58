"""Outliers: images far from all others, by the distance to their k-th nearest neighbour (Ramaswamy et al. 2000).

The tenth neighbour and not the nearest, so that a handful of strays that resemble each other are found too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.checks.findings import Finding
from headstart.checks.subject import Subject
from headstart.core.text import quoted
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
    if subject.data.features is None or len(np.unique(subject.different)) < MIN_IMAGES:
        return []
    distances = neighbour_distances(subject.compressed, subject.different, _neighbours(subject))
    middle = float(np.median(distances))
    spread = max(_NORMAL_MAD * float(np.median(np.abs(distances - middle))), LEAST_SPREAD)
    usual = np.full(len(subject), middle)
    for label in np.unique(subject.labels):  # of a class that is more varied than the others, more is usual
        rows = subject.labels == label
        if rows.sum() >= MIN_IMAGES:
            usual[rows] = max(middle, float(np.median(distances[rows])))
    scores = (distances - usual) / spread
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
    some = np.arange(len(unit))
    if len(some) > MAX_REFERENCES:
        some = np.linspace(0, len(unit) - 1, MAX_REFERENCES).astype(np.int64)
    references, reference_groups = unit[some], groups[some]
    most = int(min(neighbours.max(), len(some) - 1))
    distances = np.empty(len(unit))
    for start in range(0, len(unit), _BLOCK):
        block = slice(start, start + _BLOCK)
        similarity = unit[block] @ references.T
        similarity[groups[block, None] == reference_groups] = -np.inf
        similarity.partition(len(some) - most, axis=1)
        nearest = np.sort(similarity[:, len(some) - most :], axis=1)[:, ::-1]  # (B, most), the nearest first
        k = np.minimum(neighbours[block], np.maximum(np.isfinite(nearest).sum(1), 1))
        found = nearest[np.arange(len(nearest)), k - 1]
        distances[block] = 1 - np.where(np.isfinite(found), found, 1.0)
    return distances


def _neighbours(subject: Subject) -> NDArray[np.int64]:
    """How many neighbours each image should have: no more than half of the others of its class."""
    sizes = np.zeros(len(subject), np.int64)
    for label in np.unique(subject.labels):
        rows = subject.labels == label
        sizes[rows] = len(np.unique(subject.different[rows]))
    return np.clip((sizes - 1) // 2, 1, NEIGHBOURS)
