"""What ``analysis.json`` holds of a training on images with any number of labels: see `headstart.report.analysed`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from headstart.evaluation.intervals import Interval
from headstart.evaluation.label_curves import ThresholdCurve
from headstart.evaluation.labels import LabelResult, LabelsEvaluation
from headstart.evaluation.learning_curve import LearningCurve
from headstart.report.analysed import Common, NoCurve
from headstart.report.analysed_images import LabelPicture

NO_LABEL = "no label"
_OF_BEFORE = NoCurve("An earlier version wrote this report.")
Wrong = Literal["missed", "added"]


@dataclass(frozen=True, kw_only=True)
class LabelRow(LabelResult):
    """The results of a label, with its place among all."""

    place: int


@dataclass(frozen=True)
class LabelNumbers(LabelsEvaluation):
    """The evaluation, of the labels those that are ranked worst where there are very many."""

    labels: tuple[LabelRow, ...]


@dataclass(frozen=True)
class LabelsWithoutLeaks:
    """The mean average precision without images of which another is in train."""

    n: int
    mean_average_precision: float | None
    mean_average_precision_interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class LabelCurve(ThresholdCurve):
    """What each threshold of a label finds."""

    label: int


@dataclass(frozen=True)
class WrongImages:
    """Images of which a label was missed, or to which it was added: how many, and those that are shown."""

    label: int
    kind: Wrong
    images: int
    shown: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PairOfLabels:
    """Two labels that images have together.

    Attributes:
        images: Images that have both.
        by_chance: How many would, if the labels were independent of each other.
        found: Images of which both were predicted rightly.
    """

    first: int
    second: int
    images: int
    by_chance: float
    found: int


@dataclass(frozen=True, kw_only=True)
class LabelAnalysis(Common):
    """A training on images with any number of labels.

    Attributes:
        task: That of the model.
        without_leaks: The numbers without leaks; None where there are none.
        parts: Images of each split or fold.
        thresholds: Of each label, in the model file.
        curves: Of labels that some held-out image has.
        wrong: What was missed and added, by label.
        together: The commonest pairs of labels.
        confused: A label that was missed and one that was added to the same image, and how many images.
        wrong_images: Images with anything missed or added.
        combinations: Labels that images on the map have together, in words.
        combination_of: Which of them an image has, by its place.
        learning_curve: What more images would bring.
    """

    task: str
    without_leaks: LabelsWithoutLeaks | None
    parts: Mapping[str, int]
    evaluation: LabelNumbers
    thresholds: tuple[float, ...]
    curves: tuple[LabelCurve, ...]
    wrong: tuple[WrongImages, ...]
    together: tuple[PairOfLabels, ...]
    confused: tuple[tuple[int, int, int], ...]
    wrong_images: int
    combinations: tuple[str, ...]
    combination_of: Mapping[str, int]
    learning_curve: LearningCurve | NoCurve = _OF_BEFORE
    images: tuple[LabelPicture, ...]
