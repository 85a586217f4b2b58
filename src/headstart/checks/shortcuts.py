"""Shortcuts: classes that size, format, camera or file size alone give away, without the picture itself.

A network can learn such a trait instead of the subject (Geirhos et al. 2020), and then fails where the trait is
missing: all photos of one class from one camera, say. A small classifier is trained on these traits alone, and judged
on images that it has not seen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.checks import outoffold
from headstart.checks.findings import Finding
from headstart.checks.subject import UNLABELLED, Subject
from headstart.core.text import quoted
from headstart.core.thinning import of_each
from headstart.data.traits import Traits

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_IMAGES = 10  # of a class, to say anything
MAX_IMAGES = 5000  # that are looked at; more would only cost time
FOLDS = 5
BINS = 8  # into which numbers are sorted, so that sizes in the middle can be learnt too
# A value that fewer images have cannot be learnt from.
COMMON = 5
C = 1.0  # scikit-learn's default, for columns of 0 and 1
# Balanced accuracy of the class against all others; 0.5 is chance.
LEAST = 0.8
# Of the one-sided exact test of Fisher, before it is divided by the number of classes.
LEVEL = 1e-3

_WORDS = {
    "format": "its file format", "camera": "its camera", "size": "its size in pixels",
    "file size": "the size of its files relative to their content",
    "together": "its size, format, camera and file size together",
}  # fmt: skip

_SHOWN: dict[str, Callable[[Traits], str]] = {
    "format": lambda one: one.format,
    "camera": lambda one: quoted(one.camera) if one.camera else "no camera named",
    "size": lambda one: f"{one.width} x {one.height}",
}


def find(subject: Subject) -> list[Finding]:
    """The classes that traits give away; none where there are fewer than two of `MIN_IMAGES` different images."""
    rows, labels = _images(subject)
    if not len(rows):
        return []
    traits = [subject.data.traits[row] for row in rows]
    columns = {name: found for name, found in _families(traits).items() if found.shape[1]}
    if not columns:
        return []
    if len(columns) > 1:
        columns["together"] = np.concatenate(list(columns.values()), axis=1)
    names = np.unique(labels)
    classes = np.searchsorted(names, labels)
    digests = [subject.data.digests[row] for row in rows]
    folds = outoffold.deal(subject.groups[rows], classes, digests, folds=FOLDS, seed=0)
    told = {name: _told(one, classes, folds) for name, one in columns.items()}
    findings = []
    for place, number in enumerate(names[: 1 if len(names) == 2 else None]):
        chosen = _clearest({name: by_class[place] for name, by_class in told.items()}, LEVEL / len(names))
        if chosen is None:
            continue
        trait, (share, p_value) = chosen
        label = subject.classes[number]
        rest = quoted(subject.classes[names[1]]) if len(names) == 2 else "the other classes"
        example = _example(traits, classes == place, trait)
        findings.append(Finding(
            "shortcut",
            f"The class {quoted(label)} can be distinguished from {rest} by {_WORDS[trait]} alone: {100 * share:.0f} % "
            f"balanced accuracy on held-out images, where guessing gives 50 %{example}. A network may learn that "
            "instead of the subject: bring all classes to the same format, or add images that break the rule.",
            facts={"label": label, "trait": trait, "balanced_accuracy": round(share, 4), "chance": 0.5,
                   "p_value": p_value, "images": int((classes == place).sum())},
            severity=share,
        ))  # fmt: skip
    return findings


def fisher(hits: int, named: int, members: int, total: int) -> float:
    """Chance of at least so many hits if naming had nothing to do with membership: Fisher's exact test, one-sided.

    Args:
        hits: Members that were named.
        named: Images that were named.
        members: Members of the class.
        total: All images.
    """

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    everything = log_choose(total, named)
    chances = (
        math.exp(log_choose(members, k) + log_choose(total - members, named - k) - everything)
        for k in range(max(hits, named + members - total), min(named, members) + 1)
    )
    return min(1.0, math.fsum(chances))


def _images(subject: Subject) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One row of each set of copies, of the classes with enough of them, and their labels; `MAX_IMAGES` at most."""
    rows = np.unique(subject.different, return_index=True)[1]
    rows = rows[subject.labels[rows] != UNLABELLED]
    numbers, sizes = np.unique(subject.labels[rows], return_counts=True)
    rows = rows[np.isin(subject.labels[rows], numbers[sizes >= MIN_IMAGES])]
    if (sizes >= MIN_IMAGES).sum() < 2:
        return rows[:0], rows[:0]
    if len(rows) > MAX_IMAGES:
        rows = np.sort(rows[of_each(subject.labels[rows], MAX_IMAGES)])
    return rows, subject.labels[rows]


