"""What `predict` is pointed at: files, folders and patterns, in one unlabelled image table."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from headstart.core.errors import SourceError
from headstart.core.text import listed, quoted
from headstart.data.readers.folder import walk
from headstart.data.storage import FolderStorage
from headstart.data.table import ImageTable, Row, Skipped


def expand(paths: Sequence[str]) -> ImageTable:
    """Find the images that paths name; folders are searched through, patterns such as ``*.jpg`` are expanded.

    Raises:
        SourceError: A path names nothing, or nothing is found at all.
    """
    rows: dict[str, Row] = {}
    skipped: list[Skipped] = []
    ignored = 0
    notes: list[str] = []
    for given in paths:
        if os.path.isdir(given):  # noqa: PTH112  names may hold what Path would change
            tree = walk(Path(given))
            rows.update((path, Row(path)) for path in (os.path.join(given, file) for file in tree.files))  # noqa: PTH118
            skipped += [Skipped(os.path.join(given, skip.path), skip.reason) for skip in tree.skipped]  # noqa: PTH118
            ignored += tree.ignored
            notes += tree.notes
            continue
        if os.path.lexists(given):
            rows[given] = Row(given)
            continue
        found = [path for path in sorted(glob.glob(given, recursive=True)) if not os.path.isdir(path)]  # noqa: PTH112, PTH207
        if not found:
            raise SourceError(f"There is no file, folder or match for {quoted(given)}.", "Check the path.")
        rows.update((path, Row(path)) for path in found)
    table = ImageTable(", ".join(paths), FolderStorage(""), tuple(rows.values()), tuple(skipped), ignored, tuple(notes))
    if not rows:
        raise SourceError(
            f"There is no file to predict in {listed(paths)}{table.unused()}.",
            "Give images, or a folder that holds some.",
        )
    return table
