"""The images inside Parquet files, by the package pyarrow of the extra `parquet`."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from headstart.core.errors import HeadstartError, ImageError, SourceError
from headstart.core.extras import require
from headstart.core.text import listed, quoted
from headstart.data.storage import Storage, Within

_KEPT = 4  # groups of rows of which the images are held in memory
_MAX_GROUP_BYTES = 2**30
_IMAGES = ("image", "img", "picture", "photo", "jpg", "png", "bytes", "image_bytes")  # where several hold bytes


class ParquetStorage(Within):
    """The images inside Parquet files, called by file and number: ``train.parquet/000012-cat.jpg``.

    Args:
        storage: Where the Parquet files come from.
        column: Of the images; None for the only one that holds some.
    """

    def __init__(self, storage: Storage, column: str | None = None) -> None:
        super().__init__(storage)
        self._column = column
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
            with self._reading, in_words(name):
                content = self._image(name, number)
        except SourceError as error:
            raise ImageError(error.message) from error
        if content is None:
            raise ImageError("no image in this row of the Parquet file")
        return content

    def _file(self, name: str) -> Any:
        if name not in self._files:
            self._files[name] = opened(self._storage, name)
        return self._files[name]

    def _image_column(self, file: Any, name: str) -> str:
        known = image_columns(file.schema_arrow)
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


def image_columns(schema: Any) -> list[str]:
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


def _bytes(value: Any) -> bytes | None:
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


def opened(storage: Storage, name: str) -> Any:
    """A Parquet file of a storage, from the disk where it lies there."""
    local = storage.local(name)
    if local is not None:
        return open_file(local)
    try:
        return open_file(storage.opened(name, 0))
    except ImageError as error:
        raise SourceError(f"{quoted(name)}: {error.message}.") from error


def open_file(file: Any) -> Any:
    """A Parquet file by its path, or from an open file, of which only what is asked for is read."""
    return require("pyarrow.parquet", "parquet", "Reading Parquet").ParquetFile(file, pre_buffer=False)


@contextmanager
def in_words(name: str) -> Iterator[None]:
    """Turn pyarrow's errors into ours."""
    arrow = require("pyarrow", "parquet", "Reading Parquet")
    try:
        yield
    except ImageError as error:
        raise SourceError(f"{quoted(name)}: {error.message}.") from error
    except HeadstartError:
        raise
    except (arrow.ArrowException, OSError) as error:
        raise SourceError(
            f"{quoted(name)} is not a readable Parquet file: {str(error)[:200]}.", "Download or write it again."
        ) from error
