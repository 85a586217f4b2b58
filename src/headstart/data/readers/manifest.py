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
from headstart.core.text import counted, listed, nearest, portable, quoted
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
    jsonl = name.lower().endswith(".jsonl")
    found: set[str] = set()
    rows: dict[str, Row] = {}  # by path, the first that was said of each
    lines: dict[str, int] = {}
    contradictions: dict[str, list[str]] = {}  # by path, all that was said of it
    skipped: list[Skipped] = []
    repeated = 0
    for line, record in _json_lines(text, name) if jsonl else _csv_lines(text, name):
        if not found:
            _require(record, columns, f"{quoted(name)} line {line if jsonl else 1}")
        found.update(key for key in record if isinstance(key, str))
        path, reason = _path(record, columns, root)
        if path is None:
            shown = record.get(columns.path)
            shown = shown if isinstance(shown, str) and shown.strip() else "a row without a path"
            skipped.append(Skipped(shown, f"{reason} (line {line})"))
            continue
        row = _row(path, record, columns)
        if path not in lines:
            lines[path] = line
            if isinstance(row, Row):
                rows[path] = row
            else:
                contradictions[path] = [f"{row} (line {line})"]
        elif path in rows and row == rows[path]:
            repeated += 1
        else:
            said = contradictions.setdefault(path, [_said(rows[path], lines[path])] if path in rows else [])
            said.append(_said(row, line) if isinstance(row, Row) else f"{row} (line {line})")
    _require_named(found, columns, name)
    some_splits = any(row.split for row in rows.values())
    for path, row in rows.items():
        if some_splits and row.split is None and path not in contradictions:
            contradictions[path] = [f"no split, where other rows have one (line {lines[path]})"]
    skipped += [Skipped(path, ", and ".join(said)) for path, said in contradictions.items()]
    kept = [row for path, row in rows.items() if path not in contradictions]
    notes = twin_notes({row.label for row in kept if row.label is not None})
    if repeated:
        notes.append(f"{counted(repeated, 'row repeats an earlier one', 'rows repeat earlier ones')}, counted once.")
    return kept, skipped, notes


def _csv_lines(text: str, name: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    header = text[: text.find("\n")] if "\n" in text else text
    counts = {delimiter: header.count(delimiter) for delimiter in (",", ";", "\t")}
    delimiter = "\t" if name.lower().endswith(".tsv") else max(counts, key=lambda key: counts[key])
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        fields = [field.strip() for field in reader.fieldnames or ()]
        if not any(fields):
            raise SourceError(f"{quoted(name)} is empty.", "Expected a first line with path,label.")
        if twice := sorted({field for field in fields if fields.count(field) > 1}):
            raise SourceError(
                f"{quoted(name)} line 1 names {listed(twice)} more than once.", "Give each column a name of its own."
            )
        reader.fieldnames = fields
        for record in reader:
            yield reader.line_num, record
    except csv.Error as error:
        raise SourceError(
            # Where the row begins: a quotation mark that is never closed is noticed at the end of the file.
            f"{quoted(name)} line {reader.line_num + 1} is no CSV: {error}.",
            'Check the quotation marks: a value with a comma or a " in it goes between ", and the " inside is doubled.',
        ) from error


def _json_lines(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, too
            raise SourceError(
                f"{quoted(name)} line {number} is not JSON: {str(error)[:200]}.",
                'Expected {"path": ..., "label": ...} on each line.',
            ) from error
        if not isinstance(record, dict):
            raise SourceError(
                f"{quoted(name)} line {number} is not a JSON object.", 'Expected {"path": ..., "label": ...}.'
            )
        yield number, record


def _require(record: dict[Any, Any], columns: Columns, where: str) -> None:
    found = [key for key in record if isinstance(key, str)]
    for option, column in (("path", columns.path), ("label", columns.label)):
        if column not in found:
            raise SourceError(
                f"{where} has no column {quoted(column)}; found {listed(found)}.",
                f"{nearest(column, found)}Name the column with --{option}-column.",
            )


def _require_named(found: set[str], columns: Columns, name: str) -> None:
    """Splits and groups are optional, but not where the user named their column."""
    for option, column in (("split", columns.split), ("group", columns.group)):
        if found and column != option and column not in found:
            raise SourceError(
                f"{quoted(name)} has no column {quoted(column)}; found {listed(sorted(found))}.",
                f"{nearest(column, found)}Correct --{option}-column, or leave it out.",
            )


def _path(record: dict[Any, Any], columns: Columns, root: str) -> tuple[str | None, str]:
    """The path below the root, or None and the reason why there is none."""
    path = record.get(columns.path)
    if not isinstance(path, str) or not path.strip():
        return None, "no path"
    if "\0" in path:
        return None, "its path holds a NUL character"
    if "://" in path:
        return None, "an address; only files are read"
    relative = _relative(path, root)
    if relative is None:
        where = "the folder of the manifest (--root names another folder)" if root else "the zip file"
        return None, f"its path leaves {where}"
    return relative, ""


def _row(path: str, record: dict[Any, Any], columns: Columns) -> Row | str:
    """The row, or the reason why there is none."""
    if None in record:
        return "more values than columns"
    values = []
    for kind, column in (("label", columns.label), ("split", columns.split), ("group", columns.group)):
        value = record.get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            return f"the {kind} is not text"
        values.append((value or "").strip())
    label, split, group = values
    if not label:
        return "no label"
    part: Split | None = None
    if split:
        part = SPLIT_NAMES.get(split.lower())
        if part is None:
            return f"unknown split {quoted(split)}; expected train, val or test"
    return Row(path, portable(label), part, group or None)


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
    return f"listed as {' '.join(parts)} (line {line})"
