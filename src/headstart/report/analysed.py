"""What ``analysis.json`` holds: all that the report of a run is drawn from, bounded and without pictures.

Images are named by their places in `Analysis.images`, classes by their places in `Analysis.classes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from headstart.core import records
from headstart.core.text import json_text
from headstart.data.table import Skipped
from headstart.evaluation.calibration import Bin
from headstart.evaluation.evaluate import ClassResult
from headstart.evaluation.intervals import Interval
from headstart.evaluation.learning_curve import LearningCurve
from headstart.modelfile.prediction_sets import Measured
from headstart.modelfile.schema import Backbone
from headstart.preprocess.spec import Preprocess
from headstart.report.analysed_images import Cell, ClassPicture, Exhibit, KindOfFinding, Map, Picture
from headstart.runs.details import Epoch
from headstart.strategies.choices.advice import RuleOfThumb

SCHEMA = 2  # of the newest; one without several labels has 1


@dataclass(frozen=True)
class NotUsed:
    """How many files were not used, and the first of them."""

    count: int
    shown: tuple[Skipped, ...]


@dataclass(frozen=True)
class WithoutLeaks:
    """The accuracy without images of which another is in train."""

    n: int
    accuracy: float
    accuracy_interval: Interval


@dataclass(frozen=True)
class ClassRow(ClassResult):
    """The results of a class, and its place among all."""

    place: int


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The evaluation: see `headstart.evaluation.Evaluation`.

    Attributes:
        reliability: None: it is beside the evaluation.
        classes: Those with the lowest recall where there are very many.
        confusion: True class, predicted class and number of images; None where there are very many classes.
    """

    split: str
    n: int
    correct: int
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    log_loss: float
    log_loss_interval: Interval
    log_loss_uncalibrated: float
    calibration_error: float
    calibration_error_interval: Interval | None = field(
        default=None, metadata=records.MAYBE
    )  # the first runs had no such keys
    calibration_error_by_chance: float | None = field(default=None, metadata=records.MAYBE)
    calibration_error_uncalibrated: float
    reliability: None = None
    classes: tuple[ClassRow, ...]
    confusion: tuple[tuple[int, int, int], ...] | None


@dataclass(frozen=True)
class Majority:
    """The baseline: the accuracy of always predicting the most frequent class of the training images."""

    class_: int
    accuracy: float


@dataclass(frozen=True)
class Familiar:
    """What the model file says of unfamiliar images: see `headstart.modelfile.familiarity.Familiarity`."""

    threshold: float
    false_alarm_rate: float
    neighbours: int
    references: int
    calibrated_on: int | None = field(default=None, metadata=records.MAYBE)


@dataclass(frozen=True, kw_only=True)
class Sets:
    """What the model file says of prediction sets.

    Attributes:
        images: Held-out images that they are calibrated on.
        split: Which these are; empty where that is not known.
        asked: A nominal coverage, in 0..1.
        measured: The coverage of the sets that it gives; None with too few images.
    """

    images: int
    split: str | None = field(default=None, metadata=records.MAYBE)
    asked: float = 0.0
    measured: Measured | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the page says of the model file, whose records these are.

    Attributes:
        bytes: Its size.
        enough_px: Sides of images above this may be decoded at reduced scale.
    """

    bytes: int
    enough_px: int
    preprocess: Preprocess
    backbone: Backbone
    temperature: float
    familiarity: Familiar | None
    conformal: Sets | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class NoCurve:
    """Why there is no learning curve."""

    reason: str
    points: tuple[()] = ()


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Source, data, settings and the model file of a training, whatever its task.

    Attributes:
        schema: Version of this document.
        version: Version of Headstart that wrote it.
        versions: Of Python and of the packages that the numbers depend on.
        source: What was read, as the user named it.
        source_path: The same, absolute.
        columns: The names by which a manifest's columns were read.
        counts: Of images, and of each split and class.
        details: As in ``metrics.json``.
        seconds: Of each stage.
        notes: Remarks for the user.
        recipe: All choices, as JSON values: another version may have written them.
        checked: Whether the data check was made.
    """

    schema: int
    version: str
    versions: Mapping[str, str]
    source: str
    source_path: str
    columns: Mapping[str, str | None]
    strategy: str
    backbone: str
    classes: tuple[str, ...]
    counts: Mapping[str, int | Mapping[str, int]]
    details: Mapping[str, object]
    seconds: Mapping[str, float]
    notes: tuple[str, ...]
    skipped: NotUsed
    recipe: Mapping[str, object]
    checked: bool
    findings: tuple[KindOfFinding, ...]
    model: Model


@dataclass(frozen=True, kw_only=True)
class Common(Shared):
    """A finished training, as far as its report shows it, whatever its task.

    Attributes:
        reliability: The bars of the reliability diagram.
        mistakes: The worst first.
        uncertain: Other held-out images, the least confident first.
        images: Each image that is shown.
    """

    reliability: tuple[Bin, ...]
    mistakes: tuple[Exhibit, ...]
    uncertain: tuple[Exhibit, ...]
    map: Map
    images: tuple[Picture, ...]

    @property
    def by_split(self) -> dict[str, Mapping[str, int]]:
        """Images of each split and class, the splits in order of their names."""
        return {split: by for split, by in sorted(self.counts.items()) if isinstance(by, Mapping)}

    @property
    def learnt(self) -> Mapping[str, int]:
        """Images of each class that were learnt from."""
        return self.by_split.get("train") or self.by_split.get("cross-validation") or {}

    @property
    def max_megapixels(self) -> int:
        """Of an image that was not refused before it was decoded."""
        limit = self.recipe.get("max_megapixels")
        if type(limit) is not int:
            raise ValueError(f"recipe.max_megapixels is {limit!r:.40}; expected a number")
        return limit

    @cached_property
    def history(self) -> tuple[Epoch, ...]:
        """The results of each epoch; empty where no network was trained."""
        epochs = self.details.get("history") or []
        if not isinstance(epochs, list):
            raise ValueError(f"details.history is {epochs!r:.40}; expected a list")
        return tuple(records.from_json(Epoch, one, "details.history") for one in epochs)

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept; None where that is not known."""
        best = self.details.get("best_epoch")
        return best if isinstance(best, int) else None

    def to_json(self) -> str:
        """The document."""
        return json_text(records.as_json(self), indent=None) + "\n"

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the values of a document.

        Raises:
            ValueError: A key is missing, or a value is of another type; it says where.
        """
        return records.from_json(cls, value, "analysis")


@dataclass(frozen=True, kw_only=True)
class Analysis(Common):
    """A training on images with exactly one class each.

    Attributes:
        without_leaks: The accuracy without leaks; None where there are none.
        majority: The baseline.
        advice: The rule of thumb; None where what it needs is not there.
        cells: The cells of the confusion matrix with images, mistakes first.
        learning_curve: What more images would bring.
    """

    without_leaks: WithoutLeaks | None
    evaluation: Numbers
    majority: Majority
    advice: RuleOfThumb | None
    cells: tuple[Cell, ...]
    learning_curve: LearningCurve | NoCurve
    images: tuple[ClassPicture, ...]
