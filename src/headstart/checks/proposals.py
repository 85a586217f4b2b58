"""What the data check proposes to do about a finding; the row of its kind in `headstart.checks.CHECKS` names which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from headstart.checks.findings import CheckReport, Finding

Choice = Literal["drop", "relabel", "keep"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


@dataclass(frozen=True)
class Proposal:
    """What to do about one image.

    Attributes:
        path: As the table spells it.
        choice: ``drop``, ``relabel`` or ``keep``.
        new_label: The class that ``relabel`` gives.
    """

    path: str
    choice: Choice
    new_label: str = ""


def keep(finding: Finding, report: CheckReport) -> Iterable[Proposal]:
    """All images stay as they are: to be looked at."""
    return (Proposal(path, "keep") for path in finding.paths)


def drop(finding: Finding, report: CheckReport) -> Iterable[Proposal]:
    """All images are left out."""
    return (Proposal(path, "drop") for path in finding.paths)
