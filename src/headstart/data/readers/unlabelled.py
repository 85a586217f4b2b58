"""Images without labels that are no files of a disk: below a URL, in Parquet files, in tar files."""

from __future__ import annotations

from pathlib import Path

from headstart.core.errors import SourceError
from headstart.core.text import quoted
from headstart.data.readers import own, parquet, remote, webdataset
from headstart.data.readers.layout import Tree
from headstart.data.readers.parquet_storage import ParquetStorage, in_words
from headstart.data.storage import FolderStorage, Storage
from headstart.data.table import ImageTable, Row, Skipped
from headstart.data.urls import is_url


def find(source: str) -> ImageTable | None:
    """The images of such a source; None where it is a path of something else.

    Args:
        source: A URL; or the path of a Parquet or tar file.

    Raises:
        SourceError: There is nothing, it cannot be read, or it holds no file.
        OfflineError: The storage does not answer.
        ExtraError: A package is missing.
    """
    if is_url(source):
        storage, name = remote.placed(source)
        if name is not None:
            return _in(Tree(files=[name]), storage, source)
        return _in(own.leave_out(remote.listing(storage), storage), storage, source)
    path = Path(source)
    if source.lower().endswith((parquet.SUFFIX, webdataset.SUFFIX)) and path.is_file():
        return _in(Tree(files=[path.name]), FolderStorage(path.parent), source)
    return None


def _in(tree: Tree, storage: Storage, source: str) -> ImageTable:
    skipped, ignored = list(tree.skipped), tree.ignored
    inside: Storage = storage
    if tree.files and all(name.lower().endswith(parquet.SUFFIX) for name in tree.files):
        inside, rows = _in_parquet(sorted(tree.files), storage)
    elif archives := webdataset.archives(tree):
        found = webdataset.looked_at(archives, storage)
        inside, _, left, hidden = webdataset.files_inside(found, storage)
        rows = [Row(f"{name}/{path}") for name, archive in found.items() for path, _ in archive.files]
        skipped, ignored = skipped + left, ignored + hidden
        skipped += [Skipped(name, "not one of the tar files that hold the images") for name in tree.files
                    if name not in found]  # fmt: skip
    else:
        rows = [Row(name) for name in tree.files]
    table = ImageTable(source, inside, tuple(rows), tuple(skipped), ignored, tuple(tree.notes))
    if not rows:
        raise SourceError(f"There is no image in {quoted(source)}{table.unused()}.", "Check the path or the prefix.")
    return table


def _in_parquet(names: list[str], storage: Storage) -> tuple[ParquetStorage, list[Row]]:
    inside, rows = ParquetStorage(storage), list[Row]()
    for name in names:
        with in_words(name):
            rows += [Row(path) for path in inside.paths(name)[1]]
    return inside, rows
