"""Read a folder: class folders, or split folders with class folders inside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from headstart.core.errors import SourceError
from headstart.core.text import counted, quoted
from headstart.data.readers import Columns
from headstart.data.readers.layout import Tree, interpret, is_litter, look_through
from headstart.data.storage import FolderStorage
from headstart.data.table import ImageTable, Skipped


def read(path: Path, columns: Columns) -> ImageTable:
    """Read a folder into an image table; see `headstart.data.readers.read`."""
    tree, prefix = look_through(walk(path))
    rows, skipped, notes = interpret(tree, str(path))
    if prefix:
        notes.insert(0, f"All lies in the folder {quoted(prefix[:-1])}, whose folders were read as the classes.")
    storage = FolderStorage(path / prefix)
    return ImageTable(str(path), storage, tuple(rows), tuple(skipped), tree.ignored, tuple(notes))


def walk(root: Path) -> Tree:
    """Find all files below a folder.

    Links are followed, each folder is visited once (by its own name rather than by that of a link to it), and only
    regular files are kept.

    Raises:
        SourceError: The folder itself cannot be read.
    """
    tree = Tree()
    outside = 0
    real_root = os.path.realpath(root)
    visited = set[tuple[int, int]]()
    todo = [("", os.fspath(root))]
    links: list[tuple[str, str]] = []
    while todo or links:
        relative, absolute = todo.pop() if todo else links.pop(0)
        try:
            status = os.stat(absolute)  # noqa: PTH116
            if (identity := (status.st_dev, status.st_ino)) in visited:
                tree.skipped.append(Skipped(relative, "a link to a folder that was already read"))
                continue
            visited.add(identity)
            with os.scandir(absolute) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            if not relative:
                raise SourceError(f"{quoted(str(root))} cannot be read: {error.strerror}.") from error
            tree.skipped.append(Skipped(relative, f"folder cannot be read: {error.strerror}"))
            continue
        if relative:
            tree.folders.append(relative)
        if relative and {"model.onnx", "recipe.toml"} <= {entry.name for entry in entries}:
            tree.ignored += len(entries)  # a run of ours, written into the source
            continue
        folders: list[tuple[str, str]] = []
        for entry in entries:
            name = f"{relative}/{entry.name}" if relative else entry.name
            if is_litter(entry.name):
                tree.ignored += 1 if not entry.is_dir(follow_symlinks=False) else _count(entry.path)
                continue
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                reason = "a link to nothing" if entry.is_symlink() else f"cannot be read: {error.strerror}"
                tree.skipped.append(Skipped(name, reason))
                continue
            if entry.is_symlink() and not _inside(os.path.realpath(entry.path), real_root):
                outside += 1
            if stat.S_ISDIR(mode):
                (links if entry.is_symlink() else folders).append((name, entry.path))
            elif stat.S_ISREG(mode):
                tree.files.append(name)
            else:
                tree.skipped.append(Skipped(name, "not a regular file (a pipe, socket or device)"))
        todo.extend(reversed(folders))
    if outside:
        tree.notes.append(f"{counted(outside, 'link leads', 'links lead')} out of the folder; what is there was read.")
    return tree


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _count(folder: str) -> int:
    """Files below a hidden folder; the folder itself where it is empty or closed."""
    return sum(len(files) for _, _, files in os.walk(folder)) or 1
