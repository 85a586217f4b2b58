"""The report of a run: from its analysis and its pictures to a page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

from headstart.report import figures
from headstart.report.analysed import Analysis, ClassRow, Common
from headstart.report.confusion_matrix import confusion_matrix
from headstart.report.picture_map import picture_map
from headstart.report.pictures import BUDGET_BYTES, Pictures
from headstart.report.render import render
from headstart.report.shown_images import class_on_map, exhibits, findings, shown_class
from headstart.settings.strategies import spec_of
from headstart.targets import CLASSES


def run_page(
    analysis: Analysis,
    jpegs: Mapping[int, bytes],
    *,
    run: str = "",
    note: str = "",
    budget_bytes: int = BUDGET_BYTES,
) -> str:
    """The page of a run.

    Args:
        analysis: See `headstart.report.analysed`.
        jpegs: JPEG files by the place of their image in the analysis; those that are missing have a placeholder.
        run: The run folder, for the commands that the page names.
        note: A sentence that belongs at its top.
        budget_bytes: For all pictures.
    """
    pictures = Pictures(jpegs, budget_bytes)
    image, on_map = partial(shown_class, analysis, pictures=pictures), partial(class_on_map, analysis)
    # In the order of their worth: the pictures of what comes first have room, and the map shows those of the others.
    sections = {
        "summary": _summary(analysis),
        "findings": findings(analysis, image, CLASSES),
        "mistakes": exhibits(analysis.mistakes, image),
        "uncertain": exhibits(analysis.uncertain, image),
        "confusion": confusion_matrix(analysis, image),
        "map": picture_map(analysis.map, pictures, on_map, analysis.classes, analysis.classes),
    }
    return render(
        "run.html.j2",
        a=analysis,
        name=source_name(analysis.source),
        run=run or "RUN",
        note=note,
        missing=len(analysis.images) - len(jpegs),
        left_out=pictures.left_out,
        training=figures.training(analysis.history, analysis.best_epoch),
        reliability=figures.reliability(analysis.reliability),
        growth=figures.growth(analysis.learning_curve),
        strategy=in_words(analysis.strategy),
        advice=analysis.advice,
        classes=_classes(analysis),
        parts=[(split, sum(by.values())) for split, by in analysis.by_split.items()],
        command=command_of(analysis, run),
        **sections,
    )


def source_name(source: str) -> str:
    """What a person calls a source: the last part of its path."""
    return PurePath(source).name or source


def in_words(name: str) -> str:
    """A strategy, and what it makes of the network."""
    label = spec_of(name).label
    return f"{name}: {label}" if label else name


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the page says of the accuracy.

    Attributes:
        where: Which images were measured, in words.
        low: Lower end of the interval of the accuracy, in whole percent.
        high: Its upper end.
        guess: Accuracy of the baseline, in whole percent.
        guess_class: The class that it always predicts.
        better_than_guessing: Whether the whole interval lies above the baseline.
    """

    where: str
    low: int
    high: int
    guess: int
    guess_class: str
    better_than_guessing: bool


def _summary(analysis: Analysis) -> Summary:
    evaluation, majority = analysis.evaluation, analysis.majority
    low, high = evaluation.accuracy_interval
    where = (
        "images, each predicted by a model that was not trained on it"
        if evaluation.split == "cross-validation"
        else f"{evaluation.split} images, which the model had not seen"
    )
    return Summary(
        where=where,
        low=round(100 * low),
        high=round(100 * high),
        guess=round(100 * majority.accuracy),
        guess_class=analysis.classes[majority.class_],
        better_than_guessing=low > majority.accuracy,
    )


@dataclass(frozen=True)
class ClassTable:
    """The results by class: the rows, how many training images each class has, and how many classes have no row."""

    rows: tuple[ClassRow, ...]
    learnt: Mapping[str, int]
    left_out: int


def _classes(analysis: Analysis) -> ClassTable:
    rows = analysis.evaluation.classes
    return ClassTable(rows, analysis.learnt, len(analysis.classes) - len(rows))


def command_of(analysis: Common, run: str) -> str:
    """The command that gives the same run again."""
    parts = ["headstart", "train", analysis.source, "--recipe", str(PurePath(run or "RUN") / "recipe.toml")]
    options = {"path": "--path-column", "label": "--label-column", "split": "--split-column", "group": "--group-column"}
    for column, option in options.items():
        if (name := analysis.columns.get(column)) is not None and name != column:
            parts += [option, name]
    if root := analysis.columns.get("root"):
        parts += ["--root", root]
    return shlex.join(parts)
