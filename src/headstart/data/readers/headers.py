"""Which column of a list is the image's path, which its class, its split, its group: by the names that people use.

Nothing is guessed: where two columns could be meant, the error says what to type.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headstart.core import marks
from headstart.core.errors import SourceError
from headstart.core.text import listed, nearest, quoted
from headstart.data import several
from headstart.data.readers import TASKS, Columns, one_hot
from headstart.data.readers.layout import SPLIT_NAMES, looks_like_image
from headstart.data.readers.list_text import Entry, Records
from headstart.data.table import Split

# In order of precedence: a name of an earlier row is used even if the list has one of a later row too.
_PATHS = (
    {"path"},
    {"filename", "file_name", "filepath", "file_path", "image_path", "img_path", "image_name", "imagename", "file",
     "image_file", "image_filename"},
    {"image", "img", "image_id", "img_id"},
    {"id", "name"},
)  # fmt: skip
_LABELS = (
    {"label"},
    {"class", "category", "class_name", "label_name", "category_name", "classname"},
    {"target", "species", "choice", "y", "labels", "classes", "tags"},
)
_SEVERAL = {"labels", "tags"}  # what a column of several labels is called
_SPLITS = ({"split"}, {"set", "subset", "partition", "dataset_split", "fold", "phase"})
_GROUPS = ({"group"},)
_LIKE_GROUPS = re.compile(
    r"(patient|subject|person|animal|individual|site|scene|session|camera|location)(_?id)?s?|group_?id"
)
_VALIDATES = {"is_valid", "is_val", "is_validation"}  # fastai's: true for the images of val
_TRUTHS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}
_PIXEL = re.compile(r"pixels?_?\d*|\d+x\d+|px_?\d+")  # Kaggle's digits and faces
_MANY_PIXELS = 16


@dataclass(frozen=True)
class Roles:
    """Which column is what.

    Attributes:
        path: Column of the image's path.
        label: Column of its class; empty where each class has a column.
        classes: The columns of the classes, with 1 in that of the image's own.
        split: Column of its split; None for none.
        group: Column of its group; None for none.
        validates: The split column says whether an image is of val.
        notes: Remarks for the user.
        separator: What stands between several labels of an image; None where each has one class.
    """

    path: str
    label: str
    classes: tuple[str, ...]
    split: str | None
    group: str | None
    validates: bool
    notes: tuple[str, ...]
    separator: str | None = None

    @property
    def several(self) -> bool:
        """Whether an image has any number of labels."""
        return self.separator is not None

    def labels_of(self, record: Entry) -> str | None:
        """The labels of a record as the text of a row; None where nothing is known of them.

        Raises:
            ValueError: They are no labels.
        """
        if not self.classes:
            return several.from_cell(record.get(self.label), self.separator or "")
        values = {name: one_hot.value_of(record, name) for name in self.classes}
        unknown = frozenset(name for name, value in values.items() if value is None)
        if unknown == values.keys():
            return None
        return several.Said(frozenset(name for name, value in values.items() if value), unknown).text

    def label_of(self, record: Entry) -> object:
        """The class of a record, as it stands there; None where it has none, or several.

        Raises:
            ValueError: Several columns of classes hold a 1.
        """
        if not self.classes:
            return record.get(self.label)
        marked = [name for name in self.classes if one_hot.value_of(record, name)]
        if len(marked) > 1:
            raise ValueError(f"of {len(marked)} classes at once: {listed(marked)}")
        return marked[0] if marked else None

    def split_of(self, value: str) -> Split | None:
        """The split that a value means; None where it means none."""
        if self.validates:
            valid = _TRUTHS.get(value.lower())
            return None if valid is None else "val" if valid else "train"
        return SPLIT_NAMES.get(value.lower())


def recognise(records: Records, columns: Columns, name: str, is_file: Callable[[str], bool]) -> tuple[Records, Roles]:
    """Find the columns by their names, or by what the user called them.

    Args:
        records: What the list says.
        columns: What the user called them; None where he did not.
        name: Of the list.
        is_file: Whether a path, as it is written, is that of a file.

    Returns:
        The records, whose first line may turn out to be none of names, and the columns.

    Raises:
        SourceError: The path's or the label's column is not there or not known, or several could be meant.
    """
    fields, rows = records.fields, [row for _, row in records.rows]
    where = f"{quoted(name)} line {records.header}" if records.header else quoted(name)
    path = _named(columns.path, "path", fields, where) or _known(fields, _PATHS, "path", where, name)
    if path is None and records.header and (is_file(fields[0]) or looks_like_image(fields[0])):
        return _without_header(records, where)
    if path is None:
        pixels = [field for field in fields if _PIXEL.fullmatch(_plain(field))]
        if pixels and (len(pixels) >= min(len(fields) - 1, _MANY_PIXELS) or "pixels" in pixels):
            raise SourceError(
                f"{quoted(name)} holds the pixels of images, and no paths.",
                "Save each row as an image file (PNG), in a folder for each class.",
            )
        raise _unknown("path", fields, where, name)
    others = [field for field in fields if field not in {path, columns.label}]
    split, validates, unused = _split(columns, others, rows, where, name)
    group = _named(columns.group, "group", fields, where) or _known(fields, _GROUPS, "group", where, name)
    rest = [field for field in fields if field not in {path, split, group}]
    label = _named(columns.label, "label", fields, where) or _known(rest, _LABELS, "label", where, name)
    classes: tuple[str, ...] = ()
    if label is None:
        label, classes = _of_several_columns(rest, records, columns, where, name)
    separator = _separator(path, label, classes, records, columns)
    usual = (path, label, split or "split") == ("path", "label", "split")
    notes = [] if usual else [_taken(path, label or "", classes, split, several=separator is not None)]
    if separator is not None:
        notes.append(several.told(columns, "" if classes else separator))
    elif columns.task is None and label and _plain(label) in _SEVERAL:
        notes += several.with_commas(label, (row.get(label) for row in rows))
    notes += unused
    if group is None and (
        like := [field for field in rest if _LIKE_GROUPS.fullmatch(_plain(field)) and field != label]
    ):
        notes.append(
            f"Images that belong together may be marked by {listed(like)}, which was not used: --group-column "
            f"{shlex.quote(like[0])} keeps each group on one side of every split."
        )
    return records, Roles(path, label or "", classes, split, group, validates, tuple(notes), separator)


def _of_several_columns(
    rest: Sequence[str], records: Records, columns: Columns, where: str, name: str
) -> tuple[str | None, tuple[str, ...]]:
    """The only column that can be the label; or the columns of 0 and 1, one for each class or label.

    Raises:
        SourceError: There is neither.
    """
    rows = [row for _, row in records.rows]
    if len(rest) > 1 and (strange := one_hot.stray(rest, records.rows)):
        raise SourceError(
            f"{quoted(name)}: {strange}.",
            "A column of a label holds 0 and 1, and nothing where it is not known: correct the cell, or take a column "
            "that is no label out of the list.",
        )
    several_asked = columns.task == several.MULTI_LABEL
    marked = [field for field in rest if one_hot.is_mark(field, rows)] if several_asked else rest
    if len(marked) > 1 and (one_hot.are_marks(marked, rows) or one_hot.are_labels(marked, rows, columns)):
        return None, tuple(marked)
    if len(rest) == 1:
        return rest[0], ()
    raise _unknown("label", records.fields, where, name)


def _separator(path: str, label: str | None, classes: Sequence[str], records: Records, columns: Columns) -> str | None:
    """What stands between the labels, where an image has several; None where it has one class."""
    rows = [row for _, row in records.rows]
    if columns.task == TASKS[0]:
        return None
    if classes:
        return several.SEPARATOR if one_hot.are_labels(classes, rows, columns) else None
    named, values = _plain(label or "") in _SEVERAL, [row.get(label) for row in rows if label]
    lists = any(isinstance(value, list) and all(isinstance(one, str) for one in value) and value for value in values)
    if columns.task is None and not (lists or (named and several.looks_several(values))):
        return None
    if columns.separator or lists or records.fields == marks.SPLITS_OF_LABELS_HEADER:
        return columns.separator or several.SEPARATOR
    # Where an image has a line for each of its labels, a blank is part of a name.
    return several.separator_of(values, blank=named and len({str(row.get(path)) for row in rows}) == len(rows))


def _plain(field: str) -> str:
    return field.strip().casefold().replace(" ", "_").replace("-", "_")


def _named(column: str | None, option: str, fields: Sequence[str], where: str) -> str | None:
    """The column that the user named; None where he named none."""
    if column is None or column in fields:
        return column
    raise SourceError(
        f"{where} has no column {quoted(column)}; found {listed(fields)}.",
        f"{nearest(column, fields)}Correct --{option}-column, or leave it out.",
    )


def _known(fields: Sequence[str], names: Sequence[set[str]], option: str, where: str, name: str) -> str | None:
    """The one column that has a known name; None where none has.

    Raises:
        SourceError: Several have.
    """
    for row in names:
        found = _only([field for field in fields if _plain(field) in row], option, where, name)
        if found is not None:
            return found
    return None


def _only(found: Sequence[str], option: str, where: str, name: str) -> str | None:
    if len(found) > 1:
        typed = " or ".join(
            f"headstart train {shlex.quote(name)} --{option}-column {shlex.quote(one)}" for one in found
        )
        raise SourceError(f"{where} has several columns that could be the {option}: {listed(found)}.", f"Type {typed}.")
    return found[0] if found else None


def _unknown(option: str, fields: Sequence[str], where: str, name: str) -> SourceError:
    known = {one for row in (_PATHS if option == "path" else _LABELS) for one in row}
    near = next((field for field in fields if nearest(_plain(field), known)), None)
    words = "NAME" if near is None else shlex.quote(near)
    return SourceError(
        f"{where} has no column {quoted(option)}, nor one of another known name; found {listed(fields)}.",
        f"{f'Did you mean {quoted(near)}? ' if near else ''}Name the column: headstart train {shlex.quote(name)} "
        f"--{option}-column {words}.",
    )


def _without_header(records: Records, where: str) -> tuple[Records, Roles]:
    """The columns of a list that begins with the path of a file, or with what looks like that of an image."""
    if len(records.fields) != 2:
        raise SourceError(
            f"{where} names no columns: it begins with {quoted(records.fields[0])}.",
            "Add a first line with a name for each column, such as path,label,split.",
        )
    found = records.without_header()
    path, label = found.fields
    note = f"{where} names no columns: the first was read as the path, the second as the label."
    return found, Roles(path, label, (), None, None, False, (note,))


def _split(
    columns: Columns, fields: Sequence[str], rows: Sequence[Entry], where: str, name: str
) -> tuple[str | None, bool, list[str]]:
    """The column of the split, whether it only marks the images of val, and notes on what looks like one."""
    found = _named(columns.split, "split", fields, where) or _known(fields, _SPLITS[:1], "split", where, name)
    if found is not None:
        return found, _plain(found) in _VALIDATES, []
    notes, usable = [], []
    for field in fields:
        validates = _plain(field) in _VALIDATES
        if not validates and _plain(field) not in _SPLITS[1]:
            continue
        values = {one_hot.text_of(row.get(field)).lower() for row in rows} - {""}
        if values and values <= (_TRUTHS if validates else SPLIT_NAMES).keys():
            usable.append(field)
        else:
            notes.append(
                f"The column {quoted(field)} may name splits, but holds {listed(sorted(values), 4)}: it was not used."
            )
    found = _only(usable, "split", where, name)
    return found, found is not None and _plain(found) in _VALIDATES, notes


def _taken(path: str, label: str, classes: tuple[str, ...], split: str | None, *, several: bool) -> str:
    what = "labels" if several else "class"
    source = f"from the 1 among {listed(classes)}" if classes else f"from {quoted(label)}"
    more = f", the split from {quoted(split)}" if split else ""
    return f"The path was read from the column {quoted(path)}, the {what} {source}{more}."
