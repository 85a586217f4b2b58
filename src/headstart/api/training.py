"""Train, resume, or start from the network of another run."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart import strategies
from headstart.api.reading import embeddings_in, read, table_of
from headstart.api.run import Run
from headstart.core.arguments import A_RECIPE, A_RUNTIME, must_be, must_be_path
from headstart.core.errors import OptionError, StorageError
from headstart.core.files import refuse_unwritable
from headstart.core.runtime import Runtime
from headstart.core.text import quoted
from headstart.data import readers
from headstart.data.readers import Source
from headstart.data.table import ImageTable
from headstart.features.passes import refuse_skipped
from headstart.features.sharded.folder import ShardFolder
from headstart.runs import resumption
from headstart.runs.folder import WEIGHTS_FILE
from headstart.runs.origin import Origin
from headstart.settings.recipe import ClassWeight, Fit, Precision, Recipe
from headstart.settings.strategies import either, names
from headstart.settings.thresholds import BEST_F1
from headstart.strategies.custom import Own
from headstart.targets import TARGETS


def train(
    images: ImageTable | Source,
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
        images: An image table, or a source of one; or a folder of embeddings, which `headstart embed SOURCE --out DIR`
            writes: then the settings of the embedding are those of the folder.
        recipe: All choices; the arguments that follow replace single ones.
        strategy: See `Recipe`, as for the next five. For all other settings give a recipe.
        backbone: Name of the pretrained network, or ``auto``.
        precision: ``int8`` or ``float32``.
        fit: ``crop``, ``squash``, ``pad`` or ``auto``.
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
        TrainingError: The loss is NaN or infinite.

    Examples:
        >>> headstart.train("photos/").evaluation.accuracy  # doctest: +SKIP
        0.954
    """
    start = time.perf_counter()
    _must_be_kinds(own, runtime)
    recipe = _with_choices(
        recipe, start_from, strategy=strategy, backbone=backbone, precision=precision, fit=fit,
        class_weight=class_weight, seed=seed,
    )  # fmt: skip
    recipe = own.named(recipe) if own else recipe
    strategies.refuse_unknown(recipe.strategy)
    runtime, origin = runtime or Runtime(), Origin(began=start)
    if (folder := embeddings_in(images)) is not None:
        _refuse_beside_embeddings(start_from, own)
        return _train_on_embeddings(folder, recipe, runtime, origin)
    table = table_of(images)
    _refuse(table, runtime)
    recipe, origin = _decided(table, recipe, runtime, origin)
    return _train(table, recipe, runtime, origin, own)


def _with_choices(recipe: Recipe | None, start_from: str | os.PathLike[str] | None, **choices: Any) -> Recipe:
    """The recipe with the choices that were named one by one, and with the run that it begins from."""
    must_be("recipe", recipe, Recipe | None, A_RECIPE, "A single choice is named, such as strategy='probe'.")
    chosen = {key: value for key, value in choices.items() if value is not None}
    if start_from is not None:
        must_be_path("start_from", start_from)
        chosen |= _continued(Path(start_from), recipe or Recipe.from_dict(chosen))
    # Settings without a value are those of the strategy, so that they are filled in after the choices.
    return dataclasses.replace(recipe, **chosen) if recipe else Recipe.from_dict(chosen)


def _decided(table: ImageTable, recipe: Recipe, runtime: Runtime, origin: Origin) -> tuple[Recipe, Origin]:
    """The recipe with nothing left open, and why it is what it is."""
    if not recipe.is_open:
        return recipe, origin
    from headstart.strategies.choices import decide

    found = decide(table, recipe, runtime)
    return found.recipe, dataclasses.replace(origin, reasons=found.reasons, evidence=found.evidence)


def _refuse(table: ImageTable, runtime: Runtime) -> None:
    """Refuse, before the work, skipped files where that is asked for, and a folder that cannot be written to."""
    refuse_skipped(table, runtime)
    if runtime.folder is not None and runtime.main_process:
        refuse_unwritable(runtime.folder)


