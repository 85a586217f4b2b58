"""The parts of an analysis that are about single images: see `headstart.report.analysed`.

Images are named by their places in `Analysis.images`, classes by their places in `Analysis.classes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from headstart.core import records


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image that the page shows.

    Attributes:
        path: As in the table.
        sha256: Of its file, hexadecimal.
        part: Its split or fold.
    """

    path: str
    sha256: str
    part: str


@dataclass(frozen=True, kw_only=True)
class ClassPicture(Picture):
    """An image with exactly one class.

    Attributes:
        label: Its class.
        predicted: The predicted class; None for an image that was not measured, as are the next two.
        probability: Of the predicted class.
        probability_of_label: Of its own.
    """

    label: int
    predicted: int | None = field(default=None, metadata=records.MAYBE)
    probability: float | None = field(default=None, metadata=records.MAYBE)
    probability_of_label: float | None = field(default=None, metadata=records.MAYBE)

    @property
    def right(self) -> bool | None:
        """Whether it was classified correctly; None where it was not measured."""
        return None if self.predicted is None else self.predicted == self.label


@dataclass(frozen=True, kw_only=True)
class LabelPicture(Picture):
    """An image with any number of labels.

    Attributes:
        labels: Those that it has.
        unknown: Those of which it is not known.
        predicted: Those that were predicted; None for an image that was not measured, as are the next two.
        missed: Those that it has and that were not predicted, with their probabilities.
        added: Those that it does not have and that were predicted, likewise.
    """

    labels: tuple[int, ...]
    unknown: tuple[int, ...]
    predicted: tuple[int, ...] | None = field(default=None, metadata=records.MAYBE)
    missed: tuple[tuple[int, float], ...] | None = field(default=None, metadata=records.MAYBE)
    added: tuple[tuple[int, float], ...] | None = field(default=None, metadata=records.MAYBE)

    @property
    def right(self) -> bool | None:
        """Whether nothing of it was missed or added; None where it was not measured."""
        return None if self.predicted is None else not self.missed and not self.added


@dataclass(frozen=True)
class Neighbour:
    """A training image that is similar to another image.

    Attributes:
        image: Which.
        similarity: Cosine of their embeddings, in -1..1.
    """

    image: int
    similarity: float


@dataclass(frozen=True)
class Exhibit:
    """A held-out image with the training images that are most similar to it."""

    image: int
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix: its classes, how many images there are, and those that are shown."""

    true: int
    predicted: int
    images: int
    shown: tuple[int, ...]


@dataclass(frozen=True)
class ShownFinding:
    """One thing that the data check found: in words, its paths that are no image of the table, and its images."""

    message: str
    paths: tuple[str, ...]
    images: tuple[int, ...]


@dataclass(frozen=True)
class KindOfFinding:
    """How often the data check found one kind of thing, and the first few."""

    kind: str
    count: int
    shown: tuple[ShownFinding, ...]


@dataclass(frozen=True)
class OwnShare:
    """Of a class on the map: the share of an image's nearest neighbours that are of its own class, on average."""

    class_: int
    images: int
    like_own: float


@dataclass(frozen=True, kw_only=True)
class Map:
    """The embeddings in two dimensions, of images by their class or their labels.

    Attributes:
        points: An image and its two coordinates.
        left_out: Images that are not on it.
        kept_neighbours: Share of each image's nearest neighbours that still are, in 0..1.
        classes: The worst separated first.
    """

    points: tuple[tuple[int, float, float], ...]
    left_out: int
    kept_neighbours: float
    classes: tuple[OwnShare, ...]
