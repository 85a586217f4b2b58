"""The confusion matrix on the page of a run: its cells, or the most frequent mistakes, and the images behind them."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.report.analysed import Analysis
from headstart.report.shown_images import ImageOf, ShownClass

WIDE_CLASSES = 8  # up to these, the columns of the matrix carry names instead of numbers


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Images of one class that were predicted as one class.

    Attributes:
        id: Of what shows its images.
        true: The true class.
        predicted: The predicted class.
        right: Whether they are the same.
        count: Number of images.
        images: Those that are shown.
    """

    id: str
    true: str
    predicted: str
    right: bool
    count: int
    images: tuple[ShownClass, ...]


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number of the matrix.

    Attributes:
        count: Number of images.
        share: Of all images of the true class, in 0..1.
        id: Of what shows its images; None for nothing.
        right: Whether it lies on the diagonal.
    """

    count: int
    share: float
    id: str | None
    right: bool


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """What the page shows of the confusions.

    Attributes:
        dialogs: Cells whose images are shown.
        mistakes: Number of all mistakes.
        listed: Cells of mistakes, the most frequent first.
        rows: A row for each true class; None with very many classes.
        wide: Whether columns carry names.
    """

    dialogs: tuple[Cell, ...]
    mistakes: int
    listed: tuple[Cell, ...]
    rows: tuple[tuple[Count, ...], ...] | None
    wide: bool

    @property
    def listed_images(self) -> int:
        """Images of the mistakes that are listed."""
        return sum(one.count for one in self.listed)


def confusion_matrix(analysis: Analysis, image: ImageOf[ShownClass]) -> Matrix:
    """The matrix, or the list of the most frequent mistakes; and the images behind the cells."""
    classes = analysis.classes
    cells = tuple(
        Cell(
            id=_id(one.true, one.predicted), true=classes[one.true], predicted=classes[one.predicted],
            right=one.true == one.predicted, count=one.images, images=tuple(map(image, one.shown)),
        )
        for one in analysis.cells
    )  # fmt: skip
    dialogs = tuple(one for one in cells if one.images)
    return Matrix(
        dialogs=dialogs,
        mistakes=analysis.evaluation.n - analysis.evaluation.correct,
        listed=tuple(one for one in cells if not one.right),
        rows=_rows(analysis, frozenset(one.id for one in dialogs)),
        wide=len(classes) <= WIDE_CLASSES,
    )


def _id(true: int, predicted: int) -> str:
    return f"cell-{true}-{predicted}"


def _rows(analysis: Analysis, with_images: frozenset[str]) -> tuple[tuple[Count, ...], ...] | None:
    if analysis.evaluation.confusion is None:
        return None
    counts = {(true, predicted): count for true, predicted, count in analysis.evaluation.confusion}
    places = range(len(analysis.classes))
    rows = []
    for i in places:
        row = [counts.get((i, j), 0) for j in places]
        total = sum(row)
        rows.append(
            tuple(
                Count(
                    count=count, share=count / total if total else 0.0, right=i == j,
                    id=_id(i, j) if _id(i, j) in with_images else None,
                )
                for j, count in enumerate(row)
            )
        )  # fmt: skip
    return tuple(rows)