def _train(table: ImageTable, recipe: Recipe, runtime: Runtime, origin: Origin, own: Own | None) -> Run:
    """Follow a recipe in which nothing is left open."""
    if recipe.threshold != BEST_F1 and not TARGETS[table.task].thresholds:
        raise OptionError(
            f"threshold = {recipe.threshold} is for several labels an image, and these images have one class each.",
            "Leave it out; or read them with --task multi-label.",
        )
    began = origin.began or time.perf_counter()
    origin = dataclasses.replace(origin, began=began)
    spent = {} if origin.evidence is None else {"choose": time.perf_counter() - began}
    fitted = strategies.find(recipe.strategy)(table, recipe, runtime, origin, **({"own": own} if own else {}))
    return Run(fitted, fitted.recipe or recipe, {**spent, **fitted.seconds, "total": time.perf_counter() - began})


def _train_on_embeddings(folder: ShardFolder, recipe: Recipe, runtime: Runtime, origin: Origin) -> Run:
    """Follow a recipe on a folder of embeddings."""
    from headstart.strategies import sharded

    if runtime.folder is not None and runtime.main_process:
        refuse_unwritable(runtime.folder)
    recipe = sharded.recipe_for(folder, recipe)
    fitted = sharded.fit(folder, recipe, runtime, origin)
    refuse_skipped(fitted.data.table, runtime)
    return Run(fitted, recipe, {**fitted.seconds, "total": time.perf_counter() - (origin.began or 0)})


def _refuse_beside_embeddings(start_from: object, own: object) -> None:
    if start_from is not None or own is not None:
        extra = "parts of your own" if own else "run to start from"
        raise OptionError(
            f"On a folder of embeddings only a head is trained, which takes no {extra}.",
            "Train on the images themselves.",
        )


def _must_be_kinds(own: Own | None, runtime: Runtime | None) -> None:
    must_be("own", own, Own | None, "a headstart.Own")
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)


def resume(
    folder: str | os.PathLike[str],
    source: ImageTable | Source | None = None,
    *,
    choices: Mapping[str, object] | None = None,
    columns: readers.Columns | None = None,
    own: Own | None = None,
    runtime: Runtime | None = None,
) -> Run:
    """Resume an interrupted training, from its last finished epoch. On the CPU the result is the same to the bit.

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

    Examples:
        >>> headstart.resume("runs/pets").save("runs/pets")  # doctest: +SKIP
    """
    must_be_path("folder", folder)
    must_be("choices", choices, Mapping | None, "a mapping, such as {'seed': 1}")
    _must_be_kinds(own, runtime)
    path = Path(folder)
    before = resumption.read(path)
    if choices:
        resumption.check_recipe(before, Recipe.from_dict({**before.recipe.as_dict(), **choices}))
    table = (
        source
        if isinstance(source, ImageTable)
        else read(
            source or before.source,
            columns=columns or readers.Columns.of(before.columns),
            decisions=before.decisions or None,
        )
    )
    recipe, runtime = before.recipe, dataclasses.replace(runtime or Runtime(), folder=path, resume=True)
    _refuse(table, runtime)
    return _train(table, own.named(recipe) if own else recipe, runtime, before.origin, own)


def _continued(folder: Path, recipe: Recipe) -> dict[str, str]:
    """The choices that let a recipe begin with the network and the head of a run."""
    if not recipe.spec.continues:
        raise OptionError(
            f"Starting from a run means fine-tuning, and the strategy is {quoted(recipe.strategy)}.",
            f"Choose the strategy {either(names('continues'))}.",
        )
    file = folder / WEIGHTS_FILE if folder.is_dir() else folder
    if not file.is_file():
        raise StorageError(
            f"{quoted(str(folder))} holds no {WEIGHTS_FILE}.",
            f"Runs of the strategies {' and '.join(names('trains', 'network'))} have one.",
        )
    return {"backbone": f"file:{file}", "start": "weights"}
