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
    rows: dict[str, Row] = {}  # each file once
    skipped: list[Skipped] = []
    ignored = 0
    notes: list[str] = []
    for given in _matches(paths):
        if os.path.isdir(given):  # noqa: PTH112  names may hold what Path would change
            tree = walk(Path(given))
            rows.update((path, Row(path)) for path in (os.path.join(given, file) for file in tree.files))  # noqa: PTH118
            skipped += [Skipped(os.path.join(given, skip.path), skip.reason) for skip in tree.skipped]  # noqa: PTH118
            ignored += tree.ignored
            notes += tree.notes
        else:
            rows[given] = Row(given)
    table = ImageTable(", ".join(paths), FolderStorage(""), tuple(rows.values()), tuple(skipped), ignored, tuple(notes))
    if not rows:
        raise SourceError(
            f"There is no file to predict in {listed(paths)}{table.unused()}.",
            "Give images, or a folder that holds some.",
        )
    return table


def _matches(paths: Sequence[str]) -> list[str]:
    """Paths as they are where they exist, else what they match as patterns."""
    found: list[str] = []
    for given in paths:
        matches = [given] if os.path.lexists(given) else sorted(glob.glob(given, recursive=True))  # noqa: PTH207
        if not matches:
            raise SourceError(f"There is no file, folder or match for {quoted(given)}.", "Check the path.")
        found += matches
    return found
