"""What a person decided about the findings: a CSV file that `check` proposes, the user edits, and `read` applies.

A line an image: ``drop`` leaves it out, ``relabel`` gives it the class in ``new_label``, ``keep`` says that it is right
as it is. The files themselves are never moved, changed or deleted.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.checks.cells import Written
from headstart.checks.findings import CheckReport
from headstart.checks.proposals import CHOICES, Choice
from headstart.core import marks
from headstart.core.errors import ImageError, SourceError
from headstart.core.tables import resolve
from headstart.core.text import counted, csv_cell, from_csv_cell, listed, printable, quoted
from headstart.data.storage import read_file
from headstart.data.table import SPLITS, ImageTable, Row, Skipped

COLUMNS = marks.DECISIONS_HEADER
MAX_SHOWN = 5
_NAMED = "The data check writes such a file: headstart check SOURCE --fix-list FILE"


@dataclass(frozen=True)
class Decision:
    """What becomes of one image.

    Attributes:
        path: As the table spells it, or as a CSV cell spells that.
        label: The class, or all labels, that it has without the decision; empty where that is not said.
        choice: ``drop``, ``relabel`` or ``keep``.
        new_label: The class that ``relabel`` gives, or all labels, of which there may be none.
        kind: The kind of the finding behind it.
        reason: Why, in words.
        line: Of the file, from 1.
    """

    path: str
    label: str
    choice: Choice
    new_label: str = ""
    kind: str = ""
    reason: str = ""
    line: int = 0


def read(path: str | os.PathLike[str]) -> tuple[Decision, ...]:
    """Read a file of decisions.

    Raises:
        SourceError: It cannot be read, is no CSV, or holds a line that is no decision; the lines are named.
    """
    name = os.fspath(path)
    try:
        text = read_file(str(Path(name))).decode("utf-8-sig")
    except ImageError as error:
        raise SourceError(f"The decisions {quoted(name)}: {error.message}.", _NAMED) from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{quoted(name)} is not UTF-8.", "Save it as UTF-8 (in a spreadsheet: CSV UTF-8).") from error
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)  # spreadsheets write the one of their language
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        fields = [field.strip() for field in reader.fieldnames or ()]
        if missing := [column for column in COLUMNS[:3:2] if column not in fields]:
            raise SourceError(
                f"{quoted(name)} line 1 has no column {listed(missing)}; expected {', '.join(COLUMNS)}.", _NAMED
            )
        reader.fieldnames = fields
        records = [(reader.line_num, record) for record in reader]
    except csv.Error as error:
        raise SourceError(f"{quoted(name)} line {reader.line_num + 1} is not valid CSV: {error}.") from error
    problems: list[str] = []
    decisions = [_decision(line, record, problems) for line, record in records]
    first: dict[str, int] = {}
    for one in decisions:
        if one.path and first.setdefault(one.path, one.line) != one.line:
            problems.append(f"line {one.line}: {quoted(one.path)} was already decided in line {first[one.path]}")
    _refuse(problems, name)
    return tuple(decisions)


def apply(table: ImageTable, path: str | os.PathLike[str]) -> ImageTable:
    """The table as a file of decisions wants it; every file stays in exactly one of its rows and its skipped.

    Raises:
        SourceError: The file cannot be read, or names images or classes that are not there; the lines are named.
    """
    name = os.fspath(path)
    decisions = read(name)
    problems: list[str] = []
    rows = {row.path: row for row in table.rows}
    found = {*rows, *(skip.path for skip in table.skipped)}
    labels = Written.of(table)
    decided: dict[str, Decision] = {}
    for one in decisions:
        if one.path not in found:
            problems.append(f"line {one.line}: there is no image {quoted(one.path)}")
            continue
        row = rows.get(one.path)
        if row is not None and one.label and labels.read(one.label) != row.label:
            problems.append(
                f"line {one.line}: {quoted(one.path)} has the label {quoted(row.label or '')} now, not "
                f"{quoted(one.label)}"
            )
        if one.choice == "relabel" and (problem := labels.refused(one)):
            problems.append(f"line {one.line}: {problem}")
        decided[one.path] = one
    _refuse(problems, name, table)
    return _decided(table, decided, labels, name)


def propose(report: CheckReport) -> str:
    """A file of decisions for the findings, as CSV: proposals, to be looked at and edited.

    Decisions that the table was read with come first, so that the new file can take the place of the old one.
    """
    before = read(report.table.decisions) if report.table.decisions else ()
    known = {one.path for one in before}
    labels = {row.path: row.label or "" for row in report.table.rows}
    proposals: dict[str, Decision] = {}
    for finding in report.findings:
        for proposal in resolve(report.checks[finding.kind].propose)(finding, report):
            path, choice = proposal.path, proposal.choice
            one = Decision(path, labels.get(path, ""), choice, proposal.new_label, finding.kind, finding.message)
            kept = proposals.get(path)
            # The first finding spoils most; but what leaves an image out, or renames it, goes before what keeps it.
            if kept is None or (kept.choice == "keep" and choice != "keep"):
                proposals[path] = one
    every = [*before, *(one for path, one in proposals.items() if path not in known)]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in every:
        writer.writerow(map(csv_cell, (one.path, one.label, one.choice, one.new_label, one.kind, one.reason)))
    return buffer.getvalue()


def _decision(line: int, record: dict[str, str | None], problems: list[str]) -> Decision:
    values = {column: from_csv_cell(record.get(column) or "") for column in COLUMNS}
    path = values["path"] if values["path"].strip() else ""
    choice = values["decision"].strip().lower()
    if None in record:
        problems.append(f"line {line}: more values than columns")
    elif not path:
        problems.append(f"line {line}: no path")
    elif choice not in CHOICES:
        found = f"unknown decision {quoted(choice)}" if choice else "no decision"
        problems.append(f"line {line}: {found} for {quoted(path)}; expected {', '.join(CHOICES)}")
    return Decision(
        path, values["label"], choice, values["new_label"] if choice == "relabel" else "",  # type: ignore[arg-type]
        values["kind"], values["reason"], line,
    )  # fmt: skip


def _refuse(problems: Sequence[str], name: str, table: ImageTable | None = None) -> None:
    if not problems:
        return
    shown = "; ".join(problems[:MAX_SHOWN])
    more = f"; and {len(problems) - MAX_SHOWN:,} more" if len(problems) > MAX_SHOWN else ""
    where = f" of {quoted(table.source)}" if table else ""
    raise SourceError(
        f"{counted(len(problems), 'line')} of the decisions {quoted(name)} cannot be applied: {shown}{more}.",
        f"Correct these lines, or take them out; paths and {table.nouns[1]} are those{where} that `headstart check` "
        "names."
        if table
        else f"Correct these lines: each is an image and one of {', '.join(CHOICES)}.",
    )


def _decided(table: ImageTable, decided: dict[str, Decision], labels: Written, name: str) -> ImageTable:
    rows: list[Row] = []
    skipped: list[Skipped] = []
    relabelled: list[Row] = []
    for row in table.rows:
        one = decided.get(row.path)
        if one is None or one.choice == "keep":
            rows.append(row)
        elif one.choice == "drop":
            skipped.append(_dropped(row.path, one))
        else:
            relabelled.append(dataclasses.replace(row, label=labels.read(one.new_label)))
            rows.append(relabelled[-1])
    left = len(skipped)
    for skip in table.skipped:
        one = decided.get(skip.path)
        skipped.append(_dropped(skip.path, one) if one and one.choice == "drop" else skip)
    accepted = frozenset(path for path, one in decided.items() if one.choice == "keep")
    if not rows:
        raise SourceError(f"The decisions {quoted(name)} leave out every image.", "Keep some of them.")
    changed = dataclasses.replace(
        table, rows=tuple(rows), skipped=tuple(skipped), accepted=table.accepted | accepted,
        decisions=str(Path(name).absolute()),
    )  # fmt: skip
    notes = [
        f"Decisions of {quoted(name)}: {counted(left, 'image')} left out, {len(relabelled):,} relabelled, "
        f"{len(accepted):,} kept as {'it is' if len(accepted) == 1 else 'they are'}."
    ]
    for split in SPLITS[1:]:
        if number := sum(row.split == split for row in relabelled):
            notes.append(
                f"{counted(number, f'label of {split} was', f'labels of {split} were')} changed by a decision: where a "
                "model proposed that, the accuracy on them favours that model."
            )
    if lost := sorted(set(table.classes) - set(changed.classes)):
        notes.append(f"The decisions leave no image of {listed(lost)}.")
    return dataclasses.replace(changed, notes=(*table.notes, *notes))


def _dropped(path: str, one: Decision) -> Skipped:
    why = f"{one.kind}: {printable(one.reason)}" if one.kind and one.reason else (one.kind or one.reason)
    return Skipped(path, f"left out by a decision (line {one.line}){f', {why}' if why else ''}", decided=True)
