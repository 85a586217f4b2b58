"""What `predict` is pointed at: files, folders, patterns, lists of files, standard input; in one unlabelled table."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from headstart.core.errors import ImageError, SourceError
from headstart.core.text import listed, quoted
from headstart.data.readers import own, remote, unlabelled
from headstart.data.readers.walk import walk
from headstart.data.storage import MAX_FILE_BYTES, FolderStorage, read_file
from headstart.data.table import ImageTable, Row, Skipped
from headstart.data.urls import is_url

STANDARD_INPUT = "-"


class _Inputs(FolderStorage):
    """Files by their own paths, and the image on standard input."""

    def __init__(self, standard_input: bytes | None, root: str = "") -> None:
        super().__init__(root)
        self._standard_input = standard_input

    def _arguments(self) -> tuple[object, ...]:
        return self._standard_input, *super()._arguments()  # another process may have another working folder

    def read(self, path: str) -> bytes:
        """All bytes of one image; see `Storage`."""
        if path == STANDARD_INPUT and self._standard_input is not None:
            return self._standard_input
        return super().read(path)


def expand(paths: Sequence[str]) -> ImageTable:
    """Find the images that paths name.

    Args:
        paths: Files; folders, which are searched through; patterns such as ``*.jpg``; ``-`` for an image on standard
            input; ``@FILE`` for a file with a path on each line, or NUL characters between them (``find -print0``), and
            ``@-`` for such a list on standard input. Or one thing alone: a URL, a Parquet file with images inside, a
            tar file.

    Raises:
        SourceError: A path names nothing, or nothing is found at all.
    """
    paths = [given if not is_url(given) else remote.local_path(given) or given for given in paths]
    if len(paths) == 1 and (table := unlabelled.find(paths[0])) is not None:
        return table
    if urls := [given for given in paths if is_url(given)]:
        raise SourceError(
            f"{quoted(urls[0])} is a URL among other paths.", "Give one URL alone, such as the prefix of all images."
        )
    rows: dict[str, Row] = {}  # each file once
    skipped: list[Skipped] = []
    ignored = 0
    notes: list[str] = []
    for given in _matches(paths):
        if os.path.isdir(given):  # noqa: PTH112  names may hold what Path would change
            tree = own.leave_out(walk(Path(given)), FolderStorage(given))
            rows.update((path, Row(path)) for path in (os.path.join(given, file) for file in tree.files))  # noqa: PTH118
            skipped += [Skipped(os.path.join(given, skip.path), skip.reason) for skip in tree.skipped]  # noqa: PTH118
            ignored += tree.ignored
            notes += tree.notes
        else:
            rows[given] = Row(given)
    storage = _Inputs(_standard_input() if STANDARD_INPUT in paths else None)
    table = ImageTable(", ".join(paths), storage, tuple(rows.values()), tuple(skipped), ignored, tuple(notes))
    if not rows:
        raise SourceError(
            f"There is no file to predict in {listed(paths)}{table.unused()}.",
            "Give images, or a folder that holds some.",
        )
    return table


def _matches(paths: Sequence[str]) -> Iterator[str]:
    """Paths as they are where they exist, else what they match as patterns, or what the list says that they name."""
    if [*paths].count(STANDARD_INPUT) + [*paths].count(f"@{STANDARD_INPUT}") > 1:
        raise SourceError("Standard input is named twice.", "Give - or @- once.")
    for given in paths:
        if given == STANDARD_INPUT or os.path.lexists(given):
            yield given
        elif given.startswith("@"):
            yield from _lines(given[1:])
        elif matches := sorted(glob.glob(given, recursive=True)):  # noqa: PTH207
            yield from matches
        else:
            hint = "Check the path."
            if not given:
                hint = "The name is empty: give images, or a folder that holds some."
            raise SourceError(f"There is no file, folder or match for {quoted(given)}.", hint)


def _lines(name: str) -> Iterator[str]:
    """The paths in a list of files, relative to the working folder."""
    try:
        content = _standard_input() if name == STANDARD_INPUT else read_file(name)
    except ImageError as error:
        raise SourceError(
            f"The list {quoted(name)} of images: {error.message}.", "Expected a path on each line of it."
        ) from error
    separator = b"\0" if b"\0" in content else b"\n"
    for line in content.split(separator):
        if line := line.removesuffix(b"\r") if separator == b"\n" else line:
            yield os.fsdecode(line)


def _standard_input() -> bytes:
    """All bytes of standard input.

    Raises:
        SourceError: It is closed, a terminal, or has more than a file may.
    """
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise SourceError("Standard input is empty.", "For example: headstart predict MODEL - < photo.jpg")
    content: bytes = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise SourceError(f"Standard input holds more than the limit of {MAX_FILE_BYTES:,} bytes.")
    return content
