"""The lines of ``predictions.csv``: what was predicted for each held-out image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.core import marks
from headstart.core.text import csv_cell
from headstart.data.several import Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headstart.runs.result import Fitted


def of_classes(fitted: Fitted) -> tuple[Sequence[str], list[Sequence[object]]]:
    """The class of each image, and the one that was predicted: a header and the lines."""
    classes, names = fitted.data.targets.names, fitted.partition.names()
    lines: list[Sequence[object]] = []
    for row, probabilities in zip(fitted.held_out.rows, fitted.held_out.probabilities, strict=True):
        best, label = int(probabilities.argmax()), int(fitted.partition.targets.labels[row])
        lines.append((
            csv_cell(fitted.data.table.rows[row].path), names[row], csv_cell(classes[label]), csv_cell(classes[best]),
            "yes" if best == label else "no", f"{probabilities[best]:.6f}", f"{probabilities[label]:.6f}",
        ))  # fmt: skip
    return marks.PREDICTIONS_HEADER, lines


def of_labels(fitted: Fitted) -> tuple[Sequence[str], list[Sequence[object]]]:
    """The labels of each image, those that were predicted, and the probability of each: a header and the lines."""
    names, parts = fitted.data.targets.names, fitted.partition.names()
    lines: list[Sequence[object]] = []
    held_out = fitted.held_out
    for row, probabilities, made in zip(held_out.rows, held_out.probabilities, held_out.calibrations, strict=True):
        truth, found = fitted.partition.targets.labels[row], made.decide(probabilities)
        said = Said(
            frozenset(name for name, one in zip(names, truth, strict=True) if one == 1),
            frozenset(name for name, one in zip(names, truth, strict=True) if one < 0),
        )
        predicted = Said(frozenset(name for name, one in zip(names, found, strict=True) if one))
        known = truth >= 0
        right = bool((found[known] == (truth[known] == 1)).all())
        lines.append((
            csv_cell(fitted.data.table.rows[row].path), parts[row], csv_cell(said.text), csv_cell(predicted.text),
            "yes" if right else "no", *(f"{value:.6f}" for value in probabilities),
        ))  # fmt: skip
    return (*marks.PREDICTIONS_OF_LABELS_HEADER, *map(csv_cell, names)), lines
