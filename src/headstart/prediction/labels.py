"""What a model says of an image that has any number of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.core.markup import bar, joined, paragraph, percent, table
from headstart.core.text import listed, portable

if TYPE_CHECKING:
    from headstart.modelfile.schema import Metadata
    from headstart.prediction.answers import Result

_SHOWN = 50  # labels in a notebook


@dataclass(frozen=True)
class LabelsPrediction:
    """The classifier's prediction for one image.

    Attributes:
        labels: Those whose probability reaches their threshold, in the order of the model; none where none does.
        probabilities: Each label with its calibrated probability, in 0..1, in the order of the model. They need not sum
            to 1.
        top: The most probable labels with their probabilities, from the highest.
        familiar: Whether the image is like the training images; None if the model cannot say.
        distance: Mean cosine distance to the nearest training images, in 0..2; None where the model has none.
    """

    labels: tuple[str, ...]
    probabilities: tuple[tuple[str, float], ...]
    top: tuple[tuple[str, float], ...]
    familiar: bool | None = None
    distance: float | None = None

    def __repr__(self) -> str:
        parts = [f"labels=[{listed(self.labels)}]"]
        parts += [] if self.familiar is None else [f"familiar={self.familiar}"]
        return f"LabelsPrediction({', '.join(parts)})"

    @property
    def names(self) -> tuple[str, ...]:
        """What is predicted to be true of the image: its labels."""
        return self.labels

    @property
    def doubt(self) -> str | None:
        """Why a model that may abstain names no labels: ``unfamiliar``; None where it names them."""
        return "unfamiliar" if self.familiar is False else None

    def as_dict(self, *, named: bool = True) -> dict[str, object]:
        """The prediction as JSON values, by the keys of the public record (`headstart.prediction.record`).

        Args:
            named: Whether labels are named.
        """
        return {
            "labels": [portable(label) for label in self.labels] if named else None,
            "probabilities": {portable(label): round(value, 6) for label, value in self.probabilities},
            "familiar": self.familiar,
            "distance": None if self.distance is None else round(self.distance, 6),
        }

    def _repr_html_(self) -> str:
        """What a notebook shows: the labels, the most probable ones, and whether there is reason to doubt."""
        rows = [(label, percent(value), bar(value)) for label, value in self.top]
        return joined([
            paragraph(listed(self.labels, _SHOWN) if self.labels else "No label", strong=True),
            table(["Label", "Probability", ""], rows, right=(1,)),
            paragraph("The image is unlike the training images.") if self.familiar is False else "",
        ])  # fmt: skip


def describe(
    result: Result, metadata: Metadata, top: int, most: float | None, *, allow_empty: bool
) -> LabelsPrediction:
    """What the model computed, in words; see `headstart.prediction.answers.describe`. There are no prediction sets."""
    probabilities, names = result.probabilities, metadata.classes
    named = tuple(zip(names, map(float, probabilities), strict=True))
    thresholds = metadata.thresholds
    known = metadata.familiarity
    return LabelsPrediction(
        tuple(name for (name, value), least in zip(named, thresholds, strict=True) if value >= least),
        named,
        tuple(sorted(named, key=lambda one: -one[1])[: max(1, top)]),
        familiar=None if known is None or result.distance is None else result.distance <= known.threshold,
        distance=result.distance,
    )
