"""The penalty of a head that is fitted in passes: chosen on a part of the rows, and judged on rows that are set aside.

The rule is that of `headstart.heads.penalty`: from strong to weak, and a weaker one only where it pays. There it needs
some images of each class (`penalty.OF_A_CLASS`), and here too: a weak penalty, which ten images of each of a thousand
classes chose, then overfits 950,000, 2 % of them with wrong labels (made embeddings: C = 100, accuracy 0.64, and scores
that had to be divided by 8.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from headstart.core.thinning import of_each
from headstart.heads.linear import LinearHead
from headstart.heads.penalty import WHITENING, pays
from headstart.heads.streamed.blocks import Blocks, InMemory
from headstart.targets.classes.temperature import fit_temperature, smoothed_losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rows that are fitted on; 128 MB of embeddings of 1,280 numbers are 25,000.
ROWS = 100_000
# Powers of ten of C. Of many images weaker penalties than the first are hardly ever the best.
POWERS = tuple(range(-4, 4))


class SetAside(NamedTuple):
    """Rows that are not learnt from, and judge.

    Attributes:
        features: float32 (V, D).
        labels: Class index of each, int64 (V,).
        weights: Weight of each, float32 (V,).
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]


class Fit(Protocol):
    """What was fitted with a penalty."""

    @property
    def head(self) -> LinearHead:
        """The head."""
        ...


F = TypeVar("F", bound=Fit)


@dataclass(frozen=True)
class Choice(Generic[F]):
    """A penalty.

    Attributes:
        c: scikit-learn's C.
        whitening: See `headstart.heads.penalty.whitening_factors`.
        log_loss: Mean of the rows that judge, after the temperature.
        fit: What was fitted with it.
    """

    c: float
    whitening: float
    log_loss: float
    fit: F


@dataclass(frozen=True)
class _Tried(Generic[F]):
    power: int
    whitening: float
    losses: NDArray[np.float64]
    fit: F


def part_of(blocks: Blocks) -> InMemory:
    """The rows that a penalty is chosen on: of each class its share, and at least one."""
    labels = blocks.labels
    some = np.sort(of_each(labels, ROWS))
    kinds, first = np.unique(labels, return_index=True)
    rows = np.union1d(some, first[~np.isin(kinds, labels[some])])
    return InMemory(blocks.take(rows), labels[rows])


def choose(fitted: Callable[[float, float, F | None], F], aside: SetAside) -> Choice[F]:
    """Choose a penalty; of several that cannot be separated, the strongest.

    Args:
        fitted: Fits a head with a C and a whitening; from the fit with the penalty before, where there is one.
        aside: The rows that judge.
    """

    def attempt(power: int, whitening: float, before: F | None = None) -> _Tried[F]:
        fit = fitted(10.0**power, whitening, before)
        scores = fit.head.scores(aside.features)
        temperature = fit_temperature(scores, aside.labels, aside.weights)
        return _Tried(power, whitening, smoothed_losses(scores / temperature, aside.labels), fit)

    best, whitened = attempt(POWERS[0], 0.0), attempt(POWERS[0], WHITENING)
    if pays(best.losses, whitened.losses, aside.weights):
        best = whitened
    for power in POWERS[1:]:
        weaker = attempt(power, best.whitening, best.fit)
        if not pays(best.losses, weaker.losses, aside.weights):
            break
        best = weaker
    return Choice(10.0**best.power, best.whitening, float(np.average(best.losses, weights=aside.weights)), best.fit)
