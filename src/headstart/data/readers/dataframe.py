"""Read a DataFrame of pandas, or what behaves as one, as the CSV that it would write of itself."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

from headstart.core.errors import SourceError
from headstart.data.readers import Columns
from headstart.data.readers.list_text import Records, named
from headstart.data.readers.manifest import understand
from headstart.data.readers.walk import walk
from headstart.data.storage import FolderStorage
from headstart.data.table import ImageTable

NAME = "DataFrame"
# What the hints of lists say, and what is typed in Python.
_OPTION = re.compile(rf"headstart train {NAME} --(\w+)-column ('[^']*'|[^\s.]+)")


def is_one(source: object) -> bool:
    """Whether it is a table with columns that can write itself as CSV."""
    return callable(getattr(source, "to_csv", None)) and hasattr(source, "columns") and hasattr(source, "index")


def read(frame: Any, columns: Columns) -> ImageTable:
    """Read a DataFrame into an image table: the same as the CSV file of it, beside its images.

    Args:
        frame: Its columns have the names that those of a manifest have; an index that has a name is one of them.
        columns: What the columns are called, and the folder of the paths; None for the working folder.

    Raises:
        SourceError: It has no such columns, or none that is known.
    """
    root = Path(os.path.abspath(columns.root or "."))  # noqa: PTH100  lexical: links are the user's own
    named_index = any(name is not None for name in frame.index.names)
    first, *rest = csv.reader(io.StringIO(frame.to_csv(index=named_index), newline=""))
    fields = named([field.strip() for field in first], rest, NAME)
    rows = tuple((number, dict(zip(fields, values, strict=False))) for number, values in enumerate(rest) if values)
    try:
        said = understand(Records(fields, rows, unit="row"), NAME, columns, str(root), lambda: walk(root).files)
    except SourceError as error:
        raise SourceError(error.message, _OPTION.sub(_argument, error.hint)) from error
    return ImageTable(
        NAME, FolderStorage(root), tuple(said.rows), tuple(said.skipped), 0, tuple(said.notes), task=said.task
    )


def _argument(option: re.Match[str]) -> str:
    return f"columns=headstart.Columns({option[1]}={option[2].strip(chr(39))!r})"
