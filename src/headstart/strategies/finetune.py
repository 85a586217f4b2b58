"""The strategies `finetune` and `scratch`: train the network itself, with PyTorch.

Fine-tuning begins with the probe's solution as its head (linear probing, then fine-tuning: Kumar et al. 2022), so that
the backbone's weights are not spoilt by a random one; training from scratch begins with random weights throughout.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.artifact.classifier import Classifier
from headstart.backbones import sources
from headstart.core.errors import (
    DeviceError,
    HeadstartError,
    ImageError,
    OptionError,
    StorageError,
    TrainingError,
)
from headstart.core.extras import require
from headstart.core.files import folder_lock, make_folder
from headstart.core.options import Runtime
from headstart.core.recipe import Recipe
from headstart.core.text import quoted
from headstart.data.decode import decode
from headstart.data.table import ImageTable
from headstart.data.traits import Traits
from headstart.features.extract import Features, extract
from headstart.features.parity import PARITY as EMBEDDING_PARITY
from headstart.features.pixels import PixelSession
from headstart.features.scan import scan
from headstart.heads import linear
from headstart.preprocess.spec import Preprocess
from headstart.strategies import finish, unfinished
from headstart.strategies.embed import embed
from headstart.strategies.examine import examine
from headstart.strategies.fitted import Fitted, HeldOut
from headstart.strategies.own import OWN, Own, refuse_missing
from headstart.strategies.parity import pictures
from headstart.strategies.parts import Parts, count, divide
from headstart.strategies.selection import Selection, select
from headstart.strategies.trust import build as build_trust

if TYPE_CHECKING:
    from headstart.training.network import Network
    from headstart.training.task import Trained

# Images on which the finished model is compared with the network itself.
PROOF_IMAGES = 8
# Of a probability: both compute in float32, in another order.
PARITY = 1e-3


@dataclass(frozen=True)
class _Data:
    """The images of a training.

    Attributes:
        table: Those that can be read.
        digests: SHA-256 of each.
        classes: Names, in the order of their numbers.
        parts: What is held out.
        selection: Who learns and who chooses the best epoch.
        traits: What else is known of each image.
        features: Embeddings of the network as it begins, where the head begins as the probe's solution.
    """

    table: ImageTable
    digests: tuple[str, ...]
    traits: tuple[Traits, ...]
    classes: tuple[str, ...]
    parts: Parts
    selection: Selection
    features: Features | None


def fit(table: ImageTable, recipe: Recipe, runtime: Runtime, own: Own | None = None) -> Fitted:
    """Train, load the best epoch, evaluate once, and put the model file together.

    Args:
        table: The images.
        recipe: All choices.
        runtime: Cache, device, folder of checkpoints, progress.
        own: Parts that are not Headstart's.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: The recipe names something that does not exist, or does not fit the data.
        ExtraError: PyTorch is not installed.
        TrainingError: The loss is no number any more.
        DeviceError: The device is not there, or has too little memory.
    """
    require("torch", "torch", f"The strategy {recipe.strategy}")
    from headstart.training.devices import check
    from headstart.training.images import Images
    from headstart.training.loop import fit as train
    from headstart.training.task import Task

    own = own or Own()
    refuse_missing(recipe, own)
    check(recipe, runtime)
    table.require_classes()
    laps = finish.Laps()
    loaded = _load(recipe, own)
    preprocess = replace(loaded.preprocess, fit=recipe.fit)
    data = _read(table, recipe, loaded, preprocess, runtime)
    laps.lap("embed" if data.features else "read")
    findings = examine(
        data.table, data.digests, data.traits, data.features.matrix if data.features else None,
        input_px=preprocess.size_px, runtime=runtime,
    )  # fmt: skip
    laps.lap("check")
    network = _network(loaded, data, recipe, runtime, own)
    with _unfinished(data, recipe, runtime, loaded.weights):
        trained = (own.loop or train)(Task(
            network=network, images=Images(data.table, recipe, preprocess), labels=data.parts.labels,
            classes=len(data.classes), train=data.selection.learn, validation=data.selection.choose, recipe=recipe,
        ), runtime)  # fmt: skip
        network.to("cpu").eval()
        laps.lap("train")
        finished = _finish(network, loaded, preprocess, data, recipe, runtime, laps)
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
    laps.lap("write")
    return replace(
        finished,
        findings=findings,
        seconds=laps.seconds,
        details={
            "validation_images": len(data.selection.choose),
            **(_details(trained) if trained else {}),
            **finished.details,
        },
        notes=(*finished.notes, *(trained.notes if trained else ())),
        files=files,
        folder=runtime.folder,
    )


def _details(trained: Trained) -> dict[str, Any]:
    """What became of the training, as JSON values."""
    return {
        "epochs": trained.history[-1]["epoch"] if trained.history else 0, "best_epoch": trained.best_epoch,
        "lr": trained.lr, "device": trained.device, "mixed_precision": trained.precision,
        "processes": trained.processes, "images_per_second": round(trained.images_per_second, 2),
        "stopped": "patience" if trained.stopped_early else None, "history": list(trained.history),
    }  # fmt: skip


def _load(recipe: Recipe, own: Own) -> sources.Loaded:
    """The backbone as it begins."""
    if own.backbone is None or own.preprocess is None:
        return sources.load(recipe.backbone, pretrained=recipe.pretrained, weights=recipe.weights, seed=recipe.seed)
    from headstart.training.own_backbone import loaded

    return loaded(own.backbone, own.preprocess)


def _read(table: ImageTable, recipe: Recipe, loaded: sources.Loaded, preprocess: Preprocess, runtime: Runtime) -> _Data:
    """Look at every image once; and embed it, where the head begins as the probe's solution."""
    features = None
    if recipe.start == "probe":
        if recipe.backbone == OWN:
            from headstart.training.export import export

            embedder, _ = export(loaded.module, loaded, preprocess, pictures(table, recipe))
            features = extract(table, embedder, runtime, max_megapixels=recipe.max_megapixels)
        else:
            features = embed(table, recipe, runtime).features
        table, digests, traits = features.table, features.digests, features.traits
    else:
        table, found, seen = scan(table, runtime, max_megapixels=recipe.max_megapixels, enough_px=preprocess.enough_px)
        digests, traits = tuple(found), tuple(seen)
    classes = table.require_classes()  # unreadable images may have taken a class away
    parts = divide(table, digests, classes, recipe, traits=traits, cross_validate=False)
    return _Data(table, digests, traits, classes, parts, select(parts, digests, recipe), features)


