"""The strategy `probe`: feature extraction. One pass through a frozen backbone, then a head on the embeddings."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.extras import require
from headstart.core.options import Runtime
from headstart.core.text import quoted
from headstart.data.table import ImageTable
from headstart.features.extract import Features
from headstart.heads import Head, linear
from headstart.heads.linear import LinearHead
from headstart.partition.divide import divide
from headstart.partition.folds import predict_by_folds
from headstart.partition.held_out import HeldOut
from headstart.partition.roles import Partition
from headstart.runs.origin import GIVEN, Origin
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.strategies import finish
from headstart.strategies.embed import embed
from headstart.strategies.examine import examine
from headstart.strategies.trust import build as build_trust

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fit(table: ImageTable, recipe: Recipe, runtime: Runtime, origin: Origin = GIVEN) -> Fitted:
    """Embed, divide, fit, evaluate, and put the model file together.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: The recipe names something that does not exist.
    """
    table.require_classes()
    laps = finish.Laps()
    features, embedder, engine = embed(table, recipe, runtime)
    classes = features.table.require_classes()  # unreadable images may have taken a class away
    laps.lap("embed")
    partition = divide(features.table, features.digests, classes, recipe, traits=features.traits)
    findings = examine(
        features.table, features.digests, features.traits, features.matrix,
        preprocess=embedder.preprocess, runtime=runtime,
    )  # fmt: skip
    laps.lap("check")
    head = fit_head(features, partition, classes, recipe, runtime)
    laps.lap("fit")
    held_out, temperatures = _predict_held_out(features, partition, head, classes, recipe, runtime)
    evaluation = finish.measure(held_out, temperatures, partition, classes)
    laps.lap("evaluate")
    counts = partition.count(classes)
    learnt_from = [features.digests[row] for row in partition.learnt()]
    trust = build_trust(features.matrix, features.digests, partition, held_out)
    laps.lap("trust")
    model = finish.model_file(embedder, head, classes, recipe, counts, evaluation, learnt_from, trust, origin.reasons)
    finish.prove(model, head, features, "float32" if recipe.precision == "float32" and not engine else "int8")
    laps.lap("write")
    return Fitted(
        table=features.table,
        classes=classes,
        model=model,
        evaluation=evaluation,
        without_leaks=finish.measure_without_leaks(held_out, temperatures, partition, classes),
        held_out=held_out,
        partition=partition,
        digests=features.digests,
        traits=features.traits,
        features=features.matrix,
        counts=counts,
        findings=findings,
        seconds=laps.seconds,
        details={
            "embedded": len(features.table) - features.cached,
            "from_cache": features.cached,
            "engine": engine.name if engine else "onnxruntime cpu",
            "head": {
                "temperature": head.temperature,
                **(
                    {"strength": head.strength, "whitening": head.whitening, "log_loss": head.log_loss}
                    if isinstance(head, LinearHead)
                    else {}
                ),
            },
            **trust.details,
            **origin.details,
        },
        notes=(*origin.reasons, *features.table.notes, *features.notes, *partition.notes, *head.notes, *trust.notes),
    )


def fit_head(
    features: Features,
    partition: Partition,
    classes: tuple[str, ...],
    recipe: Recipe,
    runtime: Runtime,
) -> Head:
    """Fit the recipe's head on the rows that are learnt from, whose folds choose its strength."""
    if recipe.head != "linear":  # what has no closed solution is trained by gradients, with PyTorch
        require("torch", "torch", f"The head {quoted(recipe.head)}")
        train_head: Callable[..., Head] = importlib.import_module("headstart.training.head").fit
        rows = partition.learnt()
        data = features.matrix[rows], partition.labels[rows], partition.folds[rows]
        return train_head(*data, len(classes), recipe, runtime)
    return fit_linear(features, partition, classes, recipe, runtime)


def fit_linear(
    features: Features,
    partition: Partition,
    classes: tuple[str, ...],
    recipe: Recipe,
    runtime: Runtime,
) -> LinearHead:
    """Fit a linear head on the rows that are learnt from, whose folds choose its strength."""
    rows = partition.learnt()
    folds = partition.folds[rows]
    with runtime.progress.stage("Fitting", linear.steps(folds)) as advance:
        return linear.fit(
            features.matrix[rows],
            partition.labels[rows],
            folds,
            classes=len(classes),
            class_weight=recipe.class_weight,
            workers=runtime.workers,
            advance=advance,
        )


def _predict_held_out(
    features: Features,
    partition: Partition,
    head: Head,
    classes: tuple[str, ...],
    recipe: Recipe,
    runtime: Runtime,
) -> tuple[HeldOut, NDArray[np.float64]]:
    """Predictions of the head on the held-out rows; or of one head for each fold, fitted without that fold.

    A fold's head also chooses its strength and temperature without it, as the final head does.
    """
    if not partition.cross_validated:
        rows = partition.held_out()
        return HeldOut(rows, head.probabilities(features.matrix[rows])), np.full(len(rows), head.temperature)

    def learn(inside: Partition, runtime: Runtime) -> tuple[NDArray[np.float64], float]:
        one = fit_head(features, inside, classes, recipe, runtime)
        return one.probabilities(features.matrix[inside.measured()]), one.temperature

    return predict_by_folds(partition, features.digests, len(classes), recipe, runtime, learn)
