"""The page of a comparison: the verdict, the numbers, and the images on which the candidates disagree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from headstart.core.tables import resolve
from headstart.report.pictures import thumbnails_of
from headstart.report.render import data_uri, render
from headstart.report.run_page import source_name
from headstart.runs.result import Fitted
from headstart.targets import TARGETS

PAIRS = 6  # whose images are shown
IMAGES = 12  # of a pair, that one of them alone gets right


def comparison_page(comparison: Mapping[str, Any], fitted: Mapping[str, Fitted], cache: Path | None) -> str:
    """The page.

    Args:
        comparison: ``rows``, ``pairs`` and ``verdict``, as ``compare --json`` prints them.
        fitted: What was compared, by name, on the same images.
        cache: The cache folder, for pictures; None for none.
    """
    first = next(iter(fitted.values()), None)
    return render(
        "comparison.html.j2",
        comparison=comparison,
        name=source_name(first.data.table.source) if first else "",
        disagreements=disagreements(fitted, cache),
        several=first is not None and not TARGETS[first.data.targets.task].exclusive,
    )


@dataclass(frozen=True)
class Shown:
    """An image that one of two candidates alone gets right.

    Attributes:
        label: Its class, or its labels.
        jpeg: A small JPEG file; None where it cannot be read any more.
        src: The same as an address.
        alt: What it is, in words.
        words: What the other one said.
    """

    label: str
    jpeg: bytes | None
    src: str | None
    alt: str
    words: str


@dataclass(frozen=True)
class Side:
    """The images that one of two candidates alone gets right: how many, and the first of them."""

    winner: str
    count: int
    images: tuple[Shown, ...]


@dataclass(frozen=True)
class Disagreement:
    """Two candidates of which not both get the same images right, and how many images both have seen."""

    names: tuple[str, str]
    sides: tuple[Side, ...]
    images: int


def disagreements(fitted: Mapping[str, Fitted], cache: Path | None) -> list[Disagreement]:
    """For each pair of candidates, the held-out images that one of them alone gets right."""
    found = []
    tasks = {one.data.targets.task for one in fitted.values()}
    guesses = {task: resolve(TARGETS[task].guesses) for task in tasks}
    for name, other in list(combinations(fitted, 2))[:PAIRS]:
        one, two = (guesses[one.data.targets.task](one) for one in (fitted[name], fitted[other]))
        both = sorted(one.keys() & two.keys())
        sides: list[Side] = []
        place = {row.path: i for i, row in enumerate(fitted[name].data.table.rows)}
        with thumbnails_of(fitted[name], cache) as thumbnails:
            for winner, loser, mine, theirs in ((name, other, one, two), (other, name, two, one)):
                paths = [path for path in both if mine[path].right and not theirs[path].right]
                jpegs = thumbnails.all_small([place[path] for path in paths[:IMAGES]])
                images = tuple(
                    Shown(
                        label=mine[path].label,
                        jpeg=jpegs.get(place[path]),
                        src=data_uri(jpegs.get(place[path])),
                        alt=f"{path}: {mine[path].label}",
                        words=f"{loser}: {theirs[path].words}",
                    )
                    for path in paths[:IMAGES]
                )
                if paths:
                    sides.append(Side(winner, len(paths), images))
        if sides:
            found.append(Disagreement((name, other), tuple(sides), len(both)))
    return found
