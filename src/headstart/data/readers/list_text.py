"""The text of a list of images: its encoding, and its records, as CSV, TSV, JSONL, JSON or a plain list spells them."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from headstart.core.errors import SourceError
from headstart.core.text import listed, printable, quoted
from headstart.data.several import UNKNOWN

PATH, LABEL = "path", "label"  # what the columns of a format are called that names none
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?")  # which Excel reads and writes
_SHOWN = 80  # characters of a line in an error


# The values of a row by the names of its columns: text, or JSON values. Under None are values beyond the columns.
Entry = Mapping[str, object] | Mapping[str | None, object]


@dataclass(frozen=True)
class Records:
    """What a list says.

    Attributes:
        fields: Names of the columns.
        rows: Number of the line (or of the entry, where there are no lines), and the values by the columns' names.
            Under None are values beyond the columns.
        header: Number of the line with the names of the columns; 0 where the format brings them itself.
        unit: What the number of a row counts: lines, or entries.
    """

    fields: tuple[str, ...]
    rows: tuple[tuple[int, Entry], ...]
    header: int = 0
    unit: str = "line"

    def without_header(self) -> Records:
        """The same where the first line is a row as the others; columns are called by their number."""
        fields = tuple(f"column {number}" for number in range(1, len(self.fields) + 1))
        renamed: dict[str | None, str] = dict(zip(self.fields, fields, strict=True))
        first = (self.header, dict(zip(fields, self.fields, strict=True)))
        rows = [(line, {renamed.get(key, key): value for key, value in row.items()}) for line, row in self.rows]
        return Records(fields, (first, *rows))


def records(content: bytes, name: str, encoding: str | None) -> Records:
    """Read the records of a list.

    Args:
        content: The file.
        name: Its name, whose suffix gives the format.
        encoding: Of its text; None for UTF-8, or UTF-16 and UTF-32 where they are marked.

    Raises:
        SourceError: It is not in that encoding, or not in its format.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix == ".parquet":
        from headstart.data.readers import parquet

        return parquet.records(content, name)
    text = _decoded(content, name, encoding)
    if suffix == ".jsonl":
        return _of_objects(_json_lines(text, name))
    if suffix == ".json":
        return _of_objects(_json_entries(text, name), "entry")
    if suffix == ".txt":
        return Records((PATH, LABEL), tuple(_plain_lines(text)))
    return _csv(text, name)


