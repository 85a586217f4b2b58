"""Cross-validation: each image is measured by a model that has learnt from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.options import Runtime
from headstart.core.progress import Within
from headstart.partition.divide import Parts
from headstart.partition.draw import deal_folds, join_groups
from headstart.partition.held_out import HeldOut
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Learns from `fit` of some parts alone; gives probabilities (M, C) of their `held_out`, and the temperature of these.
Learn = Callable[[Parts, Runtime], "tuple[NDArray[np.float64], float]"]


def predict_by_folds(
    parts: Parts, digests: Sequence[str], classes: int, recipe: Recipe, runtime: Runtime, learn: Learn
) -> tuple[HeldOut, NDArray[np.float64]]:
    """The predictions of one model for each fold, which was made without that fold.

    It also chooses its settings, its best epoch and its temperature without it, as the final model does without the
    images that it is measured on. Nothing of it is kept in the run folder: a training that is resumed makes the same
    again.

    Args:
        parts: Of a cross-validation.
        digests: SHA-256 of each image.
        classes: Number C of classes.
        recipe: Folds and seed.
        runtime: How to run.
        learn: Makes the model of a fold.

    Returns:
        The predictions, and what the scores of each were divided by, (M,).
    """
    probabilities = np.empty((len(parts.fit), classes))
    temperatures = np.empty(len(parts.fit))
    number = len(np.unique(parts.folds))
    for fold, (where, inside) in enumerate(rounds(parts, digests, recipe)):
        within = Within(runtime.progress, f"fold {fold + 1} of {number}")
        probabilities[where], temperatures[where] = learn(
            inside, replace(runtime, progress=within, folder=None, resume=False)
        )
    return HeldOut(parts.fit, probabilities), temperatures


def rounds(parts: Parts, digests: Sequence[str], recipe: Recipe) -> Iterator[tuple[NDArray[np.bool_], Parts]]:
    """For each fold of a cross-validation which of `fit` it holds out, bool (F,), and the parts of its model.

    Raises:
        SourceError: Groups mix the classes so that what is left of one fold cannot be dealt into folds.
    """
    for fold in np.unique(parts.folds).tolist():
        yield parts.folds == fold, _without(parts, fold, digests, recipe)


def _without(parts: Parts, fold: int, digests: Sequence[str], recipe: Recipe) -> Parts:
    """The parts of one fold's model: it learns from the other folds, which are dealt into folds of their own."""
    inside, outside = parts.fit[parts.folds != fold], parts.fit[parts.folds == fold]
    names = np.full(len(parts.names), "", object)
    names[inside], names[outside] = "train", "val"

    def deal(groups: Sequence[int]) -> NDArray[np.int64]:
        own, files = [groups[row] for row in inside], [digests[row] for row in inside]
        return deal_folds(parts.labels[inside], own, files, folds=recipe.folds, seed=recipe.seed)

    try:
        folds = deal(parts.groups)
    except SourceError:  # these groups mix the classes; the folds inside choose settings, and measure nothing
        folds = deal(join_groups(digests, [None] * len(digests)))
    return replace(parts, names=tuple(names), fit=inside, folds=folds, held_out=outside, split="val", notes=())
