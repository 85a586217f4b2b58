"""The data behind a report: what ``analysis.json`` holds. Bounded, without pictures, and enough to draw the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import __version__
from headstart.core.errors import HeadstartError
from headstart.core.text import portable
from headstart.core.threads import one_blas_thread
from headstart.evaluation.calibration import reliability
from headstart.evaluation.conformal import COVERAGE, limit, measured
from headstart.modelfile.prediction_sets import Conformal
from headstart.partition.roles import Partition, Role
from headstart.report.exhibits import Exhibits, findings
from headstart.report.growth import forecast
from headstart.report.picked import MATRIX_CLASSES, Selection, select
from headstart.report.similar import like_their_own, nearest
from headstart.report.tsne import kept_neighbours, layout
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
EVIDENCE = 4  # training images beside a mistake
CLASSES = 200  # rows of the table of classes
NOTES = 40
SKIPPED = 50
PACKAGES = ("numpy", "scipy", "onnx", "onnxruntime", "pillow")
TRAINING_PACKAGES = ("torch", "torchvision", "timm")


def analyse(fitted: Fitted, recipe: Recipe, record: Mapping[str, Any]) -> dict[str, Any]:
    """Analyse a finished training.

    Args:
        fitted: The result of the strategy.
        recipe: All choices.
        record: The run as in ``metrics.json``.

    Returns:
        JSON values; ``images`` lists each image that is shown once, and the rest names them by their place in it.
    """
    with one_blas_thread():
        return _analyse(fitted, recipe, record)


def _analyse(fitted: Fitted, recipe: Recipe, record: Mapping[str, Any]) -> dict[str, Any]:
    labels = fitted.partition.targets.labels
    rows, probabilities = fitted.measured()
    chosen = select(rows, probabilities, labels)
    asked = [*chosen.mistakes, *chosen.uncertain]
    evidence = nearest(fitted.data.matrix, asked, fitted.partition, count=EVIDENCE)
    pictures = Exhibits(fitted, _Described(dict(zip(rows.tolist(), probabilities, strict=True)), labels))
    curve = forecast(fitted, recipe, labels)
    return {
        "schema": SCHEMA,
        **common(fitted, recipe, record, pictures),
        "without_leaks": _leakless(record),
        "comparison": record.get("comparison") or record["details"].get("comparison"),
        "evaluation": _of_evaluation(record["evaluation"]),
        "majority": _majority(fitted.partition),
        "advice": _advice(fitted, recipe),
        "reliability": [dataclasses.asdict(one) for one in reliability(probabilities, labels[rows])],
        "mistakes": pictures.with_evidence(chosen.mistakes, evidence),
        "uncertain": pictures.with_evidence(chosen.uncertain, evidence),
        "cells": [
            {"true": true, "predicted": predicted, "images": count, "shown": [pictures.place(row) for row in shown]}
            for true, predicted, count, shown in chosen.cells
        ],
        "map": _map(fitted, chosen, labels, pictures),
        "learning_curve": {"reason": curve, "points": []} if isinstance(curve, str) else curve.as_dict(),
        "images": pictures.records,
    }


def common(fitted: Fitted, recipe: Recipe, record: Mapping[str, Any], pictures: Exhibits) -> dict[str, Any]:
    """What an analysis holds whatever the task: source, data, settings and the model file."""
    metadata = fitted.model_file.metadata
    return {
        "version": __version__,
        "versions": versions(recipe),
        "source": fitted.data.table.source,
        "source_path": str(Path(fitted.data.table.source).absolute()),
        "columns": dict(fitted.data.table.columns),
        **_of_record(record),
        "recipe": recipe.as_dict(),
        "checked": record.get("check") is not None,
        "findings": findings(record.get("check"), pictures),
        "model": {
            "bytes": len(fitted.model),
            "enough_px": metadata.preprocess.enough_px,
            "preprocess": metadata.preprocess.as_dict(),
            "backbone": dataclasses.asdict(metadata.backbone),
            "temperature": metadata.temperature,
            "familiarity": _small(metadata.familiarity.as_dict() if metadata.familiarity else None),
            "conformal": _conformal(metadata.conformal),
            "reasons": [portable(reason) for reason in metadata.reasons],
        },
    }


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


def _of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of ``metrics.json``, bounded."""
    skipped = record["skipped"]
    details = {key: value for key, value in record["details"].items() if key != "check"}
    return {
        "strategy": record["strategy"],
        "backbone": record["backbone"],
        "classes": list(record["classes"]),
        "counts": record["counts"],
        "details": details,
        "seconds": record["seconds"],
        "notes": record["notes"][:NOTES],
        "skipped": {"count": len(skipped), "shown": skipped[:SKIPPED]},
    }


