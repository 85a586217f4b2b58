"""Analyse a finished training: what its report shows, of everything a bounded number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import __version__
from headstart.core.errors import HeadstartError
from headstart.core.text import portable
from headstart.core.threads import one_blas_thread
from headstart.evaluation.calibration import reliability
from headstart.evaluation.conformal import COVERAGE, limit, measured
from headstart.partition.roles import Partition, Role
from headstart.report.analysed import (
    Analysis,
    ClassRow,
    Familiar,
    Majority,
    Model,
    NoCurve,
    NotUsed,
    Numbers,
    Sets,
    Shared,
    WithoutLeaks,
)
from headstart.report.analysed_images import Cell, ClassPicture, Map, OwnShare, Picture
from headstart.report.exhibits import Exhibits
from headstart.report.growth import forecast
from headstart.report.picked import MATRIX_CLASSES, Selection, select
from headstart.report.similar import like_their_own, nearest
from headstart.report.tsne import kept_neighbours, layout
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.strategies.choices.advice import RuleOfThumb, of_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.evaluation import Evaluation
    from headstart.modelfile.familiarity import Familiarity
    from headstart.modelfile.prediction_sets import Conformal

SCHEMA = 1
EVIDENCE = 4  # training images beside a mistake
CLASSES = 200  # rows of the table of classes
NOTES = 40
SKIPPED = 50
PACKAGES = ("numpy", "scipy", "onnx", "onnxruntime", "pillow")
TRAINING_PACKAGES = ("torch", "torchvision", "timm")


def analyse(fitted: Fitted, recipe: Recipe, seconds: Mapping[str, float]) -> Analysis:
    """Analyse a finished training.

    Args:
        fitted: The result of the strategy.
        recipe: All choices.
        seconds: Time of each stage.
    """
    with one_blas_thread():
        return _analyse(fitted, recipe, seconds)


def _analyse(fitted: Fitted, recipe: Recipe, seconds: Mapping[str, float]) -> Analysis:
    labels = fitted.partition.targets.labels
    rows, probabilities = fitted.measured()
    chosen = select(rows, probabilities, labels)
    evidence = nearest(fitted.data.matrix, [*chosen.mistakes, *chosen.uncertain], fitted.partition, count=EVIDENCE)
    pictures = Exhibits(fitted, _Described(dict(zip(rows.tolist(), probabilities, strict=True)), labels))
    curve = forecast(fitted, recipe, labels)
    # Images are in the document in the order in which they are shown.
    shared = common(fitted, recipe, seconds, pictures, schema=SCHEMA)
    mistakes = pictures.with_evidence(chosen.mistakes, evidence)
    uncertain = pictures.with_evidence(chosen.uncertain, evidence)
    cells = tuple(
        Cell(true, predicted, images, tuple(pictures.place(row) for row in shown))
        for true, predicted, images, shown in chosen.cells
    )
    embeddings = _map(fitted, chosen, labels, pictures)
    return Analysis(
        **shared.__dict__,
        without_leaks=_without_leaks(fitted.without_leaks),
        evaluation=_numbers(fitted.evaluation),
        majority=_majority(fitted.partition),
        advice=_advice(fitted, recipe),
        reliability=reliability(probabilities, labels[rows]),
        mistakes=mistakes,
        uncertain=uncertain,
        cells=cells,
        map=embeddings,
        learning_curve=NoCurve(curve) if isinstance(curve, str) else curve,
        images=tuple(pictures.shown),
    )


def common(
    fitted: Fitted, recipe: Recipe, seconds: Mapping[str, float], pictures: Exhibits[Any], *, schema: int
) -> Shared:
    """What an analysis holds whatever the task: source, data, settings and the model file."""
    table = fitted.data.table
    return Shared(
        schema=schema,
        version=__version__,
        versions=versions(recipe),
        source=table.source,
        source_path=str(Path(table.source).absolute()),
        columns=dict(table.columns),
        strategy=recipe.strategy,
        backbone=recipe.backbone,
        classes=tuple(portable(label) for label in fitted.data.targets.names),
        counts=fitted.counted(),
        details=fitted.details.as_dict(),
        seconds={stage: round(time, 3) for stage, time in seconds.items()},
        notes=tuple(portable(note) for note in fitted.notes[:NOTES]),
        skipped=NotUsed(len(table.skipped), table.skipped[:SKIPPED]),
        recipe=recipe.as_dict(),
        checked=fitted.checked,
        findings=pictures.findings(fitted.findings),
        model=_model(fitted),
    )


def versions(recipe: Recipe) -> dict[str, str]:
    """What computed it: versions of Python and of the packages that the numbers depend on."""
    import platform
    from importlib import metadata

    found = {"python": platform.python_version(), "headstart": __version__}
    for name in (*PACKAGES, *(TRAINING_PACKAGES if recipe.spec.trains != "head" else ())):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # as in a program that was packed without their records
            continue
    return found


@dataclass(frozen=True)
class _Described:
    """What is told of an image: its class, and what was predicted for it."""

    predicted: Mapping[int, NDArray[np.float64]]
    labels: NDArray[np.int64]

    def __call__(self, row: int, image: Picture) -> ClassPicture:
        label, probabilities = int(self.labels[row]), self.predicted.get(row)
        if probabilities is None:
            return ClassPicture(**image.__dict__, label=label)
        best = int(probabilities.argmax())
        return ClassPicture(
            **image.__dict__, label=label, predicted=best, probability=round(float(probabilities[best]), 4),
            probability_of_label=round(float(probabilities[label]), 4),
        )  # fmt: skip


def _without_leaks(evaluation: Evaluation | None) -> WithoutLeaks | None:
    if evaluation is None:
        return None
    return WithoutLeaks(evaluation.n, evaluation.accuracy, evaluation.accuracy_interval)


def _numbers(evaluation: Evaluation) -> Numbers:
    """The evaluation, of the classes those with the lowest recall where there are very many."""
    places: Sequence[int] = range(len(evaluation.classes))
    if len(places) > CLASSES:
        recall = [2.0 if one.recall is None else one.recall for one in evaluation.classes]
        places = sorted(sorted(places, key=lambda i: recall[i])[:CLASSES])
    classes = tuple(
        ClassRow(**{**evaluation.classes[i].__dict__, "label": portable(evaluation.classes[i].label)}, place=i)
        for i in places
    )
    # Of many classes the most frequent mistakes are in `cells`.
    confusion = evaluation.confusion if len(evaluation.classes) <= MATRIX_CLASSES else None
    return Numbers(**{**evaluation.__dict__, "classes": classes, "confusion": confusion, "reliability": None})


def _model(fitted: Fitted) -> Model:
    metadata = fitted.model_file.metadata
    return Model(
        bytes=len(fitted.model),
        enough_px=metadata.preprocess.enough_px,
        preprocess=metadata.preprocess,
        backbone=metadata.backbone,
        temperature=metadata.temperature,
        familiarity=_familiar(metadata.familiarity),
        conformal=_sets(metadata.conformal),
        reasons=tuple(portable(reason) for reason in metadata.reasons),
    )


def _familiar(record: Familiarity | None) -> Familiar | None:
    if record is None:
        return None
    return Familiar(
        record.threshold, record.false_alarm_rate, record.neighbours, record.references, record.calibrated_on
    )


def _advice(fitted: Fitted, recipe: Recipe) -> RuleOfThumb | None:
    """The rule of thumb for these images; None where what it needs is not here."""
    try:
        return of_run(fitted, recipe)
    except HeadstartError:  # lite0's weights are missing or damaged
        return None


def _majority(partition: Partition) -> Majority:
    labels = partition.targets.labels
    largest = int(np.bincount(labels[partition.of(Role.TRAIN)]).argmax())
    return Majority(largest, float((labels[partition.measured()] == largest).mean()))


def _map(fitted: Fitted, chosen: Selection, labels: NDArray[np.int64], pictures: Exhibits[ClassPicture]) -> Map:
    """The map, and how well the classes are separated in all dimensions."""
    rows = np.array(chosen.on_the_map)
    features = fitted.data.matrix[rows]
    places = layout(features)
    shares, known = like_their_own(features, labels[rows]), labels[rows]
    classes = [
        OwnShare(int(label), int((known == label).sum()), float(shares[known == label].mean()))
        for label in np.unique(known)
    ]
    return Map(
        points=points_of(rows, places, pictures),
        left_out=len(labels) - len(rows),
        kept_neighbours=kept_neighbours(features, places),
        classes=tuple(sorted(classes, key=lambda one: one.like_own)[:CLASSES]),
    )


def points_of(
    rows: NDArray[np.int64], places: NDArray[np.float64], pictures: Exhibits[Any]
) -> tuple[tuple[int, float, float], ...]:
    """The points of a map: an image and its two coordinates.

    Args:
        rows: Of the table, (M,).
        places: Where they lie, (M, 2).
        pictures: The images of the report.
    """
    return tuple(
        (pictures.place(row), round(float(x), 4), round(float(y), 4))
        for row, (x, y) in zip(rows.tolist(), places, strict=True)
    )


def _sets(record: Conformal | None) -> Sets | None:
    """What the model file says of prediction sets, and the measured coverage of those of one nominal coverage."""
    if record is None:
        return None
    enough = limit(record, COVERAGE) < math.inf  # else sets contain all classes
    return Sets(
        images=record.images, split=record.split or None, asked=COVERAGE,
        measured=measured(record, COVERAGE) if enough else None,
    )  # fmt: skip
