"""A map of embeddings in two dimensions: exact t-SNE (van der Maaten and Hinton 2008), for a few hundred points.

Principal components would take less time, but put classes on top of each other that the backbone separates: two of
1,280 dimensions hold little. scikit-learn's t-SNE gives maps of the same quality; importing it takes two seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.core.vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERPLEXITY = 30.0  # about how many neighbours each point is to keep near
ITERATIONS = 300
_EXAGGERATED = 100  # of these, in which points of one neighbourhood are drawn together
_EXAGGERATION = 12.0
_COMPONENTS = 50
_HALVINGS = 24  # of the interval in which a point's bandwidth is sought


def layout(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Positions in the plane, (N, 2), in 0..1 with the proportions kept; nearby points have similar features.

    The same features give the same map: it begins with the first two principal components.

    Args:
        features: Embeddings, float32 (N, D); the time grows with N squared (0.2 s for 400 on one core).
    """
    count = len(features)
    if count < 5:  # a neighbourhood needs somebody outside it
        return np.column_stack([np.linspace(0, 1, count), np.full(count, 0.5)]) if count else np.empty((0, 2))
    unit = unit_rows(features)
    centred = unit - unit.mean(0)
    # Principal components from the Gram matrix, since there are fewer points than dimensions.
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    kept = values[::-1][:_COMPONENTS].clip(0) ** 0.5
    components = vectors[:, ::-1][:, :_COMPONENTS] * kept  # (N, up to 50)
    if kept[0] <= 1e-6:
        return np.full((count, 2), 0.5)
    signs = np.sign(components[np.abs(components).argmax(0), np.arange(components.shape[1])])
    components *= signs  # of an eigenvector the sign is arbitrary
    affinities = _affinities(components, min(PERPLEXITY, (count - 1) / 3))
    places = _descend(affinities, components[:, :2] / components[:, 0].std() * 1e-4)
    places -= places.min(0)
    return places / max(float(places.max()), 1e-12)


def kept_neighbours(features: NDArray[np.float32], places: NDArray[np.float64], neighbours: int = 10) -> float:
    """Share of each point's nearest neighbours that are among its nearest on the map too, in 0..1."""
    neighbours = min(neighbours, len(features) - 1)
    if neighbours < 1:
        return 1.0
    nearest = []
    for points in (unit_rows(features).astype(np.float64), places):
        squares = _squared_distances(points)
        np.fill_diagonal(squares, np.inf)
        mask = np.zeros(squares.shape, bool)
        np.put_along_axis(mask, squares.argpartition(neighbours - 1, axis=1)[:, :neighbours], True, 1)
        nearest.append(mask)
    return float((nearest[0] & nearest[1]).sum() / (len(features) * neighbours))


def _affinities(points: NDArray[np.float64], perplexity: float) -> NDArray[np.float32]:
    """Symmetric probabilities (N, N) that two points are neighbours, each with a bandwidth of its own."""
    squares = _squared_distances(points)
    np.fill_diagonal(squares, np.inf)
    squares -= squares.min(1, keepdims=True)  # cancels in the normalised rows, and keeps the exponents from vanishing
    distances = np.where(np.isfinite(squares), squares, 0).astype(np.float32)
    outside = ~np.isfinite(squares)
    low, high = np.full(len(points), 1e-6), np.full(len(points), 1e9)
    for _ in range(_HALVINGS * 2):
        middle = np.sqrt(low * high)
        weights = np.exp(-distances * middle[:, None].astype(np.float32))
        weights[outside] = 0
        total = weights.sum(1)
        # Entropy of each row in nats; its exponential is the perplexity.
        entropy = np.log(total) + middle * (weights * distances).sum(1) / total
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
        if (high / low < 1.05).all():
            break
    conditional = weights / total[:, None]
    result: NDArray[np.float32] = ((conditional + conditional.T) / (2 * len(points))).astype(np.float32)
    return result


def _descend(affinities: NDArray[np.float32], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient descent on the divergence of the map's neighbourhoods from the wanted ones, with momentum and gains."""
    count = len(start)
    places = start.astype(np.float32)
    step, gains = np.zeros_like(places), np.ones_like(places)
    rate = max(count / _EXAGGERATION / 4, 50.0)  # as in scikit-learn (Belkina et al. 2019)
    wanted = affinities * np.float32(_EXAGGERATION)
    for iteration in range(ITERATIONS):
        if iteration == _EXAGGERATED:
            wanted = affinities
        near = 1 / (1 + _squared_distances(places))  # (N, N), Student's t with one degree of freedom
        np.fill_diagonal(near, 0)
        pull = (wanted - near / near.sum()) * near
        gradient = 4 * (pull.sum(1, keepdims=True) * places - pull @ places)
        gains = np.where((gradient > 0) == (step > 0), gains * 0.8, gains + 0.2).clip(0.01)
        step = (0.5 if iteration < _EXAGGERATED else 0.8) * step - np.float32(rate) * gains * gradient
        places = places + step
        places -= places.mean(0)
    return places.astype(np.float64)


def _squared_distances(points: NDArray[np.floating]) -> NDArray[np.floating]:
    lengths = (points * points).sum(1)
    squares: NDArray[np.floating] = (lengths[:, None] + lengths - 2 * (points @ points.T)).clip(0)
    return squares
