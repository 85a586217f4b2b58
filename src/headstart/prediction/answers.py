"""What a model says of an image: as it computes it, and in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.equality import ByValue
from headstart.core.markup import bar, joined, paragraph, percent, table
from headstart.core.tables import resolve
from headstart.core.text import counted, listed, portable, quoted
from headstart.modelfile import prediction_sets
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.modelfile.schema import Metadata
    from headstart.prediction.labels import LabelsPrediction

_SHOWN = 50  # classes in a notebook


@dataclass(frozen=True)
class Prediction:
    """A prediction for one image.

    Attributes:
        label: The most probable class.
        probability: Its calibrated probability, in 0..1.
        top: The most probable classes with their probabilities, in descending order.
        familiar: Whether the image is like the training images; None if the model cannot tell.
        distance: Mean cosine distance to the nearest training images, in 0..2; None where the model has none.
        labels: The classes of which one is the true one with the probability that was asked for (``coverage``), from
            the most probable, which is always one of them unless empty sets are allowed; see
            `headstart.modelfile.prediction_sets`. None where nothing was asked for.
    """

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    familiar: bool | None = None
    distance: float | None = None
    labels: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        parts = [f"label={quoted(self.label)}, probability={self.probability:.3f}"]
        parts += [] if self.familiar is None else [f"familiar={self.familiar}"]
        parts += [] if self.labels is None else [f"labels=[{listed(self.labels)}]"]
        return f"Prediction({', '.join(parts)})"

    @property
    def names(self) -> tuple[str, ...]:
        """What is predicted to be true of the image: its class."""
        return (self.label,)

    @property
    def doubt(self) -> str | None:
        """Why a model that may abstain names no class: ``unfamiliar`` or ``ambiguous``; None where it names one."""
        if self.familiar is False:
            return "unfamiliar"
        return "ambiguous" if self.labels is not None and len(self.labels) != 1 else None

    def as_dict(self, *, named: bool = True) -> dict[str, object]:
        """The prediction as JSON values, by the keys of the public record (`headstart.prediction.record`).

        Args:
            named: Whether a class is named.
        """
        record: dict[str, object] = {
            "label": portable(self.label) if named else None,
            "probability": round(self.probability, 6) if named else None,
            "familiar": self.familiar,
            "distance": None if self.distance is None else round(self.distance, 6),
            "top": top_of(self),
        }
        if self.labels is not None:
            record["labels"] = [portable(label) for label in self.labels]
        return record

    def _repr_html_(self) -> str:
        """What a notebook shows: the most probable classes, and whether there is reason to doubt."""
        rows = [(label, percent(value), bar(value)) for label, value in self.top]
        sentences = ["The image is unlike the training images."] if self.familiar is False else []
        if self.labels is not None:
            sentences.append(f"The true class is one of: {listed(self.labels, _SHOWN) or 'none'}")
        return joined([
            paragraph(f"{self.label} ({percent(self.probability)})", strong=True),
            table(["Class", "Probability", ""], rows, right=(1,)),
            *map(paragraph, sentences),
        ])  # fmt: skip


def top_of(prediction: Prediction | LabelsPrediction) -> list[dict[str, object]]:
    """The most probable classes, as JSON values."""
    return [{"label": portable(label), "probability": round(value, 6)} for label, value in prediction.top]


@dataclass(frozen=True, eq=False)
class Result(ByValue):
    """What the model computes of one image.

    Attributes:
        probabilities: float32 (C,), which sum to 1.
        embedding: float32 (D,).
        distance: Mean cosine distance to the nearest training images, in 0..2; None where the model has none.
        feature_map: float32 (h, w, D), rows from the top and columns from the left of the square that the network
            sees; its mean over h and w is the embedding. None where it was not asked for, or the network has none.
    """

    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    distance: float | None = None
    feature_map: NDArray[np.float32] | None = None


def describe(result: Result, metadata: Metadata, top: int, most: float | None, *, allow_empty: bool) -> Prediction:
    """What the model computed, in the words of its task; see `Classifier.prediction`."""
    words: Callable[..., Prediction] = resolve(TARGETS[metadata.task].describe)
    return words(result, metadata, top, most, allow_empty=allow_empty)


def of_class(result: Result, metadata: Metadata, top: int, most: float | None, *, allow_empty: bool) -> Prediction:
    """The same where an image is of exactly one class."""
    probabilities, distance, classes = result.probabilities, result.distance, metadata.classes
    best = np.argsort(-probabilities, kind="stable")[: max(1, top)]
    named = tuple((classes[i], float(probabilities[i])) for i in best)
    threshold = metadata.familiarity.threshold if metadata.familiarity else None
    labels = None
    if most is not None:
        inside = prediction_sets.members(probabilities, most, allow_empty=allow_empty)
        labels = tuple(classes[i] for i in inside)
    return Prediction(
        *named[0],
        named,
        familiar=None if distance is None or threshold is None else distance <= threshold,
        distance=distance,
        labels=labels,
    )


def told(metadata: Metadata, size_bytes: int) -> list[str]:
    """What a model file says of itself, in words; all of it is untrusted."""
    evaluation = metadata.evaluation or {}
    parts = [f"{metadata.strategy or 'unknown'} on {metadata.backbone.name}"]
    accuracy = evaluation.get("accuracy")
    if isinstance(accuracy, int | float):
        parts.append(f"accuracy {accuracy:.3f} on {evaluation.get('n')} images, {evaluation.get('split')}")
    return [*parts, f"{size_bytes / 1e6:.1f} MB"]


def classifier_html(classes: Sequence[str], facts: Sequence[str]) -> str:
    """What a notebook shows of a classifier: its classes, and what the model file says of itself."""
    left = len(classes[_SHOWN:])
    return joined([
        paragraph(f"Classifier of {counted(len(classes), 'class', 'classes')}", strong=True),
        *map(paragraph, facts),
        table(["Class"], [(label,) for label in classes[:_SHOWN]]),
        paragraph(f"and {left:,} more") if left else "",
    ])  # fmt: skip
