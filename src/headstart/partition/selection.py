"""The images that choose the best epoch of a training."""

from __future__ import annotations

from headstart.core.errors import SourceError
from headstart.core.text import counted
from headstart.features.dataset import Dataset
from headstart.partition.draw import holdout
from headstart.partition.roles import Partition, Role
from headstart.settings.recipe import Recipe


def select(partition: Partition, data: Dataset, recipe: Recipe) -> Partition:
    """Find the images that choose the best epoch, which are not learnt from.

    The val split does where there is a test split too. Otherwise a share of the train images does, which keeps the
    held-out images for the one measurement at the end; or, with ``validation = 0``, the held-out images themselves.

    Raises:
        SourceError: There are too few train images to take some away.
    """
    train, val = partition.of(Role.TRAIN), partition.of(Role.VAL)
    if len(val) and len(partition.of(Role.TEST)):
        return partition.chosen_by(val)
    if not recipe.validation:
        return partition.chosen_by(
            partition.held_out(),
            f"The {partition.split} images also chose the best epoch, so the numbers on them are optimistic. "
            "With --validation 0.2 part of the train images choose it instead.",
        )
    taken = holdout(
        partition.labels[train], partition.groups[train].tolist(), [data.digests[row] for row in train],
        share=recipe.validation, seed=recipe.seed,
    )  # fmt: skip
    if not taken.any():
        raise SourceError(
            f"Of {counted(len(train), 'train image')} none can be set aside to choose the best epoch.",
            "Add images, or let the held-out images choose it, with --validation 0.",
        )
    note = f"{counted(int(taken.sum()), 'train image')} chose the best epoch and the temperature, and "
    return partition.chosen_by(train[taken], note + f"{int((~taken).sum()):,} were trained on.")
