"""Classes whose names differ only in spelling: most likely one class, which is learnt as several."""

from __future__ import annotations

import numpy as np

from headstart.checks.findings import Finding
from headstart.checks.subject import UNLABELLED, Subject
from headstart.core.spellings import twins
from headstart.core.text import counted


def find(subject: Subject) -> list[Finding]:
    """One finding for all spellings of a name."""
    images = np.bincount(subject.labels[subject.labels != UNLABELLED], minlength=len(subject.classes))
    number = dict(zip(subject.classes, images.tolist(), strict=True))
    findings = []
    for one in twins(subject.classes):
        sizes = [number[name] for name in one.names]
        findings.append(Finding(
            "spelling",
            f"{one}: most likely one class. {_sizes(sizes)} are treated as {len(sizes)} classes; give them one name if "
            "they are one.",
            facts={"labels": list(one.names), "images": sizes, "differ": list(one.differ)},
            severity=sum(sizes) - max(sizes),
        ))  # fmt: skip
    return findings


def _sizes(sizes: list[int]) -> str:
    return f"Their {' and '.join(f'{size:,}' for size in sizes[:-1])} and {counted(sizes[-1], 'image')}"
