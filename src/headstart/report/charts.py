"""Where the lines, points and labels of a chart go. The template draws them; nothing here is markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# Of a chart, in units of its own; at this width they are about pixels on a telephone.
WIDTH, HEIGHT = 400, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 24, 12, 42


@dataclass(frozen=True)
class Scale:
    """Where a value lies on an axis.

    Attributes:
        low: The value at its beginning.
        high: The value at its end; above `low`.
        start: The place of its beginning.
        end: The place of its end.
        log: Whether equal ratios are equally long.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high, value = (math.log(x) for x in (self.low, self.high, value)) if self.log else (
            self.low, self.high, value)  # fmt: skip
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 2)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is drawn in a chart, in its own units.

    Attributes:
        kind: What the template knows.
        style: A class of style.
        points: Of a line: places, as SVG writes them.
        x: Of all others.
        y: Of a point, as are the next two.
        radius: Its size.
        words: What is shown when it is pointed at.
        low: Where a whisker or a rule begins.
        high: Where it ends.
    """

    kind: Literal["line", "point", "whisker", "rule"]
    style: str
    points: str = ""
    x: float = 0.0
    y: float = 0.0
    radius: float = 0.0
    words: str = ""
    low: float = 0.0
    high: float = 0.0


@dataclass
class Chart:
    """A chart: two axes, and what is drawn in them.

    Attributes:
        title: What it shows, for a screen reader and above it.
        x: The axis to the right.
        y: The axis upwards.
        x_label: What it measures.
        y_label: What that one measures.
        x_ticks: Pairs of a place and a label, of `x`.
        y_ticks: Pairs of a place and a label, of `y`.
        marks: What is drawn, in order.
        key: Pairs of a class of style and a name, for the legend.
    """

    title: str
    x: Scale
    y: Scale
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[Mark] = field(default_factory=list)
    key: list[tuple[str, str]] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through points."""
        path = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in points)
        self.marks.append(Mark(kind="line", points=path, style=style))

    def point(self, x: float, y: float, style: str, words: str, *, radius: float = 4) -> None:
        """A point with words that are shown when it is pointed at."""
        x, y = self.x(x), self.y(y)
        self.marks.append(Mark(kind="point", style=style, words=words, x=x, y=y, radius=round(radius, 2)))

    def whisker(self, x: float, low: float, high: float, style: str) -> None:
        """An interval of y."""
        self.marks.append(Mark(kind="whisker", x=self.x(x), low=self.y(low), high=self.y(high), style=style))

    def rule(self, x: float, style: str) -> None:
        """A line from the bottom to the top."""
        self.marks.append(Mark(kind="rule", x=self.x(x), low=self.y.start, high=self.y.end, style=style))


def empty(title: str, x_range: tuple[float, float], y_range: tuple[float, float], **labels: Any) -> Chart:
    """A chart with its axes.

    Args:
        title: What it shows.
        x_range: Lowest and highest value to the right.
        y_range: Lowest and highest value upwards.
        labels: ``x_label``, ``y_label``; ``x_percent``, ``y_percent`` for shares; ``x_log``; ``x_whole`` for whole
            numbers only; ``x_values`` for ticks at given values.
    """
    x_low, x_high = _widened(*x_range)
    y_low, y_high = _widened(*y_range)
    x = Scale(x_low, x_high, _LEFT, WIDTH - _RIGHT, log=bool(labels.get("x_log")))
    y = Scale(y_low, y_high, HEIGHT - _BOTTOM, _TOP)
    values = labels.get("x_values") or ticks(x_low, x_high, whole=bool(labels.get("x_whole")))
    return Chart(
        title=title,
        x=x,
        y=y,
        x_label=labels["x_label"],
        y_label=labels["y_label"],
        x_ticks=[(x(value), _words(value, percent=bool(labels.get("x_percent")))) for value in values],
        y_ticks=[(y(value), _words(value, percent=bool(labels.get("y_percent")))) for value in ticks(y_low, y_high)],
    )


def ticks(low: float, high: float, *, whole: bool = False, wanted: int = 5) -> list[float]:
    """Round values between two others, about as many as wanted: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _words(value: float, *, percent: bool) -> str:
    return f"{round(100 * value, 4):g} %" if percent else f"{round(value, 10):,.10g}"
