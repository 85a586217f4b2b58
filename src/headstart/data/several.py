"""Several labels of one image as the text of a row: ``cat|dog``, nothing for none, ``?bird`` for one not known.

It is what `splits.csv` writes, and what a list may hold in a column of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.core.text import from_csv_cell, portable, quoted

if TYPE_CHECKING:
    from headstart.data.readers import Columns

MULTI_LABEL = "multi-label"  # the task, a row of `headstart.targets.TARGETS`
SEPARATOR, UNKNOWN = "|", "?"
SEPARATORS = ("|", ";", ",")  # in a column of labels; the first that occurs counts, and blanks where none does
BLANK = " "


@dataclass(frozen=True)
class Said:
    """What is said of an image.

    Attributes:
        true: The labels that are true of it.
        unknown: Labels of which nobody has said whether they are.
    """

    true: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The text of a row, in which the same is said the same way.

        Raises:
            ValueError: A name cannot be told from what separates names.
        """
        for name in self.true | self.unknown:
            if SEPARATOR in name or name.startswith(UNKNOWN) or not name.strip():
                rule = f"names are not empty, hold no {SEPARATOR} and do not begin with {UNKNOWN}"
                raise ValueError(f"the label {quoted(name)}: {rule}")
        return SEPARATOR.join([*sorted(self.true), *(UNKNOWN + name for name in sorted(self.unknown - self.true))])

    @property
    def words(self) -> str:
        """The same for people: ``cat, dog``, ``no label``, ``cat (not known: bird)``."""
        unknown = sorted(self.unknown - self.true)
        return (", ".join(sorted(self.true)) or "no label") + (f" (not known: {', '.join(unknown)})" * bool(unknown))

    @classmethod
    def of(cls, text: str) -> Said:
        """What the text of a row says."""
        return cls.named(text.split(SEPARATOR))

    @classmethod
    def named(cls, names: Iterable[str]) -> Said:
        """What names say, of which those not known are marked; empty ones do not count."""
        found = [one.strip() for one in names if one.strip()]
        unknown = frozenset(one.removeprefix(UNKNOWN) for one in found if one.startswith(UNKNOWN))
        return cls(frozenset(one for one in found if not one.startswith(UNKNOWN)), unknown)


def disputed(texts: Iterable[str]) -> frozenset[str]:
    """The labels that some of the texts of rows say and others deny."""
    said = [Said.of(text) for text in texts]
    named = frozenset[str]().union(*(one.true for one in said))
    return frozenset(name for name in named if any(name not in one.true | one.unknown for one in said))


def separator_of(values: Iterable[object], *, blank: bool) -> str:
    """What separates the labels of a column: the first of `SEPARATORS` that occurs in its texts.

    Args:
        values: The cells.
        blank: Where none occurs, it is a blank, and names have none.
    """
    found = {mark for value in values if isinstance(value, str) for mark in SEPARATORS if mark in value}
    return next((mark for mark in SEPARATORS if mark in found), BLANK if blank else SEPARATOR)


def from_cell(value: object, separator: str) -> str | None:
    """The text of a row from a cell of a list: a text with a separator, or a list of names; None where it is not known.

    Raises:
        ValueError: It is neither.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = from_csv_cell(value.strip()).split(None if separator == BLANK else separator)
    if not isinstance(value, Sequence) or not all(isinstance(one, str | int) for one in value):
        raise ValueError("the labels are neither text nor a list of names")
    return Said.named(portable(str(one)) for one in value).text


def looks_several(values: Sequence[object]) -> bool:
    """Whether the values of a column that is called so hold several labels, names between ``|`` or ``;``."""
    return any(isinstance(value, str) and re.search(r"[^\s|;]\s*[|;]\s*[^\s|;]", value) is not None for value in values)


def with_commas(label: str, values: Iterable[object]) -> list[str]:
    """The note on a column that is called as one of several labels, and whose commas separated none; may be empty."""
    if not any(isinstance(value, str) and "," in value.strip(" ,") for value in values):
        return []
    return [f"Cells of {quoted(label)} hold commas, and each is one class; --task multi-label reads several labels."]


def told(columns: Columns, separator: str = "") -> str:
    """The note on a list of several labels an image: what separates them, and how to read it otherwise."""
    how = f", separated by {'blanks' if separator == BLANK else quoted(separator)}" if separator else ""
    named = "" if columns.task else "; --task classes reads it as one class an image"
    return f"An image can have several labels here (multi-label){how}{named}."


def names_in(texts: Iterable[str]) -> tuple[str, ...]:
    """All labels that some texts name, sorted by code point."""
    found: set[str] = set()
    for text in set(texts):
        said = Said.of(text)
        found |= said.true | said.unknown
    return tuple(sorted(found))
