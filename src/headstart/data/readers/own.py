"""Leave out what Headstart itself has written into a source: runs, pages, pictures, lists of proposals."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace

from headstart.core import marks
from headstart.core.errors import ImageError
from headstart.core.text import listed
from headstart.data.readers.layout import Tree
from headstart.data.storage import Storage

_END_BYTES = 2**20
_SUFFIXES = (".html", ".htm", ".csv", ".jsonl", ".parquet")  # of files that bear their mark inside


def is_run(tree: Tree) -> bool:
    """Whether the whole is the folder of a run or of a comparison."""
    return "" in _runs(tree)


def leave_out(tree: Tree, storage: Storage) -> Tree:
    """The tree without what Headstart has written; it counts as ignored, and a note names it."""
    whole = sorted(folder for folder in _runs(tree) if folder)
    written = _listed(tree, storage)
    outside = [file for file in tree.files if not any(file.startswith(f"{folder}/") for folder in whole)]
    for file in outside:
        if file.lower().endswith(_SUFFIXES):
            try:
                ours = marks.is_ours(file, _content(file, storage))
            except ImageError:
                continue  # unreadable files are reported where they are used
            if ours:
                written.add(file)
    files = [file for file in outside if file not in written]
    if len(files) == len(tree.files):
        return tree
    held = _above(tree.files) - _above(files)  # folders of which nothing is left
    folders = [name for name in tree.folders if name not in held and not any(_within(name, run) for run in whole)]
    names = sorted(name for name in held if not any(_within(name, other) for other in held - {name}))
    names += sorted(file for file in written if not any(_within(file, name) for name in held))
    return replace(
        tree,
        files=files,
        folders=folders,
        ignored=tree.ignored + len(tree.files) - len(files),
        notes=[*tree.notes, f"Written by Headstart, and left out: {listed(names)}."],
    )


def _content(file: str, storage: Storage) -> bytes:
    """A file as far as it tells who wrote it: of Parquet, which may be large, the end, where its metadata is."""
    if not file.lower().endswith(".parquet"):
        return storage.read(file)
    with storage.opened(file, _END_BYTES) as opened:
        opened.seek(max(0, opened.seek(0, os.SEEK_END) - _END_BYTES))
        return opened.read(_END_BYTES)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _above(files: list[str]) -> set[str]:
    """All folders that files lie in, at any depth."""
    folders: set[str] = set()
    for file in files:
        parts = file.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return folders


def _runs(tree: Tree) -> set[str]:
    """The folders of runs, finished or not, and of comparisons."""
    telling = {*marks.RUN, *marks.COMPARISON}
    held = defaultdict[str, set[str]](set)
    for file in tree.files:
        folder, _, name = file.rpartition("/")
        if name in telling:
            held[folder].add(name)
    found = {folder for folder, names in held.items() if names >= marks.RUN or names >= marks.COMPARISON}
    end = f"/{marks.UNFINISHED}"
    return found | {f"/{file}"[: -len(end)].removeprefix("/") for file in tree.files if f"/{file}".endswith(end)}


def _listed(tree: Tree, storage: Storage) -> set[str]:
    """What Headstart has noted to have written into a folder, as paths of the tree."""
    found: set[str] = set()
    for mark in tree.marks:
        try:
            names = marks.names_in(storage.read(mark))
        except ImageError:
            continue
        folder = mark.rpartition("/")[0]
        found |= {f"{folder}/{name}" if folder else name for name in names}
    return found & set(tree.files)
