"""Which labels occur together on the page of a run; and which are added where another is missed."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.report.analysed_labels import LabelAnalysis
from headstart.report.confusion_matrix import WIDE_CLASSES
from headstart.report.picked import MATRIX_CLASSES


@dataclass(frozen=True, kw_only=True)
class NamedPair:
    """Two labels: see `headstart.report.analysed_labels.PairOfLabels`."""

    names: tuple[str, str]
    images: int
    by_chance: float
    found: int


@dataclass(frozen=True)
class Both:
    """How many images have two labels, or one where it is on the diagonal; and the share of those with the row's."""

    count: int
    own: bool
    share: float


@dataclass(frozen=True, kw_only=True)
class Together:
    """What the page shows of labels together.

    Attributes:
        pairs: The commonest.
        all: How many there are.
        confused: Names of a label that was missed and of one that was added to the same image, and how many images.
        matrix: A row for each label; None with very many labels.
        wide: Whether its columns carry names.
    """

    pairs: tuple[NamedPair, ...]
    all: int
    confused: tuple[tuple[str, str, int], ...]
    matrix: tuple[tuple[Both, ...], ...] | None
    wide: bool


def labels_together(analysis: LabelAnalysis) -> Together:
    """The pairs of labels, as a matrix and as lists."""
    names = analysis.classes
    return Together(
        pairs=tuple(
            NamedPair(names=(names[one.first], names[one.second]), images=one.images, by_chance=one.by_chance,
                      found=one.found)
            for one in analysis.together
        ),
        all=len(analysis.evaluation.together),
        confused=tuple((names[missed], names[added], count) for missed, added, count in analysis.confused),
        matrix=_matrix(analysis) if len(names) <= MATRIX_CLASSES else None,
        wide=len(names) <= WIDE_CLASSES,
    )  # fmt: skip


def _matrix(analysis: LabelAnalysis) -> tuple[tuple[Both, ...], ...]:
    places = range(len(analysis.classes))
    have = [one.positives for one in sorted(analysis.evaluation.labels, key=lambda one: one.place)]
    counts = {
        (i, j): n for first, second, n in analysis.evaluation.together for i, j in ((first, second), (second, first))
    }
    return tuple(
        tuple(
            Both(have[i] if i == j else counts.get((i, j), 0), i == j,
                 counts.get((i, j), 0) / have[i] if have[i] else 0.0)
            for j in places
        )
        for i in places
    )  # fmt: skip
