"""Analyse a finished training on images with any number of labels: a bounded number of what there is to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.core import records
from headstart.core.text import portable
from headstart.core.threads import one_blas_thread
from headstart.data.several import SEPARATOR
from headstart.evaluation.label_curves import threshold_curve
from headstart.evaluation.labels import LabelsEvaluation
from headstart.report.analysed import SCHEMA, NoCurve
from headstart.report.analysed_images import LabelPicture, Map, OwnShare
from headstart.report.analysed_labels import (
    NO_LABEL,
    LabelAnalysis,
    LabelCurve,
    LabelNumbers,
    LabelRow,
    LabelsWithoutLeaks,
    PairOfLabels,
    WrongImages,
)
from headstart.report.analysis import EVIDENCE, common, points_of
from headstart.report.exhibits import Exhibits
from headstart.report.growth import forecast_labels
from headstart.report.measured_labels import PAIRS, Measured
from headstart.report.picked import sample
from headstart.report.similar import like_their_own_label, nearest
from headstart.report.tsne import kept_neighbours, layout
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = 200  # rows of the table of labels
CURVES = 100  # labels with a curve of their own


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


def _without_leaks(evaluation: object) -> LabelsWithoutLeaks | None:
    if not isinstance(evaluation, LabelsEvaluation):
        return None
    return LabelsWithoutLeaks(
        evaluation.n, evaluation.mean_average_precision, evaluation.mean_average_precision_interval
    )
