"""Files that cannot be used, with the reason."""

from __future__ import annotations

from headstart.checks.findings import Finding
from headstart.checks.subject import Subject
from headstart.core.text import printable, quoted


def find(subject: Subject) -> list[Finding]:
    """One finding for each file that was skipped, but for those that a person has decided about."""
    return [
        Finding(
            "unreadable",
            f"{quoted(skip.path)} cannot be used: {printable(skip.reason)}. Fix or remove it.",
            (skip.path,),
            {"reason": skip.reason},
        )
        for skip in subject.data.table.skipped
        if not skip.decided
    ]
