"""Cross-validation: each image is measured by a model that has learnt from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.progress import Within
from headstart.core.runtime import Runtime
from headstart.features.dataset import Dataset
from headstart.partition.draw import deal_folds, join_groups
from headstart.partition.held_out import HeldOut
from headstart.partition.roles import Partition, Role
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.targets import Calibration

# Learns from the train rows of a partition; gives probabilities (M, C) of its measured rows, and what made them.
Learn = Callable[[Partition, Runtime], "tuple[NDArray[np.float64], Calibration]"]


def predict_by_folds(partition: Partition, data: Dataset, recipe: Recipe, runtime: Runtime, learn: Learn) -> HeldOut:
    """The predictions of one model for each fold, which was made without that fold.

    It also chooses its settings, its best epoch and its temperature without it, as the final model does without the
    images that it is measured on. Nothing of it is kept in the run folder: a training that is resumed makes the same
    again.

    Args:
        partition: Of a cross-validation.
        data: The images.
        recipe: Folds and seed.
        runtime: How to run.
        learn: Makes the model of a fold.
    """
    rows = partition.measured()
    probabilities, calibrations = np.empty((len(rows), len(data.targets.names))), np.empty(len(rows), object)
    number = len(partition.rounds())
    for fold, inside in enumerate(rounds(partition, data, recipe)):
        within = Within(runtime.progress, f"fold {fold + 1} of {number}")
        where = np.searchsorted(rows, inside.measured())
        probabilities[where], calibrations[where] = learn(
            inside, replace(runtime, progress=within, folder=None, resume=False)
        )
    return HeldOut(rows, probabilities, calibrations)


def rounds(partition: Partition, data: Dataset, recipe: Recipe) -> Iterator[Partition]:
    """For each fold of a cross-validation the partition of its model, which is measured on that fold.

    Raises:
        SourceError: Groups mix the classes so that what is left of one fold cannot be dealt into folds.
    """
    for inside, outside in partition.rounds():
        yield _round(partition, inside, outside, data, recipe)


def _round(
    partition: Partition,
    inside: NDArray[np.int64],
    outside: NDArray[np.int64],
    data: Dataset,
    recipe: Recipe,
) -> Partition:
    """The partition of one fold's model: it learns from the other folds, which are dealt into folds of their own."""

    def deal(groups: Sequence[int]) -> NDArray[np.int64]:
        own, files = [groups[row] for row in inside], [data.digests[row] for row in inside]
        return deal_folds(partition.targets.take(inside).strata(), own, files, folds=recipe.folds, seed=recipe.seed)

    roles = np.full(len(partition.roles), Role.NONE, np.int8)
    roles[inside], roles[outside] = Role.TRAIN, Role.TEST
    folds = np.full(len(roles), -1, np.int64)
    try:
        folds[inside] = deal(partition.groups.tolist())
    except SourceError:  # these groups mix the classes; the folds inside choose settings, and measure nothing
        folds[inside] = deal(join_groups(data.digests, [None] * len(data)))
    return replace(
        partition, roles=roles, folds=folds, measures=Role.TEST, choosing=np.zeros(len(roles), bool), notes=()
    )
