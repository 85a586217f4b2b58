"""The map of the embeddings: its points with their colours, and the pictures that the page does not hold already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headstart.report import figures
from headstart.report.analysed_images import Map
from headstart.report.pictures import Pictures

COLOURS = 8  # classes with a colour of their own on the map; nobody distinguishes more
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring", "star", "bar")


class OnMap(NamedTuple):
    """What the map tells of an image.

    Attributes:
        kind: The place of its class (or combination of labels) among the names.
        words: The image in words.
        right: Whether it was predicted right; None for one that was not measured.
    """

    kind: int
    words: str
    right: bool | None


@dataclass(frozen=True, kw_only=True)
class Point:
    """An image on the map.

    Attributes:
        place: In `Analysis.images`.
        x: To the right.
        y: Downwards.
        words: What it is.
        right: Whether it was classified correctly; None where it was not measured.
        style: Number of its colour; ``other`` for none of its own.
        shape: A shape of the template.
    """

    place: int
    x: float
    y: float
    words: str
    right: bool | None
    style: str
    shape: str


@dataclass(frozen=True)
class ClassOnMap:
    """How well a class is separated: see `headstart.report.analysed_images.OwnShare`."""

    label: str
    images: int
    like_own: float


@dataclass(frozen=True, kw_only=True)
class DrawnMap:
    """The map as the page draws it.

    Attributes:
        width: Of the drawing.
        height: Of it.
        points: Those that lie on top last.
        pictures: Those that the page does not hold already, as addresses by the image's place.
        legend: Style, shape and name of each class with a colour.
        others: Whether there are classes without one.
        classes: The worst separated first.
        left_out: Images that are not on it.
        kept_neighbours: Share of nearest neighbours that still are, in 0..1.
    """

    width: int
    height: int
    points: tuple[Point, ...]
    pictures: Mapping[str, str]
    legend: tuple[tuple[str, str, str], ...]
    others: bool
    classes: tuple[ClassOnMap, ...]
    left_out: int
    kept_neighbours: float


def picture_map(
    drawn: Map, pictures: Pictures, of: Callable[[int], OnMap], names: Sequence[str], classes: Sequence[str]
) -> DrawnMap:
    """The map as its template takes it.

    Args:
        drawn: That of an analysis.
        pictures: Those of the page.
        of: What is told of the image at a place of the analysis.
        names: Of the kinds of images, which are coloured.
        classes: Names of the classes or labels.
    """
    drawing = figures.map_of(drawn.points)
    images = [of(place) for place, _, _ in drawn.points]
    kinds = [image.kind for image in images]
    by_size = sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))
    styles = {kind: number for number, kind in enumerate(sorted(by_size[:COLOURS]))}
    points, extra = [], {}
    for (place, _, _), (x, y), image in zip(drawn.points, drawing.places, images, strict=True):
        if not pictures.on_page(place) and (src := pictures.take(place)):
            extra[str(place)] = src
        style = styles.get(image.kind)
        points.append(
            Point(
                place=place, x=x, y=y, words=image.words, right=image.right,
                style="other" if style is None else str(style), shape="dot" if style is None else SHAPES[style],
            )
        )  # fmt: skip
    return DrawnMap(
        width=drawing.width,
        height=drawing.height,
        # What is drawn last is on top: mistakes.
        points=tuple(sorted(points, key=lambda point: point.right is False)),
        pictures=extra,
        legend=tuple((str(number), SHAPES[number], names[kind]) for kind, number in styles.items()),
        others=len(by_size) > COLOURS,
        classes=tuple(ClassOnMap(classes[one.class_], one.images, one.like_own) for one in drawn.classes),
        left_out=drawn.left_out,
        kept_neighbours=drawn.kept_neighbours,
    )