def _leakless(record: Mapping[str, Any]) -> dict[str, Any] | None:
    leakless = record.get("evaluation_without_leaks")
    return leakless and {key: leakless[key] for key in ("n", "accuracy", "accuracy_interval")}


@dataclasses.dataclass(frozen=True)
class _Described:
    """What is told of an image: its class, and what was predicted for it."""

    predicted: Mapping[int, NDArray[np.float64]]
    labels: NDArray[np.int64]

    def __call__(self, row: int) -> dict[str, Any]:
        told: dict[str, Any] = {"label": int(self.labels[row])}
        probabilities = self.predicted.get(row)
        if probabilities is not None:
            best = int(probabilities.argmax())
            told |= {
                "predicted": best,
                "probability": round(float(probabilities[best]), 4),
                "probability_of_label": round(float(probabilities[self.labels[row]]), 4),
            }
        return told


def _of_evaluation(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation, of the classes those with the lowest recall where there are very many."""
    places = range(len(evaluation["classes"]))
    if len(places) > CLASSES:
        recall = [2.0 if one["recall"] is None else one["recall"] for one in evaluation["classes"]]
        places = sorted(sorted(places, key=lambda i: recall[i])[:CLASSES])  # type: ignore[assignment]
    classes = [{**evaluation["classes"][i], "place": i} for i in places]
    # Of many classes the most frequent mistakes are in `cells`.
    confusion = evaluation["confusion"] if len(evaluation["classes"]) <= MATRIX_CLASSES else None
    return {**evaluation, "classes": classes, "confusion": confusion, "reliability": None}  # that is beside it


def _advice(fitted: Fitted, recipe: Recipe) -> dict[str, object] | None:
    """The rule of thumb for these images; None where what it needs is not here."""
    from headstart.strategies.choices import advice

    try:
        return advice.of_run(fitted, recipe).as_dict()
    except HeadstartError:  # lite0's weights are missing or damaged
        return None


def _majority(partition: Partition) -> dict[str, Any]:
    """The baseline: the accuracy of always predicting the most frequent class of the training images."""
    labels = partition.targets.labels
    largest = int(np.bincount(labels[partition.of(Role.TRAIN)]).argmax())
    return {"class": largest, "accuracy": float((labels[partition.measured()] == largest).mean())}


def _map(fitted: Fitted, chosen: Selection, labels: NDArray[np.int64], pictures: Exhibits) -> dict[str, Any]:
    """The map, and how well the classes are separated in all dimensions."""
    rows = np.array(chosen.on_the_map)
    features = fitted.data.matrix[rows]
    places = layout(features)
    shares, known = like_their_own(features, labels[rows]), labels[rows]
    classes = [
        {"class": int(label), "images": int((known == label).sum()), "like_own": float(shares[known == label].mean())}
        for label in np.unique(known)
    ]
    return {
        "points": [
            [pictures.place(row), round(float(x), 4), round(float(y), 4)]
            for row, (x, y) in zip(rows.tolist(), places, strict=True)
        ],
        "left_out": len(labels) - len(rows),
        "kept_neighbours": kept_neighbours(features, places),
        "classes": sorted(classes, key=lambda one: one["like_own"])[:CLASSES],
    }


def _conformal(record: Conformal | None) -> dict[str, Any] | None:
    """What the model file says of prediction sets, and the measured coverage of those of one nominal coverage."""
    if record is None:
        return None
    achieved = None  # with too few images, sets contain all classes
    if limit(record, COVERAGE) < math.inf:
        achieved = dataclasses.asdict(measured(record, COVERAGE))
        achieved["interval"] = list(achieved["interval"])
    return {**(_small(record.as_dict()) or {}), "asked": COVERAGE, "measured": achieved}


def _small(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A record without its lists, whose numbers are for programs."""
    return {key: value for key, value in record.items() if isinstance(value, int | float | str)} if record else None
