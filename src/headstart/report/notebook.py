"""Runs and comparisons in a notebook: the numbers of their reports, and the pictures of what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core.markup import Markup, between, joined, paragraph, percent, pictures, table
from headstart.core.text import counted, portable
from headstart.evaluation.labels import LabelsEvaluation
from headstart.report.comparison_page import disagreements
from headstart.report.guesses import of_labels
from headstart.report.measured_labels import Measured
from headstart.report.picked import select
from headstart.report.pictures import thumbnails_of
from headstart.runs.result import Fitted

MISTAKES = 12
_NOTES = 10
_LABELS = 100


def run_html(fitted: Fitted, heading: str, cache: Path | None) -> Markup:
    """What was trained: its numbers, and its most confident mistakes.

    Args:
        fitted: The result of the strategy.
        heading: The run in words.
        cache: The cache folder, for pictures; None for none.
    """
    classes, rows = fitted.data.targets.names, fitted.data.table.rows
    place = {label: number for number, label in enumerate(classes)}
    labels = np.array([place[row.label or ""] for row in rows])
    measured, probabilities = fitted.measured()
    mistakes = select(measured, probabilities, labels).mistakes[:MISTAKES]
    of = dict(zip(measured.tolist(), probabilities, strict=True))
    with thumbnails_of(fitted, cache) as thumbnails:
        jpegs = thumbnails.all_small(mistakes)
    shown = [
        (jpegs.get(row), f"{rows[row].path}: {rows[row].label}, predicted {classes[best]} ({percent(of[row][best])})")
        for row in mistakes
        for best in [int(of[row].argmax())]
    ]
    return joined([
        paragraph(heading, strong=True),
        Markup(fitted.evaluation._repr_html_()),
        paragraph(f"{counted(fitted.evaluation.n - fitted.evaluation.correct, 'mistake')}, the most confident first:")
        if shown else "",
        pictures(shown),
        *(paragraph(f"Note: {note}") for note in fitted.notes[:_NOTES]),
    ])  # fmt: skip


def labels_html(fitted: Fitted, heading: str, cache: Path | None) -> Markup:
    """What was trained on several labels an image: the numbers of each label, and the worst mistakes; as `run_html`."""
    evaluation, rows = fitted.evaluation, fitted.data.table.rows
    assert isinstance(evaluation, LabelsEvaluation)
    measured, guesses = Measured.of(fitted), of_labels(fitted)
    worst, wrong = measured.worst()[:MISTAKES], int((~measured.right).sum())
    with thumbnails_of(fitted, cache) as thumbnails:
        jpegs = thumbnails.all_small(worst)
    shown = [
        (jpegs.get(row), f"{path}: {guesses[path].label}; {guesses[path].words}")
        for row in worst
        for path in [rows[row].path]
    ]
    cells = [
        [portable(one.label), f"{one.positives:,}", percent(one.average_precision),
         between(one.average_precision_interval), percent(one.precision), percent(one.recall)]
        for one in evaluation.labels[:_LABELS]
    ]  # fmt: skip
    head = ["Label", "Images", "Average precision", "95 % interval", "Precision", "Recall"]
    return joined([
        paragraph(heading, strong=True),
        table(head, cells, right=(1, 2, 3, 4, 5)),
        paragraph(f"{counted(wrong, 'image')} with a label missed or added, the worst first:") if shown else "",
        pictures(shown),
        *(paragraph(f"Note: {note}") for note in fitted.notes[:_NOTES]),
    ])  # fmt: skip


def comparison_html(
    record: Mapping[str, Any], fitted: Mapping[str, Fitted], sentences: Sequence[str], cache: Path | None
) -> Markup:
    """What was compared: the verdict, a row for each, and the images on which two of them disagree.

    Args:
        record: The comparison as JSON values.
        fitted: What was compared, by name.
        sentences: The verdict, and what else is to be said.
        cache: As in `run_html`.
    """
    measure = str(record["measure"])
    heading = measure.replace("_", " ").capitalize()
    rows = [
        [
            row["name"], percent(row[measure]), between(row[f"{measure}_interval"]),
            _number(row["log_loss"], "{:.3f}"), _number(row["seconds"], "{:.1f} s"),
            row["error"]["message"] if row["error"] else "",
        ]
        for row in record["rows"]
    ]  # fmt: skip
    parts = [paragraph(sentences[0], strong=True), *map(paragraph, sentences[1:])]
    parts.append(
        table(
            ["", heading, "95 % interval", "Log loss", "Training", ""],
            rows,
            right=(1, 2, 3, 4),
        )
    )
    for pair in disagreements(fitted, cache):
        for side in pair.sides:
            count = counted(side.count, "image")
            parts.append(paragraph(f"{count} that only {side.winner} gets right:"))
            parts.append(pictures((one.jpeg, f"{one.alt}; {one.words}") for one in side.images))
    return joined(parts)


def _number(value: float | None, words: str) -> str:
    return "–" if value is None else words.format(value)
