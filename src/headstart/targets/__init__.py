"""What the label of an image is: the task. A new one is a file here, and a row of `TARGETS`.

Whoever needs to know more of labels than how many there are asks the targets of a dataset, or the row of their task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from headstart.core.tables import resolve
from headstart.data.table import ImageTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class Targets(Protocol):
    """The labels of some images; a value, which does not change.

    Attributes:
        task: The name of its row in `TARGETS`.
    """

    task: ClassVar[str]

    @property
    def names(self) -> tuple[str, ...]:
        """What can be told of an image, in the order of the probabilities, (C,)."""
        ...

    @property
    def labels(self) -> NDArray[Any]:
        """The label of each image, (N, ...), as the heads, the losses and the metrics of the task take it."""
        ...

    @classmethod
    def read(cls, table: ImageTable) -> Self:
        """The targets of a table.

        Raises:
            SourceError: There is nothing to learn from.
        """
        ...

    def __len__(self) -> int:
        """Number N of images."""
        ...

    def take(self, rows: NDArray[Any] | Sequence[int]) -> Self:
        """Those of some images: their rows, or a mask, bool (N,)."""
        ...

    def count(self) -> NDArray[np.int64]:
        """Number of images of each name, int64 (C,)."""
        ...

    def strata(self) -> list[tuple[int, ...]]:
        """The places in `names` that each image counts for, (N,): what splits and folds balance."""
        ...


@dataclass(frozen=True, kw_only=True)
class TargetSpec:
    """What the others know of a task.

    Attributes:
        record: The class of its `Targets`.
    """

    record: str


TARGETS = {
    "classes": TargetSpec(record="headstart.targets.classes:Classes"),
}


def read(table: ImageTable) -> Targets:
    """The targets of a table's images.

    Raises:
        SourceError: There is nothing to learn from.
    """
    record: type[Targets] = resolve(TARGETS[table.task].record)
    return record.read(table)
