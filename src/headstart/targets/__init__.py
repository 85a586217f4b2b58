"""What the label of an image is: the task. A new one is a file here, and a row of `TARGETS`.

Whoever needs to know more of labels than how many there are asks the targets of a dataset, or the row of their task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from headstart.core import marks
from headstart.core.errors import OptionError
from headstart.core.tables import resolve
from headstart.data.several import MULTI_LABEL
from headstart.data.table import ImageTable
from headstart.settings.thresholds import BEST_F1

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from headstart.core.graph import Graph
    from headstart.evaluation.comparison import Comparing


class Targets(Protocol):
    """The labels of some images; a value, which does not change.

    Attributes:
        task: The name of its row in `TARGETS`.
    """

    task: ClassVar[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities, (C,)."""
        ...

    @property
    def labels(self) -> NDArray[np.signedinteger]:
        """The label of each image, (N, ...), as the heads, the losses and the metrics of the task take it."""
        ...

    @classmethod
    def read(cls, table: ImageTable) -> Self:
        """The targets of a table.

        Raises:
            SourceError: There is nothing to learn from.
        """
        ...

    @classmethod
    def known(cls, table: ImageTable, names: Sequence[str], *, allow_missing: bool) -> Self:
        """The targets of a table whose images a model is measured on, by the names that the model knows.

        Args:
            table: The images.
            names: What the model tells of an image, in the order of its probabilities.
            allow_missing: Accept a table in which some of them do not occur.

        Raises:
            SourceError: The table has names that the model does not know, or lacks some.
        """
        ...

    def __len__(self) -> int:
        """Number N of images."""
        ...

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | Sequence[int]) -> Self:
        """Those of some images: their rows, or a mask, bool (N,)."""
        ...

    def count(self) -> NDArray[np.int64]:
        """Number of images of each name, int64 (C,)."""
        ...

    def strata(self) -> list[tuple[int, ...]]:
        """The places in `names` that each image counts for, (N,): what splits and folds balance."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a person should read: what of the labels is not used, and why."""
        ...


