"""The images of a table, with everything that one pass over them gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from headstart import targets
from headstart.core.equality import ByValue
from headstart.data.table import ImageTable
from headstart.data.traits import Traits
from headstart.targets import Targets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Dataset(ByValue):
    """Images that can be read.

    Attributes:
        table: Their rows; what could not be read is in its `skipped`.
        digests: SHA-256 of each image file, hexadecimal, (N,).
        traits: What is known of each image without a network, (N,).
        features: Embeddings, float32 (N, D); None where nothing has embedded them.
        cached: How many embeddings came from the cache.
        notes: Remarks for the user.
    """

    table: ImageTable
    digests: tuple[str, ...] = field(repr=False)
    traits: tuple[Traits, ...] = field(repr=False)
    features: NDArray[np.float32] | None = field(default=None, repr=False)
    cached: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number N of images."""
        return len(self.table)

    @cached_property
    def targets(self) -> Targets:
        """The labels.

        Raises:
            SourceError: There is nothing to learn from; unreadable images may have taken a class away.
        """
        return targets.read(self.table)

    @cached_property
    def groups(self) -> tuple[str | None, ...]:
        """The group that the source gives each image, (N,)."""
        return tuple(row.group for row in self.table.rows)

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The embeddings, where there are some.

        Raises:
            ValueError: There are none.
        """
        if self.features is None:
            raise ValueError("no embeddings")
        return self.features
