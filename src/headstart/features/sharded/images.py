"""What a folder of embeddings knows of its images: a table like that of the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import ImageError, InputError, SourceError
from headstart.core.text import counted, listed, quoted
from headstart.data import readers
from headstart.data.storage import FolderStorage, Lasting, Storage
from headstart.data.table import SPLITS, ImageTable, Row, Skipped, Split
from headstart.data.traits import Traits
from headstart.features.dataset import Dataset
from headstart.features.sharded.folder import ShardFolder, traits_of
from headstart.features.sharded.stored import Stored
from headstart.targets import TARGETS

if TYPE_CHECKING:
    pass

_COLUMNS = ("path", "label", "split", "group", "digest", "error")


class Absent(Lasting):
    """The storage of images that are not where they were.

    Args:
        source: Where they were.
    """

    def __init__(self, source: str) -> None:
        self._source = source

    def _arguments(self) -> tuple[object, ...]:
        return (self._source,)

    def read(self, path: str) -> bytes:
        """See `headstart.data.storage.Storage`."""
        raise ImageError(f"the images of the embeddings, {quoted(self._source)}, are not here")


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a folder of embeddings.

    Attributes:
        table: Those that could be read; the others are in its `skipped`.
        digests: SHA-256 of each image file, hexadecimal, (N,).
        traits: What is known of each without a network, (N,); empty where that was not read.
        stored: Their embeddings.
    """

    table: ImageTable
    digests: tuple[str, ...]
    traits: Sequence[Traits]
    stored: Stored

    def in_memory(self, workers: int) -> Dataset:
        """The same with all embeddings in memory."""
        features = np.empty((len(self.stored), self.stored.width), np.float32)
        for begin, part in self.stored.pieces(workers=workers):
            features[begin : begin + len(part)] = part
        return Dataset(self.table, self.digests, tuple(self.traits), features, cached=len(features))

    def without_embeddings(self) -> Dataset:
        """The same, none of them in memory."""
        return Dataset(self.table, self.digests, tuple(self.traits))


def read_images(folder: ShardFolder, *, traits: bool) -> Images:
    """Read all of a folder but its embeddings.

    Args:
        folder: The folder.
        traits: Whether those are read too: a kilobyte an image.

    Raises:
        SourceError: A shard is missing, damaged or of something else, or no image could be read.
    """
    folder.refuse_unfinished()
    if folder.description.task not in TARGETS:
        raise SourceError(
            f"{quoted(str(folder.path))} has labels of the task {quoted(folder.description.task)}; expected "
            f"{listed(TARGETS)}.",
            "Update Headstart: pip install -U headstart",
        )
    rows: list[Row] = []
    skipped: list[Skipped] = []
    digests: list[str] = []
    looks: list[Traits] = []
    ends = []
    for batch in folder.batches([*_COLUMNS, *(["traits", "width", "height"] if traits else [])]):
        for one in batch.to_pylist():
            if one["error"] is not None:
                skipped.append(Skipped(one["path"], one["error"]))
                continue
            rows.append(Row(one["path"], one["label"], _split(one["split"], folder), one["group"]))
            digests.append(one["digest"])
            if traits and (look := traits_of(one["traits"], one["width"], one["height"])):
                looks.append(look)
        ends.append(len(rows))
    if not rows:
        raise SourceError(
            f"None of the {counted(len(skipped), 'file')} of {quoted(str(folder.path))} could be read; the first is "
            f"{quoted(skipped[0].path)}: {skipped[0].reason}."
        )
    table = ImageTable(
        str(folder.path), _storage(folder.description.source), tuple(rows), tuple(skipped),
        task=folder.description.task,
    )  # fmt: skip
    return Images(table, tuple(digests), looks, Stored(folder, np.array(ends, np.int64)))


def _split(value: str | None, folder: ShardFolder) -> Split | None:
    if value is not None and value not in SPLITS:
        raise SourceError(
            f"{quoted(str(folder.path))} has the split {quoted(value)}; expected {listed(SPLITS)}.",
            "Write the folder of embeddings again.",
        )
    return value


def _storage(source: str) -> Storage:
    """Where the images still are; whether they are the same is seen by their digests."""
    try:
        if Path(source).is_dir():
            return FolderStorage(source)
        return readers.read(source).storage if Path(source).exists() else Absent(source)
    except (InputError, OSError):
        return Absent(source)
