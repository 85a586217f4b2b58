"""Read a manifest: CSV, TSV or JSONL with a path and a label a row, and perhaps a split and a group."""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headstart.core.errors import ImageError, SourceError
from headstart.core.text import counted, listed, nearest, quoted
from headstart.data.readers import Columns
from headstart.data.readers.layout import SPLIT_NAMES, twin_notes
from headstart.data.storage import FolderStorage, read_file
from headstart.data.table import ImageTable, Row, Skipped, Split

SUFFIXES = (".csv", ".tsv", ".jsonl")


def read(path: Path, columns: Columns) -> ImageTable:
    """Read a manifest into an image table; see `headstart.data.readers.read`."""
    try:
        content = read_file(str(path))
    except ImageError as error:
        raise SourceError(f"The manifest {quoted(str(path))}: {error.message}.") from error
    root = columns.root or path.parent
    rows, skipped, notes = parse(content, str(path), columns, os.path.abspath(root))  # noqa: PTH100
    return ImageTable(str(path), FolderStorage(root), tuple(rows), tuple(skipped), 0, tuple(notes))


def parse(content: bytes, name: str, columns: Columns, root: str = "") -> tuple[list[Row], list[Skipped], list[str]]:
    """Read the text of a manifest.

    Labels stay the strings that they are: ``01``, ``1`` and ``NaN`` are three classes.

    Args:
        content: The file, UTF-8 with or without a byte order mark.
        name: Its name, whose suffix tells the format.
        columns: Names of its columns.
        root: Absolute folder that the paths lie in; empty inside a zip file.

    Returns:
        Rows in order of the file, skipped rows with reasons, notes.

    Raises:
        SourceError: The file is not UTF-8, has no such columns, or is no CSV or JSON.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"{quoted(name)} is not UTF-8 (line {line}).", "Save it as UTF-8 (in a spreadsheet: CSV UTF-8)."
        ) from error
    records = _json_lines(text, name) if name.lower().endswith(".jsonl") else _csv_lines(text, name)
    by_path: dict[str, tuple[int, Row]] = {}
    conflicts: dict[str, list[str]] = {}
    skipped: list[Skipped] = []
    repeated = 0
    first = True
    for line, record in records:
        if first:
            _check_columns(record, columns, name)
            first = False
        row = _row(record, columns, root)
        if isinstance(row, str):
            shown = record.get(columns.path)
            skipped.append(
                Skipped(shown if isinstance(shown, str) and shown else f"line {line}", f"{row} (line {line})")
            )
            continue
        if row.path not in by_path:
            by_path[row.path] = line, row
            continue
        earlier_line, earlier = by_path[row.path]
        if earlier == row:
            repeated += 1
        else:
            conflicts.setdefault(row.path, [_said(earlier, earlier_line)]).append(_said(row, line))
    skipped += [Skipped(path, f"listed as {' and as '.join(statements)}") for path, statements in conflicts.items()]
    rows = []
    some_splits = any(row.split for _, row in by_path.values())
    for line, row in by_path.values():
        if row.path in conflicts:
            continue
        if some_splits and row.split is None:
            skipped.append(Skipped(row.path, f"no split, where other rows have one (line {line})"))
        else:
            rows.append(row)
    notes = twin_notes({row.label for row in rows if row.label is not None})
    if repeated:
        notes.append(f"{counted(repeated, 'row repeats', 'rows repeat')} an earlier one and was counted once.")
    return rows, skipped, notes


def _csv_lines(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    header = text.split("\n", 1)[0]
    counts = {delimiter: header.count(delimiter) for delimiter in ("\t", ";", ",")}
    delimiter = "\t" if name.lower().endswith(".tsv") else max(counts, key=lambda key: counts[key])
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        if reader.fieldnames is None:
            raise SourceError(f"{quoted(name)} is empty.", "Expected a first line with path,label.")
        reader.fieldnames = [field.strip() for field in reader.fieldnames]
        for record in reader:
            yield reader.line_num, record
    except csv.Error as error:
        raise SourceError(f"{quoted(name)} line {reader.line_num}: {error}.", "Check the quotation marks.") from error


def _json_lines(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise SourceError(f"{quoted(name)} line {number} is not JSON: {error}.") from error
        if not isinstance(record, dict):
            raise SourceError(
                f"{quoted(name)} line {number} is not a JSON object.", 'Expected {"path": ..., "label": ...}.'
            )
        yield number, record


def _check_columns(record: dict[str, Any], columns: Columns, name: str) -> None:
    found = [key for key in record if isinstance(key, str)]
    for option, column in (("path", columns.path), ("label", columns.label)):
        if column not in found:
            raise SourceError(
                f"{quoted(name)} line 1 has no column {quoted(column)}; found {listed(found)}.",
                f"{nearest(column, found)}Name the column with --{option}-column.",
            )


def _row(record: dict[str, Any], columns: Columns, root: str) -> Row | str:
    """The row, or the reason why there is none."""
    if None in record:
        return "more values than columns"
    path, label = record.get(columns.path), record.get(columns.label)
    split, group = record.get(columns.split), record.get(columns.group)
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if isinstance(group, int) and not isinstance(group, bool):
        group = str(group)
    if not isinstance(path, str) or not path.strip():
        return "no path"
    if not isinstance(label, str) or not label.strip():
        return "no label"
    if group is not None and not isinstance(group, str):
        return "the group is not text"
    if "://" in path:
        return "an address; only files are read"
    relative = _relative(path, root)
    if relative is None:
        return "its path leaves the folder of the manifest (--root names another folder)"
    part: Split | None = None
    if isinstance(split, str) and split.strip():
        part = SPLIT_NAMES.get(split.strip().lower())
        if part is None:
            return f"unknown split {quoted(split)}; expected train, val or test"
    return Row(relative, label.strip(), part, group or None)


def _relative(path: str, root: str) -> str | None:
    """A path below the root, without dots; None where it leaves the root."""
    if root:
        joined = os.path.normpath(os.path.join(root, path))  # noqa: PTH118  lexical: links are the user's own
        inside = joined.startswith(root.rstrip(os.sep) + os.sep)
        return joined[len(root.rstrip(os.sep)) + 1 :] if inside else None
    joined = posixpath.normpath(path)
    return None if joined.startswith(("/", "..")) else joined


def _said(row: Row, line: int) -> str:
    parts = [quoted(row.label or "")] + [quoted(part) for part in (row.split, row.group) if part]
    return f"{' '.join(parts)} (line {line})"
