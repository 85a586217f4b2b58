"""Read a tar file, packed or not, of class folders, split folders, or a list with its images; nothing is extracted."""

from __future__ import annotations

import tarfile
from pathlib import Path

from headstart.core import marks
from headstart.data.archives import TarStorage, is_packed
from headstart.data.readers import Columns, tree, webdataset
from headstart.data.readers.layout import Tree, is_litter
from headstart.data.storage import FolderStorage
from headstart.data.table import ImageTable, Skipped
from headstart.data.tarsets import refusal


def read(path: Path, columns: Columns) -> ImageTable:
    """Read a tar file into an image table; see `headstart.data.readers.read`."""
    if path.suffix.lower() == webdataset.SUFFIX and not is_packed(path) and tarfile.is_tarfile(path):
        found = webdataset.find(Tree(files=[path.name]), FolderStorage(path.parent), str(path), columns)
        if found is not None:
            return found
    archive = TarStorage(path)
    return tree.read(_list(archive), archive, str(path), columns)


def _list(archive: TarStorage) -> Tree:
    found = Tree()
    seen: set[str] = set()
    for entry in archive.entries:
        parts = [part for part in entry.name.split("/") if part != "."]
        if not parts:
            continue
        name = "/".join(parts)
        if any(is_litter(part) for part in parts if part != ".."):
            found.ignored += not entry.isdir()
            if parts[-1] == marks.LIST and not refusal(entry):
                found.marks.append(entry.name)
            continue
        if reason := refusal(entry) or ("a second entry of the same name" if name in seen else ""):
            found.skipped.append(Skipped(entry.name, reason))
            continue
        seen.add(name)
        if entry.isdir():
            found.folders.append(name)
        else:
            found.files.append(name)
            found.folders.extend("/".join(parts[:depth]) for depth in range(1, len(parts)))
    found.folders = sorted(set(found.folders))
    return found
