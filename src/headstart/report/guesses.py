"""What a classifier said of each image that it was measured on: for the images on which two of them disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.report.render import percent

if TYPE_CHECKING:
    from headstart.runs.result import Fitted


class Guess(NamedTuple):
    """What a classifier said of an image.

    Attributes:
        label: What is true of it.
        words: What was said.
        right: Whether that is right.
    """

    label: str
    words: str
    right: bool


def of_classes(fitted: Fitted) -> dict[str, Guess]:
    """The predicted class of each measured image with its probability, by the image's path."""
    guesses = {}
    rows, probabilities = fitted.measured()
    for row, one in zip(rows.tolist(), probabilities, strict=True):
        best = int(one.argmax())
        label, image = fitted.data.targets.names[best], fitted.data.table.rows[row]
        guesses[image.path] = Guess(
            image.label or "", f"{label} ({percent(float(one[best]), 0)})", label == image.label
        )
    return guesses


def of_labels(fitted: Fitted) -> dict[str, Guess]:
    """The labels that were missed or added to each measured image, with their probabilities, by the image's path."""
    guesses = {}
    held_out = fitted.held_out.take(fitted.partition.is_measured(fitted.held_out.rows))
    labels, names = fitted.partition.targets.labels[held_out.rows], fitted.data.targets.names
    found = held_out.found()
    for i, row in enumerate(held_out.rows.tolist()):
        said = [
            f"{how} {names[one]} ({percent(float(held_out.probabilities[i, one]), 0)})"
            for how, wrong in (("missed", (labels[i] == 1) & ~found[i]), ("added", (labels[i] == 0) & found[i]))
            for one in np.flatnonzero(wrong)
        ]
        true = ", ".join(names[one] for one in np.flatnonzero(labels[i] == 1)) or "no label"
        guesses[fitted.data.table.rows[row].path] = Guess(true, ", ".join(said) or "all right", not said)
    return guesses
