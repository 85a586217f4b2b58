"""What was measured of a run on images with any number of labels: what was missed and added, and the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.calibration import Bin
from headstart.evaluation.label_curves import label_reliability
from headstart.report.analysed_images import LabelPicture, Picture
from headstart.report.analysed_labels import Wrong
from headstart.report.picked import MISTAKES, OF_A_CELL, OF_ALL_MISTAKES, UNCERTAIN
from headstart.runs.result import Fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS = 60  # of labels that are listed, of each kind
_SMALLEST = 1e-15  # probability


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a run.

    Attributes:
        labels: Of all rows of the table, as `headstart.targets.labels.Labels` has them, int8 (N, C).
        rows: Those that were measured, (M,).
        probabilities: Of these, (M, C).
        thresholds: Of the model that predicted each, (M, C).
    """

    labels: NDArray[np.int8]
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    @classmethod
    def of(cls, fitted: Fitted) -> Measured:
        """That of the result of a strategy."""
        held_out = fitted.held_out.take(fitted.partition.is_measured(fitted.held_out.rows))
        even = (0.5,) * held_out.probabilities.shape[1]
        thresholds = np.array([one.thresholds or even for one in held_out.calibrations]).reshape(-1, len(even))
        return cls(fitted.partition.targets.labels, held_out.rows, held_out.probabilities, thresholds)

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """The labels that each measured image has, (M, C)."""
        return np.asarray(self.labels[self.rows] == 1)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Those that are known of it, (M, C)."""
        return np.asarray(self.labels[self.rows] >= 0)

    @cached_property
    def found(self) -> NDArray[np.bool_]:
        """Those that were predicted, (M, C)."""
        return np.asarray(self.probabilities >= self.thresholds)

    @cached_property
    def missed(self) -> NDArray[np.bool_]:
        """Those that it has, and that were not predicted, (M, C)."""
        return self.truth & ~self.found

    @cached_property
    def added(self) -> NDArray[np.bool_]:
        """Those that it is known not to have, and that were predicted, (M, C)."""
        return self.found & self.known & ~self.truth

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether all that is known of an image was predicted right, (M,)."""
        return np.asarray(~(self.missed | self.added).any(1))

    @cached_property
    def places(self) -> dict[int, int]:
        """Where each row is among the measured ones."""
        return {row: place for place, row in enumerate(self.rows.tolist())}

    def worst(self) -> list[int]:
        """Rows of the images that are predicted wrong, those first whose wrong labels cost the largest loss."""
        wrong = self.missed | self.added
        given = np.where(self.truth, self.probabilities, 1 - self.probabilities)  # to what is true
        loss = np.where(wrong, -np.log(np.maximum(given, _SMALLEST)), 0).sum(1)
        order = np.argsort(-loss, kind="stable")
        return [int(self.rows[i]) for i in order if not self.right[i]][:MISTAKES]

    def closest(self) -> list[int]:
        """Rows of the other images, those first of which a label is nearest to its threshold."""
        margin = np.where(self.known, np.abs(_log_odds(self.probabilities) - _log_odds(self.thresholds)), np.inf).min(1)
        return [int(self.rows[i]) for i in np.argsort(margin, kind="stable") if self.right[i]][:UNCERTAIN]

    def wrong(self, order: Sequence[int]) -> list[tuple[int, Wrong, int, list[int]]]:
        """For each label and each way to be wrong, how often, and the rows that are shown, the surest mistake first."""
        found: list[tuple[int, Wrong, int, list[int]]] = []
        ways: tuple[tuple[Wrong, NDArray[np.bool_], int], ...] = (("missed", self.missed, 1), ("added", self.added, -1))
        for name, wrong, sign in ways:
            for label in order:
                own = np.flatnonzero(wrong[:, label])
                if len(own):
                    surest = own[np.argsort(sign * self.probabilities[own, label], kind="stable")]
                    found.append((label, name, len(own), self.rows[surest[:OF_A_CELL]].tolist()))
        room, result = OF_ALL_MISTAKES, []
        for number, (label, name, count, rows) in enumerate(found):
            share = room // (len(found) - number)  # what one leaves of its share goes to the others
            shown = rows[: max(1, share)]
            room -= len(shown)
            result.append((label, name, count, shown))
        return result

    def confused(self) -> tuple[tuple[int, int, int], ...]:
        """Pairs of a label that was missed and one that was added to the same image, with how many images."""
        counts = self.missed.astype(np.int64).T @ self.added
        pairs = [(int(i), int(j), int(counts[i, j])) for i, j in np.argwhere(counts)]
        return tuple(sorted(pairs, key=lambda one: (-one[2], one[:2]))[:PAIRS])

    def reliability(self) -> tuple[Bin, ...]:
        """The reliability diagram over all pairs of image and label that are known."""
        known = self.known
        return label_reliability(self.probabilities[known], self.truth[known], np.nonzero(known)[0])

    def describe(self, row: int, image: Picture) -> LabelPicture:
        """What is told of an image: its labels, and what was predicted wrong, with the probabilities."""
        told = LabelPicture(
            **image.__dict__,
            labels=tuple(np.flatnonzero(self.labels[row] == 1).tolist()),
            unknown=tuple(np.flatnonzero(self.labels[row] < 0).tolist()),
        )
        if (i := self.places.get(row)) is None:
            return told
        return replace(
            told,
            predicted=tuple(np.flatnonzero(self.found[i]).tolist()),
            missed=self._with_probabilities(i, self.missed[i]),
            added=self._with_probabilities(i, self.added[i]),
        )

    def _with_probabilities(self, place: int, which: NDArray[np.bool_]) -> tuple[tuple[int, float], ...]:
        return tuple((int(one), round(float(self.probabilities[place, one]), 4)) for one in np.flatnonzero(which))


def _log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = probabilities.clip(1e-9, 1 - 1e-9)
    result: NDArray[np.float64] = np.log(inside / (1 - inside))
    return result