def _families(traits: Sequence[Traits]) -> dict[str, NDArray[np.float32]]:
    """Columns of 0 and 1, float32 (N, R), of each kind of trait."""
    width, height = (np.array([getattr(one, name) for one in traits], np.float64) for name in ("width", "height"))
    return {
        "format": _values([one.format for one in traits]),
        "camera": _values([one.camera for one in traits]),
        "size": np.concatenate(
            [_values([(one.width, one.height) for one in traits]), _bins(width * height), _bins(width / height)], axis=1
        ),
        "file size": _bins(_compression(traits)),
    }


def _compression(traits: Sequence[Traits]) -> NDArray[np.float64]:
    """How much larger each file is than its picture explains, the logarithm of the factor, (N,).

    Plain pictures make small files: of ten digits, the 1 could be recognised by its file size with 97 %. What is left
    after a regression on sharpness, contrast, light, pixels and format is how the file was saved (there 76 %).
    """
    sizes, width, height, sharpness, contrast, light = (
        np.array([getattr(one, name) for one in traits], np.float64)
        for name in ("file_bytes", "width", "height", "sharpness", "contrast", "brightness")
    )
    pixels = width * height
    logs = np.stack([np.log1p(sharpness), np.log1p(contrast), np.log(pixels)], axis=1)
    formats = np.array([[one.format == name for name in sorted({one.format for one in traits})] for one in traits])
    known = np.concatenate([formats, logs, logs**2, light[:, None] / 255], axis=1)
    density = np.log(sizes / pixels)
    residual: NDArray[np.float64] = density - known @ np.linalg.lstsq(known, density, rcond=None)[0]
    return residual


def _values(found: Sequence[Hashable]) -> NDArray[np.float32]:
    """A column for each value that enough images have; none where all are alike."""
    common = [value for value, images in Counter(found).most_common(100) if COMMON <= images < len(found)]
    return np.array([[one == value for value in common] for one in found], np.float32).reshape(len(found), len(common))


def _bins(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """A column for each of the quantiles that divide the numbers; none where all are alike."""
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.asarray(numbers[:, None] <= edges[edges < numbers.max()], np.float32)


def _told(
    columns: NDArray[np.float32], classes: NDArray[np.int64], folds: NDArray[np.int64]
) -> list[tuple[float, float]]:
    """For each class the balanced accuracy against all others (0.5 is chance), and its p-value."""
    count = int(classes.max()) + 1
    images = np.bincount(classes)
    z = columns - columns.mean(0)
    balanced = (len(classes) / (count * images[classes])).astype(np.float32)
    fits = outoffold.OutOfFold(z, classes, classes=count, c=C)
    scores = fits.scores(folds, np.ones(len(classes), bool), balanced)
    predicted = scores.of(np.arange(len(classes))).argmax(1)
    result = []
    for one in range(count):
        hits, named = int(((predicted == one) & (classes == one)).sum()), int((predicted == one).sum())
        others = len(classes) - images[one]
        right = (hits / images[one] + 1 - (named - hits) / others) / 2
        result.append((float(right), fisher(hits, named, int(images[one]), len(classes))))
    return result


def _clearest(told: dict[str, tuple[float, float]], level: float) -> tuple[str, tuple[float, float]] | None:
    """The simplest trait that is nearly as good as the best one, if that is good and significant."""
    enough = {name: (share, p_value) for name, (share, p_value) in told.items() if p_value <= level and share >= LEAST}
    if not enough:
        return None
    best = max(share for share, _ in enough.values())
    return next((name, found) for name, found in enough.items() if found[0] >= best - 0.03)


def _example(traits: Sequence[Traits], members: NDArray[np.bool_], trait: str) -> str:
    """The most frequent value of the class, in words; empty if several traits were used together."""
    if trait not in _SHOWN:
        return ""
    values = [_SHOWN[trait](one) for one in traits]
    inside = Counter(value for value, member in zip(values, members, strict=True) if member)
    value, images = inside.most_common(1)[0]
    outside = values.count(value) - images
    share, others = images / int(members.sum()), outside / int((~members).sum())
    return f"; {value} in {100 * share:.0f} % of it and {100 * others:.0f} % of the others"
