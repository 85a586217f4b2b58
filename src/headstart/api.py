"""The verbs: read, train, resume, load, evaluate."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import strategies
from headstart.artifact.classifier import Classifier
from headstart.core.errors import ImageError, OptionError, SourceError, StorageError
from headstart.core.files import durable_write_all, folder_lock, make_folder
from headstart.core.options import Runtime
from headstart.core.recipe import ClassWeight, Fit, Precision, Recipe
from headstart.core.text import counted, csv_label, csv_path, json_text, listed, portable, quoted
from headstart.data import readers
from headstart.data.table import ImageTable, Skipped
from headstart.evaluation import Evaluation
from headstart.features.extract import each, no_image, refuse_skipped
from headstart.strategies import unfinished
from headstart.strategies.fitted import Fitted
from headstart.strategies.own import Own

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.safetensors"
# What runs of trained networks have, and others have not.
OPTIONAL_FILES = {WEIGHTS_FILE, "history.csv", "curves.png", "lr.png"}
RECIPE_FILE = "recipe.toml"  # the first to be put in place


def read(source: str | os.PathLike[str], *, columns: readers.Columns | None = None) -> ImageTable:
    """Read a source into an image table; no image is decoded yet.

    Args:
        source: A folder of class folders; a folder with ``train``, ``val`` and ``test``; a CSV, TSV or JSONL
            manifest; a zip file of any of these.
        columns: Names of a manifest's columns.

    Raises:
        SourceError: There is no such source, or it holds no image.

    Example:
        >>> headstart.read("photos/").classes  # doctest: +SKIP
        ('ants', 'bees')
    """
    return readers.read(source, columns)


def load(path: str | os.PathLike[str]) -> Classifier:
    """Load a model file; no code in it is ever run.

    Raises:
        ModelError: There is no such file, or it is refused.

    Example:
        >>> headstart.load("runs/photos/model.onnx").classes  # doctest: +SKIP
        ('ants', 'bees')
    """
    return Classifier.load(path)


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        fitted: What the strategy gave.
        recipe: All choices that it followed from.
        seconds: Time of each stage, and in all.
    """

    fitted: Fitted
    recipe: Recipe
    seconds: dict[str, float]

    def __repr__(self) -> str:
        low, high = self.evaluation.accuracy_interval
        return (
            f"Run({self.recipe.strategy}: accuracy {self.evaluation.accuracy:.3f} ({low:.3f} to {high:.3f}) "
            f"on {self.evaluation.n:,} images, {self.evaluation.split}; {self.fitted.table!r})"
        )

    @cached_property
    def classifier(self) -> Classifier:
        """The trained classifier: the very bytes that `save` writes."""
        return Classifier(self.fitted.model)

    @property
    def evaluation(self) -> Evaluation:
        """Numbers on held-out images."""
        return self.fitted.evaluation

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Files that were found and not used, with reasons."""
        return self.fitted.table.skipped

    def as_dict(self) -> dict[str, Any]:
        """The run as JSON values: the content of ``metrics.json``."""
        fitted = self.fitted
        return {
            "strategy": self.recipe.strategy,
            "backbone": self.recipe.backbone,
            "classes": [portable(label) for label in fitted.classes],
            "counts": {
                "images": len(fitted.table),
                "skipped": len(self.skipped),
                "ignored": fitted.table.ignored,
                **{part: {portable(k): n for k, n in by_class.items()} for part, by_class in fitted.counts.items()},
            },
            "evaluation": self.evaluation.as_dict(),
            "details": fitted.details,
            "seconds": {stage: round(time, 3) for stage, time in self.seconds.items()},
            "skipped": [skip.as_dict() for skip in self.skipped],
            "notes": [portable(note) for note in fitted.notes],
        }

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the run folder. Each file is replaced whole, after all of them are on the disk, and the model last.

        Args:
            folder: Where to; it is created.
            overwrite: Replace the run that is there.

        Returns:
            The folder.

        Raises:
            StorageError: There is a run already, another process is writing one, or it cannot be written.
        """
        path = Path(folder)
        overwrite = overwrite or path == self.fitted.folder  # its own, which was looked at before the training
        refuse_existing(path, overwrite=overwrite)
        make_folder(path)
        with folder_lock(path):
            refuse_existing(path, overwrite=overwrite)
            metrics = {"run": portable(str(path)), **self.as_dict()}
            contents: dict[str, str | bytes] = {
                RECIPE_FILE: self.recipe.to_toml(),
                "splits.csv": self._splits_csv(),
                "predictions.csv": self._predictions_csv(),
                "metrics.json": json_text(metrics) + "\n",
                **self.fitted.files,
                MODEL_FILE: self.fitted.model,
            }
            durable_write_all({path / name: content for name, content in contents.items()})
            self._remove_others(path)
            unfinished.remove(path)
        return path

    def _remove_others(self, folder: Path) -> None:
        """Delete what a run that was replaced has left: its network must not be taken for that of this one."""
        for name in OPTIONAL_FILES - set(self.fitted.files):
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        if self.fitted.folder != folder:
            shutil.rmtree(folder / unfinished.LOGS, ignore_errors=True)

    def _splits_csv(self) -> str:
        """A manifest that gives the same run again; the folds of a cross-validation are drawn anew, and the same."""
        fitted = self.fitted
        rows = []
        for row, part in zip(fitted.table.rows, fitted.parts, strict=True):
            fold = part.removeprefix("fold ") if part.startswith("fold ") else ""
            split = "train" if fold else part
            rows.append((csv_path(row.path), csv_label(row.label or ""), split, csv_label(row.group or ""), fold))
        return _csv(("path", "label", "split", "group", "fold"), rows)

    def _predictions_csv(self) -> str:
        fitted, classes = self.fitted, self.fitted.classes
        place = {label: i for i, label in enumerate(classes)}
        lines = []
        for row, probabilities in zip(fitted.held_out.rows, fitted.held_out.probabilities, strict=True):
            image, best = fitted.table.rows[row], int(probabilities.argmax())
            label = image.label or ""
            lines.append((
                csv_path(image.path), fitted.parts[row], csv_label(label), csv_label(classes[best]),
                "yes" if classes[best] == label else "no",
                f"{probabilities[best]:.6f}", f"{probabilities[place[label]]:.6f}",
            ))  # fmt: skip
        header = ("path", "split", "label", "predicted", "correct", "probability", "probability_of_label")
        return _csv(header, lines)


