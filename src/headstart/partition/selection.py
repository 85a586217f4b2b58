"""The images that choose the best epoch of a training, and its temperature."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.text import counted
from headstart.features.dataset import Dataset
from headstart.partition.draw import deal_folds, holdout
from headstart.partition.roles import Partition, Role
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray


def select(partition: Partition, data: Dataset, recipe: Recipe) -> Partition:
    """Find the images that choose the best epoch, which are not trained on.

    The val split does where there is a test split too. Otherwise a share of the train images does, which keeps the
    held-out images for the one measurement at the end; or, with ``validation = 0``, the held-out images themselves.

    What chooses is called val, and what is measured and chooses nothing is called test, but for two cases: the source's
    own splits keep their names, and in a cross-validation all images are measured.

    Raises:
        SourceError: There are too few train images to take some away.
    """
    train, val = partition.of(Role.TRAIN), partition.of(Role.VAL)
    if len(val) and len(partition.of(Role.TEST)):
        return partition.chosen_by(val)
    if not recipe.validation:
        return _chosen_by_the_measured(partition, data)
    taken = holdout(
        partition.targets.take(train).strata(), partition.groups[train].tolist(), [data.digests[row] for row in train],
        share=recipe.validation, seed=recipe.seed,
    )  # fmt: skip
    if not taken.any():
        raise SourceError(
            f"None of {counted(len(train), 'train image')} can be set aside to choose the best epoch.",
            "Add images, or let the held-out images choose it, with --validation 0.",
        )
    if partition.measures == Role.TEST:
        return _with_val(partition, train[taken], data, recipe)
    note = f"{counted(int(taken.sum()), 'train image')} chose the best epoch and the temperature, and "
    return partition.chosen_by(train[taken], note + f"{int((~taken).sum()):,} were trained on.")


def set_aside(partition: Partition, data: Dataset, recipe: Recipe, share: float, what: str) -> Partition:
    """Find the images that set the temperature of a head that is fitted once: val, or a share of the train images.

    Args:
        partition: Who learns and who is measured.
        data: The images.
        recipe: Seed and folds.
        share: Of the train images, above 0 and below 1.
        what: What the note says that they did, after their number.

    Raises:
        SourceError: There are too few train images to take some away.
    """
    train, val = partition.of(Role.TRAIN), partition.of(Role.VAL)
    if len(val) and len(partition.of(Role.TEST)):
        return partition.chosen_by(val)
    taken = holdout(
        partition.targets.take(train).strata(), partition.groups[train].tolist(), [data.digests[row] for row in train],
        share=share, seed=recipe.seed,
    )  # fmt: skip
    if not taken.any():
        raise SourceError(
            f"None of {counted(len(train), 'train image')} can be set aside to set the temperature.", "Add images."
        )
    note = f"{counted(int(taken.sum()), 'train image')} {what}."
    if partition.measures == Role.TEST:
        return _with_val(partition, train[taken], data, recipe, note)
    return partition.chosen_by(train[taken], note)


def _with_val(
    partition: Partition, rows: NDArray[np.int64], data: Dataset, recipe: Recipe, note: str = ""
) -> Partition:
    """The same with a val split of some train rows.

    The folds are dealt again among those that are left, as they are where a source brings these splits: so a run's
    ``splits.csv`` gives the same run again.
    """
    roles = partition.roles.copy()
    roles[rows] = Role.VAL
    left = np.flatnonzero(roles == Role.TRAIN)
    groups, digests = partition.groups[left].tolist(), [data.digests[row] for row in left]
    strata, folds = partition.targets.take(left).strata(), np.full(len(roles), -1, np.int64)
    folds[left] = deal_folds(strata, groups, digests, folds=recipe.folds, seed=recipe.seed)
    note = (
        note
        or f"{counted(len(rows), 'val image')}, drawn from the train images, chose the best epoch and the temperature."
    )
    return replace(partition, roles=roles, folds=folds).chosen_by(rows, note)


def _chosen_by_the_measured(partition: Partition, data: Dataset) -> Partition:
    """The same where the held-out images choose: those that Headstart drew are no test split then."""
    if partition.measures == Role.TEST and "test" not in data.table.splits:
        roles = np.where(partition.roles == Role.TEST, np.int8(Role.VAL), partition.roles)
        partition = replace(partition, roles=roles, measures=Role.VAL)
    return partition.chosen_by(
        partition.held_out(),
        f"The {partition.split} images also chose the best epoch, so the numbers on them are optimistic. "
        "With --validation 0.2 part of the train images choose it instead.",
    )
