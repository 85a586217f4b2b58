"""Read what lies behind a URL: a prefix of class folders, of lists, of Parquet or of tar files, or one such file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from headstart.core import marks
from headstart.core.errors import ImageError, SourceError
from headstart.core.text import quoted
from headstart.data import readers
from headstart.data.readers import Columns, manifest, parquet, tree, webdataset
from headstart.data.readers.layout import MAX_DEPTH, Tree, is_litter
from headstart.data.storage import MAX_FILE_BYTES, Below, Storage, too_large
from headstart.data.table import ImageTable, Skipped
from headstart.data.urls import UrlStorage, protocol_of

_IN_PARTS = (parquet.SUFFIX, webdataset.SUFFIX)  # may be larger than an image


def read(url: str, columns: Columns) -> ImageTable:
    """Read what lies behind a URL into an image table; see `headstart.data.readers.read`.

    Raises:
        SourceError: There is nothing, it may not be read, or it is no source.
        OfflineError: The storage does not answer.
        ExtraError: A package is missing.
    """
    if (path := local_path(url)) is not None:
        return readers.read(path, columns)
    if columns.root is not None:
        raise SourceError(
            f"--root is about a list on a disk, and {quoted(url)} is a URL.",
            "The paths of a list behind a URL are relative to the list.",
        )
    storage, name = placed(url)
    if name is None:
        return tree.read(listing(storage), storage, url, columns)
    lower = name.lower()
    if lower.endswith(parquet.SUFFIX) and parquet.holding_images([name], storage):
        return parquet.of_images([name], Tree(files=[name]), storage, url, columns)
    if lower.endswith(webdataset.SUFFIX):
        found = webdataset.looked_at([name], storage)
        samples = webdataset.of_samples(found, Tree(files=[name]), storage, url, columns)
        return samples or _of_folders(found, storage, url, columns)
    if lower.endswith(readers.READERS["list"].ends) or lower.endswith(parquet.SUFFIX):
        return _of_list(name, storage, url, columns)
    raise SourceError(
        f"{quoted(url)} is not a source of labelled images.",
        "Give a prefix with a folder for each class, a list (.csv, .tsv, .jsonl, .json, .txt, .parquet), or tar files "
        "(.tar, not packed) behind a URL; anything else: copy it to a disk first.",
    )


def placed(url: str) -> tuple[UrlStorage, str | None]:
    """Where something lies: its storage, and its name there; no name where it is a prefix.

    Raises:
        SourceError: There is nothing, or it may not be read.
    """
    bare = url.rstrip("/")
    if bare.endswith(":") or not urlsplit(bare.rpartition("::")[2]).netloc:
        raise _no_bucket(url)
    whole = UrlStorage(bare)
    if url.endswith("/") or not whole.is_file():
        return whole, None
    above, _, name = bare.rpartition("/")
    if above.endswith(("/", ":")):
        raise _no_bucket(url)
    return UrlStorage(above), name


def _no_bucket(url: str) -> SourceError:
    return SourceError(f"{quoted(url)} names no bucket.", "Expected something like s3://BUCKET/PREFIX.")


def listing(storage: UrlStorage) -> Tree:
    """All files below a prefix.

    Raises:
        SourceError: There is none, or they may not be listed.
    """
    found, folders = Tree(), set[str]()
    for name, size in storage.listed():
        parts = name.split("/")
        if any(is_litter(part) for part in parts):
            found.ignored += 1
            if parts[-1] == marks.LIST:
                found.marks.append(name)
        elif "" in parts or ".." in parts or "." in parts:
            found.skipped.append(Skipped(name, "its name has an empty part, or one of dots alone"))
        elif len(parts) > MAX_DEPTH:
            found.skipped.append(Skipped(name, f"more than {MAX_DEPTH} folders deep"))
        elif size > MAX_FILE_BYTES and not name.lower().endswith(_IN_PARTS):
            found.skipped.append(Skipped(name, too_large(size)))
        else:
            found.files.append(name)
            folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if not (found.files or found.skipped or found.ignored):
        raise SourceError(f"There is no file below {quoted(storage.root)}.", "Check the bucket and the prefix.")
    found.files.sort()
    found.folders = sorted(folders)
    return found


def local_path(url: str) -> str | None:
    """The path that a URL of a file on this machine names; None of another URL.

    Raises:
        SourceError: It names another machine.
    """
    if protocol_of(url) not in {"file", "local"}:
        return None
    path = urlsplit(url)
    if path.netloc not in {"", "localhost"}:
        raise SourceError(f"{quoted(url)} names another machine.", "Give a path.")
    return unquote(path.path)


def _of_list(name: str, storage: UrlStorage, url: str, columns: Columns) -> ImageTable:
    try:
        content = storage.read(name)
    except ImageError as error:
        raise SourceError(f"The manifest {quoted(url)}: {error.message}.") from error
    files: Sequence[str] = listing(storage).files
    said = manifest.parse(content, name, columns, "", lambda: files)
    return ImageTable(url, storage, tuple(said.rows), tuple(said.skipped), 0, tuple(said.notes), task=said.task)


def _of_folders(found: dict[str, webdataset.Archive], storage: Storage, url: str, columns: Columns) -> ImageTable:
    """A tar file of what a folder may hold."""
    (name,) = found
    inside, rows, skipped, ignored = webdataset.files_inside(found, storage)
    cut = len(name) + 1
    files = [row.path[cut:] for row in rows]
    held = Tree(files, _above(files), [replace(skip, path=skip.path[cut:]) for skip in skipped], ignored)
    return tree.read(held, Below(inside, f"{name}/"), url, columns)


def _above(files: Sequence[str]) -> list[str]:
    return sorted({str(parent) for file in files for parent in PurePosixPath(file).parents} - {".", os.sep})