def train(
    images: ImageTable | str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    strategy: str | None = None,
    backbone: str | None = None,
    precision: Precision | None = None,
    fit: Fit | None = None,
    class_weight: ClassWeight | None = None,
    seed: int | None = None,
    start_from: str | os.PathLike[str] | None = None,
    own: Own | None = None,
    runtime: Runtime | None = None,
) -> Run:
    """Train a classifier and evaluate it on images that it was not trained on.

    Args:
        images: An image table, or a source of one.
        recipe: All choices; the arguments that follow replace single ones.
        strategy: See `Recipe`, as for the next five. For all other settings give a recipe.
        backbone: Name of the pretrained network.
        precision: ``int8`` or ``float32``.
        fit: ``crop``, ``squash`` or ``pad``.
        class_weight: ``none`` or ``balanced``.
        seed: Seeds every random choice.
        start_from: Folder of a run whose network is trained further, on other images of the same classes.
        own: A backbone, head or loop that takes the place of Headstart's.
        runtime: Cache, workers, progress, strictness, device, folder of checkpoints.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: A choice that does not exist.
        ModelError: The backbone's weights are missing or damaged.
        OfflineError: They are not here and could not be fetched.
        ExtraError: The strategy needs a package that is not installed.
        DeviceError: The device is not there, or has too little memory.
        TrainingError: The loss is no number any more.

    Example:
        >>> headstart.train("photos/").evaluation.accuracy  # doctest: +SKIP
        0.954
    """
    start = time.perf_counter()
    choices = {
        "strategy": strategy, "backbone": backbone, "precision": precision,
        "fit": fit, "class_weight": class_weight, "seed": seed,
    }  # fmt: skip
    chosen: dict[str, Any] = {key: value for key, value in choices.items() if value is not None}
    if start_from is not None:
        chosen |= _continued(Path(start_from), recipe or Recipe.from_dict(chosen))
    # Settings without a value are those of the strategy, so that they are filled in after the choices.
    recipe = dataclasses.replace(recipe, **chosen) if recipe else Recipe.from_dict(chosen)
    recipe = own.named(recipe) if own else recipe
    runtime = runtime or Runtime()
    learn = strategies.find(recipe.strategy)
    table = images if isinstance(images, ImageTable) else read(images)
    refuse_skipped(table, runtime)
    fitted = learn(table, recipe, runtime, **({"own": own} if own else {}))
    return Run(fitted, recipe, {**fitted.seconds, "total": time.perf_counter() - start})


def resume(
    folder: str | os.PathLike[str],
    source: ImageTable | str | os.PathLike[str] | None = None,
    *,
    choices: Mapping[str, Any] | None = None,
    columns: readers.Columns | None = None,
    own: Own | None = None,
    runtime: Runtime | None = None,
) -> Run:
    """Go on with an interrupted training, from its last finished epoch. On the CPU the result is the same to the bit.

    Args:
        folder: Its run folder.
        source: Its images; None reads them from where they were.
        choices: Settings that must be those of the recipe it followed.
        columns: Names of a manifest's columns; None for those it was read by.
        own: The parts that were not Headstart's, as they were at the beginning.
        runtime: See `train`; its folder is the run folder.

    Raises:
        StorageError: The folder holds no unfinished training.
        OptionError: The settings differ; it says in what.
        SourceError: The images differ; it says which.
        ModelError: The checkpoint is damaged.

    Example:
        >>> headstart.resume("runs/pets").save("runs/pets")  # doctest: +SKIP
    """
    path = Path(folder)
    before = unfinished.read(path)
    if choices:
        unfinished.check_recipe(before, Recipe.from_dict({**before.recipe.as_dict(), **choices}))
    table = (
        source
        if isinstance(source, ImageTable)
        else read(source or before.source, columns=columns or readers.Columns.of(before.columns))
    )
    runtime = dataclasses.replace(runtime or Runtime(), folder=path, resume=True)
    return train(table, before.recipe, own=own, runtime=runtime)


