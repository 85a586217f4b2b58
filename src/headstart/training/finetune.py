"""The strategies `finetune` and `scratch`: train the network itself, with PyTorch.

Fine-tuning begins with the probe's solution as its head (linear probing, then fine-tuning: Kumar et al. 2022), so that
the backbone's weights are not spoilt by a random one; training from scratch begins with random weights throughout.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import DeviceError, OptionError, StorageError, TrainingError
from headstart.core.extras import require
from headstart.core.files import folder_lock, make_folder
from headstart.core.options import Runtime
from headstart.core.text import counted
from headstart.data.table import ImageTable
from headstart.features.dataset import Dataset
from headstart.features.extract import extract
from headstart.features.pixels import PixelSession
from headstart.features.scan import scan
from headstart.heads.linear import LinearHead
from headstart.heads.temperature import fit_temperature
from headstart.partition.divide import divide
from headstart.partition.folds import predict_by_folds
from headstart.partition.held_out import HeldOut
from headstart.partition.roles import NOBODY, Partition, Role
from headstart.partition.selection import select
from headstart.preprocess.spec import Preprocess
from headstart.runs import resumption
from headstart.runs.details import Details, Training
from headstart.runs.origin import GIVEN, Origin
from headstart.runs.result import Fitted
from headstart.settings.heads import OWN
from headstart.settings.recipe import Recipe
from headstart.strategies import finish
from headstart.strategies.custom import Own, refuse_missing
from headstart.strategies.embed import embed
from headstart.strategies.examine import examine
from headstart.strategies.probe import fit_linear
from headstart.strategies.proof import EMBEDDING, pictures, prove_evaluated, prove_trained
from headstart.strategies.trust import build as build_trust
from headstart.training import sources

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.training.images import Images
    from headstart.training.network import Network
    from headstart.training.plan import Plan
    from headstart.training.task import Task, Trained


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
        ExtraError: PyTorch is not installed.
        TrainingError: The loss is NaN or infinite.
        DeviceError: The device is not there, or has too little memory.
    """
    require("torch", "torch", f"The strategy {recipe.strategy}")
    from headstart.training.devices import check
    from headstart.training.images import Images
    from headstart.training.task import Task

    began = origin.began or time.perf_counter()
    own = own or Own()
    refuse_missing(recipe, own)
    check(recipe, runtime)
    table.require_classes()
    watch = finish.Stopwatch()
    loaded = _load(recipe, own)
    preprocess = loaded.preprocess.used_with(recipe.fit, recipe.white_level)
    data = _read(table, recipe, loaded, preprocess, runtime)
    partition = select(divide(data, recipe, cross_validate=False), data, recipe)
    watch.lap("embed" if data.features is not None else "read")
    findings = examine(data, preprocess=preprocess, runtime=runtime)
    watch.lap("check")
    images = Images(data.table, recipe, preprocess)
    begin = copy.deepcopy(loaded.module) if partition.cross_validated else None
    network = _network(loaded, data, partition, recipe, runtime, own)
    task = partial(Task, network=network, images=images, labels=partition.labels, classes=len(data.classes),
                   train=partition.learnt(), validation=partition.chooses())  # fmt: skip
    planned = _planned(task(recipe=recipe), runtime, origin, _left(recipe, partition, began))
    recipe = planned.recipe
    origin = replace(origin, plan=planned.notes)
    watch.lap("plan")
    with _unfinished(data, recipe, runtime, loaded.weights, origin):
        trained = _train(task(recipe=recipe), runtime, own)
        watch.lap("train")
        probe = _probe_if_kept(trained, data, partition, recipe, runtime)
        by_folds = None
        if begin is not None:
            by_folds = _predict_by_folds(replace(loaded, module=begin), images, data, partition, recipe, runtime, own)
            watch.lap("folds")
        finished = _finish(
            network, loaded, preprocess, data, partition, recipe, runtime, origin, watch, probe, by_folds
        )
    from headstart.training.curves import curves_png, history_csv, range_png
    from headstart.training.export import weights_file

    files: dict[str, bytes | str] = {
        "weights.safetensors": weights_file(network, loaded, preprocess, data.classes, recipe.head)
    }
    if trained and trained.history:
        files["history.csv"] = history_csv(trained.history)
        files["curves.png"] = curves_png(trained.history, trained.best_epoch)
    if trained and trained.range_test:
        files["lr.png"] = range_png(trained.range_test, trained.lr)
    watch.lap("write")
    return replace(
        finished,
        findings=findings,
        seconds=watch.seconds,
        details=replace(
            finished.details,
            validation_images=len(partition.chooses()),
            training=_training(trained) if trained else None,
            choices=origin.evidence,
        ),
        notes=(
            *origin.reasons,
            *finished.notes,
            *planned.notes,
            *(trained.notes if trained else ()),
            *_kept(probe, partition),
        ),
        files=files,
        recipe=recipe,
        folder=runtime.folder,
    )


