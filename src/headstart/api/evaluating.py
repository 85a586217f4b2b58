"""Measure a model file on labelled images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.arguments import A_CLASSIFIER, A_RUNTIME, must_be, must_be_flags
from headstart.core.runtime import Runtime
from headstart.core.tables import resolve
from headstart.core.text import counted
from headstart.data.readers import Source
from headstart.data.storage import Storage
from headstart.data.table import ImageTable, Row
from headstart.evaluation import Evaluation
from headstart.features.passes import Pass, refuse_skipped
from headstart.prediction.classifier import Classifier
from headstart.targets import TARGETS, Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

from headstart.api.reading import table_of


@dataclass(frozen=True)
class _Run:
    """The unit of work: the probabilities of an image, float32 (C,), and whether the model was trained on it."""

    classifier: Classifier
    storage: Storage

    def __call__(self, row: Row, /) -> tuple[NDArray[np.float32], bool]:
        data = self.storage.read(row.path)
        return self.classifier.run_file(data).probabilities, self.classifier.metadata.knows(data)


def evaluate(
    classifier: Classifier,
    images: ImageTable | Source,
    *,
    allow_missing: bool = False,
    runtime: Runtime | None = None,
) -> tuple[Evaluation, ImageTable]:
    """Evaluate a classifier on labelled images, by running the model file itself on each.

    Args:
        classifier: The classifier.
        images: An image table, or a source of one. Where it has splits, only the test split counts; without
            one, only the val split.
        allow_missing: Accept a source that lacks some of the model's classes.
        runtime: Workers, progress, strictness.

    Returns:
        The evaluation, and the table of the measured images, which also lists those that were skipped.

    Raises:
        SourceError: The classes differ from those of the model, or no image can be read.
        OptionError: An argument is of a wrong kind.

    Examples:
        >>> headstart.evaluate(headstart.load("model.onnx"), "photos/")[0].accuracy  # doctest: +SKIP
        0.954
    """
    must_be("classifier", classifier, Classifier, *A_CLASSIFIER)
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    must_be_flags(allow_missing=allow_missing)
    runtime = runtime or Runtime(cache=None)
    table = table_of(images)
    refuse_skipped(table, runtime)
    split = next((part for part in ("test", "val", "train") if part in table.splits), None)
    if split:
        rows = tuple(row for row in table.rows if row.split == split)
        if others := len(table) - len(rows):
            notes = (*table.notes, f"{counted(others, 'image')} of other splits left out.")
            table = dataclasses.replace(table, rows=rows, notes=notes)
    spec = TARGETS[classifier.metadata.task]
    record: type[Targets] = resolve(spec.record)
    notes = record.known(table, classifier.classes, allow_missing=allow_missing).notes
    table = dataclasses.replace(table, notes=(*table.notes, *notes))
    run = Pass(table, _Run(classifier, table.storage), runtime, "Evaluating")
    results = [result for _, result in run]
    table = run.table()
    if known := sum(learnt for _, learnt in results):
        of = counted(len(table), "image")
        note = f"The model was trained on {known:,} of these {of}: the numbers are too optimistic."
        table = dataclasses.replace(table, notes=(*table.notes, note))
    measure: Callable[..., Evaluation] = resolve(spec.measure)
    evaluation = measure(
        np.array([probabilities for probabilities, _ in results], np.float64),
        record.known(table, classifier.classes, allow_missing=True).labels,
        classifier.classes,
        split=split or "all",
        calibrations=np.full(len(results), classifier.metadata.calibration, object),
    )
    return evaluation, table
