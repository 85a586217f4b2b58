"""The page of a comparison: the verdict, the numbers, and the images on which the candidates disagree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.features.thumbnails import Thumbnails
from headstart.report.render import data_uri, percent, render
from headstart.report.run_page import source_name
from headstart.runs.result import Fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    )


@dataclass(frozen=True)
class Shown:
    """An image that one of two candidates alone gets right.

    Attributes:
        label: Its class.
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
    for name, other in list(combinations(fitted, 2))[:PAIRS]:
        one, two = _guesses(fitted[name]), _guesses(fitted[other])
        both = sorted(one.keys() & two.keys())
        sides: list[Side] = []
        table, place = fitted[name].data.table, {row.path: i for i, row in enumerate(fitted[name].data.table.rows)}
        metadata = fitted[name].model_file.metadata
        limit, white = metadata.max_megapixels, metadata.preprocess.white_level
        with Thumbnails(table, fitted[name].data.digests, cache, limit, white_level=white) as thumbnails:
            for winner, loser, mine, theirs in ((name, other, one, two), (other, name, two, one)):
                paths = [path for path in both if mine[path][2] and not theirs[path][2]]
                jpegs = thumbnails.all_small([place[path] for path in paths[:IMAGES]])
                images = tuple(
                    Shown(
                        label=mine[path][0],
                        jpeg=jpegs.get(place[path]),
                        src=data_uri(jpegs.get(place[path])),
                        alt=f"{path}: {mine[path][0]}",
                        words=f"{loser}: {theirs[path][0]} ({percent(theirs[path][1], 0)})",
                    )
                    for path in paths[:IMAGES]
                )
                if paths:
                    sides.append(Side(winner, len(paths), images))
        if sides:
            found.append(Disagreement((name, other), tuple(sides), len(both)))
    return found


def _guesses(fitted: Fitted) -> dict[str, tuple[str, float, bool]]:
    """The predicted class of each measured image, its probability, and whether it is right, by the image's path."""
    guesses = {}
    rows, probabilities = fitted.measured()
    for row, one in zip(rows.tolist(), probabilities, strict=True):
        best = _best(one)
        label, image = fitted.data.targets.names[best], fitted.data.table.rows[row]
        guesses[image.path] = label, float(one[best]), label == image.label
    return guesses


def _best(probabilities: NDArray[np.float64]) -> int:
    return int(probabilities.argmax())
