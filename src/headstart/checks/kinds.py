"""The kinds of findings. A new one is a file with a function ``find`` and a row here that says what others ask."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.targets import TARGETS


@dataclass(frozen=True, kw_only=True)
class CheckSpec:
    """What the others know of a kind of finding.

    Attributes:
        find: What finds it, as ``module:function(Subject) -> list[Finding]``; several kinds may share one.
        heading: Its heading in the report.
        one: What one finding is called.
        many: What several are called.
        propose: What is proposed to do about one, as ``module:function(Finding, CheckReport) -> Iterable[Proposal]``.
        several: What is to be known instead where an image has any number of labels; None for the same.
        exclusive: Whether it is looked for only where an image is of exactly one class.
    """

    find: str
    heading: str
    one: str
    many: str
    propose: str = "headstart.checks.proposals:keep"
    several: CheckSpec | None = None
    exclusive: bool = False


# The kinds that harm a result most come first.
CHECKS = {
    "spelling": CheckSpec(
        find="headstart.checks.spelling:find",
        heading="Classes that differ only in spelling",
        one="class in several spellings",
        many="classes in several spellings",
        several=CheckSpec(
            find="headstart.checks.spelling:find",
            heading="Labels that differ only in spelling",
            one="label in several spellings",
            many="labels in several spellings",
        ),
    ),
    "unreadable": CheckSpec(
        find="headstart.checks.unreadable:find",
        heading="Files that cannot be used",
        one="unusable file",
        many="unusable files",
        propose="headstart.checks.proposals:drop",
    ),
    "leak": CheckSpec(
        find="headstart.checks.copies:find",
        heading="Leaks: the same image on both sides of a split",
        one="leak between splits",
        many="leaks between splits",
        propose="headstart.checks.copies:propose_leak",
    ),
    "duplicate": CheckSpec(
        find="headstart.checks.copies:find",
        heading="Exact duplicates",
        one="exact duplicate",
        many="exact duplicates",
        propose="headstart.checks.copies:propose_duplicate",
    ),
    "label": CheckSpec(
        find="headstart.checks.labels:find",
        heading="Likely wrong labels",
        one="likely wrong label",
        many="likely wrong labels",
        propose="headstart.checks.labels:propose",
        several=CheckSpec(
            find="headstart.checks.each_label:find",
            heading="Likely missing and likely wrong labels",
            one="likely missing or wrong label",
            many="likely missing or wrong labels",
            propose="headstart.checks.each_label:propose",
        ),
    ),
    "shortcut": CheckSpec(
        find="headstart.checks.shortcuts:find",
        heading="Shortcuts: classes that metadata reveal",
        one="shortcut",
        many="shortcuts",
        exclusive=True,
    ),
    "class": CheckSpec(
        find="headstart.checks.classes:find",
        heading="Classes",
        one="problem with the classes",
        many="problems with the classes",
        several=CheckSpec(
            find="headstart.checks.together:find",
            heading="Labels that are rare, and pairs of labels",
            one="problem with the labels",
            many="problems with the labels",
        ),
    ),
    "outlier": CheckSpec(
        find="headstart.checks.outliers:find",
        heading="Outliers: images unlike all others",
        one="outlier",
        many="outliers",
    ),
    "near-duplicate": CheckSpec(
        find="headstart.checks.copies:find",
        heading="Near duplicates",
        one="near duplicate",
        many="near duplicates",
    ),
    "quality": CheckSpec(
        find="headstart.checks.quality:find",
        heading="Image quality",
        one="image of poor quality",
        many="images of poor quality",
    ),
}


def checks_of(task: str) -> dict[str, CheckSpec]:
    """The kinds of findings that are looked for in a task, in the order of `CHECKS`."""
    if TARGETS[task].exclusive:
        return dict(CHECKS)
    others = {kind: spec for kind, spec in CHECKS.items() if not spec.exclusive}
    if TARGETS[task].several:
        return {kind: spec.several or spec for kind, spec in others.items()}
    return {kind: spec for kind, spec in others.items() if spec.several is None}
