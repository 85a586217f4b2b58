"""Read a manifest: a list with a path and a label for each image, and perhaps a split and a group."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from headstart.core.errors import ImageError, SourceError
from headstart.core.text import counted, from_csv_cell, portable, quoted
from headstart.data.readers import TASKS, Columns, finding, headers
from headstart.data.readers.headers import Roles
from headstart.data.readers.list_text import Entry, Records, records
from headstart.data.readers.walk import walk
from headstart.data.several import MULTI_LABEL, Said
from headstart.data.storage import FolderStorage, read_file
from headstart.data.table import ImageTable, Row, Skipped, Split


def read(path: Path, columns: Columns) -> ImageTable:
    """Read a manifest into an image table; see `headstart.data.readers.read`."""
    try:
        content = read_file(str(path))
    except ImageError as error:
        raise SourceError(f"The manifest {quoted(str(path))}: {error.message}.") from error
    root = columns.root or path.parent
    absolute = os.path.abspath(root)  # noqa: PTH100
    said = parse(content, str(path), columns, absolute, lambda: walk(Path(absolute)).files)
    rows, skipped, notes, _ = said
    if path.suffix.lower() == ".txt" and not any(_is_file(absolute, row.path) for row in rows[: finding.SAMPLE]):
        raise SourceError(
            f"{quoted(str(path))} is not a source of labelled images: no line begins with the path of a file.",
            "Expected a path and a class on each line, separated by a space; or a manifest in CSV with path,label.",
        )
    storage = FolderStorage(root)
    return ImageTable(str(path), storage, tuple(rows), tuple(skipped), 0, tuple(notes), task=said.task)


class Understood(NamedTuple):
    """What a list says.

    Attributes:
        rows: Those that can be used, in order of the file.
        skipped: The others, with reasons.
        notes: Sentences that a person should read.
        task: What a label is.
    """

    rows: list[Row]
    skipped: list[Skipped]
    notes: list[str]
    task: str = TASKS[0]


def parse(
    content: bytes,
    name: str,
    columns: Columns,
    root: str = "",
    list_files: Callable[[], Sequence[str]] = lambda: (),
) -> Understood:
    """Read the text of a manifest.

    Labels stay the strings that they are: ``01``, ``1`` and ``NaN`` are three classes.

    Args:
        content: The file.
        name: Its name, whose suffix gives the format.
        columns: Names of its columns, and its encoding.
        root: Absolute folder that the paths lie in; empty where they are those of `list_files`.
        list_files: Paths of all files that are there, relative to the root; called where most are not found as they are
            written, and where there is no root.

    Raises:
        SourceError: The file is not in its encoding or format, or it has no such columns, or none that is known.
    """
    return understand(records(content, name, columns.encoding), name, columns, root, list_files)


def understand(
    said: Records, name: str, columns: Columns, root: str, list_files: Callable[[], Sequence[str]]
) -> Understood:
    """What the records of a list say of which file; arguments and errors are those of `parse`."""
    inside = None if root else set(list_files())

    def is_file(written: str) -> bool:
        relative = _relative(written, root) if _is_path(written) else None
        return relative is not None and (relative in inside if inside is not None else _is_file(root, relative))

    if not said.rows:
        return Understood([], [], [])
    said, roles = headers.recognise(said, columns, name, is_file)
    written = [_written(record, roles) for _, record in said.rows]
    paths = [one for one in written if one and _is_path(one)]
    found = finding.find(paths, is_file, lambda: sorted(inside) if inside is not None else list_files(), name)
    rows: dict[str, Row] = {}  # by path, the first that was said of each
    lines: dict[str, str] = {}
    contradictions: dict[str, list[str]] = {}  # by path, all that was said of it
    skipped: list[Skipped] = []
    repeated = joined = 0
    for (number, record), name_in_list in zip(said.rows, written, strict=True):
        line = f"{said.unit} {number}"
        path, reason = _path(name_in_list, root, found)
        if path is None:
            skipped.append(Skipped(name_in_list or "a row without a path", f"{reason} ({line})"))
            continue
        row = _row(path, record, roles)
        if path not in lines:
            lines[path] = line
            if isinstance(row, Row):
                rows[path] = row
            else:
                contradictions[path] = [f"{row} ({line})"]
        elif path in rows and row == rows[path]:
            repeated += 1
        elif roles.several and path in rows and isinstance(row, Row) and _fits(row, rows[path]):
            rows[path] = replace(row, label=_together(row, rows[path]))
            joined += 1
        else:
            told = contradictions.setdefault(path, [_said(rows[path], lines[path])] if path in rows else [])
            told.append(_said(row, line) if isinstance(row, Row) else f"{row} ({line})")
    some_splits = any(row.split for row in rows.values())
    for path, row in rows.items():
        if some_splits and row.split is None and path not in contradictions:
            contradictions[path] = [f"no split, where other rows have one ({lines[path]})"]
    skipped += [Skipped(path, ", and ".join(told)) for path, told in contradictions.items()]
    kept = [row for path, row in rows.items() if path not in contradictions]
    notes = [*roles.notes, *found.notes]
    if repeated:
        notes.append(f"{counted(repeated, 'row repeats an earlier one', 'rows repeat earlier ones')}, counted once.")
    if joined:
        notes.append(f"{counted(joined, 'row names', 'rows name')} more labels of an image of an earlier row.")
    return Understood(kept, skipped, notes, MULTI_LABEL if roles.several else TASKS[0])


def _fits(row: Row, other: Row) -> bool:
    """Whether two rows say the same of an image but for its labels."""
    return (row.split, row.group) == (other.split, other.group)


def _together(row: Row, other: Row) -> str:
    """The labels of two rows of one image."""
    one, two = (Said.of(each.label or "") for each in (row, other))
    return Said(one.true | two.true, one.unknown | two.unknown).text


def _is_path(text: str) -> bool:
    return bool(text.strip()) and "\0" not in text and "://" not in text


def _is_file(root: str, relative: str) -> bool:
    try:
        return os.path.isfile(os.path.join(root, relative))  # noqa: PTH113, PTH118  a Path costs more than the look
    except ValueError:  # half a character, which no file's name holds
        return False


def _path(path: str, root: str, found: finding.Found) -> tuple[str | None, str]:
    """The path below the root, or None and the reason why there is none."""
    if not path:
        return None, "no path"
    if path in found.files:
        return found.files[path], ""
    if "\0" in path:
        return None, "its path holds a NUL character"
    if "://" in path:
        return None, "a web address; only files are read"
    relative = _relative(path, root)
    if relative is None:
        where = "the folder of the manifest (--root names another folder)" if root else "the source"
        return None, f"its path leaves {where}"
    return relative, ""


def _written(record: Entry, roles: Roles) -> str:
    """The path as the list writes it; empty where there is none."""
    path = record.get(roles.path)
    return from_csv_cell(path) if isinstance(path, str) and path.strip() else ""


def _row(path: str, record: Entry, roles: Roles) -> Row | str:
    """The row, or the reason why there is none."""
    if None in record:
        return "more values than columns"
    try:
        label = roles.labels_of(record) if roles.several else roles.label_of(record)
    except ValueError as error:
        return str(error) if roles.several else f"{error}, and with --task classes an image has one"
    if roles.several and label is None:
        return "its labels are not known"
    if isinstance(label, list) and label:
        return f"{len(label)} labels at once, and with --task classes an image has one"
    label = None if isinstance(label, list) else label
    split, group = (record.get(name) if name else None for name in (roles.split, roles.group))
    if roles.validates and isinstance(split, bool):
        split = str(split)
    values = []
    for kind, value in (("label", label), ("split", split), ("group", group)):
        # 1 and 1.0 of JSON are the text that CSV has for them.
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        text = str(value) if number else value
        if text is not None and not isinstance(text, str):
            return f"the {kind} is not text"
        values.append(from_csv_cell((text or "").strip()))
    label, split, group = values
    if not label.strip() and not roles.several:
        return "no label"
    part: Split | None = None
    if split:
        part = roles.split_of(split)
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


def _said(row: Row, line: str) -> str:
    parts = [quoted(row.label or "")] + [quoted(part) for part in (row.split, row.group) if part]
    return f"listed as {' '.join(parts)} ({line})"
