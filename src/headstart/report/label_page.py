"""The report of a run with several labels an image: from its analysis and its pictures to a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from headstart.data.several import MULTI_LABEL
from headstart.report import figures
from headstart.report.analysed_labels import NO_LABEL, LabelAnalysis, LabelRow, Wrong
from headstart.report.charts import Chart
from headstart.report.labels_together import labels_together
from headstart.report.picture_map import OnMap, picture_map
from headstart.report.pictures import BUDGET_BYTES, Pictures
from headstart.report.render import percent, render
from headstart.report.run_page import command_of, in_words, source_name
from headstart.report.shown_images import ImageOf, ShownImage, exhibits, findings


def label_page(
    analysis: LabelAnalysis,
    jpegs: Mapping[int, bytes],
    *,
    run: str = "",
    budget_bytes: int = BUDGET_BYTES,
) -> str:
    """The page of a run.

    Args:
        analysis: See `headstart.report.analysed_labels`.
        jpegs: JPEG files by the place of their image in the analysis; those that are missing have a placeholder.
        run: The run folder, for the commands that the page names.
        budget_bytes: For all pictures.
    """
    pictures = Pictures(jpegs, budget_bytes)
    image, on_map = partial(_image, analysis, pictures=pictures), partial(_on_map, analysis)
    # In the order of their worth: the pictures of what comes first have room, and the map shows those of the others.
    sections = {
        "findings": findings(analysis, image, MULTI_LABEL),
        "mistakes": exhibits(analysis.mistakes, image),
        "uncertain": exhibits(analysis.uncertain, image),
        "dialogs": _dialogs(analysis, image),
        "map": picture_map(analysis.map, pictures, on_map, analysis.combinations, analysis.classes),
    }
    return render(
        "labels.html.j2",
        a=analysis,
        name=source_name(analysis.source),
        run=run or "RUN",
        missing=len(analysis.images) - len(jpegs),
        left_out=pictures.left_out,
        training=figures.training(analysis.history, analysis.best_epoch),
        reliability=figures.reliability(analysis.reliability, "pair"),
        growth=figures.growth(analysis.learning_curve),
        curves=_curves(analysis),
        strategy=in_words(analysis.strategy),
        advice=None,
        labels=_labels(analysis),
        together=labels_together(analysis),
        parts=sorted(analysis.parts.items()),
        command=command_of(analysis, run),
        **sections,
    )


@dataclass(frozen=True, kw_only=True)
class ShownLabels(ShownImage):
    """An image with any number of labels.

    Attributes:
        names: Its labels.
        unknown: Those of which it is not known.
        found: Its labels that were predicted; empty for an image that was not measured, as are the next two.
        missed: Its labels that were not, with their probabilities.
        added: Labels that it does not have and that were predicted, likewise.
    """

    names: tuple[str, ...]
    unknown: tuple[str, ...]
    found: tuple[str, ...]
    missed: tuple[tuple[str, float], ...]
    added: tuple[tuple[str, float], ...]


def _image(analysis: LabelAnalysis, place: int, pictures: Pictures) -> ShownLabels:
    """An image as the page shows it."""
    one, classes = analysis.images[place], analysis.classes
    names = tuple(classes[label] for label in one.labels)
    missed = tuple((classes[label], probability) for label, probability in one.missed or ())
    added = tuple((classes[label], probability) for label, probability in one.added or ())
    lost = {label for label, _ in one.missed or ()}
    wrong = "".join(
        f", {how} {', '.join(f'{name} ({percent(probability, 0)})' for name, probability in which)}"
        for how, which in (("missed", missed), ("added", added)) if which
    )  # fmt: skip
    return ShownLabels(
        place=place,
        path=one.path,
        names=names,
        unknown=tuple(classes[label] for label in one.unknown),
        found=() if one.right is None else tuple(classes[label] for label in one.labels if label not in lost),
        missed=missed,
        added=added,
        alt=f"{one.path}: {', '.join(names) or NO_LABEL}{', predicted right' if one.right else wrong}",
        src=pictures.take(place),
    )


def _on_map(analysis: LabelAnalysis, place: int) -> OnMap:
    """The same on the map."""
    one = analysis.images[place]
    words = f"{_names(analysis, one.labels)}, {one.path}"
    if one.right is None:
        words += ", training image"
    elif one.right:
        words += ", predicted right"
    for how, which in (("missed", one.missed), ("added", one.added)):
        words += f", {how} {_names(analysis, [label for label, _ in which])}" if which else ""
    return OnMap(analysis.combination_of[str(place)], words, one.right)


def _names(analysis: LabelAnalysis, labels: Sequence[int]) -> str:
    return ", ".join(analysis.classes[label] for label in labels) or NO_LABEL


@dataclass(frozen=True)
class Dialog:
    """Images of which a label was missed, or to which it was added, each with the probability of the label."""

    label: str
    kind: Wrong
    count: int
    images: tuple[tuple[ShownLabels, float], ...]


def _dialogs(analysis: LabelAnalysis, image: ImageOf[ShownLabels]) -> dict[str, Dialog]:
    """Those images, by the names of their places on the page."""
    found = {}
    for one in analysis.wrong:
        images = []
        for place in one.shown:
            picture = analysis.images[place]
            images.append((image(place), dict(getattr(picture, one.kind) or ())[one.label]))
        found[f"{one.kind}-{one.label}"] = Dialog(analysis.classes[one.label], one.kind, one.images, tuple(images))
    return found


@dataclass(frozen=True, kw_only=True)
class LabelTableRow:
    """The results of a label.

    Attributes:
        result: Its numbers.
        learnt: Training images with it.
        threshold: Of the model file.
        curve: Whether it has a curve.
    """

    result: LabelRow
    learnt: int
    threshold: float
    curve: bool

    @property
    def missed(self) -> int:
        """Images with the label that were not found."""
        return self.result.positives - self.result.correct

    @property
    def added(self) -> int:
        """Images without it of which it was predicted."""
        return self.result.predicted - self.result.correct


@dataclass(frozen=True)
class LabelTable:
    """The results by label: the rows, and how many labels have none."""

    rows: tuple[LabelTableRow, ...]
    left_out: int


def _labels(analysis: LabelAnalysis) -> LabelTable:
    with_curve = {one.label for one in analysis.curves}
    rows = tuple(
        LabelTableRow(
            result=one, learnt=analysis.learnt.get(one.label, 0), threshold=analysis.thresholds[one.place],
            curve=one.place in with_curve,
        )
        for one in analysis.evaluation.labels
    )  # fmt: skip
    return LabelTable(rows, len(analysis.classes) - len(rows))


@dataclass(frozen=True, kw_only=True)
class ShownCurve:
    """What each threshold of a label finds, as a chart and as numbers for the slider.

    Attributes:
        label: Its name.
        place: Its place among all.
        chart: Precision, recall and F1.
        at: The step that is nearest to the threshold of the model.
        threshold: Of that step, as are the next two.
        correct: Images with the label that are found.
        found: Images that are predicted to have it.
        positives: Images that have it.
        images: Images of which it is known.
        average_precision: None where no image has it.
        cuts: The thresholds of all steps, with blanks between them, as are the next two.
        corrects: As `correct`.
        founds: As `found`.
    """

    label: str
    place: int
    chart: Chart
    at: int
    threshold: float
    correct: int
    found: int
    positives: int
    images: int
    average_precision: float | None
    cuts: str
    corrects: str
    founds: str


def _curves(analysis: LabelAnalysis) -> tuple[ShownCurve, ...]:
    ranked = {one.place: one.average_precision for one in analysis.evaluation.labels}
    shown = []
    for curve in analysis.curves:
        threshold = analysis.thresholds[curve.label]
        at = min(range(len(curve.cuts)), key=lambda i: abs(curve.cuts[i] - threshold))
        shown.append(
            ShownCurve(
                label=analysis.classes[curve.label], place=curve.label, chart=figures.thresholds(curve, threshold),
                at=at, threshold=curve.cuts[at], correct=curve.correct[at], found=curve.found[at],
                positives=curve.positives, images=curve.images, average_precision=ranked[curve.label],
                cuts=" ".join(f"{cut:.6g}" for cut in curve.cuts), corrects=" ".join(map(str, curve.correct)),
                founds=" ".join(map(str, curve.found)),
            )
        )  # fmt: skip
    return tuple(shown)
