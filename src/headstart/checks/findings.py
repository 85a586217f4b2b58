"""What the data check finds: one record a finding, and all of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headstart.checks.kinds import CheckSpec, checks_of
from headstart.core.text import counted, portable
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from headstart.data.table import ImageTable


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know about the data.

    Attributes:
        kind: What it is about: a name of `headstart.checks.CHECKS`.
        message: In plain words: what was found, the number behind it, and what to do.
        paths: The images that it is about; empty where it is about a class or the whole set.
        facts: The same for machines, as JSON values; names in them are as they are.
        severity: Orders the findings of a kind, the worst first.
    """

    kind: str
    message: str
    paths: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    severity: float = 0.0

    def as_dict(self) -> dict[str, object]:
        """The finding as JSON values: with ``path`` where it is about one image, else with ``paths``."""
        paths = [portable(path) for path in self.paths]
        where: dict[str, object] = {"path": paths[0]} if len(paths) == 1 else {"paths": paths}
        return {"kind": self.kind, **where, "message": self.message, **_plain(self.facts)}


@dataclass(frozen=True)
class CheckReport:
    """All findings on one source.

    Attributes:
        table: The images that can be read, with all that were skipped.
        digests: SHA-256 of each, hexadecimal.
        findings: Sorted by kind, those first that spoil a result most, and within a kind the worst first.
        notes: Remarks for the user.
        seconds: How long the check itself took, without the reading and embedding of the images.
    """

    table: ImageTable
    digests: tuple[str, ...] = field(repr=False)
    findings: tuple[Finding, ...] = field(repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    seconds: float = 0.0

    @property
    def checks(self) -> dict[str, CheckSpec]:
        """The kinds of findings that were looked for."""
        return checks_of(self.table.task)

    @property
    def counts(self) -> dict[str, int]:
        """Images, skipped and ignored files, classes or labels, and the number of findings of each kind."""
        return {
            "images": len(self.table),
            "classes": len(self.table.classes),
            **({"labels": len(self.table.classes)} if TARGETS[self.table.task].several else {}),
            "skipped": len(self.table.skipped),
            "ignored": self.table.ignored,
            **count_kinds(self.findings, self.table.task),
        }

    def as_dict(self) -> dict[str, object]:
        """The report as JSON values."""
        return {
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self.findings],
            "notes": [portable(note) for note in self.notes],
        }

    @cached_property
    def _paths(self) -> dict[str, frozenset[str]]:
        return {kind: frozenset(path for one in self.of(kind) for path in one.paths) for kind in self.checks}

    def paths(self, kind: str) -> frozenset[str]:
        """All images that the findings of one kind are about."""
        return self._paths[kind]

    def of(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)


def count_kinds(findings: Iterable[Finding], task: str) -> dict[str, int]:
    """The number of findings of each kind that is looked for in a task; 0 where there is none."""
    counts = Counter(finding.kind for finding in findings)
    return {kind: counts[kind] for kind in checks_of(task)}


def summary(findings: Iterable[Finding], task: str) -> str:
    """The findings of a task in one line: "Data check: 3 likely wrong labels, 2 near duplicates"."""
    found = {kind: number for kind, number in count_kinds(findings, task).items() if number}
    specs = checks_of(task)
    words = [counted(number, specs[kind].one, specs[kind].many) for kind, number in found.items()]
    return f"Data check: {', '.join(words)}" if words else "Data check: no problems found"


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return portable(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
