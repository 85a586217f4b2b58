"""Images as the page of a run shows them: with their names, what was predicted, and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Generic, TypeVar

from headstart.checks import checks_of
from headstart.report.analysed import Analysis, Common
from headstart.report.analysed_images import Exhibit
from headstart.report.picture_map import OnMap
from headstart.report.pictures import Pictures
from headstart.report.render import percent


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """An image on the page.

    Attributes:
        place: In the images of the analysis.
        path: As in the table.
        alt: What it is, in words.
        src: Its picture as an address; None where there is none.
    """

    place: int
    path: str
    alt: str
    src: str | None

    @property
    def file(self) -> str:
        """The name of its file."""
        return PurePath(self.path).name


@dataclass(frozen=True, kw_only=True)
class ShownClass(ShownImage):
    """An image with exactly one class.

    Attributes:
        label: Its class.
        guess: The predicted class; None for an image that was not measured, as are the next three.
        right: Whether that is its own.
        probability: Of the predicted class.
        probability_of_label: Of its own.
    """

    label: str
    guess: str | None
    right: bool | None
    probability: float | None
    probability_of_label: float | None


Image = TypeVar("Image", bound=ShownImage)
ImageOf = Callable[[int], Image]  # an image of the analysis, by its place, as its page shows it


@dataclass(frozen=True)
class ShownNeighbour(Generic[Image]):
    """A training image, and how similar it is to another."""

    image: Image
    similarity: float


@dataclass(frozen=True)
class ShownExhibit(Generic[Image]):
    """A held-out image, and the training images that are most similar to it."""

    image: Image
    neighbours: tuple[ShownNeighbour[Image], ...]


def exhibits(some: Iterable[Exhibit], image: ImageOf[Image]) -> tuple[ShownExhibit[Image], ...]:
    """Held-out images with the training images that are most similar to them."""
    return tuple(
        ShownExhibit(
            image(one.image),
            tuple(ShownNeighbour(image(other.image), other.similarity) for other in one.neighbours),
        )
        for one in some
    )


@dataclass(frozen=True)
class Message:
    """What the data check said: in words, with paths that are no image of the table, and with images."""

    message: str
    paths: tuple[str, ...]
    images: tuple[ShownImage, ...]


@dataclass(frozen=True)
class Found:
    """What the data check found of one kind: its heading, how often, and the first few."""

    heading: str
    count: int
    shown: tuple[Message, ...]


def findings(analysis: Common, image: ImageOf[Image], task: str) -> tuple[Found, ...]:
    """What the data check of a task found, with its images."""
    checks = checks_of(task)
    return tuple(
        Found(
            # A newer check, whose run is drawn again, may know more kinds.
            checks[kind.kind].heading if kind.kind in checks else kind.kind,
            kind.count,
            tuple(Message(one.message, one.paths, tuple(map(image, one.images))) for one in kind.shown),
        )
        for kind in analysis.findings
    )


def shown_class(analysis: Analysis, place: int, pictures: Pictures) -> ShownClass:
    """An image with exactly one class, with its picture."""
    one = analysis.images[place]
    label = analysis.classes[one.label]
    return ShownClass(
        place=place,
        path=one.path,
        label=label,
        guess=None if one.predicted is None else analysis.classes[one.predicted],
        right=one.right,
        probability=one.probability,
        probability_of_label=one.probability_of_label,
        alt=f"{one.path}: {label}{_predicted(analysis, place)}",
        src=pictures.take(place),
    )


def class_on_map(analysis: Analysis, place: int) -> OnMap:
    """The same on the map."""
    one = analysis.images[place]
    words = f"{analysis.classes[one.label]}, {one.path}{_predicted(analysis, place) or ', training image'}"
    return OnMap(one.label, words, one.right)


def _predicted(analysis: Analysis, place: int) -> str:
    """What was predicted for an image, to follow other words; empty where it was not measured."""
    one = analysis.images[place]
    if one.predicted is None or one.probability is None:
        return ""
    guess = analysis.classes[one.predicted]
    return f", {'correctly' if one.right else 'wrongly'} predicted as {guess} ({percent(one.probability, 0)})"
