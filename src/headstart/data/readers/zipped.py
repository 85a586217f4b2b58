"""Read a zip file of class folders, split folders, or a manifest with its images; nothing is extracted."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from headstart.core import marks
from headstart.data.archives import MAX_ZIP_RATIO, ZIP_RATIO_FREE_BYTES, ZipStorage
from headstart.data.readers import Columns, tree
from headstart.data.readers.layout import MAX_DEPTH, Tree, is_litter
from headstart.data.storage import MAX_FILE_BYTES
from headstart.data.table import ImageTable, Skipped

# Python bounds what a read takes for these alone: with bzip2 or LZMA, kilobytes become gigabytes in one step.
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def read(path: Path, columns: Columns) -> ImageTable:
    """Read a zip file into an image table; see `headstart.data.readers.read`."""
    archive = ZipStorage(path)
    return tree.read(_list(archive), archive, str(path), columns)


def _list(archive: ZipStorage) -> Tree:
    found = Tree()
    seen: set[str] = set()
    for entry in archive.entries:
        parts = entry.filename.replace("\\", "/").rstrip("/").split("/")
        if any(is_litter(part) for part in parts if part not in {"..", "."}):
            found.ignored += not entry.is_dir()
            if parts[-1] == marks.LIST and not _refusal(entry, seen):
                found.marks.append(entry.filename)
            continue
        if reason := _refusal(entry, seen):
            found.skipped.append(Skipped(entry.filename, reason))
            continue
        seen.add(entry.filename)
        if entry.is_dir():
            found.folders.append(entry.filename.rstrip("/"))
        else:
            found.files.append(entry.filename)
            found.folders.extend("/".join(parts[:depth]) for depth in range(1, len(parts)))
    found.folders = sorted(set(found.folders))
    return found


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