def _training(trained: Trained) -> Training:
    """What became of the training."""
    return Training(
        epochs=int(trained.history[-1]["epoch"] or 0) if trained.history else 0, best_epoch=trained.best_epoch,
        lr=trained.lr, device=trained.device, mixed_precision=trained.precision,
        processes=trained.processes, images_per_second=round(trained.images_per_second, 2),
        stopped="patience" if trained.stopped_early else None, history=trained.history,
    )  # fmt: skip


def _load(recipe: Recipe, own: Own) -> sources.Loaded:
    """The backbone as it begins."""
    if own.backbone is None or own.preprocess is None:
        return sources.load(recipe.backbone, pretrained=recipe.pretrained, weights=recipe.weights, seed=recipe.seed)
    from headstart.training.custom_backbone import loaded

    return loaded(own.backbone, own.preprocess)


def _read(
    table: ImageTable, recipe: Recipe, loaded: sources.Loaded, preprocess: Preprocess, runtime: Runtime
) -> Dataset:
    """Look at every image once; and embed it, where the head begins as the probe's solution."""
    if recipe.start != "probe":
        return scan(table, runtime, preprocess, max_megapixels=recipe.max_megapixels)
    if recipe.backbone != OWN:
        return embed(table, recipe, runtime).data
    from headstart.training.export import export

    embedder, _ = export(loaded.module, loaded, preprocess, pictures(table, recipe))
    return extract(table, embedder, runtime, max_megapixels=recipe.max_megapixels)


def _network(
    loaded: sources.Loaded, data: Dataset, partition: Partition, recipe: Recipe, runtime: Runtime, own: Own
) -> Network:
    """The network as it begins."""
    from headstart.training.from_run import start_from_run
    from headstart.training.network import Network, make_head, start_from_probe

    make = own.head or partial(make_head, recipe)
    head = make(loaded.embedding_size, len(data.classes))
    if recipe.start == "weights":
        start_from_run(head, recipe.backbone, data.classes, recipe.head)
    elif data.features is not None:
        # The images that choose the epoch must not have been learnt from by the head that it begins with either.
        start_from_probe(head, fit_linear(data, partition, recipe, runtime))
    return Network(loaded.module, head)


def _probe_if_kept(
    trained: Trained | None, data: Dataset, partition: Partition, recipe: Recipe, runtime: Runtime
) -> LinearHead | None:
    """The probe's head, fitted on all train images, where no epoch was better than the start; None elsewhere.

    The images that chose between the start and the epochs have nothing left to choose then: they are learnt from too.
    """
    if trained is None or trained.best_epoch or data.features is None:
        return None
    return fit_linear(data, partition.chosen_by(NOBODY), recipe, runtime)


def _kept(probe: LinearHead | None, partition: Partition) -> tuple[str, ...]:
    """The note on a start that was kept."""
    if probe is None:
        return ()
    return (
        "No epoch was better than the start, which is kept: the model is the probe's, its head fitted on all "
        f"{counted(len(partition.of(Role.TRAIN)), 'train image')}.",
    )


def _planned(task: Task, runtime: Runtime, origin: Origin, left: float | None) -> Plan:
    """How far it goes; what goes on follows the plan that it began with, however long it was interrupted."""
    from headstart.training.plan import Plan, plan

    if runtime.resume:
        return Plan(task.recipe, None, origin.plan)
    return plan(task, runtime, left)


def _left(recipe: Recipe, partition: Partition, began: float) -> float | None:
    """Seconds of the budget for each network that is trained; None where there is no budget."""
    if not recipe.budget:
        return None
    networks = 1 + (recipe.folds if partition.cross_validated else 0)
    return (recipe.budget - (time.perf_counter() - began)) / networks


def _train(task: Task, runtime: Runtime, own: Own) -> Trained | None:
    """Train a network in place; it ends on the CPU, in evaluation mode."""
    from headstart.training.loop import fit as train

    trained = (own.loop or train)(task, runtime)
    task.network.to("cpu").eval()
    return trained


