"""The lines of ``predictions.csv``: what was predicted for each held-out image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.core import marks
from headstart.core.text import csv_cell

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
