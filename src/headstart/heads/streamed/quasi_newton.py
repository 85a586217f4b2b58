"""L-BFGS (Nocedal 1980; Liu and Nocedal 1989) with a first guess of the inverse Hessian that is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

REMEMBERED = 20  # pairs of steps and changes of the gradient
_ARMIJO = 1e-4
_ROUNDING = 1e-11  # of a mean loss that is summed in double precision
_LEAST_LENGTH = 1e-6
# So many steps, each of which lowers the value by less than this share of the decrement, are made by rounding.
_LEVEL_STEPS, _LEVEL = 2, 0.1

Function = Callable[["NDArray[np.float64]"], "tuple[float, NDArray[np.float64]]"]
Guess = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]
Pair = tuple["NDArray[np.float64]", "NDArray[np.float64]"]  # a step, and how the gradient changed along it


class Minimum(NamedTuple):
    """What `minimise` found.

    Attributes:
        place: Where.
        decrement: What another step would lower the value by, as the method sees it.
        calls: How often the function was asked.
        converged: The decrement is below what was asked for, or the steps no longer lower the value, in the precision
            that it has.
        past: The last steps, from which another search can go on.
    """

    place: NDArray[np.float64]
    decrement: float
    calls: int
    converged: bool
    past: tuple[Pair, ...]


def minimise(
    function: Function,
    start: NDArray[np.float64],
    guess: Guess,
    *,
    decrement: float,
    calls: int,
    past: Iterable[Pair] = (),
    share: float = 0.0,
) -> Minimum:
    """Minimise a convex function.

    Args:
        function: Gives its value and its gradient at a place.
        start: Where to begin.
        guess: Multiplies a gradient with a guess of the inverse Hessian, which is symmetric and positive.
        decrement: It ends where a step would lower the value by less than this.
        calls: And after so many calls of the function at the latest, at least 1.
        past: Steps of an earlier search, of this function or of one of about the same curvature.
        share: It ends, too, where a step would lower the value by less than this share of it.
    """
    place, known = start, deque[Pair](past, maxlen=REMEMBERED)
    value, gradient = function(place)
    asked, level = 1, 0
    while True:
        step = -_times_inverse_hessian(gradient, known, guess)
        slope = _dot(gradient, step)
        done = -slope / 2 < max(decrement, share * value) or level >= _LEVEL_STEPS
        if done or asked >= calls:
            return Minimum(place, -slope / 2, asked, done, tuple(known))
        length = 1.0
        while True:
            there = place + length * step
            lower, other = function(there)
            asked += 1
            if lower <= value + _ARMIJO * length * slope + _ROUNDING:
                break
            length /= 2
            if length < _LEAST_LENGTH:  # downhill, and no step is lower: that is the precision of the function
                return Minimum(place, -slope / 2, asked, True, tuple(known))
            if asked >= calls:
                return Minimum(place, -slope / 2, asked, False, tuple(known))
        if _dot(there - place, other - gradient) > 0:
            known.append((there - place, other - gradient))
        level = level + 1 if value - lower < _LEVEL * decrement else 0
        place, value, gradient = there, lower, other


def _times_inverse_hessian(
    gradient: NDArray[np.float64],
    past: deque[Pair],
    guess: Guess,
) -> NDArray[np.float64]:
    """The two loops of Nocedal 1980."""
    result, shares = gradient.copy(), []
    for step, change in reversed(past):
        share = _dot(step, result) / _dot(step, change)
        shares.append(share)
        result -= share * change
    result = guess(result)
    if past:
        step, change = past[-1]
        result *= _dot(step, change) / _dot(change, guess(change))
    for (step, change), share in zip(past, reversed(shares), strict=True):
        result += (share - _dot(change, result) / _dot(step, change)) * step
    return result


def _dot(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.einsum("rc,rc->", one, other))
