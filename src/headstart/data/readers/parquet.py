"""Parquet, by the package pyarrow of the extra `parquet`: lists of images, and images inside the file itself.

The latter is how Hugging Face keeps image sets: a column of ``{bytes, path}``, the classes as numbers whose names stand
in the file's metadata, and a file or several for each split.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from headstart.core.errors import SourceError
from headstart.core.extras import require
from headstart.core.text import counted, listed
from headstart.data.readers import TASKS, Columns
from headstart.data.readers.layout import Tree, split_of_file
from headstart.data.readers.list_text import Records
from headstart.data.readers.manifest import understand
from headstart.data.readers.parquet_storage import ParquetStorage, image_columns, in_words, open_file, opened
from headstart.data.storage import FolderStorage, Storage
from headstart.data.table import ImageTable, Row, Skipped

SUFFIX = ".parquet"
# Several labels an image, as pyarrow writes the type.
_LISTS_OF_NAMES = {f"{many}<{name}: {text}>" for many in ("list", "large_list") for name in ("item", "element")
                   for text in ("string", "large_string")}  # fmt: skip


def records(content: bytes, name: str) -> Records:
    """The records of a list of images in Parquet; classes that are numbers with names get these.

    Raises:
        SourceError: It is no Parquet file.
        ExtraError: pyarrow is not installed.
    """
    with in_words(name):
        return _records(open_file(io.BytesIO(content)), ())


def read(path: Path, columns: Columns) -> ImageTable:
    """Read a Parquet file into an image table; see `headstart.data.readers.read`."""
    from headstart.data.readers import manifest

    folder = FolderStorage(path.parent)
    if not holding_images([path.name], folder):
        return manifest.read(path, columns)
    return of_images([path.name], Tree(files=[path.name]), folder, str(path), columns)


def find(tree: Tree, storage: Storage, source: str, columns: Columns) -> ImageTable | None:
    """The images inside the Parquet files of a tree; None where there are none.

    Args:
        tree: All files.
        storage: Where their content comes from.
        source: What the user pointed at.
        columns: What he said of it; its path is the column of the images.

    Raises:
        SourceError: As for `of_images` and `holding_images`.
        ExtraError: As for `holding_images`.
    """
    names = holding_images(tree.files, storage)
    return of_images(names, tree, storage, source, columns) if names else None


def holding_images(files: Sequence[str], storage: Storage) -> list[str]:
    """Those of the files that are Parquet with images inside, sorted.

    They are looked for at the top, and where most of the files are Parquet; not among the images of a class.

    Raises:
        SourceError: A file that is called so is no Parquet.
        ExtraError: There are Parquet files, and pyarrow is not installed.
    """
    named = sorted(name for name in files if name.lower().endswith(SUFFIX))
    if 2 * len(named) <= len(files):
        named = [name for name in named if "/" not in name]
    found = []
    for name in named:
        with in_words(name):
            if image_columns(opened(storage, name).schema_arrow):
                found.append(name)
    return found


def of_images(names: Sequence[str], tree: Tree, storage: Storage, source: str, columns: Columns) -> ImageTable:
    """The images inside Parquet files.

    Args:
        names: The files, as of `holding_images`.
        tree: All files.
        storage: Where their content comes from.
        source: What the user pointed at.
        columns: What he said of it; its path is the column of the images.

    Raises:
        SourceError: A file is damaged, or its columns are not known.
    """
    inside = ParquetStorage(storage, columns.path)
    splits = {name: split_of_file(name) for name in names}
    if len(names) == 1 or None in splits.values():
        splits = dict.fromkeys(names)  # the name of a single file says nothing of the others
    rows: list[Row] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    tasks: set[str] = set()
    for name in names:
        with in_words(name):
            image, paths = inside.paths(name)
            said = _records(opened(storage, name), paths, image)
        found, left, told, task = understand(said, name, replace(columns, path=image), "", partial(list, paths))
        tasks.add(task)
        rows += [replace(row, split=row.split or splits[name]) for row in found]
        skipped += left
        notes += [note for note in told if note not in notes]
    others = [Skipped(path, "not one of the Parquet files that hold the images") for path in tree.files
              if path not in names]  # fmt: skip
    notes = [*tree.notes, f"Read from Parquet, of {counted(len(rows), 'image')}: {listed(names)}.", *notes]
    if len(tasks) > 1:
        raise SourceError(
            f"Some of the Parquet files hold one class an image, and some several labels: {listed(names)}.",
            "Say which is meant: --task classes or --task multi-label.",
        )
    skipped = [*tree.skipped, *skipped, *others]
    return ImageTable(
        source, inside, tuple(rows), tuple(skipped), tree.ignored, tuple(notes), task=tasks.pop() if tasks else TASKS[0]
    )


def _records(file: Any, paths: Sequence[str], image: str | None = None) -> Records:
    """What the other columns say; that of the images holds their paths."""
    types = require("pyarrow.types", "parquet", "Reading Parquet")
    plain = [
        field.name
        for field in file.schema_arrow
        if field.name != image
        and (not types.is_nested(field.type) or str(field.type) in _LISTS_OF_NAMES)
        and "binary" not in str(field.type)
    ]
    table = file.read(columns=plain)
    names = _class_names(file.schema_arrow)
    values = {field: table.column(field).to_pylist() for field in plain}
    for field, classes in names.items():
        if field in values:
            values[field] = [
                classes[value] if isinstance(value, int) and 0 <= value < len(classes) else None
                for value in values[field]
            ]
    fields = ([image] if image else []) + plain
    rows = []
    for number in range(table.num_rows):
        row = {field: values[field][number] for field in plain}
        rows.append((number + 1, {image: paths[number], **row} if image else row))
    return Records(tuple(fields), tuple(rows), unit="row")


def _class_names(schema: Any) -> dict[str, list[str]]:
    """The names of classes that are numbers, by column, as the package datasets writes them down."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            field: [str(name) for name in kind["names"]]
            for field, kind in features.items()
            if isinstance(kind, dict) and kind.get("_type") == "ClassLabel" and isinstance(kind.get("names"), list)
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
