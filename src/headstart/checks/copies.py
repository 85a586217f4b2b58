"""Exact duplicates, near duplicates, and leaks: copies of either kind on both sides of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from headstart.checks.findings import CheckReport, Finding
from headstart.checks.proposals import Proposal
from headstart.checks.subject import Subject, connected
from headstart.core.text import counted, listed
from headstart.data.several import Said, disputed
from headstart.data.table import SPLITS
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_NAMED = 4


def find(subject: Subject) -> list[Finding]:
    """Groups of images that are, or show, the same."""
    same = _members(np.unique(np.array(subject.data.digests, "S64").reshape(-1), return_inverse=True)[1].reshape(-1))
    findings = [finding for rows in same for finding in _exact(subject, rows)]
    if not len(subject.near.rows):
        return findings
    least: dict[int, float] = defaultdict(lambda: 1.0)
    turned: set[int] = set()
    groups = connected(np.arange(len(subject), dtype=np.int64), subject.near.rows)
    pairs = zip(subject.near.rows[:, 0].tolist(), subject.near.similarity.tolist(), subject.near.mirrored, strict=True)
    for row, similarity, mirrored in pairs:
        group = int(groups[row])
        least[group] = min(least[group], similarity)
        if mirrored:
            turned.add(group)
    for rows in _members(groups):
        if len({subject.data.digests[row] for row in rows}) > 1:
            group = int(groups[rows[0]])
            findings.append(_near(subject, rows, least[group], mirrored=group in turned))
    return findings


def propose_leak(finding: Finding, report: CheckReport) -> Iterable[Proposal]:
    """The image that is measured on is kept, its copy in train is dropped."""
    splits = finding.facts["splits"]
    last = SPLITS[max(SPLITS.index(split) for split in splits if split)]
    for path, split in zip(finding.paths, splits, strict=True):
        yield Proposal(path, "keep" if split == last else "drop")


def propose_duplicate(finding: Finding, report: CheckReport) -> Iterable[Proposal]:
    """The first of identical files stays; under several classes, the one whose label is not in doubt."""
    stays = finding.paths[0]
    if finding.facts["conflict"]:
        suspect = report.paths("label")
        labels = zip(finding.paths, finding.facts["labels"], strict=True)
        trusted = {label for path, label in labels if path not in suspect}
        # Where nobody knows which label is right, none of them teaches anything.
        stays = next((path for path in finding.paths if path not in suspect), "") if len(trusted) == 1 else ""
    return (Proposal(path, "keep" if path == stays else "drop") for path in finding.paths)


def _exact(subject: Subject, rows: list[int]) -> Iterable[Finding]:
    paths, facts, splits, labels = _describe(subject, rows)
    facts["exact"] = True
    many = counted(len(rows), "file")
    conflict = _conflict(subject, labels)
    if conflict:
        wrong = "At least one label is wrong" + ("" if subject.exclusive else ", or missing")
        yield Finding(
            "duplicate",
            f"{many} hold the same image {conflict}: {listed(paths, MAX_NAMED)}. {wrong}: keep one of them.",
            paths, {**facts, "conflict": True}, severity=2,
        )  # fmt: skip
    if len(splits) > 1:
        yield _leak(paths, facts, splits, f"{many} hold the same image", 2)
    elif not conflict:
        yield Finding(
            "duplicate",
            f"{many} are identical, byte for byte: {listed(paths, MAX_NAMED)}. Keep one of them.",
            paths, {**facts, "conflict": False}, severity=1,
        )  # fmt: skip


def _near(subject: Subject, rows: list[int], least: float, *, mirrored: bool) -> Finding:
    paths, facts, splits, labels = _describe(subject, rows)
    facts |= {"exact": False, "similarity": round(least, 4), "mirrored": mirrored}
    conflict = _conflict(subject, labels)
    facts["conflict"] = bool(conflict)
    same = f"show nearly the same{' or its mirror image' * mirrored}"
    what = f"{counted(len(rows), 'image')} {same} (similarity {least:.3f})"
    if len(splits) > 1:
        return _leak(paths, facts, splits, what, least)
    if conflict:
        what += f" {conflict}"
        todo = "One of the labels may be wrong: look at them."
    else:
        todo = "Nothing has to be done: `train` keeps them on one side of the splits that it draws."
    return Finding("near-duplicate", f"{what}: {listed(paths, MAX_NAMED)}. {todo}", paths, facts,
                   severity=least + bool(conflict))  # fmt: skip


def _leak(paths: tuple[str, ...], facts: dict[str, object], splits: list[str], what: str, severity: float) -> Finding:
    return Finding(
        "leak",
        f"{what} in {' and '.join(splits)}: {listed(paths, MAX_NAMED)}. This leakage makes the accuracy too high: take "
        f"it out of {' and '.join(splits[:-1])}.",
        paths, facts, severity=severity,
    )  # fmt: skip


def _describe(subject: Subject, rows: list[int]) -> tuple[tuple[str, ...], dict[str, object], list[str], list[str]]:
    """Paths, machine fields, splits in their order, and labels of images."""
    images = [subject.data.table.rows[row] for row in rows]
    splits = [split for split in SPLITS if any(image.split == split for image in images)]
    labels = sorted({image.label for image in images if image.label is not None})
    facts: dict[str, object] = {
        "labels": [image.label for image in images],
        "splits": [image.split for image in images],
    }
    return tuple(image.path for image in images), facts, [str(split) for split in splits], labels


def _conflict(subject: Subject, labels: list[str]) -> str:
    """How the labels of images that show the same contradict one another, in words; empty where they do not."""
    if len(labels) < 2:
        return ""
    if subject.exclusive:
        return f"under different classes, {listed(labels)}"
    if not TARGETS[subject.data.table.task].several:
        return f"with different labels, {listed(labels)}"
    words = listed(Said.of(label).words for label in labels)
    return f"with different labels, {words}" if disputed(labels) else ""


def _members(groups: NDArray[np.int64]) -> list[list[int]]:
    """The rows of each group of several."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return [part.tolist() for part in np.split(order, starts[1:]) if len(part) > 1]
