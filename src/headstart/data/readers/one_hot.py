"""Columns of 0 and 1, one for each class or label of a list."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.core.text import quoted
from headstart.data import several
from headstart.data.readers import Columns
from headstart.data.readers.list_text import Entry

_VALUES = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
# Images with several ones, and their share, from which on columns of 0 and 1 are labels: fewer are mistakes in a list
# of classes.
_LEAST_SEVERAL, _MANY_SEVERAL = 3, 0.05


def text_of(value: object) -> str:
    """A cell as text, without blanks around it; empty for none."""
    return "" if value is None else str(value).strip()


def value_of(record: Entry, field: str) -> bool | None:
    """Whether the class of a column is that of an image; None where its cell says nothing."""
    text = text_of(record.get(field)).lower()
    return _VALUES.get(text, False) if text else None


def is_mark(field: str, rows: Sequence[Entry]) -> bool:
    """Whether a column says of each image whether something is true of it, or nothing."""
    return {text_of(row.get(field)).lower() for row in rows} - {""} <= _VALUES.keys()


def are_marks(fields: Sequence[str], rows: Sequence[Entry]) -> bool:
    """Whether each of these columns holds 0 and 1 alone."""
    return bool(rows) and all(text_of(row.get(field)).lower() in _VALUES for row in rows for field in fields)


def stray(fields: Sequence[str], rows: Sequence[tuple[int, Entry]]) -> str:
    """What stands in a column that holds 0 and 1 in at least half of its cells, and something else; empty for none.

    Args:
        fields: The columns.
        rows: Line and cells of each row.
    """
    for field in fields:
        cells = [(line, text_of(record.get(field))) for line, record in rows]
        others = [(line, text) for line, text in cells if text and text.lower() not in _VALUES]
        if others and 2 * len(others) <= sum(bool(text) for _, text in cells):
            line, text = others[0]
            return f"the column {quoted(field)} holds {quoted(text)} (line {line:,}) beside 0 and 1"
    return ""


def are_labels(fields: Sequence[str], rows: Sequence[Entry], columns: Columns) -> bool:
    """Whether such columns are those of labels, of which any number can be true: asked for, or seen of many images."""
    if not all(is_mark(field, rows) for field in fields):
        return False
    if columns.task is not None:
        return columns.task == several.MULTI_LABEL
    ones = [sum(bool(value_of(row, field)) for field in fields) for row in rows]
    return sum(count > 1 for count in ones) >= max(_LEAST_SEVERAL, _MANY_SEVERAL * len(rows))
