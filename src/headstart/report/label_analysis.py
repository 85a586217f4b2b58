"""Analyse a finished training on images with any number of labels: a bounded number of what there is to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.core import records
from headstart.core.text import portable
from headstart.core.threads import one_blas_thread
from headstart.data.several import SEPARATOR
from headstart.evaluation.calibration import Bin
from headstart.evaluation.label_curves import label_reliability, threshold_curve
from headstart.evaluation.labels import LabelsEvaluation
from headstart.report.analysed import SCHEMA, NoCurve
from headstart.report.analysed_images import LabelPicture, Map, OwnShare, Picture
from headstart.report.analysed_labels import (
    NO_LABEL,
    LabelAnalysis,
    LabelCurve,
    LabelNumbers,
    LabelRow,
    LabelsWithoutLeaks,
    PairOfLabels,
    Wrong,
    WrongImages,
)
from headstart.report.analysis import EVIDENCE, common, points_of
from headstart.report.exhibits import Exhibits
from headstart.report.growth import forecast_labels
from headstart.report.picked import MISTAKES, OF_A_CELL, OF_ALL_MISTAKES, UNCERTAIN, sample
from headstart.report.similar import like_their_own_label, nearest
from headstart.report.tsne import kept_neighbours, layout
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = 200  # rows of the table of labels
CURVES = 100  # labels with a curve of their own
PAIRS = 60  # of labels that are listed, of each kind
_SMALLEST = 1e-15  # probability


def analyse(fitted: Fitted, recipe: Recipe, seconds: Mapping[str, float]) -> LabelAnalysis:
    """Analyse a finished training; see `headstart.report.analysis.analyse`."""
    with one_blas_thread():
        return _analyse(fitted, recipe, seconds)


def _analyse(fitted: Fitted, recipe: Recipe, seconds: Mapping[str, float]) -> LabelAnalysis:
    measured = Measured.of(fitted)
    mistakes, uncertain = measured.worst(), measured.closest()
    evidence = nearest(fitted.data.matrix, [*mistakes, *uncertain], fitted.partition, count=EVIDENCE)
    pictures = Exhibits(fitted, measured.describe)
    # Images are in the document in the order in which they are shown.
    shared = common(fitted, recipe, seconds, pictures, schema=SCHEMA)
    evaluation, thresholds = fitted.evaluation, fitted.model_file.metadata.thresholds
    assert isinstance(evaluation, LabelsEvaluation)
    order = _shown(evaluation)
    wrong = tuple(
        WrongImages(label, kind, count, tuple(pictures.place(row) for row in rows))
        for label, kind, count, rows in measured.wrong(order)
    )
    first, second = pictures.with_evidence(mistakes, evidence), pictures.with_evidence(uncertain, evidence)
    rows, combinations = _on_map(fitted, measured)
    curve = forecast_labels(fitted, recipe, measured.labels)
    return LabelAnalysis(
        **shared.__dict__,
        task=fitted.data.targets.task,
        without_leaks=_without_leaks(fitted.without_leaks),
        parts=dict(Counter(fitted.partition.names())),
        evaluation=_numbers(evaluation, order),
        thresholds=thresholds,
        curves=_curves(measured, thresholds, order[:CURVES]),
        wrong=wrong,
        together=_together(evaluation, measured),
        confused=measured.confused(),
        reliability=measured.reliability(),
        mistakes=first,
        uncertain=second,
        wrong_images=int((~measured.right).sum()),
        map=_map(fitted, measured, rows, pictures),
        combinations=combinations.names,
        combination_of={
            str(pictures.place(row)): kind for row, kind in zip(rows.tolist(), combinations.of, strict=True)
        },
        learning_curve=NoCurve(curve) if isinstance(curve, str) else curve,
        images=tuple(pictures.shown),
    )


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a run.

    Attributes:
        labels: Of all rows of the table, as `headstart.targets.labels.Labels` has them, int8 (N, C).
        rows: Those that were measured, (M,).
        probabilities: Of these, (M, C).
        thresholds: Of the model that predicted each, (M, C).
    """

    labels: NDArray[np.int8]
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    @classmethod
    def of(cls, fitted: Fitted) -> Measured:
        """That of the result of a strategy."""
        held_out = fitted.held_out.take(fitted.partition.is_measured(fitted.held_out.rows))
        even = (0.5,) * held_out.probabilities.shape[1]
        thresholds = np.array([one.thresholds or even for one in held_out.calibrations]).reshape(-1, len(even))
        return cls(fitted.partition.targets.labels, held_out.rows, held_out.probabilities, thresholds)

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """The labels that each measured image has, (M, C)."""
        return np.asarray(self.labels[self.rows] == 1)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Those that are known of it, (M, C)."""
        return np.asarray(self.labels[self.rows] >= 0)

    @cached_property
    def found(self) -> NDArray[np.bool_]:
        """Those that were predicted, (M, C)."""
        return np.asarray(self.probabilities >= self.thresholds)

    @cached_property
    def missed(self) -> NDArray[np.bool_]:
        """Those that it has, and that were not predicted, (M, C)."""
        return self.truth & ~self.found

    @cached_property
    def added(self) -> NDArray[np.bool_]:
        """Those that it is known not to have, and that were predicted, (M, C)."""
        return self.found & self.known & ~self.truth

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether all that is known of an image was predicted right, (M,)."""
        return np.asarray(~(self.missed | self.added).any(1))

    @cached_property
    def places(self) -> dict[int, int]:
        """Where each row is among the measured ones."""
        return {row: place for place, row in enumerate(self.rows.tolist())}

    def worst(self) -> list[int]:
        """Rows of the images that are predicted wrong, those first whose wrong labels cost the largest loss."""
        wrong = self.missed | self.added
        given = np.where(self.truth, self.probabilities, 1 - self.probabilities)  # to what is true
        loss = np.where(wrong, -np.log(np.maximum(given, _SMALLEST)), 0).sum(1)
        order = np.argsort(-loss, kind="stable")
        return [int(self.rows[i]) for i in order if not self.right[i]][:MISTAKES]

    def closest(self) -> list[int]:
        """Rows of the other images, those first of which a label is nearest to its threshold."""
        margin = np.where(self.known, np.abs(_log_odds(self.probabilities) - _log_odds(self.thresholds)), np.inf).min(1)
        return [int(self.rows[i]) for i in np.argsort(margin, kind="stable") if self.right[i]][:UNCERTAIN]

    def wrong(self, order: Sequence[int]) -> list[tuple[int, Wrong, int, list[int]]]:
        """For each label and each way to be wrong, how often, and the rows that are shown, the surest mistake first."""
        found: list[tuple[int, Wrong, int, list[int]]] = []
        ways: tuple[tuple[Wrong, NDArray[np.bool_], int], ...] = (("missed", self.missed, 1), ("added", self.added, -1))
        for name, wrong, sign in ways:
            for label in order:
                own = np.flatnonzero(wrong[:, label])
                if len(own):
                    surest = own[np.argsort(sign * self.probabilities[own, label], kind="stable")]
                    found.append((label, name, len(own), self.rows[surest[:OF_A_CELL]].tolist()))
        room, result = OF_ALL_MISTAKES, []
        for number, (label, name, count, rows) in enumerate(found):
            share = room // (len(found) - number)  # what one leaves of its share goes to the others
            shown = rows[: max(1, share)]
            room -= len(shown)
            result.append((label, name, count, shown))
        return result

    def confused(self) -> tuple[tuple[int, int, int], ...]:
        """Pairs of a label that was missed and one that was added to the same image, with how many images."""
        counts = self.missed.astype(np.int64).T @ self.added
        pairs = [(int(i), int(j), int(counts[i, j])) for i, j in np.argwhere(counts)]
        return tuple(sorted(pairs, key=lambda one: (-one[2], one[:2]))[:PAIRS])

    def reliability(self) -> tuple[Bin, ...]:
        """The reliability diagram over all pairs of image and label that are known."""
        known = self.known
        return label_reliability(self.probabilities[known], self.truth[known], np.nonzero(known)[0])

    def describe(self, row: int, image: Picture) -> LabelPicture:
        """What is told of an image: its labels, and what was predicted wrong, with the probabilities."""
        told = LabelPicture(
            **image.__dict__,
            labels=tuple(np.flatnonzero(self.labels[row] == 1).tolist()),
            unknown=tuple(np.flatnonzero(self.labels[row] < 0).tolist()),
        )
        if (i := self.places.get(row)) is None:
            return told
        return replace(
            told,
            predicted=tuple(np.flatnonzero(self.found[i]).tolist()),
            missed=self._with_probabilities(i, self.missed[i]),
            added=self._with_probabilities(i, self.added[i]),
        )

    def _with_probabilities(self, place: int, which: NDArray[np.bool_]) -> tuple[tuple[int, float], ...]:
        return tuple((int(one), round(float(self.probabilities[place, one]), 4)) for one in np.flatnonzero(which))


