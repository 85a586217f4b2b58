"""Explain a classifier's predictions."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from headstart.api.reading import read, table_of
from headstart.core.arguments import A_CLASSIFIER, A_RUNTIME, must_be
from headstart.core.errors import ImageError, InputError, SourceError
from headstart.core.runtime import Runtime
from headstart.core.text import from_csv_cell, quoted
from headstart.data.readers import Columns, Source
from headstart.data.table import ImageTable, Row
from headstart.features.passes import each
from headstart.modelfile.location import model_path
from headstart.prediction.classifier import Classifier
from headstart.prediction.explanation import Explainer, Explanation, Method
from headstart.prediction.images import naming, several
from headstart.prediction.neighbours import find_neighbours
from headstart.runs.folder import ANALYSIS_FILE, SPLITS_FILE

if TYPE_CHECKING:
    from headstart.prediction.images import ImageLike

NEIGHBOURS = 5


@overload
def explain(  # type: ignore[overload-overlap]
    classifier: Classifier,
    images: ImageLike,
    label: str | None = ...,
    *,
    method: Method = ...,
    source: ImageTable | Source | None = ...,
    runtime: Runtime | None = ...,
) -> Explanation: ...
@overload
def explain(
    classifier: Classifier,
    images: Iterable[ImageLike],
    label: str | None = ...,
    *,
    method: Method = ...,
    source: ImageTable | Source | None = ...,
    runtime: Runtime | None = ...,
) -> list[Explanation]: ...
def explain(
    classifier: Classifier,
    images: ImageLike | Iterable[ImageLike],
    label: str | None = None,
    *,
    method: Method = "auto",
    source: ImageTable | Source | None = None,
    runtime: Runtime | None = None,
) -> Explanation | list[Explanation]:
    """Show which regions of an image, or of each image of a list, are evidence for a class.

    Args:
        classifier: The classifier.
        images: As for `Classifier.predict`.
        label: The class to explain; None for the predicted class of each image.
        method: ``cam`` (class activation map, exact), ``occlusion`` (works with every model, and takes
            fifty times as long; ``auto``, the first where the model allows it.
        source: The training images; if given, the nearest of them are found.
        runtime: Cache, workers, progress.

    Raises:
        ImageError: An image cannot be read.
        OptionError: The model does not know the class, or does not support the method.
        SourceError: The source cannot be read.

    Examples:
        >>> model = headstart.load("runs/photos/model.onnx")  # doctest: +SKIP
        >>> headstart.explain(model, "cat.jpg").overlay().save("why.png")  # doctest: +SKIP
    """
    must_be("classifier", classifier, Classifier, *A_CLASSIFIER)
    must_be("label", label, str | None, "the name of a class")
    must_be("method", method, str, "auto, cam or occlusion")
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    runtime = runtime or Runtime()
    given = several(images)
    items: list[Any] = [images] if given is None else list(given)
    if not items:
        raise InputError("An empty list of images; expected at least one.")
    explainer = Explainer(classifier, method)
    if label is not None:
        explainer.number(label)
    work = _Explain(classifier, explainer, label, max(1, runtime.workers // len(items)), given is not None)
    found: list[Explanation] = []
    for _, result in each(work, list(enumerate(items)), runtime, "Explaining"):
        if isinstance(result, ImageError):
            raise result
        found.append(result)
    if source is not None:
        found = with_neighbours(classifier, found, table_of(source), NEIGHBOURS, runtime)
    return found[0] if given is None else found


@dataclass(frozen=True)
class _Explain:
    """The unit of work: the explanation of an image, which comes with its number in what was given."""

    classifier: Classifier
    explainer: Explainer
    label: str | None
    workers: int
    of_several: bool

    def __call__(self, item: tuple[int, ImageLike], /) -> Explanation:
        number, image = item
        with naming(image, number, of_several=self.of_several):
            return self.explainer.explain(self.classifier.pixels(image), self.label, workers=self.workers)


def with_neighbours(
    classifier: Classifier, explanations: Sequence[Explanation], table: ImageTable, count: int, runtime: Runtime
) -> list[Explanation]:
    """The same explanations, with the nearest training images of each.

    Raises:
        SourceError: The model was trained on no image of the table.
    """
    embeddings = np.stack([one.embedding for one in explanations])
    neighbours, learnt = find_neighbours(classifier, table, embeddings, count, runtime)
    if not learnt:
        raise SourceError(
            f"The model was trained on none of the images in {quoted(table.source)}.",
            "Give the source that it was trained on.",
        )
    return [replace(one, neighbours=near) for one, near in zip(explanations, neighbours, strict=True)]


def training_source(model: str | os.PathLike[str]) -> ImageTable:
    """The source that the model in a run folder was trained on, with the labels used in training.

    Args:
        model: The model file of a run, or its folder.

    Raises:
        SourceError: The run folder does not say, or the images are no longer there.
    """
    folder = model_path(Path(model)).parent
    try:
        record = json.loads((folder / ANALYSIS_FILE).read_text("utf-8"))
        source, columns = record["source"], Columns.of(record.get("columns", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"There is no record next to the model of what it was trained on ({quoted(str(folder / ANALYSIS_FILE))}).",
            "Name the source: --source SOURCE (source=...).",
        ) from error
    if not isinstance(source, str):
        raise SourceError(f"{quoted(str(folder / ANALYSIS_FILE))} is damaged.", "Name the source: --source SOURCE.")
    table = read(source, columns=columns)
    labels = of_splits(folder, "label")

    def relabelled(row: Row) -> Row:
        return replace(row, label=labels.get(row.path, row.label))

    return replace(table, rows=tuple(relabelled(row) for row in table.rows))


def of_splits(folder: Path, column: str) -> dict[str, str]:
    """A column of a run's ``splits.csv`` by the paths of its images; empty where that is not known."""
    try:
        with (folder / SPLITS_FILE).open(encoding="utf-8", newline="") as file:
            return {from_csv_cell(row["path"]): from_csv_cell(row[column]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error):
        return {}
