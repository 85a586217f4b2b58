"""Read a tar file, packed or not, of class folders, split folders, or a list with its images; nothing is extracted."""

from __future__ import annotations

import tarfile
from pathlib import Path

from headstart.core import marks
from headstart.data.archives import TarStorage
from headstart.data.readers import Columns, tree
from headstart.data.readers.layout import MAX_DEPTH, Tree, is_litter
from headstart.data.storage import MAX_FILE_BYTES
from headstart.data.table import ImageTable, Skipped


def read(path: Path, columns: Columns) -> ImageTable:
    """Read a tar file into an image table; see `headstart.data.readers.read`."""
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
            if parts[-1] == marks.LIST and not _refusal(entry):
                found.marks.append(entry.name)
            continue
        if reason := _refusal(entry) or ("a second entry of the same name" if name in seen else ""):
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


def _refusal(entry: tarfile.TarInfo) -> str:
    if entry.name.startswith("/") or ".." in entry.name.split("/"):
        return "its path leaves the tar file"
    if entry.name.count("/") > MAX_DEPTH:
        return f"more than {MAX_DEPTH} folders deep"
    if entry.issym() or entry.islnk():
        return "a link inside the tar file"
    if not (entry.isdir() or entry.isreg()):
        return "not a regular file (a pipe, socket or device)"
    if entry.size > MAX_FILE_BYTES:
        return f"{entry.size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}"
    return ""