def _network(loaded: sources.Loaded, data: _Data, recipe: Recipe, runtime: Runtime, own: Own) -> Network:
    """The network as it begins."""
    from headstart.training.from_run import start_from_run
    from headstart.training.network import Network, make_head, start_from_probe

    make = own.head or partial(make_head, recipe)
    head = make(loaded.embedding_size, len(data.classes))
    if recipe.start == "weights":
        start_from_run(head, recipe.backbone, data.classes, recipe.head)
    elif data.features is not None:
        rows, parts = data.selection.learn, data.parts
        # The images that choose the epoch must not have been learnt from by the head that it begins with either.
        folds = parts.folds[np.isin(parts.fit, rows)]
        with runtime.progress.stage("Fitting", linear.MAX_STEPS) as advance:
            start_from_probe(head, linear.fit(
                data.features.matrix[rows], parts.labels[rows], folds, classes=len(data.classes),
                class_weight=recipe.class_weight, workers=runtime.workers, advance=advance,
            ))  # fmt: skip
    return Network(loaded.module, head)


@contextlib.contextmanager
def _unfinished(data: _Data, recipe: Recipe, runtime: Runtime, weights: str) -> Iterator[None]:
    """Hold the run folder, and keep what is needed to go on in it."""
    if runtime.folder is None or not runtime.main_process:
        yield
        return
    make_folder(runtime.folder)
    with folder_lock(runtime.folder):
        if runtime.resume:
            before = unfinished.read(runtime.folder)
            unfinished.check_recipe(before, recipe)
            unfinished.check_images(before, data.table, data.digests)
            unfinished.check_weights(before, weights)
        elif unfinished.exists(runtime.folder):
            raise unfinished.in_the_way(runtime.folder)
        else:
            unfinished.write(runtime.folder, data.table, data.digests, recipe, weights)
        try:
            yield
        except (DeviceError, OptionError, StorageError, TrainingError):
            unfinished.forget_unbegun(runtime.folder)
            raise


