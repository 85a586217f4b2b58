"""Find the files below a folder: links are followed, litter is counted, nothing but regular files is kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from headstart.core import marks
from headstart.core.errors import SourceError
from headstart.core.text import counted, quoted
from headstart.data.readers.layout import Tree, is_litter
from headstart.data.table import Skipped


def walk(root: Path) -> Tree:
    """Find all files below a folder.

    Links are followed, each folder is visited once (by its own name rather than by that of a link to it), and only
    regular files are kept.

    Raises:
        SourceError: The folder itself cannot be read.
    """
    found = Tree()
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
                found.skipped.append(Skipped(relative, "a link to a folder that was already read"))
                continue
            visited.add(identity)
            with os.scandir(absolute) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            if not relative:
                raise SourceError(f"{quoted(str(root))} cannot be read: {error.strerror}.") from error
            found.skipped.append(Skipped(relative, f"folder cannot be read: {error.strerror}"))
            continue
        if relative:
            found.folders.append(relative)
        folders: list[tuple[str, str]] = []
        for entry in entries:
            name = f"{relative}/{entry.name}" if relative else entry.name
            if is_litter(entry.name):
                found.ignored += 1 if not entry.is_dir(follow_symlinks=False) else _count(entry.path)
                if entry.name == marks.LIST:
                    found.marks.append(name)
                continue
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                reason = "a broken link" if entry.is_symlink() else f"cannot be read: {error.strerror}"
                found.skipped.append(Skipped(name, reason))
                continue
            if entry.is_symlink() and not _inside(os.path.realpath(entry.path), real_root):
                outside += 1
            if stat.S_ISDIR(mode):
                (links if entry.is_symlink() else folders).append((name, entry.path))
            elif stat.S_ISREG(mode):
                found.files.append(name)
            else:
                found.skipped.append(Skipped(name, "not a regular file (a pipe, socket or device)"))
        todo.extend(reversed(folders))
    if outside:
        found.notes.append(
            f"{counted(outside, 'link leads', 'links lead')} out of the folder; the files there were read."
        )
    return found


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _count(folder: str) -> int:
    """Files below a hidden folder."""
    return sum(len(files) for _, _, files in os.walk(folder))
