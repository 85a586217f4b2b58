"""The strategy `probe`: feature extraction. One pass through a frozen backbone, then a head on the embeddings."""

from __future__ import annotations

import importlib
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import __version__
from headstart.artifact.classifier import Classifier
from headstart.artifact.golden import TOLERANCES
from headstart.artifact.schema import FINGERPRINT_BYTES, Metadata
from headstart.artifact.writer import write_model
from headstart.backbones import catalog
from headstart.backbones.embedder import Embedder, load_embedder
from headstart.core.digest import digest_bytes
from headstart.core.errors import HeadstartError, ImageError
from headstart.core.options import Runtime
from headstart.core.recipe import Recipe
from headstart.core.text import quoted
from headstart.data.splits import deal_folds
from headstart.data.table import ImageTable
from headstart.evaluation import Evaluation, evaluate
from headstart.features.extract import Features, extract
from headstart.heads import linear
from headstart.strategies.fitted import Fitted, HeldOut
from headstart.strategies.parts import Parts, count, divide

if TYPE_CHECKING:
    from numpy.typing import NDArray


PROOF_IMAGES = 4


def fit(table: ImageTable, recipe: Recipe, runtime: Runtime) -> Fitted:
    """Embed, divide, fit, evaluate, and put the model file together.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: The recipe names something that does not exist.
    """
    table.require_classes()
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[stage], clock = now - clock, now

    # SciPy's optimiser takes half a second to import; the embedding pass, which mostly runs outside Python, hides it.
    solver = threading.Thread(target=importlib.import_module, args=("scipy.optimize",), daemon=True)
    solver.start()
    embedder = load_embedder(recipe, runtime.cache)
    features = extract(table, embedder, runtime, max_megapixels=recipe.max_megapixels)
    classes = features.table.require_classes()  # unreadable images may have taken a class away
    lap("embed")
    solver.join()
    parts = divide(features, classes, recipe)
    head = _fit_head(features, parts, parts.fit, parts.folds, classes, recipe, runtime)
    lap("fit")
    held_out, temperatures = _predict_held_out(features, parts, head, classes, recipe, runtime)
    evaluation = _evaluate(held_out, temperatures, parts, classes)
    lap("evaluate")
    counts = count(parts.names, parts.labels, classes)
    learnt_from = [features.digests[row] for row in parts.fit]
    metadata = _metadata(embedder, head, classes, recipe, counts, evaluation, learnt_from)
    model = write_model(embedder, head, metadata)
    prove(model, head, features, recipe)
    lap("write")
    return Fitted(
        table=features.table,
        classes=classes,
        model=model,
        evaluation=evaluation,
        held_out=held_out,
        parts=parts.names,
        counts=counts,
        seconds=seconds,
        details={
            "embedded": len(features.table) - features.cached,
            "from_cache": features.cached,
            "head": {"strength": head.strength, "temperature": head.temperature, "log_loss": head.log_loss},
        },
        notes=(*features.table.notes, *features.notes, *parts.notes, *head.notes),
    )


def prove(model: bytes, head: linear.LinearHead, features: Features, recipe: Recipe) -> None:
    """Run the finished model file on a few images, from their bytes, and compare with what was evaluated.

    Raises:
        HeadstartError: They differ; the model is not handed out.
    """
    classifier, table = Classifier(model), features.table
    tolerance = TOLERANCES[recipe.precision]["probability"]
    for row in range(0, len(table), max(1, len(table) // PROOF_IMAGES)):
        expected = head.probabilities(features.matrix[row])
        try:
            data = table.storage.read(table.rows[row].path)
            if digest_bytes(data) != features.digests[row]:
                continue  # somebody has changed it since it was read
            got = classifier.run_file(data).probabilities
        except ImageError:  # it came from the cache, and has vanished since it was read
            continue
        if not np.allclose(got, expected, rtol=0, atol=tolerance):
            raise HeadstartError(
                f"The finished model gives {got.max():.4f} for {quoted(table.rows[row].path)} where training had "
                f"{expected[got.argmax()]:.4f}; it was not saved.",
                "If the cache came from another machine, run `headstart cache clear`; otherwise please report this.",
            )


def _fit_head(
    features: Features,
    parts: Parts,
    rows: NDArray[np.int64],
    folds: NDArray[np.int64],
    classes: tuple[str, ...],
    recipe: Recipe,
    runtime: Runtime,
) -> linear.LinearHead:
    with runtime.progress.stage("Fitting", linear.MAX_STEPS) as advance:
        return linear.fit(
            features.matrix[rows],
            parts.labels[rows],
            folds,
            classes=len(classes),
            class_weight=recipe.class_weight,
            workers=runtime.workers,
            advance=advance,
        )


def _predict_held_out(
    features: Features,
    parts: Parts,
    head: linear.LinearHead,
    classes: tuple[str, ...],
    recipe: Recipe,
    runtime: Runtime,
) -> tuple[HeldOut, NDArray[np.float64]]:
    """Predictions of the head on the held-out rows; or of one head for each fold, fitted without that fold.

    A fold's head also chooses its strength and temperature without it, as the final head does.
    """
    if not parts.cross_validated:
        probabilities = head.probabilities(features.matrix[parts.held_out])
        return HeldOut(parts.held_out, probabilities), np.full(len(parts.held_out), head.temperature)
    probabilities = np.empty((len(parts.fit), len(classes)))
    temperatures = np.empty(len(parts.fit))
    for fold in np.unique(parts.folds):
        inside, outside = parts.fit[parts.folds != fold], parts.fit[parts.folds == fold]
        inner = deal_folds(
            parts.labels[inside],
            [parts.groups[i] for i in inside],
            [features.digests[i] for i in inside],
            folds=recipe.folds,
            seed=recipe.seed,
        )
        one = _fit_head(features, parts, inside, inner, classes, recipe, runtime)
        probabilities[parts.folds == fold] = one.probabilities(features.matrix[outside])
        temperatures[parts.folds == fold] = one.temperature
    return HeldOut(parts.fit, probabilities), temperatures


def _evaluate(
    held_out: HeldOut, temperatures: NDArray[np.float64], parts: Parts, classes: tuple[str, ...]
) -> Evaluation:
    names = np.array(parts.names)[held_out.rows]
    measured = np.ones(len(names), bool) if parts.cross_validated else names == parts.split
    return evaluate(
        held_out.probabilities[measured],
        parts.labels[held_out.rows[measured]],
        classes,
        split=parts.split,
        temperature=temperatures[measured],
    )


def _metadata(
    embedder: Embedder,
    head: linear.LinearHead,
    classes: tuple[str, ...],
    recipe: Recipe,
    counts: dict[str, dict[str, int]],
    evaluation: Evaluation,
    learnt_from: list[str],
) -> Metadata:
    entry = catalog.find(recipe.backbone)
    backbone: dict[str, Any] = {
        "name": recipe.backbone,
        "embedder": embedder.digest,
        "weights": entry.digest,
        "embedding_size": entry.embedding_size,
        "licence": entry.licence,
    }
    return Metadata(
        classes=classes,
        preprocess=embedder.preprocess,
        recipe=recipe.as_dict(),
        backbone=backbone,
        temperature=head.temperature,
        counts=counts,
        evaluation=evaluation.as_dict(),
        learnt_from=b"".join(sorted({bytes.fromhex(digest)[:FINGERPRINT_BYTES] for digest in learnt_from})),
        version=__version__,
    )
