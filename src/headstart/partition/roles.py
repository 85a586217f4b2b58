"""What each image of a table is for: to train on, to choose by, or to measure on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.equality import ByValue
from headstart.data.table import SPLITS
from headstart.targets import Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = "cross-validation"


class Role(IntEnum):
    """The split that an image is in: learnt from, chooses (an epoch, a temperature), measured once and chooses nothing.

    A source's own val split without a test split is measured, and keeps its name.
    """

    NONE = 0
    TRAIN = 1
    VAL = 2
    TEST = 3

    @property
    def word(self) -> str:
        """Its name in files and sentences; empty for none."""
        return self.name.lower() if self else ""


@dataclass(frozen=True, eq=False)
class Partition(ByValue):
    """The roles of a table's rows. All rows that its methods give are in order, int64.

    Attributes:
        roles: The `Role` of each row, int8 (N,).
        folds: The fold of each train row, from 0; -1 for the others, (N,). They choose the head's C, and measure
            in a cross-validation.
        measures: The role of the rows that are measured. Those of `Role.TRAIN` are measured by cross-validation.
        choosing: Whether a row chooses the best epoch and the temperature of a network that is trained, bool (N,).
        leaked: Whether a row is measured by a model that has learnt from a copy or near duplicate of it, or from an
            image of its group, bool (N,).
        targets: The labels of the rows.
        groups: Number of the group of each row that stays on one side, (N,).
        notes: Remarks for the user.
    """

    roles: NDArray[np.int8]
    folds: NDArray[np.int64]
    measures: Role
    choosing: NDArray[np.bool_]
    leaked: NDArray[np.bool_]
    targets: Targets
    groups: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @property
    def cross_validated(self) -> bool:
        """Whether each image is measured by a model that has not seen it, and none is held out from all."""
        return self.measures == Role.TRAIN

    @property
    def split(self) -> str:
        """What the evaluation calls the measured images."""
        return FOLDS if self.cross_validated else self.measures.word

    def of(self, *roles: Role) -> NDArray[np.int64]:
        """The rows of some roles."""
        return np.flatnonzero(np.isin(self.roles, roles))

    def learnt(self) -> NDArray[np.int64]:
        """The rows that are learnt from."""
        return np.flatnonzero((self.roles == Role.TRAIN) & ~self.choosing)

    def chooses(self) -> NDArray[np.int64]:
        """The rows that choose the best epoch and the temperature; none where no network is trained."""
        return np.flatnonzero(self.choosing)

    def held_out(self) -> NDArray[np.int64]:
        """The rows that no model learns from, measured or not; none in a cross-validation."""
        return self.of() if self.cross_validated else self.of(Role.VAL, Role.TEST)

    def measured(self) -> NDArray[np.int64]:
        """The rows that are measured."""
        return self.of(self.measures)

    def is_measured(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some rows are measured, bool like `rows`."""
        return np.asarray(self.roles[rows] == self.measures)

    def rounds(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each model whose predictions are measured: the rows that it learns from, and those it is measured on."""
        if not self.cross_validated:
            return [(self.learnt(), self.measured())]
        train = self.roles == Role.TRAIN
        return [
            (np.flatnonzero(train & (self.folds != fold)), np.flatnonzero(train & (self.folds == fold)))
            for fold in np.unique(self.folds[train])
        ]

    def chosen_by(self, rows: NDArray[np.int64], *notes: str) -> Partition:
        """The same, where some rows choose and are not learnt from."""
        choosing = np.zeros(len(self.roles), bool)
        choosing[rows] = True
        return replace(self, choosing=choosing, notes=(*self.notes, *notes))

    def take(self, rows: NDArray[np.int64]) -> Partition:
        """The same for some rows alone."""
        return replace(
            self, roles=self.roles[rows], folds=self.folds[rows], choosing=self.choosing[rows],
            leaked=self.leaked[rows], targets=self.targets.take(rows), groups=self.groups[rows], notes=(),
        )  # fmt: skip

    def names(self) -> tuple[str, ...]:
        """What files call the role of each row: ``train``, ``val``, ``test``, or ``fold 1`` and so on."""
        return tuple(
            f"fold {fold + 1}" if self.cross_validated and fold >= 0 else Role(role).word
            for role, fold in zip(self.roles.tolist(), self.folds.tolist(), strict=True)
        )

    def count(self) -> dict[str, dict[str, int]]:
        """Images of each role and class; the folds of a cross-validation are one."""
        return {
            name: dict(zip(self.targets.names, self.targets.take(rows).count().tolist(), strict=True))
            for name, rows in self._parts().items()
        }

    def sizes(self) -> dict[str, int]:
        """Images of each role."""
        return {name: len(rows) for name, rows in self._parts().items()}

    def _parts(self) -> dict[str, NDArray[np.int64]]:
        """The rows of each role that has some."""
        rows = {self.split if role == self.measures else role.word: self.of(role) for role in Role if role}
        return {name: rows[name] for name in (*SPLITS, FOLDS) if name in rows and len(rows[name])}
