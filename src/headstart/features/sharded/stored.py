"""The embeddings of a folder of shards, of which a few shards at a time are in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.vectors import longest_directions
from headstart.core.work import Threads
from headstart.features.sharded.folder import ShardFolder, embedded

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS = 4096  # that are read at once


@dataclass(frozen=True, eq=False)
class Stored:
    """Embeddings on a disk; rows are those of the images that can be read, in the order of the shards.

    Attributes:
        folder: The shards.
        ends: Rows up to and with each shard, int64 (S,).
    """

    folder: ShardFolder
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        """Number N of rows."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def width(self) -> int:
        """Size D of an embedding."""
        return self.folder.width

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The rows of the shards `first` to before `last`: from, and to before."""
        return int(self.ends[first - 1]) if first else 0, int(self.ends[last - 1]) if last else 0

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """The embeddings of the shards `first` to before `last`, float32 (n, D)."""
        begin, end = self.span(first, last)
        result, place = np.empty((end - begin, self.width), np.float32), 0
        for batch in self.folder.batches(["embedding"], first=first, last=last):
            part = embedded(batch)[1]
            result[place : place + len(part)] = part
            place += len(part)
        return result

    def take(self, rows: NDArray[np.int64], workers: int = 1) -> NDArray[np.float32]:
        """The embeddings of some rows, float32 (M, D), in their order; each shard is read once at most."""
        order = np.argsort(rows, kind="stable")
        sought = rows[order]
        result = np.empty((len(rows), self.width), np.float32)
        shards = np.unique(np.searchsorted(self.ends, sought, side="right"))

        def one(shard: int) -> tuple[slice, NDArray[np.float32]]:
            begin, end = self.span(shard, shard + 1)
            part = slice(*np.searchsorted(sought, [begin, end]).tolist())
            return part, self.read(shard, shard + 1)[sought[part] - begin]

        for found in Threads(workers).run(one, shards.tolist()):
            if isinstance(found, BaseException):
                raise found
            result[order[found[0]]] = found[1]
        return result

    def compressed(self, workers: int = 1) -> NDArray[np.float32]:
        """All rows in the directions along which they are longest; as `headstart.core.vectors.compressed`.

        They are read twice, and never all in memory; (N, R) is what this takes.
        """
        squares = np.zeros((self.width, self.width))
        for _, part in self.pieces(workers=workers):
            squares += part.T @ part
        directions = longest_directions(squares)
        result = np.empty((len(self), directions.shape[1]), np.float32)
        for begin, part in self.pieces(workers=workers):
            result[begin : begin + len(part)] = part @ directions
        return result

    def pieces(self, rows: int = _ROWS, workers: int = 1) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All embeddings in order, about so many rows at once: the number of the first, and float32 (n, D)."""
        step = max(1, rows // self.folder.description.shard_rows)
        firsts = range(0, self.folder.description.shards, step)

        def one(first: int) -> tuple[int, NDArray[np.float32]]:
            last = min(first + step, self.folder.description.shards)
            return self.span(first, last)[0], self.read(first, last)

        for found in Threads(workers).run(one, firsts):
            if isinstance(found, BaseException):
                raise found
            yield found


@dataclass(frozen=True, eq=False)
class StoredBlocks:
    """Some of the rows, with their labels; see `headstart.heads.streamed.Blocks`.

    Attributes:
        stored: All rows.
        rows: Those that are meant, int64 (M,), rising.
        labels: Of these, int64 (M,).
        shards: Of a block.
        workers: Threads that look for single rows.
    """

    stored: Stored
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    shards: int
    workers: int = 1

    def __len__(self) -> int:
        return math.ceil(self.stored.folder.description.shards / self.shards)

    def read(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The features and the labels of a block."""
        first = number * self.shards
        last = min(first + self.shards, self.stored.folder.description.shards)
        begin, end = self.stored.span(first, last)
        part = slice(*np.searchsorted(self.rows, [begin, end]).tolist())
        features = self.stored.read(first, last)
        if part.stop - part.start < len(features):
            features = features[self.rows[part] - begin]
        return features, self.labels[part]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features of some of these rows, float32 (M, D)."""
        return self.stored.take(self.rows[rows], self.workers)
