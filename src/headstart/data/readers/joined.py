"""The same image in several class folders: it has the labels of all of them (``--task multi-label``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from headstart.core.digest import digest_bytes
from headstart.core.errors import ImageError
from headstart.core.text import counted, quoted
from headstart.data.readers.layout import Tree
from headstart.data.several import MULTI_LABEL, Said
from headstart.data.storage import Storage
from headstart.data.table import ImageTable, Row, Skipped


def read(rows: Sequence[Row], skipped: Sequence[Skipped], tree: Tree, storage: Storage, source: str) -> ImageTable:
    """The table of class folders in which files of the same content are one image.

    Args:
        rows: What the folders say of each file.
        skipped: Files that are no images, with reasons.
        tree: All files, with the notes on them.
        storage: Where their content comes from.
        source: What the user pointed at.
    """
    kept: dict[tuple[str, str | None], Row] = {}  # by content and split
    others: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in rows:
        key = _content(row.path, storage), row.split
        if key in kept:
            others[key].append(row)
        else:
            kept[key] = row
    labelled = [
        replace(row, label=Said(frozenset(one.label or "" for one in (row, *others[key]))).text)
        for key, row in kept.items()
    ]
    joined = [
        Skipped(row.path, f"the same file as {quoted(kept[key].path)}, which has its label too", decided=True)
        for key, found in others.items() for row in found
    ]  # fmt: skip
    note = (
        f"Several labels an image (multi-label): {counted(len(joined), 'file is', 'files are')} in more than one class "
        "folder, and counted once with the labels of all."
    )
    return ImageTable(
        source, storage, tuple(labelled), (*skipped, *joined), tree.ignored, (*tree.notes, note), task=MULTI_LABEL
    )


def _content(path: str, storage: Storage) -> str:
    """The digest of a file; of one that cannot be read its path, so that it is reported where images are read."""
    try:
        return digest_bytes(storage.read(path))
    except ImageError:
        return f"path {path}"
