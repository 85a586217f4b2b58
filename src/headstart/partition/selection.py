"""The images that choose the best epoch of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.text import counted
from headstart.partition.divide import Parts
from headstart.partition.draw import holdout
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Selection:
    """Who learns and who chooses.

    Attributes:
        learn: Rows whose gradients train the network, (L,).
        choose: Rows that choose the best epoch and the temperature, (V,).
        notes: Sentences that a person should read.
    """

    learn: NDArray[np.int64]
    choose: NDArray[np.int64]
    notes: tuple[str, ...]


def select(parts: Parts, digests: Sequence[str], recipe: Recipe) -> Selection:
    """Find the images that choose the best epoch.

    The val split does where there is a test split too. Otherwise a share of the train images does, which keeps the
    held-out images for the one measurement at the end; or, with ``validation = 0``, the held-out images themselves.

    Raises:
        SourceError: There are too few train images to take some away.
    """
    names = np.array(parts.names)
    val, test = np.flatnonzero(names == "val"), np.flatnonzero(names == "test")
    if len(val) and len(test):
        return Selection(parts.fit, val, ())
    if not recipe.validation:
        return Selection(parts.fit, parts.held_out, (
            f"The {parts.split} images chose the best epoch, and are measured on too: their numbers are too good. "
            "With --validation 0.2 a part of the train images chooses.",
        ))  # fmt: skip
    taken = holdout(
        parts.labels[parts.fit], [parts.groups[row] for row in parts.fit], [digests[row] for row in parts.fit],
        share=recipe.validation, seed=recipe.seed,
    )  # fmt: skip
    if not taken.any():
        raise SourceError(
            f"Of {counted(len(parts.fit), 'train image')} none can be spared to choose the best epoch.",
            "Add images; or let the held-out images choose it, with --validation 0.",
        )
    learn, choose = parts.fit[~taken], parts.fit[taken]
    note = f"{counted(len(choose), 'train image')} chose the best epoch and the temperature, and {len(learn):,} were "
    return Selection(learn, choose, (note + "learnt from.",))