class Calibration(Protocol):
    """From the scores of a head to probabilities."""

    def __init__(self, temperature: float, thresholds: tuple[float, ...] = ...) -> None: ...

    @property
    def temperature(self) -> float:
        """What the scores are divided by: above 1 where the head is too sure of itself."""
        ...

    @classmethod
    def fit(
        cls,
        scores: NDArray[np.floating],
        labels: NDArray[np.signedinteger],
        weights: NDArray[np.float32] | None = None,
        *,
        threshold: str = BEST_F1,
    ) -> Self:
        """The one of the smallest log loss.

        Args:
            scores: Of images that the head did not learn from, (N, C).
            labels: The labels of these images, as `Targets` gives them, (N, ...).
            weights: Weight of each image, (N,); None for 1.
            threshold: The rule by which labels get their thresholds, where a task has some; see
                `headstart.settings.thresholds`.
        """
        ...

    @property
    def thresholds(self) -> tuple[float, ...]:
        """From what probability on each name is true of an image, (C,); empty where the task has no thresholds."""
        ...

    def scaled(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scores (N, C) as they are before they become probabilities: divided by the temperature."""
        ...

    def probabilities(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities of scores (N, C) along the last axis, in 0..1."""
        ...

    def add_nodes(self, graph: Graph, scores: str) -> str:
        """Add the calibration to a graph; the name of its output ``probabilities``, float32 (N, C)."""
        ...


if TYPE_CHECKING:
    # Whether each image is predicted right, (N,), and its loss in nats, (N,), of probabilities (N, C) and labels.
    Judge = Callable[[NDArray[np.float64], NDArray[np.signedinteger]], tuple[NDArray[np.bool_], NDArray[np.float64]]]


@dataclass(frozen=True, kw_only=True)
class TargetSpec:
    """What the others know of a task.

    Attributes:
        record: The class of its `Targets`.
        calibration: The class of its `Calibration`.
        linear: What fits a linear head: ``(features, targets, folds, recipe, runtime) -> Calibrated[LinearHead]``.
        loss: The class of the loss that a network is trained by, a `headstart.training.losses.Loss`.
        measure: What makes an evaluation: ``(probabilities, labels, names, *, split, calibrations) -> Evaluation``,
            with the `Calibration` that made each image's probabilities, (N,).
        judge: What comparisons are made by: ``(probabilities, labels)`` to whether each image is predicted right,
            bool (N,), and its loss in nats, (N,).
        compare: By what classifiers are compared: a `headstart.evaluation.comparison.Comparing`.
        guesses: What a classifier said of each image, for the page of a comparison: ``(Fitted)`` to
            `headstart.report.guesses.Guess` by path.
        describe: What a prediction is, in words: ``(Result, Metadata, top, most, *, allow_empty) -> Prediction``.
        predictions: What makes ``predictions.csv``: ``(Fitted)`` to its header and its lines.
        check: What refuses embeddings and labels that no head can be fitted on: ``(features, labels, C)``; empty for
            nothing.
        cross_validate: What predicts out of fold, for choices that a recipe leaves open (`heads.linear:OutOfFold`);
            empty where nothing can be left open.
        analyse: What makes the data behind the report of a run: ``(Fitted, Recipe, seconds)``; empty where runs have no
            report.
        analysed: The record of these, as ``analysis.json`` holds it.
        page: What draws the report of these: ``(analysis, pictures, *, run)`` to HTML.
        notebook: What shows a run in a notebook: ``(Fitted, heading, cache) -> Markup``; empty for a line of text.
        exclusive: Whether exactly one name is true of an image: only then are there prediction sets, and findings on
            the class of an image.
        several: Whether a row's label is the text of several (`headstart.data.several`), which the data check reads.
        thresholds: Whether each name has a threshold of its own.
        schema: Of the model files that are written (`headstart.modelfile.schema`): the one that the task came with.
        show: What prints an evaluation: ``(Output, Evaluation, where, without_leaks)``.
        table: What prints predictions: ``(predictions, Wanted, Classifier, Output)``, which gives how many images could
            not be read.
        columns: The columns of a CSV file of predictions: keys of their public record.
    """

    record: str
    calibration: str
    linear: str
    loss: str
    measure: str
    judge: str
    compare: str
    guesses: str
    describe: str
    predictions: str
    check: str = ""
    cross_validate: str = ""
    analyse: str = ""
    analysed: str = ""
    page: str = ""
    notebook: str = ""
    exclusive: bool = False
    several: bool = False
    thresholds: bool = False
    schema: int = 3
    show: str = "headstart.cli.show:show_plain"
    table: str = "headstart.cli.predicted:plain_table"
    columns: tuple[str, ...] = ("path", "error", "familiar")


CLASSES = "classes"  # the task of a table or a model file that names none
TARGETS = {
    CLASSES: TargetSpec(
        record="headstart.targets.classes:Classes",
        calibration="headstart.targets.classes.temperature:Temperature",
        linear="headstart.heads.linear:fit_recipe",
        loss="headstart.training.losses:CrossEntropy",
        measure="headstart.evaluation.evaluate:measure",
        judge="headstart.evaluation.metrics:judge",
        compare="headstart.evaluation.comparison:BY_ACCURACY",
        guesses="headstart.report.guesses:of_classes",
        describe="headstart.prediction.answers:of_class",
        predictions="headstart.runs.predictions:of_classes",
        check="headstart.heads.linear:check",
        cross_validate="headstart.heads.linear:cross_validate",
        analyse="headstart.report.analysis:analyse",
        analysed="headstart.report.analysed:Analysis",
        page="headstart.report.run_page:run_page",
        notebook="headstart.report.notebook:run_html",
        exclusive=True,
        schema=2,
        show="headstart.cli.show:show_classes",
        table="headstart.cli.predicted:class_table",
        columns=marks.PREDICTED_HEADER,
    ),
    MULTI_LABEL: TargetSpec(
        record="headstart.targets.labels:Labels",
        calibration="headstart.targets.labels.sigmoid:Sigmoid",
        linear="headstart.heads.labels:fit_recipe",
        loss="headstart.training.losses_of_labels:BinaryCrossEntropy",
        measure="headstart.evaluation.labels:measure",
        judge="headstart.evaluation.labels:judge",
        compare="headstart.evaluation.labels_comparison:BY_AVERAGE_PRECISION",
        guesses="headstart.report.guesses:of_labels",
        describe="headstart.prediction.labels:describe",
        predictions="headstart.runs.predictions:of_labels",
        check="headstart.heads.labels:check",
        analyse="headstart.report.label_analysis:analyse",
        analysed="headstart.report.analysed_labels:LabelAnalysis",
        page="headstart.report.label_page:label_page",
        several=True,
        notebook="headstart.report.notebook:labels_html",
        thresholds=True,
        show="headstart.cli.show_labels:show",
        table="headstart.cli.predicted_labels:table",
        columns=marks.PREDICTED_LABELS_HEADER,
    ),
}


def refuse_several(task: str, what: str, hint: str = "") -> None:
    """Refuse what is made for exactly one class an image, in a task where several names can be true.

    Args:
        task: Of the images or the model.
        what: What is asked for, as the subject of a sentence.
        hint: What to do instead.

    Raises:
        OptionError: It is such a task.
    """
    if not TARGETS[task].exclusive:
        raise OptionError(f"{what} is for models of one class an image; the task here is {task}.", hint)


def read(table: ImageTable) -> Targets:
    """The targets of a table's images.

    Raises:
        SourceError: There is nothing to learn from.
    """
    record: type[Targets] = resolve(TARGETS[table.task].record)
    return record.read(table)


def calibration_of(task: str) -> type[Calibration]:
    """What makes probabilities of scores in a task."""
    calibration: type[Calibration] = resolve(TARGETS[task].calibration)
    return calibration


def comparing_of(task: str) -> Comparing:
    """By what classifiers of a task are compared."""
    comparing: Comparing = resolve(TARGETS[task].compare)
    return comparing


def judge_of(task: str) -> Judge:
    """What comparisons of a task are made by."""
    judge: Judge = resolve(TARGETS[task].judge)
    return judge
