"""The public record of a prediction: what ``predict --json`` and ``--format jsonl`` print, and whoever else answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from headstart.core.text import portable
from headstart.targets import CLASSES

if TYPE_CHECKING:
    from headstart.core.errors import ImageError
    from headstart.prediction.answers import Prediction
    from headstart.prediction.classifier import Classifier
    from headstart.prediction.labels import LabelsPrediction


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of each prediction.

    Attributes:
        top: How many classes to name.
        coverage: Probability that a set of classes holds the true one; None for no sets.
        most: The largest score of a class in such a set.
        allow_empty: Such a set may lack even the most probable class.
        abstain: Name no class where the model has reason to doubt.
        task: Of the model; see `headstart.targets.TARGETS`.
    """

    top: int
    coverage: float | None = None
    most: float | None = None
    allow_empty: bool = False
    abstain: bool = False
    task: str = CLASSES

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        top: int,
        *,
        coverage: float | None,
        allow_empty: bool = False,
        abstain: bool = False,
    ) -> Self:
        """What is asked of a classifier, whose sets of classes are those of the coverage.

        Raises:
            OptionError: The model file holds nothing to make such sets with, or there is no such coverage.
        """
        most = classifier.set_limit(coverage)
        return cls(
            top=top, coverage=coverage, most=most, allow_empty=allow_empty, abstain=abstain,
            task=classifier.metadata.task,
        )  # fmt: skip

    def predict(self, classifier: Classifier, content: bytes) -> Prediction:
        """The prediction of one image file.

        Raises:
            ImageError: It cannot be read.
        """
        result = classifier.run_file(content)
        return classifier.prediction(result, self.top, self.most, allow_empty=self.allow_empty)

    def reason(self, prediction: Prediction | LabelsPrediction) -> str | None:
        """Why no class is named: ``unfamiliar`` or ``ambiguous``; None where one is."""
        return prediction.doubt if self.abstain else None


def record_of(path: str, result: Prediction | ImageError, wanted: Wanted) -> dict[str, object]:
    """The record of one image, as JSON values; its keys are a contract.

    Args:
        path: What the image is called.
        result: What the model says of it, or why it cannot be read.
        wanted: What was asked.

    Returns:
        ``path`` with ``label``, ``probability``, ``familiar``, ``distance`` and ``top``, with ``labels`` where there
        are sets and ``abstained`` where the model may abstain; or ``path`` and ``error``.
    """
    if isinstance(result, Exception):
        return {"path": portable(path), "error": portable(str(result))}
    reason = wanted.reason(result)
    record = {"path": portable(path), **result.as_dict(named=reason is None)}
    if wanted.abstain:
        record["abstained"] = reason
    return record
