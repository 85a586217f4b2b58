"""The strategy `probe`: feature extraction. One pass through a frozen backbone, then a head on the embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from headstart import targets
from headstart.core.extras import require
from headstart.core.runtime import Runtime
from headstart.core.tables import resolve
from headstart.core.text import quoted
from headstart.data.table import ImageTable
from headstart.features.dataset import Dataset
from headstart.heads import Head
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead
from headstart.partition.divide import divide
from headstart.partition.folds import predict_by_folds
from headstart.partition.held_out import HeldOut
from headstart.partition.roles import Partition
from headstart.runs.details import Details, Embedding, HeadFit
from headstart.runs.origin import GIVEN, Origin
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.strategies import finish
from headstart.strategies.embed import Embedded, embed
from headstart.strategies.examine import examine
from headstart.strategies.proof import prove_evaluated
from headstart.strategies.trust import build as build_trust

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fit(table: ImageTable, recipe: Recipe, runtime: Runtime, origin: Origin = GIVEN) -> Fitted:
    """Embed, divide, fit, evaluate, and put the model file together.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: The recipe names something that does not exist.
    """
    targets.read(table)
    watch = finish.Stopwatch()
    found = embed(table, recipe, runtime)
    watch.lap("embed")
    return fit_embedded(found, recipe, runtime, origin, watch)


def fit_embedded(
    found: Embedded, recipe: Recipe, runtime: Runtime, origin: Origin, watch: finish.Stopwatch, *, coarse: bool = False
) -> Fitted:
    """The same from images that are embedded already.

    Args:
        found: The images with their embeddings.
        recipe: All choices.
        runtime: How to run.
        origin: Where the recipe comes from.
        watch: Has the seconds that the embedding took.
        coarse: The embeddings were kept in half precision.

    Raises:
        SourceError: The images cannot be learnt from.
    """
    data, embedder, engine = found
    classes = data.targets.names  # unreadable images may have taken one away
    partition = divide(data, recipe)
    findings = examine(data, preprocess=embedder.preprocess, runtime=runtime)
    watch.lap("check")
    head = fit_head(data, partition, recipe, runtime)
    watch.lap("fit")
    held_out = _predict_held_out(data, partition, head, recipe, runtime)
    evaluation = finish.measure(held_out, partition, classes)
    watch.lap("evaluate")
    trust = build_trust(data, partition, held_out)
    watch.lap("trust")
    model = finish.model_file(embedder, head, recipe, data, partition, evaluation, trust).because(origin.reasons)
    exact = recipe.precision == "float32" and not engine and not coarse
    proof = prove_evaluated(model.content, head, data, "float32" if exact else "int8", embedder)
    watch.lap("write")
    return Fitted(
        data=data,
        model_file=model,
        evaluation=evaluation,
        without_leaks=finish.measure_without_leaks(held_out, partition, classes),
        held_out=held_out,
        partition=partition,
        counts=partition.count(),
        findings=findings,
        seconds=watch.seconds,
        details=Details(
            embedding=Embedding(len(data) - data.cached, data.cached, engine.name if engine else "onnxruntime cpu"),
            head=_details(head),
            familiarity=trust.familiarity,
            prediction_sets=trust.prediction_sets,
            choices=origin.evidence,
        ),
        notes=(
            *origin.reasons,
            *data.table.notes,
            *data.notes,
            *partition.notes,
            *head.head.notes,
            *trust.notes,
            *proof,
        ),
    )


def _details(calibrated: Calibrated[Head]) -> HeadFit:
    """How a head was fitted."""
    head, temperature = calibrated.head, calibrated.temperature
    if isinstance(head, LinearHead):
        return HeadFit(
            temperature, head.c, None if head.whitenings else head.whitening, head.log_loss, head.cs or None,
            head.whitenings or None,
        )  # fmt: skip
    return HeadFit(temperature)


def fit_head(
    data: Dataset,
    partition: Partition,
    recipe: Recipe,
    runtime: Runtime,
) -> Calibrated[Head]:
    """Fit the recipe's head on the rows that are learnt from, whose folds choose its C."""
    spec = recipe.head_spec
    if spec.extra:
        require(spec.extra, spec.extra, f"The head {quoted(recipe.head)}")
    if not spec.fit:
        return fit_linear(data, partition, recipe, runtime)
    fit: Callable[..., Calibrated[Head]] = resolve(spec.fit)
    return fit(*_learnt(data, partition), recipe, runtime)


def fit_linear(
    data: Dataset,
    partition: Partition,
    recipe: Recipe,
    runtime: Runtime,
) -> Calibrated[LinearHead]:
    """Fit a linear head on the rows that are learnt from, whose folds choose its C."""
    fit: Callable[..., Calibrated[LinearHead]] = resolve(targets.TARGETS[data.table.task].linear)
    return fit(*_learnt(data, partition), recipe, runtime)


def _learnt(data: Dataset, partition: Partition) -> tuple[NDArray[np.float32], targets.Targets, NDArray[np.int64]]:
    """Embeddings, labels and folds of the rows that are learnt from."""
    rows = partition.learnt()
    return data.matrix[rows], partition.targets.take(rows), partition.folds[rows]


def _predict_held_out(
    data: Dataset,
    partition: Partition,
    head: Calibrated[Head],
    recipe: Recipe,
    runtime: Runtime,
) -> HeldOut:
    """Predictions of the head on the held-out rows; or of one head for each fold, fitted without that fold.

    A fold's head also chooses its C and temperature without it, as the final head does.
    """
    if not partition.cross_validated:
        rows = partition.held_out()
        return HeldOut.by(rows, head.probabilities(data.matrix[rows]), head.calibration)

    def learn(inside: Partition, runtime: Runtime) -> tuple[NDArray[np.float64], targets.Calibration]:
        one = fit_head(data, inside, recipe, runtime)
        return one.probabilities(data.matrix[inside.measured()]), one.calibration

    return predict_by_folds(partition, data, recipe, runtime, learn)
