"""The map of the embeddings: its points with their colours, and the pictures that the page does not hold already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from headstart.report import figures
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


def picture_map(
    drawn: Mapping[str, Any], pictures: Pictures, of: Callable[[int], OnMap], names: Sequence[str]
) -> dict[str, Any]:
    """The map as its template takes it.

    Args:
        drawn: ``map`` of an analysis.
        pictures: Those of the page.
        of: What is told of the image at a place of the analysis.
        names: Of the kinds of images, which are coloured.
    """
    drawing = figures.map_of(drawn["points"])
    images = [of(place) for place, _, _ in drawn["points"]]
    kinds = [image.kind for image in images]
    by_size = sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))
    styles = {kind: number for number, kind in enumerate(sorted(by_size[:COLOURS]))}
    points, extra = [], {}
    for (place, _, _), (x, y), image in zip(drawn["points"], drawing["places"], images, strict=True):
        held = pictures.on_page(place)
        if not held and (src := pictures.take(place)):
            extra[str(place)] = src
        style = styles.get(image.kind)
        points.append({
            "place": place, "x": x, "y": y, "words": image.words, "right": image.right,
            "style": "other" if style is None else str(style), "shape": "dot" if style is None else SHAPES[style],
        })  # fmt: skip
    # What is drawn last is on top: mistakes.
    points.sort(key=lambda point: point["right"] is False)
    return {
        **drawing,
        "points": points,
        "pictures": extra,
        "legend": [(str(number), SHAPES[number], names[kind]) for kind, number in styles.items()],
        "others": len(by_size) > COLOURS,
        "classes": [{**one, "label": names[one["class"]]} for one in drawn["classes"]],
        "left_out": drawn["left_out"],
        "kept_neighbours": drawn["kept_neighbours"],
        "mistakes": sum(point["right"] is False for point in points),
    }
