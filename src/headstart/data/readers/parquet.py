"""Parquet, by the package pyarrow of the extra `parquet`: lists of images, and images inside the file itself.

The latter is how Hugging Face keeps image sets: a column of ``{bytes, path}``, the classes as numbers whose names stand
in the file's metadata, and a file or several for each split.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from headstart.core.errors import ImageError, SourceError
from headstart.core.extras import require
from headstart.core.text import counted, listed, quoted
from headstart.data.readers import Columns
from headstart.data.readers.layout import SPLIT_NAMES, Tree
from headstart.data.readers.manifest import understand
from headstart.data.readers.text import Records
from headstart.data.storage import FolderStorage, Lasting, Storage
from headstart.data.table import ImageTable, Row, Skipped, Split

SUFFIX = ".parquet"
_KEPT = 4  # groups of rows of which the images are held in memory
_MAX_GROUP_BYTES = 2**30
_IMAGES = ("image", "img", "picture", "photo", "jpg", "png", "bytes", "image_bytes")  # where several hold bytes


def records(content: bytes, name: str) -> Records:
    """The records of a list of images in Parquet; classes that are numbers with names get these.

    Raises:
        SourceError: It is no Parquet file.
        ExtraError: pyarrow is not installed.
    """
    with _in_words(name):
        return _records(_open(io.BytesIO(content)), ())


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
        with _in_words(name):
            if _image_columns(_opened(storage, name).schema_arrow):
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
    splits = {name: _split(name) for name in names}
    if len(names) == 1 or None in splits.values():
        splits = dict.fromkeys(names)  # the name of a single file says nothing of the others
    rows: list[Row] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    for name in names:
        with _in_words(name):
            image, paths = inside.paths(name)
            said = _records(_opened(storage, name), paths, image)
        found, left, told = understand(said, name, replace(columns, path=image), "", partial(list, paths))
        rows += [replace(row, split=row.split or splits[name]) for row in found]
        skipped += left
        notes += [note for note in told if note not in notes]
    others = [Skipped(path, "not one of the Parquet files that hold the images") for path in tree.files
              if path not in names]  # fmt: skip
    notes = [*tree.notes, f"Read from Parquet, of {counted(len(rows), 'image')}: {listed(names)}.", *notes]
    return ImageTable(source, inside, tuple(rows), (*tree.skipped, *skipped, *others), tree.ignored, tuple(notes))


class ParquetStorage(Lasting):
    """The images inside Parquet files, called by file and number: ``train.parquet/000012-cat.jpg``.

    Args:
        storage: Where the Parquet files come from.
        column: Of the images; None for the only one that holds some.
    """

    def __init__(self, storage: Storage, column: str | None = None) -> None:
        self._storage, self._column = storage, column
        self._files: dict[str, Any] = {}
        self._groups: dict[tuple[str, int], list[bytes | None]] = {}  # in order of their use
        self._reading = threading.Lock()

    def _arguments(self) -> tuple[Storage, str | None]:
        return self._storage, self._column

    def paths(self, name: str) -> tuple[str, list[str]]:
        """The column of the images of a file, and what to call each of them.

        Raises:
            SourceError: Several columns could be it, or none.
        """
        file = self._file(name)
        column = self._image_column(file, name)
        found: list[str] = []
        struct = hasattr(file.schema_arrow.field(column).type, "get_field_index")
        for group in range(file.num_row_groups):
            if struct and "path" in {field.name for field in file.schema_arrow.field(column).type}:
                own = file.read_row_group(group, columns=[f"{column}.path"]).column(0).to_pylist()
            else:
                own = [None] * file.metadata.row_group(group).num_rows
            for entry in own:
                written = entry.get("path") if isinstance(entry, dict) else None
                end = f"-{PurePosixPath(written).name}" if written else ""
                found.append(f"{name}/{len(found):06}{end}")
        return column, found

    def read(self, path: str) -> bytes:
        """All bytes of one image; see `Storage`."""
        name, _, rest = path.rpartition("/")
        number = int(re.match(r"\d*", rest)[0] or -1)  # type: ignore[index]  # it matches the empty string too
        try:
            with self._reading, _in_words(name):
                content = self._image(name, number)
        except SourceError as error:
            raise ImageError(error.message) from error
        if content is None:
            raise ImageError("no image in this row of the Parquet file")
        return content

    def local(self, path: str) -> None:
        """See `Storage`."""

    def reopened(self) -> ParquetStorage:
        """See `Storage`."""
        return ParquetStorage(self._storage.reopened(), self._column)

    def _file(self, name: str) -> Any:
        if name not in self._files:
            self._files[name] = _opened(self._storage, name)
        return self._files[name]

    def _image_column(self, file: Any, name: str) -> str:
        known = _image_columns(file.schema_arrow)
        if self._column in known:
            return self._column
        if self._column is None:
            for one in [known] if len(known) == 1 else [[field] for field in _IMAGES if field in known]:
                return one[0]
        raise SourceError(
            f"{quoted(name)} holds images in {listed(known)}.", f"Name the column: --path-column {known[0]}."
        )

    def _image(self, name: str, number: int) -> bytes | None:
        """The image of a row, from the kept groups of rows where it is in one."""
        file, group = self._file(name), 0
        if not 0 <= number < file.metadata.num_rows:
            raise SourceError(f"{quoted(name)} has no row {number}.")
        while number >= (rows := file.metadata.row_group(group).num_rows):
            number -= rows
            group += 1
        kept = self._groups.pop((name, group), None)
        if kept is None:
            if file.metadata.row_group(group).total_byte_size > _MAX_GROUP_BYTES:
                raise SourceError(f"{quoted(name)} holds more than {_MAX_GROUP_BYTES:,} bytes in a group of rows.")
            column = self._image_column(file, name)
            kept = [_bytes(value) for value in file.read_row_group(group, columns=[column]).column(0).to_pylist()]
        self._groups[name, group] = kept
        while len(self._groups) > _KEPT:
            del self._groups[next(iter(self._groups))]
        return kept[number]


def _bytes(value: Any) -> bytes | None:
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


def _split(name: str) -> Split | None:
    """Of a file such as ``data/train-00000-of-00002.parquet`` or ``train/0.parquet``; None where it does not tell."""
    folder, _, last = name.rpartition("/")
    words = [*re.split(r"[-_.]", last)[:1], folder.rpartition("/")[2]]
    return next((SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES), None)


def _image_columns(schema: Any) -> list[str]:
    """The columns that hold the bytes of images: binary ones, and such with a field ``bytes``."""
    types = require("pyarrow.types", "parquet", "Reading Parquet")
    found = []
    for field in schema:
        inside = field.type.field("bytes").type if _has_bytes(field.type, types) else field.type
        if types.is_binary(inside) or types.is_large_binary(inside):
            found.append(field.name)
    return found


def _has_bytes(kind: Any, types: Any) -> bool:
    return bool(types.is_struct(kind)) and kind.get_field_index("bytes") >= 0


def _records(file: Any, paths: Sequence[str], image: str | None = None) -> Records:
    """What the other columns say; that of the images holds their paths."""
    types = require("pyarrow.types", "parquet", "Reading Parquet")
    plain = [
        field.name
        for field in file.schema_arrow
        if field.name != image and not types.is_nested(field.type) and "binary" not in str(field.type)
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


def _opened(storage: Storage, name: str) -> Any:
    local = storage.local(name)
    if local is None:
        try:
            return _open(io.BytesIO(storage.read(name)))
        except ImageError as error:
            raise SourceError(f"{quoted(name)}: {error.message}.") from error
    return _open(local)


def _open(file: Any) -> Any:
    return require("pyarrow.parquet", "parquet", "Reading Parquet").ParquetFile(file)


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    """Turn pyarrow's errors into ours."""
    arrow = require("pyarrow", "parquet", "Reading Parquet")
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        raise SourceError(
            f"{quoted(name)} is not a readable Parquet file: {str(error)[:200]}.", "Download or write it again."
        ) from error
