"""The lowest point of a function of one number, where it has one valley."""

from __future__ import annotations

import math
from collections.abc import Callable

_GOLDEN = 0.5 * (3 - math.sqrt(5))
_ROUNDING = math.sqrt(2.2e-16)
_MOST_STEPS = 500


def lowest(function: Callable[[float], float], low: float, high: float, *, precision: float) -> float:
    """Where a function is lowest between two ends, by golden sections and parabolas (Brent 1973, `localmin`).

    To the bit what `scipy.optimize.minimize_scalar(method="bounded")` gives, whose import takes half a second.

    Args:
        function: Has one valley.
        low: The one end.
        high: The other.
        precision: How far off the result may be.
    """
    x = second = third = low + _GOLDEN * (high - low)  # the best three so far
    at_x = at_second = at_third = function(x)
    step = before = 0.0  # this step, and the one before it
    for _ in range(_MOST_STEPS - 1):
        middle = 0.5 * (low + high)
        least = _ROUNDING * abs(x) + precision / 3
        if abs(x - middle) <= 2 * least - 0.5 * (high - low):
            break
        parabola = None
        if abs(before) > least:
            parabola = _to_the_bottom(x, second, third, at_x, at_second, at_third)
            rise, run = parabola
            halved = abs(rise) < abs(0.5 * run * before)
            before = step
            if not (halved and run * (low - x) < rise < run * (high - x)):
                parabola = None
        if parabola is None:
            before = (low if x >= middle else high) - x
            step = _GOLDEN * before
        else:
            step = parabola[0] / parabola[1]
            if x + step - low < 2 * least or high - (x + step) < 2 * least:  # not onto an end
                step = math.copysign(least, middle - x) if middle != x else least
        tried = x + (math.copysign(max(abs(step), least), step) if step else least)
        at_tried = function(tried)
        if at_tried <= at_x:
            low, high = (x, high) if tried >= x else (low, x)
            third, at_third, second, at_second = second, at_second, x, at_x
            x, at_x = tried, at_tried
            continue
        low, high = (tried, high) if tried < x else (low, tried)
        if at_tried <= at_second or second == x:
            third, at_third, second, at_second = second, at_second, tried, at_tried
        elif at_tried <= at_third or third in (x, second):
            third, at_third = tried, at_tried
    return x


def _to_the_bottom(x: float, a: float, b: float, at_x: float, at_a: float, at_b: float) -> tuple[float, float]:
    """The way from `x` to the bottom of the parabola through three points, as a numerator and a denominator >= 0."""
    one, other = (x - a) * (at_x - at_b), (x - b) * (at_x - at_a)
    rise, run = (x - b) * other - (x - a) * one, 2 * (other - one)
    return (-rise, run) if run > 0 else (rise, abs(run))
