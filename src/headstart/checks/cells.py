"""Classes and labels as people write them into a file of decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.core.text import listed, nearest, quoted
from headstart.data.several import Said
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from headstart.checks.decisions import Decision
    from headstart.data.table import ImageTable


@dataclass(frozen=True)
class Written:
    """What cells may name.

    Attributes:
        names: The classes or labels of a table, by themselves and without spaces around.
        several: Whether a cell may name any number of them, as ``cat|dog``, none included.
    """

    names: dict[str, str]
    several: bool

    @classmethod
    def of(cls, table: ImageTable) -> Written:
        """The names of a table."""
        names = {name.strip(): name for name in table.classes} | {name: name for name in table.classes}
        return cls(names, TARGETS[table.task].several)

    def read(self, cell: str) -> str | None:
        """The label of a row that a cell names, which may have spaces around; None where there is no such name."""
        if self.several:
            said = Said.of(cell)
            return said.text if (said.true | said.unknown) <= set(self.names) else None
        return self.names.get(cell, self.names.get(cell.strip()))

    def refused(self, one: Decision) -> str:
        """Why an image cannot be relabelled so, in words; empty where it can."""
        if not self.several and not one.new_label.strip():
            return f"no new_label to relabel {quoted(one.path)} to"
        if self.read(one.new_label) is None:
            said = Said.of(one.new_label)
            names = sorted((said.true | said.unknown) - set(self.names)) if self.several else [one.new_label]
            hint = nearest(names[0], self.names)
            return f"there is no {'label' if self.several else 'class'} {listed(names)}. {hint}".rstrip(" .")
        if one.label and self.read(one.new_label) == self.read(one.label):
            return f"{quoted(one.path)} has the label {quoted(one.label)} already; use keep"
        return ""
