"""Which flips and turns preserve the class of an image, as far as the user's own images show.

A head trained on the original images predicts the same images, mirrored or turned. Where it becomes wrong, a network
that trains on such images gets wrong labels: on digits each of the four does harm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import ImageError, OptionError
from headstart.core.runtime import Runtime
from headstart.core.text import listed, nearest, quoted
from headstart.data.decode import decode
from headstart.data.storage import Storage
from headstart.data.table import ImageTable, Row
from headstart.evaluation.intervals import NORMAL_95
from headstart.evaluation.paired_intervals import design_effect, score_interval
from headstart.evaluation.paired_tests import LEVEL, holm, mcnemar, swap_test
from headstart.features.look import Network
from headstart.features.passes import each
from headstart.heads import linear
from headstart.modelfile.session import LazySession
from headstart.preprocess.spec import Preprocess
from headstart.runs.chosen import Changed, Flips, Verdict
from headstart.settings.recipe import Recipe
from headstart.strategies.choices.basis import Basis, evidence_recipe, find_basis, sample
from headstart.strategies.choices.evidence import paired_test, standard_error
from headstart.strategies.embed import Embedded, embed
from headstart.targets import judge_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    # Whether each image is correct, and its loss; (N,) each.
    Predicted = tuple[NDArray[np.bool_], NDArray[np.float64]]

MAX_IMAGES = 200
# The largest loss of accuracy, with 95 % confidence, that still counts as none.
HARMLESS_LOSS = 0.05
# And of the log loss, in nats: the true class keeps nine tenths of its probability.
HARMLESS_NATS = 0.1
MIN_IMAGES = 20  # with fewer, nothing could be shown
TRANSFORMS: dict[str, tuple[str, Callable[[Pixels], Pixels]]] = {
    "hflip": ("mirroring left and right", lambda pixels: pixels[:, ::-1]),
    "vflip": ("mirroring top and bottom", lambda pixels: pixels[::-1]),
    "rot90": ("a quarter turn", lambda pixels: pixels.swapaxes(0, 1)[::-1]),
    "rot180": ("a half turn", lambda pixels: pixels[::-1, ::-1]),
}


def harmless(table: ImageTable, recipe: Recipe, runtime: Runtime, names: Sequence[str] = tuple(TRANSFORMS)) -> Flips:
    """Judge flips and turns on the train images of a recipe; see `judge`.

    Args:
        table: The images.
        recipe: The one that will be followed.
        runtime: Cache, workers, progress.
        names: Of `TRANSFORMS`.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: There is no such transform.
    """
    probe = evidence_recipe(recipe)
    embedded = embed(table, probe, runtime)
    return judge(find_basis(embedded, recipe), embedded, probe, runtime, names)


def judge(
    basis: Basis, embedded: Embedded, recipe: Recipe, runtime: Runtime, names: Sequence[str] = tuple(TRANSFORMS)
) -> Flips:
    """Predict a stratified sample of at most `MAX_IMAGES` train images, as they are and changed, by out-of-fold heads.

    Args:
        basis: The train images.
        embedded: All images, of which the basis is a part.
        recipe: The probe that embedded them.
        runtime: Workers, progress.
        names: Of `TRANSFORMS`.

    Returns:
        Harmful is what significantly worsens accuracy or log loss; harmless what with confidence costs less than
        `HARMLESS_LOSS` of the one and `HARMLESS_NATS` of the other. P-values are corrected for the number of transforms
        (Holm).

    Raises:
        OptionError: There is no such transform.
    """
    for name in names:
        if name not in TRANSFORMS:
            raise OptionError(
                f"There is no transform {quoted(name)}.", f"{nearest(name, TRANSFORMS)}Known: {listed(TRANSFORMS)}."
            )
    matrix = embedded.data.matrix[basis.rows]
    rows = _some(basis)
    if len(basis) < MIN_IMAGES:
        return _nothing(len(basis), names)
    seen, changed = _embed_changed(basis, embedded, recipe, runtime, rows, names)
    rows = rows[seen]
    if len(rows) < MIN_IMAGES:
        return _nothing(len(rows), names)
    predict = _out_of_fold(basis, matrix, recipe, runtime)
    clusters = np.unique(np.array(basis.groups)[rows], return_inverse=True)[1]
    scored = judge_of(basis.table.task)
    right, losses = scored(predict(rows, matrix[rows]), basis.labels[rows])
    before = right, losses
    after = [scored(predict(rows, embeddings[seen]), basis.labels[rows]) for embeddings in changed]
    p_values = holm([worse(*_worsened(before, one), clusters) for one in after])
    judged = {
        name: _judged(before, one, clusters, p_value) for name, one, p_value in zip(names, after, p_values, strict=True)
    }
    accuracy = float(right.mean())
    return Flips(
        images=len(rows), accuracy=accuracy, log_loss=float(losses.mean()), transforms=judged,
        reason=_reason(judged, accuracy, len(rows)),
    )  # fmt: skip


def _some(basis: Basis) -> NDArray[np.int64]:
    """Places (S,) in the basis of a stratified sample; of more classes than images, some classes are left out."""
    rows = sample(basis.labels, basis.digests, MAX_IMAGES, least=1)
    first = np.argsort([basis.digests[row] for row in rows], kind="stable")[:MAX_IMAGES]
    return np.sort(rows[first])


def worse(lost: NDArray[np.int64], added: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """P-value that predictions became worse, by accuracy or by log loss; corrected for there being two tests.

    Networks that were trained on mirrored photos recognise a mirrored digit nearly as often; they are less sure of it.

    Args:
        lost: 1 where an image is no longer correct, -1 where it is now, (N,).
        added: By how much the loss of each is higher, (N,).
        clusters: Cluster of each, int64 (N,), in 0..K-1.
    """
    by_accuracy = by_loss = 1.0
    if lost.sum() > 0:
        single = clusters.max() + 1 == len(lost)
        by_accuracy = mcnemar(int((lost > 0).sum()), int((lost < 0).sum())) if single else (
            swap_test(np.bincount(clusters, lost).astype(np.int64)))  # fmt: skip
    if added.mean() > 0:
        by_loss = paired_test(added, clusters)
    return min(1.0, 2 * min(by_accuracy, by_loss))


def _worsened(before: Predicted, after: Predicted) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where an image is no longer correct, 1, or is now, -1; and by how much its loss is higher; (N,) each."""
    return before[0].astype(np.int64) - after[0], after[1] - before[1]


