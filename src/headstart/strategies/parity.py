"""Real images for the proof that a network's export computes what the network computes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headstart.core.errors import ImageError
from headstart.data.decode import decode
from headstart.data.table import ImageTable
from headstart.settings.recipe import FULL_RANGE, Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PICTURES = 4
ENOUGH_PX = 1024


def pictures(table: ImageTable, recipe: Recipe) -> list[NDArray[np.uint8]]:
    """A few images from all over a table, uint8 (H, W, 3), as many as can be read."""
    found = []
    for row in range(0, len(table), max(1, len(table) // PICTURES)):
        try:
            data = table.storage.read(table.rows[row].path)
            found.append(decode(
                data, max_megapixels=recipe.max_megapixels, enough_px=ENOUGH_PX,
                white_level=recipe.white_level or FULL_RANGE,
            ).pixels)  # fmt: skip
        except ImageError:
            continue
    return found


def exported_as_built(table: ImageTable, recipe: Recipe) -> Callable[[Any, Any], None]:
    """What an embedder that was just exported must pass: see `headstart.training.parity.check`."""

    def check(embedder: Any, loaded: Any) -> None:
        # By name: what comes from PyTorch alone is checked with it, and the lean install has none.
        importlib.import_module("headstart.training.parity").check(embedder, loaded.module, pictures(table, recipe))

    return check
