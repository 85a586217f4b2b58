"""Classes that are too small to learn or to measure, and classes of very different sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.checks.findings import Finding
from headstart.checks.subject import UNLABELLED, Subject
from headstart.core.text import counted, listed, quoted
from headstart.data.table import SPLITS
from headstart.evaluation.intervals import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Fewer different images of a class than this hardly show what its members have in common.
FEW_TO_LEARN = 10
# With fewer held-out images the 95 % interval of a class's recall spans more than 40 points even where it is 90 %.
FEW_TO_MEASURE = 10
MANY = 5  # small classes of which each has a finding of its own
HOLDOUT = 0.2  # the share that `train` holds out where the source brings no splits
# Beyond this a classifier gains by hardly ever naming the small class.
IMBALANCE = 10


def find(subject: Subject) -> list[Finding]:
    """What is wrong with the classes; nothing where no image is labelled."""
    if not subject.classes:
        return []
    sizes = _different(subject, subject.labels != UNLABELLED)
    if len(sizes) == 1:
        return [Finding(
            "class",
            f"There is only the class {quoted(subject.classes[0])}: a classifier needs at least two. Add images of "
            "another class.",
            facts={"problem": "single", "labels": list(subject.classes), "images": [int(sizes[0])]}, severity=4,
        )]  # fmt: skip
    splits = np.array([row.split or "" for row in subject.data.table.rows])
    given = [split for split in SPLITS if (splits == split).any()]
    learnt = _different(subject, splits == "train") if "train" in given else sizes
    measured = next((split for split in reversed(given) if split != "train"), None)
    return [
        *_refused(subject),
        *_to_learn(subject, learnt),
        *_to_measure(subject, sizes, splits, measured, learnt),
        *_imbalance(subject, learnt),
    ]


def _refused(subject: Subject) -> list[Finding]:
    if not subject.refusal:
        return []
    return [
        Finding("class", f"`train` refuses these images. {subject.refusal}", facts={"problem": "refused"}, severity=3)
    ]


def _to_learn(subject: Subject, learnt: NDArray[np.int64]) -> list[Finding]:
    """A finding on each class with too few images to learn from, or one on all where there are many such."""
    few = np.flatnonzero(learnt < FEW_TO_LEARN)
    few = few[np.argsort(learnt[few], kind="stable")]
    labels, images = [subject.classes[number] for number in few], learnt[few].tolist()
    if len(few) > MANY:
        named = ", ".join(f"{quoted(label)} ({number})" for label, number in zip(labels[:MANY], images, strict=False))
        return [Finding(
            "class",
            f"{len(few):,} of {len(learnt):,} classes have fewer than {FEW_TO_LEARN} different training images, "
            f"too few to show what a class has in common: {named} and {len(few) - MANY:,} more. Add images of "
            "them.",
            facts={"problem": "learn", "labels": labels, "images": images}, severity=2 - images[0] / 100,
        )]  # fmt: skip
    return [
        Finding(
            "class",
            f"The class {quoted(label)} has {counted(number, 'different training image')}; {FEW_TO_LEARN} or "
            f"more would show what the class has in common. Add images of it.",
            facts={"problem": "learn", "label": label, "images": number}, severity=2 - number / 100,
        )
        for label, number in zip(labels, images, strict=True)
    ]  # fmt: skip


def _to_measure(
    subject: Subject,
    sizes: NDArray[np.int64],
    splits: NDArray[np.str_],
    split: str | None,
    learnt: NDArray[np.int64],
) -> list[Finding]:
    """One finding on all classes of which too few images are held out."""
    held_out = _different(subject, splits == split) if split else np.maximum(np.floor(sizes * HOLDOUT), 1).astype(int)
    few = np.flatnonzero((held_out < FEW_TO_MEASURE) & (learnt >= FEW_TO_LEARN))
    if not len(few):
        return []
    fewest = few[np.argsort(held_out[few], kind="stable")]
    images = int(held_out[fewest[0]])
    labels = [subject.classes[number] for number in fewest]
    if not images:
        known = "nothing will be known about the first"
    else:
        low, high = wilson(round(0.9 * images), images)
        known = f"with {images} of the first, its recall is known to within {50 * (high - low):.0f} points at best"
    where = f"in {split}" if split else f"held out (a share of {HOLDOUT:.0%})"
    return [Finding(
        "class",
        f"{counted(len(few), 'class has', 'classes have')} fewer than {FEW_TO_MEASURE} images {where}: "
        f"{listed(labels)}; {known}. Add images{'' if split else ', or measure by cross-validation (--folds)'}.",
        facts={"problem": "measure", "labels": labels, "images": [int(held_out[number]) for number in fewest]},
        severity=1,
    )]  # fmt: skip


def _imbalance(subject: Subject, learnt: NDArray[np.int64]) -> list[Finding]:
    largest, smallest = int(learnt.argmax()), int(learnt.argmin())
    if learnt[largest] < IMBALANCE * max(1, learnt[smallest]):
        return []
    names = [subject.classes[largest], subject.classes[smallest]]
    many, few = int(learnt[largest]), int(learnt[smallest])
    ratio = many / max(1, few)
    return [Finding(
        "class",
        f"{quoted(names[0])} has {ratio:,.0f} times as many images as {quoted(names[1])} ({many:,} against {few:,}): "
        "the accuracy says little about the small class. Look at the balanced accuracy, and try --class-weight "
        "balanced.",
        facts={"problem": "imbalance", "labels": names, "images": [many, few], "ratio": round(ratio, 1)},
        severity=1 + min(ratio, 1000) / 1001,
    )]  # fmt: skip


def _different(subject: Subject, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Different images of each class among some rows, (C,)."""
    rows = rows & (subject.labels != UNLABELLED)
    pairs = np.unique(np.stack([subject.labels[rows], subject.different[rows]]), axis=1)
    return np.bincount(pairs[0], minlength=len(subject.classes))