def _shown(evaluation: LabelsEvaluation) -> list[int]:
    """The labels that the page tells of, in order: all, or those that are ranked worst where there are very many."""
    places = range(len(evaluation.labels))
    if len(places) <= LABELS:
        return list(places)
    ranked = [2.0 if one.average_precision is None else one.average_precision for one in evaluation.labels]
    return sorted(sorted(places, key=lambda i: ranked[i])[:LABELS])


def _numbers(evaluation: LabelsEvaluation, order: Sequence[int]) -> LabelNumbers:
    """The evaluation with the labels that are shown, their places, and the intervals of their F1."""
    rows = []
    for place in order:
        one = evaluation.labels[place]
        rows.append(LabelRow(**{**one.__dict__, "label": portable(one.label)}, place=place))
    found = LabelNumbers(**{**evaluation.__dict__, "labels": tuple(rows)})
    # As the file rounds them: a page that is drawn again is the same.
    return records.from_json(LabelNumbers, found.as_dict(), "evaluation")


def _curves(measured: Measured, thresholds: Sequence[float], order: Sequence[int]) -> tuple[LabelCurve, ...]:
    """For labels that some measured image has, what each threshold finds."""
    curves = []
    for label in order:
        own = measured.known[:, label]
        truth = measured.truth[own, label]
        if truth.any():
            curve = threshold_curve(measured.probabilities[own, label], truth, threshold=round(thresholds[label], 6))
            curves.append(LabelCurve(**curve.__dict__, label=label))
    return tuple(curves)