def _predict_by_folds(
    begin: sources.Loaded,
    images: Images,
    data: Dataset,
    partition: Partition,
    recipe: Recipe,
    runtime: Runtime,
    own: Own,
) -> tuple[HeldOut, NDArray[np.float64]]:
    """Train a network for each fold, without it, from the same beginning; and predict the fold.

    Args:
        begin: The backbone as it begins, which stays so.
        images: All images.
        data: What is known of them.
        partition: Of the cross-validation.
        recipe: All choices.
        runtime: How to run.
        own: Parts that are not Headstart's.
    """
    from headstart.heads.common import to_probabilities
    from headstart.training.network import start_from_probe
    from headstart.training.scores import scores
    from headstart.training.task import Task

    def learn(inside: Partition, runtime: Runtime) -> tuple[NDArray[np.float64], float]:
        inside = select(inside, data, recipe)
        choose, measured = inside.chooses(), inside.measured()
        network = _network(replace(begin, module=copy.deepcopy(begin.module)), data, inside, recipe, runtime, own)
        trained = _train(Task(
            network=network, images=images, labels=inside.labels, classes=len(data.classes),
            train=inside.learnt(), validation=choose, recipe=recipe,
        ), runtime, own)  # fmt: skip
        if probe := _probe_if_kept(trained, data, inside, recipe, runtime):
            start_from_probe(network.head, probe)
            return to_probabilities(scores(network, images, measured, recipe, runtime)), probe.temperature
        rows = np.concatenate([choose, measured])
        of_choice, of_fold = np.split(scores(network, images, rows, recipe, runtime), [len(choose)])
        temperature = fit_temperature(of_choice, inside.labels[choose])
        return to_probabilities(of_fold / temperature), temperature

    return predict_by_folds(partition, data, recipe, runtime, learn)


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


def _finish(
    network: Network,
    loaded: sources.Loaded,
    preprocess: Preprocess,
    data: Dataset,
    partition: Partition,
    recipe: Recipe,
    runtime: Runtime,
    origin: Origin,
    watch: finish.Stopwatch,
    probe: LinearHead | None,
    by_folds: tuple[HeldOut, NDArray[np.float64]] | None,
) -> Fitted:
    """Export, calibrate, evaluate once, write the model file, and prove it.

    All images pass the exported network, which is what the model file holds. It is also what is measured, unless the
    networks of the folds were (`by_folds`: their predictions, and the temperature of each). Where there is a `probe`,
    the network gets its head in the end; what is told of the images that chose is from before that.
    """
    from headstart.training.export import export, probabilities
    from headstart.training.network import head_record, start_from_probe

    choose, held = partition.chooses(), partition.held_out()
    embedder, difference = export(network.backbone, loaded, preprocess, pictures(data.table, recipe))
    measured = extract(
        replace(data.table, skipped=()), embedder, replace(runtime, cache=None, strict=True),
        max_megapixels=recipe.max_megapixels,
    )  # fmt: skip
    record = partial(head_record, network.head, kind=recipe.head, width=loaded.embedding_size)
    inside = record(temperature=1.0).scores(measured.matrix[choose])
    head = record(temperature=fit_temperature(inside, partition.labels[choose]))
    choosing = HeldOut(choose, head.probabilities(measured.matrix[choose]))
    if probe:
        start_from_probe(network.head, replace(probe, temperature=1.0))
        head = record(temperature=probe.temperature)
    held_out, temperatures = by_folds or (
        HeldOut(held, head.probabilities(measured.matrix[held])),
        np.full(len(held), head.temperature),
    )
    evaluation = finish.measure(held_out, temperatures, partition, data.classes)
    watch.lap("evaluate")
    # A probe's head that was kept has learnt from the images that chose, too.
    judged = partition.chosen_by(NOBODY) if probe else partition
    trust = build_trust(measured, judged, held_out)
    model = finish.model_file(embedder, head, recipe, data, partition, evaluation, trust, origin.reasons)
    prove_evaluated(model, head, measured, recipe.precision)
    calibrated = partial(probabilities, network, temperature=head.temperature)
    prove_trained(model, calibrated, PixelSession(preprocess), data.table, recipe)
    return Fitted(
        data=replace(data, features=measured.matrix), model=model, evaluation=evaluation, held_out=held_out,
        without_leaks=finish.measure_without_leaks(held_out, temperatures, partition, data.classes),
        partition=partition,
        details=Details(familiarity=trust.familiarity, prediction_sets=trust.prediction_sets),
        counts=partition.count(data.classes), seconds={}, choosing=choosing,
        notes=(*data.table.notes, *data.notes, *partition.notes,
               *head.notes, *_sensitive(difference), *trust.notes),
    )  # fmt: skip


def _sensitive(difference: float) -> tuple[str, ...]:
    """The note on a network whose embeddings hang on the order in which numbers are added."""
    if difference <= EMBEDDING:
        return ()
    return (
        f"The model file's embeddings differ from PyTorch's by {100 * difference:.1f} % of their length, and its "
        "probabilities agree: after so few steps the network is sensitive to rounding.",
    )