def _judged(before: Predicted, after: Predicted, clusters: NDArray[np.int64], p_value: float) -> Changed:
    lost, added = _worsened(before, after)
    effect = design_effect(lost, clusters)  # images of one group count for fewer
    low, high = score_interval((lost > 0).sum() / effect, (lost < 0).sum() / effect, len(lost) / effect)
    at_most = float(added.mean()) + NORMAL_95 * standard_error(added, clusters)
    return Changed(
        verdict=_verdict(p_value, float(high), at_most),
        accuracy=float(after[0].mean()), accuracy_lost=float(lost.mean()), interval=(float(low), float(high)),
        log_loss=float(after[1].mean()), log_loss_added_at_most=at_most, p_value=p_value,
    )  # fmt: skip


def _verdict(p_value: float, lost_at_most: float, added_at_most: float) -> Verdict:
    if p_value < LEVEL:
        return "harmful"
    return "harmless" if lost_at_most <= HARMLESS_LOSS and added_at_most <= HARMLESS_NATS else "unresolved"


def _reason(found: Mapping[str, Changed], accuracy: float, images: int) -> str:
    words = []
    for verdict in ("harmless", "harmful", "unresolved"):
        told = [
            f"{TRANSFORMS[name][0]} ({100 * (one.accuracy or 0):.1f} %)"
            for name, one in found.items() if one.verdict == verdict
        ]  # fmt: skip
        if told:
            words.append(f"{verdict}: {', '.join(told)}")
    return (
        f"Flips and turns, on {images:,} train images (accuracy unchanged: {100 * accuracy:.1f} %): {'; '.join(words)}."
    )


def _nothing(images: int, names: Sequence[str]) -> Flips:
    """Too few images to ask."""
    return Flips(
        images=images, accuracy=None, log_loss=None,
        transforms={name: Changed(verdict="unresolved") for name in names},
        reason=f"Flips and turns: {images} train images are too few to say which are harmless.",
    )  # fmt: skip


@dataclass(frozen=True)
class _EmbedChanged:
    """The unit of work: the embeddings of an image, changed in each of some ways, float32 (D,) each."""

    storage: Storage
    network: Network
    preprocess: Preprocess
    max_megapixels: int
    names: tuple[str, ...]

    def __call__(self, row: Row, /) -> list[NDArray[np.float32]]:
        spec = self.preprocess
        image = decode(
            self.storage.read(row.path),
            max_megapixels=self.max_megapixels, enough_px=spec.enough_px, white_level=spec.white_level,
        )  # fmt: skip
        return [self.network.run(np.ascontiguousarray(TRANSFORMS[name][1](image.pixels)))[0] for name in self.names]


def _embed_changed(
    basis: Basis, embedded: Embedded, recipe: Recipe, runtime: Runtime, rows: NDArray[np.int64], names: Sequence[str]
) -> tuple[NDArray[np.int64], list[NDArray[np.float32]]]:
    """Embeddings (S, D) of changed images, for each name; and which of the S rows could be read again."""
    embedder = embedded.embedder
    network = embedded.engine or LazySession(embedder.model)
    table = basis.table
    work = _EmbedChanged(table.storage, network, embedder.preprocess, recipe.max_megapixels, tuple(names))
    results = [np.zeros((len(rows), embedder.width), np.float32) for _ in names]
    seen = []
    for index, result in each(work, [table.rows[row] for row in rows], runtime, "Flips and turns"):
        if not isinstance(result, ImageError):
            seen.append(index)
            for matrix, embedding in zip(results, result, strict=True):
                matrix[index] = embedding
    return np.array(seen, np.int64), results


def _out_of_fold(
    basis: Basis, matrix: NDArray[np.float32], recipe: Recipe, runtime: Runtime
) -> Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.float64]]:
    """Predicts rows of the basis by the heads that were fitted without their folds."""
    classes = len(basis.classes)
    found = linear.cross_validate(
        matrix, basis.labels, basis.folds, classes=classes, class_weight=recipe.class_weight, workers=runtime.workers
    )
    heads = {
        fold: linear.fit_as_chosen(
            matrix[basis.folds != fold], basis.labels[basis.folds != fold], classes=classes,
            c=found.c, whitening=found.whitening, temperature=found.temperature,
            class_weight=recipe.class_weight,
        )
        for fold in np.unique(basis.folds).tolist()
    }  # fmt: skip

    def predict(rows: NDArray[np.int64], embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        result = np.empty((len(rows), classes))
        for fold, head in heads.items():
            inside = basis.folds[rows] == fold
            result[inside] = head.probabilities(embeddings[inside])
        return result

    return predict
