"""A folder of shards: reading one, a batch of rows at a time.

Form: ``embeddings.json`` (or ``predictions.json``), see `headstart.features.sharded.description`, and
``part-00000.parquet``, ``part-00001.parquet`` and so on: the rows in the order of their paths, `shard_rows` to a file.
The metadata of each file's schema names, under the key ``headstart``, the shard, the digest of what made it, and the
digest of its references: so a shard of another embedder or of another source is found out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.extras import require
from headstart.core.text import counted, quoted
from headstart.data.traits import Traits
from headstart.features.sharded.description import Description, Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AGAIN = "Run the command that wrote it again: what is whole is kept."


def description_file(kind: Kind) -> str:
    """Name of the description in a folder."""
    return f"{kind}.json"


def part_name(shard: int) -> str:
    """Name of the file of a shard: at least five digits."""
    return f"part-{shard:05}.parquet"


def is_folder_of(path: Path, kind: Kind = "embeddings") -> bool:
    """Whether a path is a folder of shards; they may be missing or damaged."""
    return (path / description_file(kind)).is_file()


def is_shard_folder(path: Path) -> bool:
    """Whether a name to write to is that of a folder of shards: one without a suffix, or one that is there."""
    return not path.suffix or any(is_folder_of(path, kind) for kind in get_args(Kind))


@dataclass(frozen=True)
class ShardFolder:
    """A folder of shards, whole or not.

    Attributes:
        path: The folder.
        description: What it holds.
    """

    path: Path
    description: Description

    @classmethod
    def open(cls, path: Path, kind: Kind = "embeddings") -> ShardFolder:
        """Read the description of a folder.

        Raises:
            SourceError: It is no such folder, or its description is damaged or of a later version.
            ExtraError: pyarrow is missing.
        """
        require("pyarrow", "parquet", "Parquet")
        file = path / description_file(kind)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise SourceError(
                f"{quoted(str(path))} is no folder of {kind}: it has no {file.name}.",
                f"Write one: headstart embed SOURCE --out {path.name}" if kind == "embeddings" else "",
            ) from error
        found = Description.from_json(content, str(file))
        found.refuse_kind(kind, str(path))
        return cls(path, found)

    def __len__(self) -> int:
        """Number of rows, of images and of files that cannot be used."""
        return self.description.images

    @property
    def width(self) -> int:
        """Size D of an embedding."""
        return self.description.width

    @property
    def embedder(self) -> str:
        """Digest of what computed the embeddings."""
        return str(self.description.made["embedder"])

    @property
    def network(self) -> str:
        """Name of what computed the embeddings."""
        return str(self.description.made["network"])

    def refuse_unfinished(self) -> None:
        """Look at the end of each shard: all are there, whole, of this embedder and of this list of references.

        Raises:
            SourceError: It is not so.
        """
        digest, missing, others = sha256(), 0, 0
        for shard in range(self.description.shards):
            about = part_about(self.path / part_name(shard))
            if about is None:
                missing += 1
            elif about.get("made") != self.description.digest or about.get("shard") != shard:
                others += 1
            else:
                digest.update(str(about.get("references")).encode())
        name, shards = quoted(str(self.path)), counted(self.description.shards, "shard")
        if missing:
            raise SourceError(f"{name} is not finished: {missing:,} of {shards} are missing or damaged.", _AGAIN)
        if others:
            raise SourceError(f"{name} is mixed: {others:,} of {shards} were made with something else.", _AGAIN)
        if digest.hexdigest() != self.description.references:
            raise SourceError(f"{name} is mixed: some of its shards are of another state of the source.", _AGAIN)

    def batches(
        self, columns: Sequence[str] | None = None, *, first: int = 0, last: int | None = None
    ) -> Iterator[Any]:
        """The rows in order, as record batches of pyarrow: one for each shard, so that memory is flat.

        Args:
            columns: Names of those that are read; ``traits.fingerprint`` names a field of a struct. None for all.
            first: Number of the first shard to read.
            last: Number of the shard to stop before; None for all.

        Raises:
            SourceError: A shard is missing or damaged, or is not of this folder.
        """
        for shard in range(first, self.description.shards if last is None else min(last, self.description.shards)):
            yield self._read(shard, columns)

    def _read(self, shard: int, columns: Sequence[str] | None) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / part_name(shard)
        about = part_about(path)
        if about is None or about.get("made") != self.description.digest:
            how = "missing or damaged" if about is None else "of something else"
            raise SourceError(f"{quoted(path.name)} in {quoted(str(self.path))} is {how}.", _AGAIN)
        try:
            with path.open("rb") as opened, pq.ParquetFile(opened, page_checksum_verification=True) as file:
                table = file.read(columns=None if columns is None else list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(
                f"{quoted(path.name)} in {quoted(str(self.path))} is damaged: {str(error)[:200]}.",
                f"Delete this file. {_AGAIN}",
            ) from error
        return table.combine_chunks().to_batches()[0]


def part_about(path: Path) -> dict[str, object] | None:
    """What the end of a shard says of it; None where it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as opened:
            metadata = pq.read_metadata(opened).metadata or {}
        found = json.loads(metadata[b"headstart"])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def embedded(batch: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The embeddings of a batch of rows.

    Args:
        batch: With the column ``embedding``.

    Returns:
        Numbers of the rows that have one, (n,), and the embeddings, float32 (n, D).
    """
    column = batch.column("embedding")
    numbers = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    flat = column.flatten().to_numpy(zero_copy_only=False)  # without those of rows that have none
    return numbers, flat.reshape(len(numbers), column.type.list_size).astype(np.float32, copy=False)


def traits_of(value: dict[str, Any] | None, width: int | None, height: int | None) -> Traits | None:
    """The traits of a row, from its columns ``traits``, ``width`` and ``height``; None for an unreadable image."""
    if value is None or width is None or height is None:
        return None
    return Traits(width=width, height=height, **value)
