"""Which image is a row of which shard: decided by the sorted list of references alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

from headstart.core.text import portable
from headstart.data.table import ImageTable

SHARD_ROWS = 512  # some seconds of work: little is lost with a worker, and files are of a few megabytes
MAX_SHARD_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Reference:
    """A row to be.

    Attributes:
        path: As in `headstart.data.table.Row`; so are the next three.
        label: See `path`.
        split: See `path`.
        group: See `path`.
        reason: Why it cannot be used, where that is known before it is read.
    """

    path: str
    label: str | None = None
    split: str | None = None
    group: str | None = None
    reason: str | None = None

    def named(self) -> list[str | None]:
        """All that is known of it, as text."""
        values = (self.path, self.label, self.split, self.group, self.reason)
        return [None if value is None else portable(value) for value in values]


@dataclass(frozen=True)
class Plan:
    """The shards of a list of references.

    Attributes:
        references: Sorted by path.
        shard_rows: Rows of a shard.
    """

    references: Sequence[Reference] = field(repr=False)
    shard_rows: int

    @classmethod
    def of(cls, table: ImageTable, shard_rows: int = SHARD_ROWS) -> Plan:
        """The plan of a table: its rows, and the files that cannot be used, but for those that a person left out."""
        rows = [Reference(row.path, row.label, row.split, row.group) for row in table.rows]
        rows += [Reference(skip.path, reason=skip.reason) for skip in table.unusable]
        rows.sort(key=lambda one: portable(one.path))
        return cls(rows, shard_rows)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-len(self.references) // self.shard_rows)

    def shard(self, number: int) -> Sequence[Reference]:
        """The references of a shard."""
        return self.references[number * self.shard_rows : (number + 1) * self.shard_rows]

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Digest of the references of each shard, hexadecimal."""
        return tuple(digest_of(self.shard(number)) for number in range(self.shards))

    @property
    def references_digest(self) -> str:
        """Digest of all: of the digests of the shards, in order."""
        return sha256("".join(self.digests).encode()).hexdigest()

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.shards))


def digest_of(references: Sequence[Reference]) -> str:
    """Digest of some references, hexadecimal."""
    digest = sha256()
    for one in references:
        digest.update(json.dumps(one.named(), ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()
