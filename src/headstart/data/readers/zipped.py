"""Read a zip file of class folders, split folders, or a manifest with its images; nothing is extracted."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from headstart.core.errors import ImageError, SourceError
from headstart.core.text import listed, quoted
from headstart.data.readers import Columns
from headstart.data.readers.layout import MANIFESTS, Tree, interpret, is_litter, look_through
from headstart.data.readers.manifest import parse
from headstart.data.storage import MAX_FILE_BYTES, MAX_ZIP_RATIO, ZIP_RATIO_FREE_BYTES, ZipStorage
from headstart.data.table import ImageTable, Row, Skipped

# Python bounds what a read takes for these alone: with bzip2 or LZMA, kilobytes become gigabytes in one step.
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# A name may have 32,767 parts; the folders of a single such entry would take a gigabyte.
MAX_DEPTH = 64


class _Below:
    """A storage seen from a folder inside it."""

    def __init__(self, storage: ZipStorage, prefix: str) -> None:
        self._storage = storage
        self._prefix = prefix

    def read(self, path: str) -> bytes:
        return self._storage.read(self._prefix + path)

    def reopened(self) -> _Below:
        return _Below(self._storage.reopened(), self._prefix)


def read(path: Path, columns: Columns) -> ImageTable:
    """Read a zip file into an image table; see `headstart.data.readers.read`.

    A single folder at the top, which most archives have, is looked through.
    """
    archive = ZipStorage(path)
    tree, prefix = look_through(_list(archive))
    storage = _Below(archive, prefix)
    manifests = [name for name in tree.files if "/" not in name and Path(name).suffix.lower() in MANIFESTS]
    if len(manifests) > 1:
        raise SourceError(f"{quoted(str(path))} holds several manifests: {listed(manifests)}.", "Keep one.")
    if manifests:
        return _from_manifest(path, storage, tree, manifests[0], columns)
    rows, skipped, notes = interpret(tree, str(path))
    return ImageTable(str(path), storage, tuple(rows), tuple(skipped), tree.ignored, tuple(notes))


def _from_manifest(path: Path, storage: _Below, tree: Tree, name: str, columns: Columns) -> ImageTable:
    try:
        text = storage.read(name)
    except ImageError as error:
        raise SourceError(f"The manifest {quoted(name)} in {quoted(str(path))}: {error.message}.") from error
    rows, skipped, notes = parse(text, name, columns, list_files=lambda: tree.files)
    present = set(tree.files)
    refused = {skip.path for skip in tree.skipped}  # is in the zip file, and told there why it cannot be used
    missing = [Skipped(row.path, "not in the zip file") for row in rows if row.path not in present | refused]
    kept: list[Row] = [row for row in rows if row.path in present]
    named = {row.path for row in rows} | {skip.path for skip in skipped} | {name}
    unlisted = [Skipped(file, "not in the manifest") for file in tree.files if file not in named]
    every = (*tree.skipped, *skipped, *missing, *unlisted)
    return ImageTable(str(path), storage, tuple(kept), every, tree.ignored, tuple(notes))


def _list(archive: ZipStorage) -> Tree:
    tree = Tree()
    seen: set[str] = set()
    for entry in archive.entries:
        parts = entry.filename.replace("\\", "/").rstrip("/").split("/")
        if any(is_litter(part) for part in parts if part not in {"..", "."}):
            tree.ignored += not entry.is_dir()
            continue
        if reason := _refusal(entry, seen):
            tree.skipped.append(Skipped(entry.filename, reason))
            continue
        seen.add(entry.filename)
        if entry.is_dir():
            tree.folders.append(entry.filename.rstrip("/"))
        else:
            tree.files.append(entry.filename)
            tree.folders.extend("/".join(parts[:depth]) for depth in range(1, len(parts)))
    tree.folders = sorted(set(tree.folders))
    return tree


def _refusal(entry: zipfile.ZipInfo, seen: set[str]) -> str:
    name, mode = entry.filename, entry.external_attr >> 16
    if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/"):
        return "its path leaves the zip file"
    if "\\" in name:
        return "its name holds a backslash, where zip files have /; pack it again with another program"
    if name.count("/") > MAX_DEPTH:
        return f"more than {MAX_DEPTH} folders deep"
    if stat.S_ISLNK(mode):
        return "a link inside the zip file"
    if name in seen:
        return "a second entry of the same name"
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "not a regular file (a pipe, socket or device)"
    if entry.flag_bits & 0x1:
        return "encrypted; unpack it with its password, and pack it again without one"
    if entry.compress_type not in METHODS:
        return f"compressed by method {entry.compress_type}; pack it again with the usual one (deflate)"
    if entry.file_size > MAX_FILE_BYTES:
        return f"{entry.file_size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}"
    if entry.file_size > max(ZIP_RATIO_FREE_BYTES, MAX_ZIP_RATIO * entry.compress_size):
        return f"expands more than {MAX_ZIP_RATIO} times"
    return ""