def _continued(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The choices that let a recipe begin with the network and the head of a run."""
    if recipe.strategy != "finetune":
        raise OptionError(
            f"To go on from a run is to fine-tune; the strategy is {quoted(recipe.strategy)}.",
            "Choose the strategy finetune.",
        )
    file = folder / WEIGHTS_FILE if folder.is_dir() else folder
    if not file.is_file():
        raise StorageError(
            f"{quoted(str(folder))} holds no {WEIGHTS_FILE}.",
            "Runs of the strategies finetune and scratch have one.",
        )
    return {"backbone": f"file:{file}", "start": "weights"}


def evaluate(
    classifier: Classifier,
    images: ImageTable | str | os.PathLike[str],
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
        The evaluation, and the table of the images that it is about, with all that were skipped.

    Raises:
        SourceError: Classes that the model does not know, or lacks; or no image can be read.

    Example:
        >>> headstart.evaluate(headstart.load("model.onnx"), "photos/")[0].accuracy  # doctest: +SKIP
        0.954
    """
    from headstart.evaluation import evaluate as measure

    runtime = runtime or Runtime(cache=None)
    table = images if isinstance(images, ImageTable) else read(images)
    refuse_skipped(table, runtime)
    split = next((part for part in ("test", "val", "train") if part in table.splits), None)
    if split:
        rows = tuple(row for row in table.rows if row.split == split)
        if others := len(table) - len(rows):
            notes = (*table.notes, f"{counted(others, 'image')} of other splits left out.")
            table = dataclasses.replace(table, rows=rows, notes=notes)
    _match_classes(table, classifier.classes, allow_missing=allow_missing)
    keep, skipped, probabilities, known = [], [], [], 0

    def work(index: int) -> tuple[NDArray[np.float32], bool]:
        data = table.storage.read(table.rows[index].path)
        return classifier.run_file(data).probabilities, classifier.metadata.knows(data)

    for index, result in each(len(table), work, runtime, "Evaluating"):
        if isinstance(result, ImageError):
            skipped.append(Skipped(table.rows[index].path, result.message))
        else:
            keep.append(index)
            probabilities.append(result[0])
            known += result[1]
    table = table.select(keep, skipped)
    if known:
        note = f"The model has learnt from {known:,} of these {counted(len(table), 'image')}: the numbers are too good."
        table = dataclasses.replace(table, notes=(*table.notes, note))
    refuse_skipped(table, runtime)
    if not keep:
        raise no_image(table)
    place = {label: i for i, label in enumerate(classifier.classes)}
    labels = np.array([place[row.label or ""] for row in table.rows])
    evaluation = measure(
        np.array(probabilities, np.float64),
        labels,
        classifier.classes,
        split=split or "all",
        temperature=classifier.metadata.temperature,
    )
    return evaluation, table


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Keep a run from being replaced by accident.

    Raises:
        StorageError: The folder holds a run, or a file of the user's that a run would replace, and `overwrite` is
            off; or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{quoted(str(folder))} is a file; a run needs a folder.", "Choose another --out.")
    if overwrite:
        return
    if unfinished.exists(folder):
        raise unfinished.in_the_way(folder)
    if (folder / MODEL_FILE).exists():
        raise StorageError(
            f"{quoted(str(folder))} already holds a run.",
            "Choose another folder (--out), or replace it (--overwrite, overwrite=True).",
        )
    # A run that was killed while it was put in place has its recipe; other files of these names are somebody's own.
    own = [name for name in ("splits.csv", "predictions.csv", "metrics.json") if (folder / name).exists()]
    if own and not (folder / RECIPE_FILE).exists():
        raise StorageError(
            f"{quoted(str(folder))} already holds {listed(own)}, which a run would replace.",
            "Choose another folder (--out), or replace them (--overwrite, overwrite=True).",
        )


def _match_classes(table: ImageTable, known: Sequence[str], *, allow_missing: bool) -> None:
    found, expected = set(table.classes), set(known)
    unknown = sorted(found - expected)
    missing = [label for label in known if label not in found]
    if unknown:
        raise SourceError(
            f"{quoted(table.source)} holds classes that the model does not know: {listed(unknown)}; "
            f"it knows {listed(known)}.",
            "Give the folders the names that the model was trained with; classes are matched by name, never by order.",
        )
    if missing and not allow_missing:
        raise SourceError(
            f"{quoted(table.source)} lacks classes of the model: {listed(missing)}.",
            "Add images of them, or measure the others alone with --allow-missing.",
        )


def _csv(header: Sequence[str], rows: Any) -> str:
    import csv
    import io

    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