def _together(evaluation: LabelsEvaluation, measured: Measured) -> tuple[PairOfLabels, ...]:
    """The commonest pairs of labels, with how many images would have both by chance, and of how many both are found."""
    both = measured.truth & measured.found
    counts = both.astype(np.int64).T @ both
    commonest = sorted(evaluation.together, key=lambda one: (-one[2], one[:2]))[:PAIRS]
    have = [one.positives for one in evaluation.labels]
    return tuple(
        PairOfLabels(first=i, second=j, images=n, by_chance=have[i] * have[j] / evaluation.n, found=int(counts[i, j]))
        for i, j, n in commonest
    )


class _Combinations(NamedTuple):
    """Labels that images on the map have together.

    Attributes:
        names: Each combination in words.
        of: That of each image, (M,).
    """

    names: tuple[str, ...]
    of: list[int]


def _on_map(fitted: Fitted, measured: Measured) -> tuple[NDArray[np.int64], _Combinations]:
    """The rows of the images on the map, and their combinations of labels."""
    names = fitted.data.targets.names
    kinds, combination = np.unique(measured.labels == 1, axis=0, return_inverse=True)
    combination = combination.reshape(-1)
    rows = np.array(sample(measured.rows[~measured.right], combination))
    shown, of = np.unique(combination[rows], return_inverse=True)
    words = tuple(
        f" {SEPARATOR} ".join(portable(names[i]) for i in np.flatnonzero(kinds[kind])) or NO_LABEL for kind in shown
    )
    return rows, _Combinations(words, of.reshape(-1).tolist())


def _map(fitted: Fitted, measured: Measured, rows: NDArray[np.int64], pictures: Exhibits[LabelPicture]) -> Map:
    """The map, and how well each label is separated in all dimensions."""
    features = fitted.data.matrix[rows]
    places = layout(features)
    has = measured.labels[rows] == 1
    labels = [
        OwnShare(i, int(has[:, i].sum()), share)
        for i, share in enumerate(like_their_own_label(features, has))
        if share is not None
    ]
    return Map(
        points=points_of(rows, places, pictures),
        left_out=len(measured.labels) - len(rows),
        kept_neighbours=kept_neighbours(features, places),
        classes=tuple(sorted(labels, key=lambda one: one.like_own)[:LABELS]),
    )


def _log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = probabilities.clip(1e-9, 1 - 1e-9)
    result: NDArray[np.float64] = np.log(inside / (1 - inside))
    return result


def _without_leaks(evaluation: object) -> LabelsWithoutLeaks | None:
    if not isinstance(evaluation, LabelsEvaluation):
        return None
    return LabelsWithoutLeaks(
        evaluation.n, evaluation.mean_average_precision, evaluation.mean_average_precision_interval
    )
