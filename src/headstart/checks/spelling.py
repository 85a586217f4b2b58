"""Classes or labels whose names differ only in spelling: most likely one, which is learnt as several."""

from __future__ import annotations

from headstart.checks.findings import Finding
from headstart.checks.subject import Subject
from headstart.core.spellings import twins
from headstart.core.text import counted


def find(subject: Subject) -> list[Finding]:
    """One finding for all spellings of a name."""
    number = dict(zip(subject.classes, subject.images.tolist(), strict=True))
    one_is, several_are = subject.data.table.nouns
    findings = []
    for one in twins(subject.classes):
        sizes = [number[name] for name in one.names]
        findings.append(Finding(
            "spelling",
            f"{one}: most likely one {one_is}. {_sizes(sizes)} are treated as {len(sizes)} {several_are}; give them "
            "one name if they are one.",
            facts={"labels": list(one.names), "images": sizes, "differ": list(one.differ)},
            severity=sum(sizes) - max(sizes),
        ))  # fmt: skip
    return findings


def _sizes(sizes: list[int]) -> str:
    return f"Their {' and '.join(f'{size:,}' for size in sizes[:-1])} and {counted(sizes[-1], 'image')}"
