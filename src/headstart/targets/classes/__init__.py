"""The task `classes`: each image is of exactly one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from headstart.core.equality import ByValue
from headstart.core.errors import SourceError
from headstart.core.spellings import twin_hint
from headstart.core.text import counted, listed, quoted
from headstart.data.table import MIN_IMAGES, ImageTable, more_images

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Classes(ByValue):
    """The class of each image; see `headstart.targets.Targets`.

    Attributes:
        names: Names of the classes, (C,).
        labels: Class index of each image, int64 (N,).
    """

    task: ClassVar[str] = "classes"
    notes: ClassVar[tuple[str, ...]] = ()
    names: tuple[str, ...]
    labels: NDArray[np.int64]

    @classmethod
    def read(cls, table: ImageTable) -> Self:
        """The classes of a table, in the order of code points: at least two, each with enough images.

        Raises:
            SourceError: There is nothing to learn from.
        """
        counts = Counter(row.label for row in table.rows if row.label is not None)
        if len(counts) < 2:
            found = f"only the class {quoted(next(iter(counts)))}" if counts else "no labelled image"
            raise SourceError(
                f"{quoted(table.source)} holds {found}{table.unused()}. A classifier needs at least two classes.",
                "Put each class in a folder of its own, named after it, or give a manifest with path,label.",
            )
        least = 2 if set(table.splits) - {"train"} else MIN_IMAGES
        small = sorted(label for label, count in counts.items() if count < least)
        if small:
            raise SourceError(
                f"{counted(len(small), 'class has', 'classes have')} fewer than {least} images: "
                f"{listed(f'{label} ({counts[label]})' for label in small)}.",
                twin_hint(small, counts) + more_images("class"),
            )
        return cls._numbered(table, tuple(sorted(counts)))

    @classmethod
    def known(cls, table: ImageTable, names: Sequence[str], *, allow_missing: bool) -> Self:
        """The classes of a table by the names of a model, which are matched by name; see `headstart.targets.Targets`.

        Raises:
            SourceError: The table has classes that the model does not know, or lacks some.
        """
        found, expected = set(table.classes), set(names)
        unknown = sorted(found - expected)
        missing = [label for label in names if label not in found]
        if unknown:
            raise SourceError(
                f"{quoted(table.source)} holds classes that the model does not know: {listed(unknown)}; "
                f"it knows {listed(names)}.",
                twin_hint(unknown, [*unknown, *names])
                + "Give the folders the names that the model was trained with: classes are matched by name, not by "
                "order.",
            )
        if missing and not allow_missing:
            raise SourceError(
                f"{quoted(table.source)} lacks classes of the model: {listed(missing)}.",
                twin_hint(missing, [*found, *missing])
                + "Add images of them, or measure only the others with --allow-missing.",
            )
        return cls._numbered(table, tuple(names))

    @classmethod
    def _numbered(cls, table: ImageTable, names: tuple[str, ...]) -> Self:
        place = {label: number for number, label in enumerate(names)}
        return cls(names, np.array([place[row.label or ""] for row in table.rows], np.int64))

    def __len__(self) -> int:
        """Number N of images."""
        return len(self.labels)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | Sequence[int]) -> Self:
        """Those of some images: their rows, or a mask, bool (N,)."""
        return replace(self, labels=self.labels[rows])

    def count(self) -> NDArray[np.int64]:
        """Number of images of each class, int64 (C,)."""
        return np.bincount(self.labels, minlength=len(self.names))

    def strata(self) -> list[tuple[int, ...]]:
        """The class of each image, (N,): splits and folds hold as much of each."""
        return [(label,) for label in self.labels.tolist()]
