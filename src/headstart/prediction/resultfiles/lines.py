"""Predictions as lines, CSV or JSON, one for each image; and back, as far as it takes to go on with a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from headstart.core.text import csv_cell, from_csv_cell, json_text, portable
from headstart.prediction.record import Wanted
from headstart.targets import TARGETS

Dump = Callable[[object], str]
_compact: Dump = partial(json_text, indent=None)


class Held(NamedTuple):
    """What a line tells of its image: the path as records spell it, and whether the image could not be read."""

    path: str
    unread: bool


class Lines(Protocol):
    """Records as lines."""

    header: str | None

    def line(self, path: str, record: Mapping[str, object]) -> str:
        """The line of a record, without its end.

        Args:
            path: What the image is called.
            record: What `headstart.prediction.record.record_of` gives of it.
        """
        ...

    def held(self, line: str) -> Held | None:
        """What a line tells; None where it is no line of this form."""
        ...


def columns(wanted: Wanted) -> list[str]:
    """The columns of a table of predictions."""
    names = list(TARGETS[wanted.task].columns)
    names += [] if wanted.coverage is None else ["labels"]
    return [*names, "abstained"] if wanted.abstain else names


class JsonLines:
    """A JSON document a line; see `Lines`.

    Args:
        names: The columns of a table, which JSON does not need.
        dump: What makes JSON of a value.
    """

    header = None

    def __init__(self, names: Sequence[str] = (), dump: Dump = _compact) -> None:
        self._dump = dump

    def line(self, path: str, record: Mapping[str, object]) -> str:
        """See `Lines`."""
        return self._dump(record)

    def held(self, line: str) -> Held | None:
        """See `Lines`."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(record, dict) or not isinstance(record.get("path"), str):
            return None
        return Held(portable(record["path"]), "error" in record)


class CsvLines:
    """The rows of a CSV file; see `Lines`.

    Args:
        names: Its columns.
        dump: What makes JSON of a list.
    """

    def __init__(self, names: Sequence[str], dump: Dump = _compact) -> None:
        self._names, self._dump = names, dump
        self.header: str | None = self._row(names)

    def line(self, path: str, record: Mapping[str, object]) -> str:
        """See `Lines`."""
        return self._row([self._cell(name, record.get(name), path) for name in self._names])

    def held(self, line: str) -> Held | None:
        """See `Lines`."""
        # A cell may be long: a prediction set names any number of classes.
        before = csv.field_size_limit(max(len(line), 2**17))
        try:
            cells = next(csv.reader([line], strict=True), [])
        except csv.Error:
            return None
        finally:
            csv.field_size_limit(before)
        if len(cells) != len(self._names):
            return None
        row = dict(zip(self._names, cells, strict=True))
        return Held(portable(from_csv_cell(row["path"])), bool(row["error"]))

    def _row(self, cells: Sequence[str]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(cells)
        return text.getvalue()

    def _cell(self, name: str, value: object, path: str) -> str:
        """A value as a cell: a list as JSON, a truth as yes or no, nothing as nothing."""
        if name == "path":
            return csv_cell(path)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        return self._dump(value) if isinstance(value, list | dict) else csv_cell(str(value))
