"""The model card: what the model was made from, and how good it was on images that it had not seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headstart.core.markup import between, percent
from headstart.core.text import counted, portable
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from headstart.modelfile.familiarity import Familiarity
    from headstart.prediction.classifier import Classifier

_MOST_CLASSES = 200  # rows of the table of classes


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the card.

    Attributes:
        title: Its heading.
        sentences: Paragraphs.
        facts: Names and values.
        table: A header and rows; None for none.
    """

    title: str
    sentences: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    table: Table | None = None

    def as_dict(self) -> dict[str, object]:
        """The section as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Table:
    """A table: a header, and rows as long."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(classifier: Classifier) -> tuple[Section, ...]:
    """The card of a model, from its metadata, which is untrusted: what is not there or of a wrong kind is left out."""
    metadata = classifier.metadata
    exclusive = TARGETS[metadata.task].exclusive
    made = [
        ("Strategy", metadata.strategy),
        ("Backbone", metadata.backbone.name),
        ("Licence of its weights", metadata.backbone.licence),
        ("Precision", metadata.precision),
        ("Training images", _trained_on(metadata.counts, exclusive=exclusive)),
        ("Size of the model file", f"{len(classifier.content) / 1e6:.1f} MB"),
        ("SHA-256 of the model file", hashlib.sha256(classifier.content).hexdigest()),
        ("Written by", f"Headstart {metadata.version}" if metadata.version else ""),
    ]
    return (
        *_measured(metadata.evaluation or {}),
        *_measured_labels(metadata.evaluation or {}, metadata.thresholds),
        *_familiarity(metadata.familiarity, "class" if exclusive else "labels"),
        Section(title="How it was made", facts=tuple((name, value) for name, value in made if value)),
    )


def _measured(evaluation: Mapping[str, Any]) -> list[Section]:
    images, correct = evaluation.get("n"), evaluation.get("correct")
    if type(images) is not int or type(correct) is not int:
        return []
    facts = [
        ("Accuracy", f"{percent(evaluation['accuracy'])}: {correct:,} of {counted(images, 'held-out image')} correct"),
        ("95 % interval of the accuracy", between(evaluation["accuracy_interval"])),
        ("Balanced accuracy (mean recall of the classes)", percent(evaluation.get("balanced_accuracy"))),
        ("Calibration error", percent(evaluation.get("calibration_error"))),
        ("Measured on", str(evaluation.get("split"))),
    ]
    rows = [
        (
            portable(one["label"]),
            f"{one['images']:,}",
            percent(one["recall"]),
            between(one["recall_interval"]),
            percent(one["precision"]),
        )
        for one in evaluation.get("classes", [])[:_MOST_CLASSES]
    ]
    return [
        Section(
            title="How good it is",
            sentences=(
                "Measured on images that the model was not trained on. On images from other cameras, places or times, "
                "expect less.",
            ),
            facts=tuple(facts),
            table=Table(("Class", "Images", "Recall", "95 % interval", "Precision"), tuple(rows)) if rows else None,
        )
    ]


def _measured_labels(evaluation: Mapping[str, Any], thresholds: Sequence[float]) -> list[Section]:
    """What was measured of a model of several labels; nothing of another."""
    images, results = evaluation.get("n"), evaluation.get("labels")
    if type(images) is not int or not isinstance(results, list):
        return []
    average = evaluation.get("mean_average_precision")
    facts = [
        ("Mean average precision", f"{percent(average)} on {counted(images, 'held-out image')}"),
        ("95 % interval of the mean average precision", between(evaluation.get("mean_average_precision_interval"))),
        ("The same of a random order", percent(evaluation.get("mean_average_precision_by_frequency"))),
        ("Micro F1", _decimals(evaluation.get("micro_f1"))),
        ("Macro F1", _decimals(evaluation.get("macro_f1"))),
        ("Images of which every label is right", percent(evaluation.get("exact_match"))),
        ("Calibration error", percent(evaluation.get("calibration_error"))),
        ("Measured on", str(evaluation.get("split"))),
    ]
    rows = [
        (
            portable(str(one.get("label"))),
            f"{one['positives']:,}" if type(one.get("positives")) is int else "–",
            _decimals(threshold),
            percent(one.get("average_precision")),
            between(one.get("average_precision_interval")),
            percent(one.get("precision")),
            percent(one.get("recall")),
        )
        for one, threshold in zip(results[:_MOST_CLASSES], thresholds, strict=False)
        if isinstance(one, dict)
    ]
    head = ("Label", "Images with it", "Threshold", "Average precision", "95 % interval", "Precision", "Recall")
    return [Section(
        title="How good it is",
        sentences=(
            "Measured on images that the model was not trained on. On images from other cameras, places or times, "
            "expect less.",
        ),
        facts=tuple(facts),
        table=Table(head, tuple(rows)) if rows else None,
    )]  # fmt: skip


def _decimals(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "–"


def _familiarity(familiarity: Familiarity | None, what: str) -> list[Section]:
    if familiarity is None:
        return []
    rate = percent(familiarity.false_alarm_rate)
    return [
        Section(
            title="Unfamiliar images",
            sentences=(
                "An image that is unlike the training images is marked as unfamiliar: do not rely on its "
                f"{what}. Of images like the training images, about {rate} are marked too (false alarms).",
            ),
        )
    ]


def _trained_on(counts: Mapping[str, object], *, exclusive: bool) -> str:
    train = counts.get("train")
    if not isinstance(train, dict):
        return ""
    if not exclusive:  # an image counts for each label that it has
        return ""
    return (
        f"{sum(value for value in train.values() if type(value) is int):,} of {counted(len(train), 'class', 'classes')}"
    )
