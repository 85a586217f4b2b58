"""The strategies `finetune` and `scratch`: train the network itself, with PyTorch.

Fine-tuning begins with the probe's solution as its head (linear probing, then fine-tuning: Kumar et al. 2022), so that
the backbone's weights are not spoilt by a random one; training from scratch begins with random weights throughout.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from headstart import targets
from headstart.core.errors import DeviceError, OptionError, StorageError, TrainingError
from headstart.core.files import folder_lock, make_folder
from headstart.core.runtime import Runtime
from headstart.data.table import ImageTable
from headstart.features.dataset import Dataset
from headstart.features.extract import extract
from headstart.features.scan import scan
from headstart.partition.divide import divide
from headstart.partition.roles import Partition
from headstart.partition.selection import select
from headstart.preprocess.spec import Preprocess
from headstart.runs import resumption
from headstart.runs.details import Training
from headstart.runs.origin import GIVEN, Origin
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.strategies import finish
from headstart.strategies.custom import Own, refuse_missing
from headstart.strategies.embed import embed
from headstart.strategies.examine import examine
from headstart.strategies.proof import pictures
from headstart.training import sources
from headstart.training.by_folds import measure_by_folds
from headstart.training.curves import curves_png, history_csv, range_png
from headstart.training.custom_backbone import loaded as custom_loaded
from headstart.training.devices import check
from headstart.training.export import export, weights_file
from headstart.training.finishing import Ended, finish_training
from headstart.training.job import Job, begun, probe_if_kept, train
from headstart.training.pixel_feed import Images
from headstart.training.plan import Plan, plan
from headstart.training.task import Task, Trained

if TYPE_CHECKING:
    from headstart.training.pixel_feed import Images


def fit(table: ImageTable, recipe: Recipe, runtime: Runtime, origin: Origin = GIVEN, own: Own | None = None) -> Fitted:
    """Train, load the best epoch, evaluate once, and put the model file together.

    Args:
        table: The images.
        recipe: All choices.
        runtime: Cache, device, folder of checkpoints, progress.
        origin: Where the recipe comes from.
        own: Parts that are not Headstart's.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: The recipe names something that does not exist, or does not fit the data.
        TrainingError: The loss is NaN or infinite.
        DeviceError: The device is not there, or has too little memory.
    """
    began = origin.began or time.perf_counter()
    own = own or Own()
    refuse_missing(recipe, own)
    check(recipe, runtime)
    targets.read(table)
    watch = finish.Stopwatch()
    loaded = _load(recipe, own)
    preprocess = loaded.preprocess.used_with(recipe.fit, recipe.white_level)
    data = _read(table, recipe, loaded, preprocess, runtime)
    divided = divide(data, recipe, cross_validate=False)
    partition = select(divided, data, recipe)
    watch.lap("embed" if data.features is not None else "read")
    findings = examine(data, preprocess=preprocess, runtime=runtime)
    watch.lap("check")
    job = Job(loaded, preprocess, data, Images(data.table, recipe, preprocess), partition, own)
    begin = copy.deepcopy(loaded.module) if partition.cross_validated else None
    network = begun(job, recipe, runtime)
    planned = _planned(job.task(network, recipe), runtime, origin, _left(recipe, partition, began))
    recipe, origin = planned.recipe, replace(origin, plan=planned.notes)
    watch.lap("plan")
    with _unfinished(data, recipe, runtime, loaded.weights, origin):
        trained = train(job, network, recipe, runtime)
        watch.lap("train")
        probe = probe_if_kept(trained, data, divided, recipe, runtime)
        by_folds = None
        if begin is not None:
            by_folds = measure_by_folds(replace(job, loaded=replace(loaded, module=begin)), recipe, runtime)
            watch.lap("folds")
        finished = finish_training(job, Ended(network, divided, probe, by_folds), recipe, runtime, origin, watch)
    details = replace(
        finished.details,
        validation_images=len(partition.chooses()),
        training=_training(trained) if trained else None,
        choices=origin.evidence,
    )
    weights = weights_file(network, loaded, preprocess, data.targets.names, recipe.head)
    files: dict[str, bytes | str] = {"weights.safetensors": weights, **_history(trained)}
    watch.lap("write")
    return replace(
        finished,
        findings=findings, seconds=watch.seconds, details=details, files=files,
        pictures=_pictures(trained) if trained else {}, recipe=recipe, folder=runtime.folder,
        notes=(*origin.reasons, *finished.notes, *planned.notes, *(trained.notes if trained else ())),
    )  # fmt: skip


def _history(trained: Trained | None) -> dict[str, str]:
    """The numbers of each epoch, for the run folder."""
    return {"history.csv": history_csv(trained.history)} if trained and trained.history else {}


def _pictures(trained: Trained) -> dict[str, Callable[[], bytes]]:
    """The course of the training, for the run folder."""
    pictures: dict[str, Callable[[], bytes]] = {}
    if trained.history:
        pictures["curves.png"] = functools.partial(curves_png, trained.history, trained.best_epoch)
    if trained.range_test:
        pictures["lr.png"] = functools.partial(range_png, trained.range_test, trained.lr)
    return pictures


def _training(trained: Trained) -> Training:
    """What became of the training."""
    return Training(
        epochs=trained.history[-1].epoch if trained.history else 0, best_epoch=trained.best_epoch,
        lr=trained.lr, device=trained.device, mixed_precision=trained.precision,
        processes=trained.processes, images_per_second=round(trained.images_per_second, 2),
        stopped="patience" if trained.stopped_early else None, history=trained.history,
    )  # fmt: skip


def _load(recipe: Recipe, own: Own) -> sources.Loaded:
    """The backbone as it begins."""
    if own.backbone is None or own.preprocess is None:
        return sources.load(recipe.backbone, pretrained=recipe.pretrained, weights=recipe.weights, seed=recipe.seed)
    return custom_loaded(own.backbone, own.preprocess)


def _read(
    table: ImageTable, recipe: Recipe, loaded: sources.Loaded, preprocess: Preprocess, runtime: Runtime
) -> Dataset:
    """Look at every image once; and embed it, where the head begins as the probe's solution."""
    if recipe.start != "probe":
        return scan(table, runtime, preprocess, max_megapixels=recipe.max_megapixels)
    if not recipe.backbone_spec.brought:
        return embed(table, recipe, runtime).data
    embedder, _ = export(loaded.module, loaded, preprocess, pictures(table, recipe))
    return extract(table, embedder, runtime, max_megapixels=recipe.max_megapixels)