def _finish(
    network: Network,
    loaded: sources.Loaded,
    preprocess: Preprocess,
    data: _Data,
    recipe: Recipe,
    runtime: Runtime,
    laps: finish.Laps,
) -> Fitted:
    """Export, calibrate, evaluate once, write the model file, and prove it.

    All images pass the exported network, which is what the model file holds.
    """
    from headstart.heads.linear import fit_temperature
    from headstart.training.export import export
    from headstart.training.network import head_record

    parts, choose = data.parts, data.selection.choose
    embedder, difference = export(network.backbone, loaded, preprocess, pictures(data.table, recipe))
    measured = extract(
        replace(data.table, skipped=()), embedder, replace(runtime, cache=None, strict=True),
        max_megapixels=recipe.max_megapixels,
    )  # fmt: skip
    record = partial(head_record, network.head, kind=recipe.head, width=loaded.embedding_size)
    inside = record(temperature=1.0).scores(measured.matrix[choose])
    head = record(temperature=fit_temperature(inside, parts.labels[choose]))
    held_out = HeldOut(parts.held_out, head.probabilities(measured.matrix[parts.held_out]))
    evaluation = finish.measure(held_out, np.full(len(parts.held_out), head.temperature), parts, data.classes)
    laps.lap("evaluate")
    counts = count(parts.names, parts.labels, data.classes)
    learnt_from = [data.digests[row] for row in parts.fit]
    trust = build_trust(measured.matrix, data.digests, parts, held_out, choose)
    model = finish.model_file(embedder, head, data.classes, recipe, counts, evaluation, learnt_from, trust)
    finish.prove(model, head, measured, recipe.precision)
    _prove_against_network(model, network, head.temperature, preprocess, data.table, recipe)
    return Fitted(
        table=data.table, classes=data.classes, model=model, evaluation=evaluation, held_out=held_out,
        parts=parts.names, digests=data.digests, traits=data.traits, features=measured.matrix,
        counts=counts, seconds={}, details=trust.details,
        notes=(*data.table.notes, *(data.features.notes if data.features else ()), *parts.notes,
               *data.selection.notes, *head.notes, *_sensitive(difference), *trust.notes),
    )  # fmt: skip


def _sensitive(difference: float) -> tuple[str, ...]:
    """The note on a network whose embeddings hang on the order in which numbers are added."""
    if difference <= EMBEDDING_PARITY:
        return ()
    return (
        f"The model file's embeddings differ from PyTorch's by {100 * difference:.1f} % of their length, and its "
        "probabilities agree: after so few steps the network is sensitive to rounding.",
    )


def _prove_against_network(
    model: bytes, network: Network, temperature: float, preprocess: Preprocess, table: ImageTable, recipe: Recipe
) -> None:
    """Compare the finished model file, from the bytes of image files, with the network that was trained.

    Raises:
        HeadstartError: They differ; the model is not handed out.
    """
    from headstart.training.export import probabilities

    classifier, session = Classifier(model), PixelSession(preprocess)
    for row in range(0, len(table), max(1, len(table) // PROOF_IMAGES)):
        try:
            file = table.storage.read(table.rows[row].path)
            image = decode(file, max_megapixels=recipe.max_megapixels, enough_px=preprocess.enough_px)
            got = classifier.run_file(file).probabilities
        except ImageError:  # it has vanished since it was read
            continue
        expected = probabilities(network, session.run(image.pixels)[None], temperature)[0]
        difference = float(np.abs(got - expected).max())
        if not difference <= PARITY:
            raise HeadstartError(
                f"The finished model differs from the trained network by {difference:.1e} of a probability for "
                f"{quoted(table.rows[row].path)}; at most {PARITY:.0e} is accepted, and it was not saved.",
                "Please report the backbone.",
            )