def _decoded(content: bytes, name: str, encoding: str | None) -> str:
    marked = next((one for mark, one in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding or marked)
    except LookupError as error:
        raise SourceError(
            f"There is no encoding {quoted(encoding or '')}.",
            "Common ones are utf-8, utf-16, cp1252, latin-1, shift-jis.",
        ) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        where = f"{quoted(name)} is not {(encoding or marked).upper().removesuffix('-SIG')} (line {line})."
        shown = content.split(b"\n")[line - 1].decode("cp1252", "replace").strip()[:_SHOWN]
        hint = "Save it as UTF-8 (in a spreadsheet: CSV UTF-8)"
        if not encoding and "\ufffd" not in shown and printable(shown) == shown:
            hint += f"; or name its encoding: --encoding cp1252 reads that line as {quoted(shown)}"
        raise SourceError(where, f"{hint}.") from error


def _csv(text: str, name: str) -> Records:
    before, delimiter = 0, ""
    lines = text.split("\n")
    for line in lines:  # what stands before the names of the columns
        if found := _SEPARATOR_LINE.fullmatch(line):
            delimiter = found[1]
        elif line.strip() and not line.startswith("#"):
            break
        before += 1
    else:
        raise SourceError(f"{quoted(name)} is empty.", "Expected a first line with path,label.")
    if name.lower().endswith(".tsv"):
        delimiter = "\t"
    delimiter = delimiter or max(_DELIMITERS, key=lines[before].count)
    reader = csv.reader(io.StringIO("\n".join(lines[before:]), newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    last = 0
    try:
        for values in reader:
            if values:
                rows.append((before + reader.line_num, values))
            last = reader.line_num
    except csv.Error as error:
        raise SourceError(
            # Where the row begins: a quotation mark that is never closed is noticed at the end of the file.
            f"{quoted(name)} line {before + last + 1} is not valid CSV: {error}.",
            'Check the quotation marks: a value with a comma or a " in it goes between ", and the " inside is doubled.',
        ) from error
    (header, names), *rest = rows
    fields = named([field.strip() for field in names], [values for _, values in rest], f"{quoted(name)} line {header}")
    return Records(
        fields,
        tuple((line, _record(fields, values)) for line, values in rest if any(map(str.strip, values))),
        header,
    )


def named(fields: list[str], rows: list[list[str]], where: str) -> tuple[str, ...]:
    """The names of the columns; those without one are called by their number, and empty ones at the end left out.

    Raises:
        SourceError: None has a name, or two have the same.
    """
    while len(fields) > 1 and not fields[-1] and not any(any(map(str.strip, row[len(fields) - 1 :])) for row in rows):
        fields.pop()
    if not any(fields):
        raise SourceError(f"{where} is empty.", "Expected columns with names, such as path,label.")
    fields = [field or f"column {number}" for number, field in enumerate(fields, 1)]
    if twice := sorted({field for field in fields if fields.count(field) > 1}):
        raise SourceError(f"{where} names {listed(twice)} more than once.", "Give each column a name of its own.")
    return tuple(fields)


def _record(fields: tuple[str, ...], values: list[str]) -> Entry:
    record: dict[str | None, object] = dict(zip(fields, values, strict=False))
    if len(values) > len(fields) and any(map(str.strip, values[len(fields) :])):
        record[None] = values[len(fields) :]
    return record


def _plain_lines(text: str) -> Iterator[tuple[int, Entry]]:
    """Lines of a path and a class, with blanks between; the class is the last word, as in ImageNet's lists."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            path, *label = line.strip().rsplit(None, 1)
            yield number, {PATH: path, LABEL: label[0] if label else None}


def _json_lines(text: str, name: str) -> Iterator[tuple[int, Entry]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        record = _json(line, f"{quoted(name)} line {number}", 'Expected {"path": ..., "label": ...} on each line.')
        if not isinstance(record, dict):
            raise SourceError(
                f"{quoted(name)} line {number} is not a JSON object.", 'Expected {"path": ..., "label": ...}.'
            )
        yield number, record


def _json_entries(text: str, name: str) -> Iterator[tuple[int, Entry]]:
    hint = 'Expected {"1.jpg": "cat", ...} or [{"path": "1.jpg", "label": "cat"}, ...].'
    whole = _json(text, quoted(name), hint)
    if isinstance(whole, dict) and {"images", "annotations"} <= whole.keys():
        raise SourceError(
            f"{quoted(name)} is a COCO file, with annotations of regions; Headstart needs one class per image.",
            "Export one class for each image, as CSV with path,label.",
        )
    if isinstance(whole, dict) and whole and all(isinstance(label, str | int) for label in whole.values()):
        whole = [{PATH: path, LABEL: label} for path, label in whole.items()]
    if not isinstance(whole, list) or not all(isinstance(entry, dict) for entry in whole):
        raise SourceError(f"{quoted(name)} is not a list of images.", hint)
    for number, entry in enumerate(whole, 1):
        yield number, _label_studio(entry) if {"data", "annotations"} <= entry.keys() else entry


def _label_studio(task: Entry) -> Entry:
    """The image and the class of a task of Label Studio's JSON export; without a class where there is no single one.

    A multiple choice gives the list of what was chosen. What not all who have looked at the image chose is not known of
    it.
    """
    data, annotations = task["data"], task["annotations"]
    images = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    given = [
        [set(_choices(result)) for result in annotation.get("result") or ()]
        for annotation in (annotations if isinstance(annotations, list) else [])
        if isinstance(annotation, dict) and not annotation.get("was_cancelled")
    ]
    path, chosen = images[0] if images else None, [set().union(*results) for results in given]
    if not any(len(one) > 1 for results in given for one in results) and set().union(*chosen):
        one = set().union(*chosen)
        return {PATH: path, LABEL: one.pop() if len(one) == 1 else None}
    if not chosen:
        return {PATH: path, LABEL: None}
    agreed, some = set.intersection(*chosen), set().union(*chosen)
    return {PATH: path, LABEL: [*sorted(agreed), *(UNKNOWN + name for name in sorted(some - agreed))]}


def _choices(result: Any) -> Iterator[str]:
    """What one person has chosen in one question of Label Studio."""
    value = result.get("value") if isinstance(result, dict) else None
    for choice in (value.get("choices") if isinstance(value, dict) else None) or ():
        if isinstance(choice, str):
            yield choice


def _json(text: str, where: str, hint: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, too
        raise SourceError(f"{where} is not JSON: {str(error)[:200]}.", hint) from error


def _of_objects(entries: Iterable[tuple[int, Entry]], unit: str = "line") -> Records:
    rows = tuple(entries)
    return Records(tuple(dict.fromkeys(key for _, row in rows for key in row if key is not None)), rows, unit=unit)
