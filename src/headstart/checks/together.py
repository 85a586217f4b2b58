"""Labels that too few images have, or lack; and pairs of labels that always or never occur together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.checks.findings import Finding
from headstart.checks.shortcuts import fisher
from headstart.checks.subject import Subject
from headstart.core.text import counted, quoted
from headstart.data.table import SPLITS
from headstart.targets.labels import FALSE, TRUE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Fewer different images with a label, or without, hardly show what they have in common.
FEW_TO_LEARN = 10
MANY = 5  # labels or pairs of which each has a finding of its own
# Of an exact test that the two have nothing to do with one another, before it is divided by the number of pairs.
LEVEL = 1e-3


@dataclass(frozen=True)
class _Pair:
    """Two labels, by their places: of the images that have the first, all or none have the other."""

    first: int
    other: int
    always: bool
    images: int  # that have the first, where the other is known
    others: int  # that have the other, likewise
    expected: float  # that would have both


def find(subject: Subject) -> list[Finding]:
    """What is wrong with the labels; nothing where no image is labelled."""
    if not subject.classes:
        return []
    truth = _different(subject)
    return [*_refused(subject), *_rare(subject), *_pairs(subject, truth)]


def _refused(subject: Subject) -> Iterator[Finding]:
    if subject.refusal:
        yield Finding(
            "class", f"`train` refuses these images. {subject.refusal}", facts={"problem": "refused"}, severity=3
        )


def _rare(subject: Subject) -> Iterator[Finding]:
    """A finding on each label with too few images to learn from, or one on all where there are many such."""
    splits = np.array([row.split or "" for row in subject.data.table.rows])
    given = [split for split in SPLITS if (splits == split).any()]
    truth = _different(subject, splits == "train" if "train" in given else None)
    have, lack = (truth == TRUE).sum(0), (truth == FALSE).sum(0)
    few = np.flatnonzero(np.minimum(have, lack) < FEW_TO_LEARN)
    few = few[np.argsort(np.minimum(have, lack)[few], kind="stable")]
    facts = [(subject.classes[i], int(have[i]), int(lack[i])) for i in few]
    if len(few) > MANY:
        named = ", ".join(f"{quoted(label)} ({a:,} with it, {b:,} without)" for label, a, b in facts[:MANY])
        yield Finding(
            "class",
            f"{len(few):,} of {len(have):,} labels are true, or not true, of fewer than {FEW_TO_LEARN} different "
            f"training images, too few to show what they have in common: {named} and {len(few) - MANY:,} more. Add "
            "images of them.",
            facts={"problem": "learn", "labels": [one for one, _, _ in facts], "images": [one for _, one, _ in facts],
                   "without": [one for _, _, one in facts]},
            severity=2,
        )  # fmt: skip
        return
    for label, a, b in facts:
        many, what = (a, "has") if a <= b else (b, "lacks")
        images = counted(many, "different training image")
        yield Finding(
            "class",
            f"{images[:1].upper()}{images[1:]} {what if many == 1 else {'has': 'have', 'lacks': 'lack'}[what]} the "
            f"label {quoted(label)}; {FEW_TO_LEARN} or more would show what they have in common. Add such images.",
            facts={"problem": "learn", "label": label, "images": a, "without": b}, severity=2 - many / 100,
        )  # fmt: skip


def _pairs(subject: Subject, truth: NDArray[np.int8]) -> list[Finding]:
    """A finding on each pair that is not chance, the least likely first; or one on the rest, where there are many."""
    if truth.shape[1] > 1 and ((truth == TRUE).sum(1) <= 1).all():
        return [Finding(
            "class",
            f"No image has more than one of the {truth.shape[1]:,} labels. If exactly one class is true of each image, "
            "read them as classes: --task classes.",
            facts={"problem": "single"}, severity=1.5,
        )]  # fmt: skip
    found = sorted(_significant(truth), key=lambda one: (-one.expected, one.first, one.other))
    findings = [_told(subject, one) for one in found[:MANY]]
    if rest := found[MANY:]:
        always = [one for one in rest if one.always]
        findings.append(Finding(
            "class",
            f"{counted(len(rest), 'more pair', 'more pairs')} of labels: {len(always):,} always occur together, "
            f"{len(rest) - len(always):,} never do. --json lists them.",
            facts={"problem": "together",
                   "always": [[subject.classes[one.first], subject.classes[one.other]] for one in always],
                   "never": [[subject.classes[one.first], subject.classes[one.other]] for one in rest
                             if not one.always]},
        ))  # fmt: skip
    return findings


def _told(subject: Subject, pair: _Pair) -> Finding:
    first, other = subject.classes[pair.first], subject.classes[pair.other]
    facts = {"labels": [first, other], "images": [pair.images, pair.others], "expected": round(pair.expected, 1)}
    if pair.always:
        return Finding(
            "class",
            f"Each of the {pair.images:,} images that have {quoted(first)} has {quoted(other)} too, as have "
            f"{pair.others:,} in all. A model cannot learn how they differ where the second is not to be seen: add "
            f"images with {quoted(first)} alone, if there are such; otherwise one label of the two is enough."
            if pair.images == pair.others else
            f"Each of the {pair.images:,} images that have {quoted(first)} has {quoted(other)} too, as have "
            f"{pair.others:,} in all. If the one does not imply the other, add images with {quoted(first)} alone.",
            facts={"problem": "always", **facts}, severity=1 + min(pair.expected, 1e6) / 1e7,
        )  # fmt: skip
    return Finding(
        "class",
        f"{quoted(first)} and {quoted(other)} never occur together: {pair.images:,} and {pair.others:,} images have "
        f"one of them, and {pair.expected:.0f} would have both, had they nothing to do with one another. If they do "
        "not exclude each other, labels are missing, or images that show both.",
        facts={"problem": "never", **facts}, severity=1 + min(pair.expected, 1e6) / 1e7,
    )  # fmt: skip


def _significant(truth: NDArray[np.int8]) -> Iterator[_Pair]:
    """The pairs that always or never occur together, and not by chance (Fisher's exact test)."""
    have, lack = (truth == TRUE).astype(np.int64), (truth == FALSE).astype(np.int64)
    both, only = have.T @ have, have.T @ lack  # (C, C): images with both; with the first and not with the other
    other_only = only.T
    neither = lack.T @ lack
    level = LEVEL / max(len(both) * (len(both) - 1) // 2, 1)
    first, other = np.nonzero(np.triu((both == 0) | (only == 0) | (other_only == 0), 1))
    for i, j in zip(first.tolist(), other.tolist(), strict=True):
        together, a, b = int(both[i, j]), int(only[i, j]), int(other_only[i, j])
        total = together + a + b + int(neither[i, j])
        if not together and a and b and fisher(a, a, total - b, total) <= level:
            yield _Pair(i, j, False, a, b, a * b / total)
        elif together and not a and fisher(together, together, together + b, total) <= level:
            yield _Pair(i, j, True, together, together + b, together * (together + b) / total)
        elif together and not b and fisher(together, together, together + a, total) <= level:
            yield _Pair(j, i, True, together, together + a, together * (together + a) / total)


def _different(subject: Subject, rows: NDArray[np.bool_] | None = None) -> NDArray[np.int8]:
    """What is said of each image, int8 (M, C), of those that show the same the first alone."""
    some = np.arange(len(subject)) if rows is None else np.flatnonzero(rows)
    first = np.unique(subject.different[some], return_index=True)[1]
    return subject.truth[some[first]]
