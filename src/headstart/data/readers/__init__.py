"""Readers turn a source into an image table. A new kind of source is one file here and one row below."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.errors import SourceError
from headstart.core.text import quoted

if TYPE_CHECKING:
    from headstart.data.table import ImageTable

# file suffix, or "/" for a folder -> module:function(path, columns)
READERS = {
    "/": "headstart.data.readers.folder:read",
    ".csv": "headstart.data.readers.manifest:read",
    ".tsv": "headstart.data.readers.manifest:read",
    ".jsonl": "headstart.data.readers.manifest:read",
    ".json": "headstart.data.readers.manifest:read",
    ".txt": "headstart.data.readers.manifest:read",
    ".zip": "headstart.data.readers.zipped:read",
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How a manifest is to be read: names of its columns, its encoding, and the folder that its paths are relative to.

    Attributes:
        path: Column of the image's path; None for one of a known name, as for the others.
        label: Column of its class.
        split: Column of its split (``train``, ``val``, ``test``); may be absent from the file.
        group: Column of its group; may be absent from the file.
        root: Folder that the paths are relative to and may not leave; None is the manifest's own folder.
        encoding: Of its text, as Python calls it; None for UTF-8, or UTF-16 where it is marked.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    root: Path | None = None
    encoding: str | None = None

    def named(self) -> tuple[tuple[str, str | None], ...]:
        """Each name with its value, as text."""
        return tuple((one.name, None if (value := getattr(self, one.name)) is None else str(value))
                     for one in fields(self))  # fmt: skip

    @classmethod
    def of(cls, named: Mapping[str, str | None]) -> Columns:
        """The columns of what `named` gave; what is missing takes its default.

        Before columns were recognised, each had a name, its own where the user gave none.
        """
        root = named.get("root")
        names = {key: value for key, value in named.items() if value not in {None, key} and key != "root"}
        return cls(**names, root=Path(root) if root else None)


def read(source: str | os.PathLike[str], columns: Columns | None = None) -> ImageTable:
    """Read a source into an image table; no image is decoded yet.

    Args:
        source: A folder of class folders; a folder with ``train``, ``val`` and ``test``; a manifest in CSV, TSV, JSONL
            or JSON, or a list of paths and classes (.txt); a zip file of any of these.
        columns: Names of a manifest's columns.

    Raises:
        SourceError: There is no such source, or it holds no image.
    """
    if not os.fspath(source):  # which would be the current folder
        raise SourceError("The source is an empty name.", "Give a folder, a manifest or a zip file.")
    path = Path(source)
    try:
        folder, exists, regular = path.is_dir(), path.exists(), path.is_file()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{quoted(str(path))} cannot be opened: {reason}.") from error
    if not exists:
        raise SourceError(f"There is no file or folder {quoted(str(path))}.", _neighbour(path))
    kind = "/" if folder else path.suffix.lower()
    if kind not in READERS or not (folder or regular):
        raise SourceError(
            f"{quoted(str(path))} is not a source of labelled images.",
            "Give a folder of class folders, a manifest (.csv, .tsv, .jsonl, .json, .txt), or a .zip of either.",
        )
    module, function = READERS[kind].split(":")
    table: ImageTable = getattr(importlib.import_module(module), function)(path, columns or Columns())
    if not table.rows:
        raise SourceError(
            f"No labelled image found in {quoted(str(path))}{table.unused()}.",
            "Expected a folder for each class with its images inside: cats/1.jpg, dogs/2.jpg."
            if kind in {"/", ".zip"}
            else "Expected a line for each image with its path and its label, below a first line path,label.",
        )
    return replace(table, columns=(columns or Columns()).named())


def _neighbour(path: Path) -> str:
    from headstart.core.text import nearest

    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return "Check the path."
    return nearest(path.name, names) or "Check the path."
