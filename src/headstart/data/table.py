"""The image table: the rows that one source was read into."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from headstart.core.text import counted, listed, portable, printable, quoted
from headstart.data.several import MULTI_LABEL, Said, names_in
from headstart.data.storage import Storage

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
# Of each class one to learn from, one to choose the head's C with, and one to measure on.
MIN_IMAGES = 3
# What the names of a task are called.
CLASS = ("class", "classes")
NOUNS = {MULTI_LABEL: ("label", "labels")}


def nouns_of(task: str) -> tuple[str, str]:
    """What one and several of the names of a task are called: class and classes, label and labels."""
    return NOUNS.get(task, CLASS)


def more_images(noun: str) -> str:
    """What to do where too few images are of a class or have a label."""
    return (
        f"Each {noun} needs one image to learn from, one to choose the settings with, and one to measure on: add "
        f"images, or take the {noun} out."
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One image: where it is, and what the user says of it.

    Attributes:
        path: Where its storage finds it, relative to the source; unique in the table.
        label: Its class, or where it has several labels their text (`headstart.data.several`); None where the source
            has no labels.
        split: The part of the data it belongs to; None where the source brings no splits.
        group: Images of one group stay on one side of every split; None for a group of its own.
    """

    path: str
    label: str | None = None
    split: Split | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """One file that was found and not used, with the reason.

    Attributes:
        path: As in `Row`.
        reason: Why it is not used.
        decided: A person decided that; it is no fault of the file.
    """

    path: str
    reason: str
    decided: bool = False

    def as_dict(self) -> dict[str, str]:
        """The form in which JSON shows it."""
        return {"path": portable(self.path), "reason": portable(self.reason)}


@dataclass(frozen=True)
class ImageTable:
    """The rows that one source was read into; immutable.

    Every file that was found is in exactly one of `rows`, `skipped` and the count `ignored`. Two tables are equal where
    they have the same rows of the same place. A pickled one opens its archive again where the first image is read.

    Attributes:
        source: What the user pointed at.
        storage: Where the bytes of the images come from.
        rows: The images, in an order that does not depend on the file system.
        skipped: Files that were found and cannot be used, with reasons.
        ignored: Number of hidden files and system litter (``.DS_Store``, ``__MACOSX``, ...).
        notes: Remarks for the user.
        columns: The names by which a manifest's columns were read, so that it can be read again.
        decisions: The file of decisions that were applied, an absolute path; empty for none.
        task: What a label is; see `headstart.targets.TARGETS`.
        accepted: Paths of images that a person has looked at and keeps: the data check is silent on them.
    """

    source: str = field(compare=False)
    storage: Storage
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...] = field(default=(), compare=False)
    ignored: int = field(default=0, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    columns: tuple[tuple[str, str | None], ...] = field(default=(), compare=False)
    decisions: str = field(default="", compare=False)
    task: str = "classes"
    accepted: frozenset[str] = field(default=frozenset(), compare=False)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, sorted by code point; all that occur where an image has several."""
        if self.task == MULTI_LABEL:
            return names_in(row.label for row in self.rows if row.label is not None)
        return tuple(sorted({row.label for row in self.rows if row.label is not None}))

    @property
    def nouns(self) -> tuple[str, str]:
        """What one and several of its `classes` are called."""
        return nouns_of(self.task)

    def said(self, row: Row) -> str:
        """The class of a row, or all its labels, in words; empty where its class is not known."""
        if self.task != MULTI_LABEL or row.label is None:
            return row.label or ""
        return Said.of(row.label).words

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that the source brings, in the order train, val, test."""
        present = {row.split for row in self.rows}
        return tuple(split for split in SPLITS if split in present)

    def select(self, keep: list[int], skipped: list[Skipped]) -> ImageTable:
        """The table without the rows that turned out to be unusable.

        Args:
            keep: Indices of the rows that stay.
            skipped: The rows that go, with reasons.
        """
        rows = tuple(self.rows[i] for i in keep)
        table = dataclasses.replace(self, rows=rows, skipped=self.skipped + tuple(skipped))
        notes = list(self.notes)
        for kind, before, after in ((self.nouns[0], self.classes, table.classes), ("split", self.splits, table.splits)):
            if rows and (lost := sorted(set(before) - set(after))):
                notes.append(f"No image of the {kind} {listed(lost)} can be used: the {kind} is left out.")
        return dataclasses.replace(table, notes=tuple(notes))

    @property
    def unusable(self) -> tuple[Skipped, ...]:
        """The skipped files that nobody decided to leave out."""
        return tuple(skip for skip in self.skipped if not skip.decided)

    def unused(self) -> str:
        """What became of the files that are no rows, for the error of a table without rows; may be empty."""
        parts = []
        if self.skipped:
            first = self.skipped[0]
            parts.append(f"; {counted(len(self.skipped), 'file')} not used, "
                         f"the first {quoted(first.path)}: {printable(first.reason)}")  # fmt: skip
        if self.ignored:
            parts.append(f"; {counted(self.ignored, 'hidden file')} ignored")
        return "".join(parts)

    def __repr__(self) -> str:
        splits = Counter(row.split for row in self.rows if row.split)
        parts = [counted(len(self.rows), "image"), counted(len(self.classes), *self.nouns)]
        parts += [f"{splits[split]:,} {split}" for split in self.splits]
        parts += [f"{len(self.skipped):,} skipped"] if self.skipped else []
        return f"ImageTable({quoted(self.source)}: {', '.join(parts)})"
