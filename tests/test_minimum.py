"""The lowest point of a valley, against SciPy's, to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from headstart.core.minimum import lowest

VALLEYS: dict[str, Callable[[float], float]] = {
    "parabola": lambda x: (x - 0.3) ** 2,
    "corner": lambda x: abs(x - 1.7),
    "steep": lambda x: math.exp(x) - 5 * x,
    "level at the bottom": lambda x: (x - 0.5) ** 4,
    "lowest at the left end": lambda x: x,
    "lowest at the right end": lambda x: -x,
    "level everywhere": lambda x: 1.0,
    "steps": lambda x: float(round(3 * abs(x))),
    "several valleys": lambda x: math.sin(5 * x) + 0.1 * x * x,
    "infinite on one side": lambda x: (x - 0.4) ** 2 if x > 0 else math.inf,
}


def scipys(function: Callable[[float], float], low: float, high: float, precision: float) -> tuple[float, list[float]]:
    asked: list[float] = []
    found = minimize_scalar(
        lambda x: (asked.append(float(x)), function(float(x)))[1],
        bounds=(low, high), method="bounded", options={"xatol": precision},
    )  # fmt: skip
    return float(found.x), asked


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # SciPy's, of infinite less infinite
@pytest.mark.parametrize("name", VALLEYS)
@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (-1.0, 7.5), (0.0, 1e-3), (-1e6, 2e6)])
@pytest.mark.parametrize("precision", [1e-5, 1e-10, 0.1])
def test_asks_and_answers_as_scipy_does(name: str, low: float, high: float, precision: float) -> None:
    function = VALLEYS[name]
    if name == "steep":
        high = min(high, 100.0)
    asked: list[float] = []
    x = lowest(lambda x: (asked.append(x), function(x))[1], low, high, precision=precision)
    assert (x, asked) == scipys(function, low, high, precision)


@given(
    bottom=st.floats(-5, 5), power=st.floats(0.5, 6), tilt=st.floats(-2, 2),
    low=st.floats(-10, -1e-3), width=st.floats(1e-3, 20),
)  # fmt: skip
def test_any_valley(bottom: float, power: float, tilt: float, low: float, width: float) -> None:
    def function(x: float) -> float:
        return abs(x - bottom) ** power + tilt * x

    x = lowest(function, low, low + width, precision=1e-5)
    assert x == scipys(function, low, low + width, 1e-5)[0]
    assert low <= x <= low + width


def test_a_convex_valley_is_found() -> None:
    for bottom in np.linspace(-2.9, 2.9, 30):
        assert lowest(lambda x, b=bottom: np.cosh(x - b), -3, 3, precision=1e-7) == pytest.approx(bottom, abs=1e-6)