def _planned(task: Task, runtime: Runtime, origin: Origin, left: float | None) -> Plan:
    """How far it goes; what goes on follows the plan that it began with, however long it was interrupted."""
    if runtime.resume:
        return Plan(task.recipe, None, origin.plan)
    return plan(task, runtime, left)


def _left(recipe: Recipe, partition: Partition, began: float) -> float | None:
    """Seconds of the budget for each network that is trained; None where there is no budget."""
    if not recipe.budget:
        return None
    networks = 1 + (recipe.folds if partition.cross_validated else 0)
    return (recipe.budget - (time.perf_counter() - began)) / networks


@contextlib.contextmanager
def _unfinished(data: Dataset, recipe: Recipe, runtime: Runtime, weights: str, origin: Origin) -> Iterator[None]:
    """Hold the run folder, and keep what is needed to go on in it."""
    if runtime.folder is None or not runtime.main_process:
        yield
        return
    make_folder(runtime.folder)
    with folder_lock(runtime.folder):
        if runtime.resume:
            before = resumption.read(runtime.folder)
            resumption.check_recipe(before, recipe)
            resumption.check_images(before, data.table, data.digests)
            resumption.check_weights(before, weights)
        elif resumption.exists(runtime.folder):
            raise resumption.in_the_way(runtime.folder)
        else:
            resumption.write(runtime.folder, data.table, data.digests, recipe, weights, origin)
        try:
            yield
        except (DeviceError, OptionError, StorageError, TrainingError):
            resumption.forget_unbegun(runtime.folder)
            raise
