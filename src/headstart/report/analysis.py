"""The data behind a report: what ``analysis.json`` holds. Bounded, without pictures, and enough to draw the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
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
FINDINGS_OF_A_KIND = 6
PATHS_OF_A_FINDING = 4
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
    pictures = _Pictures(fitted, dict(zip(rows.tolist(), probabilities, strict=True)), labels)
    curve = forecast(fitted, recipe, labels)
    metadata = fitted.model_file.metadata
    return {
        "schema": SCHEMA,
        "version": __version__,
        "versions": versions(recipe),
        "source": fitted.data.table.source,
        "source_path": str(Path(fitted.data.table.source).absolute()),
        "columns": dict(fitted.data.table.columns),
        **_of_record(record),
        "recipe": recipe.as_dict(),
        "evaluation": _of_evaluation(record["evaluation"]),
        "majority": _majority(fitted.partition),
        "checked": record.get("check") is not None,
        "findings": findings(record.get("check"), pictures),
        "advice": _advice(fitted, recipe),
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


def findings(check: Any, pictures: _Pictures) -> list[dict[str, Any]]:
    """What the data check found, of each kind the first few with their pictures; empty where there was none."""
    found = check.get("findings", []) if isinstance(check, Mapping) else check or []
    by_kind: dict[str, list[Any]] = {}
    for one in found:
        by_kind.setdefault(str(one.get("kind", "")), []).append(one)
    return [
        {
            "kind": kind,
            "count": len(of_kind),
            "shown": [
                {
                    "message": str(one.get("message", "")),
                    "paths": [path for path, place in placed if place is None],
                    "images": [place for _, place in placed if place is not None],
                }
                for one in of_kind[:FINDINGS_OF_A_KIND]
                for placed in [[(path, pictures.of_path(path)) for path in _paths(one)[:PATHS_OF_A_FINDING]]]
            ],
        }
        for kind, of_kind in by_kind.items()
    ]


class _Pictures:
    """The images that are shown, each once."""

    def __init__(self, fitted: Fitted, predicted: Mapping[int, NDArray[np.float64]], labels: NDArray[np.int64]) -> None:
        self.records: list[dict[str, Any]] = []
        self._fitted, self._predicted, self._labels = fitted, predicted, labels
        self._parts = fitted.partition.names()
        self._places: dict[int, int] = {}
        self._rows: dict[str, int] | None = None

    def of_path(self, path: str) -> int | None:
        """Where the image of a path, as JSON shows it, is in the list; None where it is no row of the table."""
        if self._rows is None:
            self._rows = {portable(row.path): place for place, row in enumerate(self._fitted.data.table.rows)}
        row = self._rows.get(path)
        return None if row is None else self.place(row)

    def place(self, row: int) -> int:
        """Where a row of the table is in the list; it is added to it."""
        if row not in self._places:
            self._places[row] = len(self.records)
            record = {
                "path": self._fitted.data.table.rows[row].path,
                "sha256": self._fitted.data.digests[row],
                "label": int(self._labels[row]),
                "part": self._parts[row],
            }
            probabilities = self._predicted.get(row)
            if probabilities is not None:
                best = int(probabilities.argmax())
                record |= {
                    "predicted": best,
                    "probability": round(float(probabilities[best]), 4),
                    "probability_of_label": round(float(probabilities[self._labels[row]]), 4),
                }
            self.records.append(record)
        return self._places[row]

    def with_evidence(
        self, rows: Sequence[int], evidence: Mapping[int, list[tuple[int, float]]]
    ) -> list[dict[str, Any]]:
        """Images, each with the most similar training images."""
        return [
            {
                "image": self.place(row),
                "neighbours": [
                    {"image": self.place(other), "similarity": round(similarity, 3)}
                    for other, similarity in evidence[row]
                ],
            }
            for row in rows
        ]


def _of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of ``metrics.json``, bounded."""
    skipped, leakless = record["skipped"], record.get("evaluation_without_leaks")
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
        "without_leaks": leakless and {key: leakless[key] for key in ("n", "accuracy", "accuracy_interval")},
        "comparison": record.get("comparison") or details.get("comparison"),
    }


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


def _map(fitted: Fitted, chosen: Selection, labels: NDArray[np.int64], pictures: _Pictures) -> dict[str, Any]:
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


def _paths(finding: Mapping[str, Any]) -> list[str]:
    paths = finding.get("paths") or ([finding["path"]] if finding.get("path") else [])
    return [portable(str(path)) for path in paths]
