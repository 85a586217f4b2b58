"""The task `multi-label`: any number of labels is true of an image, none included, and some may not be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from headstart.core.equality import ByValue
from headstart.core.errors import SourceError
from headstart.core.spellings import twin_hint
from headstart.core.text import counted, listed, quoted
from headstart.data.several import MULTI_LABEL, Said
from headstart.data.table import MIN_IMAGES, ImageTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRUE, FALSE, NOT_KNOWN = 1, 0, -1


@dataclass(frozen=True, eq=False)
class Labels(ByValue):
    """The labels of each image; see `headstart.targets.Targets`.

    Attributes:
        names: Names of the labels, (C,).
        labels: Of each image and label `TRUE`, `FALSE` or `NOT_KNOWN`, int8 (N, C).
        notes: Sentences that a person should read.
    """

    task: ClassVar[str] = MULTI_LABEL
    names: tuple[str, ...]
    labels: NDArray[np.int8]
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, table: ImageTable) -> Self:
        """The labels of a table, in the order of code points.

        Those that too few images have, or lack, are left out and named: nothing could be learnt or measured of them.

        Raises:
            SourceError: No label is left to learn.
        """
        found = cls.of(table, table.classes)
        least = 2 if set(table.splits) - {"train"} else MIN_IMAGES
        learnt = found.take(np.array([row.split in {"train", None} for row in table.rows], bool))
        rare = np.minimum(learnt.count(), (learnt.labels == FALSE).sum(0)) < least
        if rare.all():
            what = f"only the labels {listed(found.names)}" if found.names else "no label"
            where = " of train" if least == 2 else ""
            raise SourceError(
                f"{quoted(table.source)} holds {what}{table.unused()}, and a label can be learnt if at least {least} "
                f"images{where} have it and as many have it not.",
                "Add images with and without each label.",
            )
        notes = []
        if rare.any():
            lost = [f"{found.names[i]} ({learnt.count()[i]:,})" for i in np.flatnonzero(rare)]
            notes.append(
                f"{counted(len(lost), 'label is', 'labels are')} left out, which fewer than {least} images have or "
                f"have not: {listed(lost)}. The model does not know {'it' if len(lost) == 1 else 'them'}."
            )
        kept = np.flatnonzero(~rare)
        found = cls(tuple(found.names[i] for i in kept), found.labels[:, kept])
        return replace(found, notes=(*notes, *found._unknown()))

    @classmethod
    def known(cls, table: ImageTable, names: Sequence[str], *, allow_missing: bool) -> Self:
        """The labels of a table by the names of a model; see `headstart.targets.Targets`.

        Labels that the model does not know are not measured, and named. Those that no image of the table names are an
        error, since a name may be spelled otherwise; or, where that is allowed, not known.

        Raises:
            SourceError: The table lacks labels of the model, or has none of them.
        """
        found = set(table.classes)
        missing, others = [name for name in names if name not in found], sorted(found - set(names))
        if missing and (not allow_missing or len(missing) == len(names)):
            raise SourceError(
                f"{quoted(table.source)} lacks labels of the model: {listed(missing)}; it holds "
                f"{listed(sorted(found)) if found else 'none'}.",
                twin_hint(missing, [*found, *missing])
                + "Labels are matched by name: add images of them, or measure only the others with --allow-missing.",
            )
        result = cls.of(table, tuple(names))
        lacking = np.array([name in set(missing) for name in names], bool)
        result.labels[:, lacking] = NOT_KNOWN
        notes = [f"The model does not know {listed(others)}: not measured."] if others else []
        return replace(result, notes=(*notes, *result._unknown()))

    @classmethod
    def of(cls, table: ImageTable, names: tuple[str, ...]) -> Self:
        """What a table says of some labels, each of them and no other."""
        place = {name: number for number, name in enumerate(names)}
        labels = np.zeros((len(table), len(names)), np.int8)
        for row, one in enumerate(table.rows):
            said = Said.of(one.label or "")
            labels[row, [place[name] for name in said.unknown if name in place]] = NOT_KNOWN
            labels[row, [place[name] for name in said.true if name in place]] = TRUE
        return cls(names, labels)

    def _unknown(self) -> list[str]:
        """What is not known, in words."""
        missing = (self.labels == NOT_KNOWN).sum(0)
        if not missing.any():
            return []
        told = listed([f"{self.names[i]} ({missing[i]:,})" for i in np.flatnonzero(missing)])
        return [f"Not known of some images, and left out of learning and measuring there: {told}."]

    def __len__(self) -> int:
        """Number N of images."""
        return len(self.labels)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | Sequence[int]) -> Self:
        """Those of some images: their rows, or a mask, bool (N,)."""
        return replace(self, labels=self.labels[rows])

    def count(self) -> NDArray[np.int64]:
        """Number of images that have each label, int64 (C,)."""
        result: NDArray[np.int64] = (self.labels == TRUE).sum(0, dtype=np.int64)
        return result

    def strata(self) -> list[tuple[int, ...]]:
        """The labels that each image has, (N,): splits and folds hold as much of each."""
        return [tuple(np.flatnonzero(row == TRUE).tolist()) for row in self.labels]

    def rarest(self) -> NDArray[np.int64]:
        """Of each image the rarest label that it has, int64 (N,); the number of labels where it has none."""
        have = self.labels == TRUE
        order = np.argsort(have.sum(0), kind="stable")
        first = have[:, order].argmax(1) if len(order) else np.zeros(len(have), np.int64)
        return np.asarray(np.where(have.any(1), order[first] if len(order) else 0, have.shape[1]), np.int64)
