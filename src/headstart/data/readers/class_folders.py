"""Read a folder: class folders, split folders with class folders inside, or images with a list of them."""

from __future__ import annotations

from pathlib import Path

from headstart.data.readers import Columns, tree
from headstart.data.readers.walk import walk
from headstart.data.storage import FolderStorage
from headstart.data.table import ImageTable


def read(path: Path, columns: Columns) -> ImageTable:
    """Read a folder into an image table; see `headstart.data.readers.read`."""
    return tree.read(walk(path), FolderStorage(path), str(path), columns)
