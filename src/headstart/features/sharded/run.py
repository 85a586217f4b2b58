"""Write all shards of a folder that are not there yet, wherever the work is run."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from headstart.core.errors import SourceError
from headstart.core.runtime import Runtime
from headstart.core.text import counted, quoted
from headstart.data.table import Skipped
from headstart.features.sharded.folder import ShardFolder, part_name
from headstart.features.sharded.growing import Begun
from headstart.features.sharded.work import SHOWN, Here, WriteShard


@dataclass(frozen=True)
class Written:
    """A folder of shards that is finished.

    Attributes:
        folder: To be read.
        computed: Rows that were computed now; the others were there.
        errors: Rows with an error, of all.
        skipped: The first of them, at most `SHOWN`; the rest is in the folder.
        notes: Sentences that a person should read.
    """

    folder: ShardFolder
    computed: int
    errors: int
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.folder)


def write_all(begun: Begun, work: WriteShard[Any], runtime: Runtime, stage: str) -> Written:
    """Do the work on each shard that is still to be done, and look at the whole in the end.

    Args:
        begun: The folder, which is held.
        work: What writes a shard.
        runtime: Pool of shards, progress, strictness.
        stage: What progress calls it.

    Raises:
        SourceError: An image cannot be used, and the runtime is strict; or no image can be used.
        StorageError: A shard cannot be written.
    """
    computed = 0
    total = sum(len(begun.plan.shard(shard)) for shard in begun.todo)
    results = (runtime.on or Here()).run(work, begun.jobs())
    with runtime.progress.stage(stage, total) as advance, closing(results):
        for receipt in results:
            if isinstance(receipt, Exception):
                raise receipt
            computed += receipt.rows
            advance(receipt.rows)
            if runtime.strict and receipt.errors:
                path, reason = receipt.unusable[0]
                raise SourceError(f"{quoted(path)}: {reason}.", "Run without --strict to keep a row with this reason.")
    begun.folder.refuse_unfinished()
    errors, skipped = errors_of(begun.folder)
    if errors == len(begun.folder):
        first = skipped[0]
        raise SourceError(
            f"None of the {counted(errors, 'file')} in {quoted(begun.folder.description.source)} can be used; "
            f"the first is {quoted(first.path)}: {first.reason}."
        )
    return Written(begun.folder, computed, errors, skipped, begun.notes)


def errors_of(folder: ShardFolder) -> tuple[int, tuple[Skipped, ...]]:
    """How many rows of a folder have an error, and the first `SHOWN` of them."""
    import pyarrow.parquet as pq

    errors, shown = 0, list[Skipped]()
    for shard in range(folder.description.shards):
        with (folder.path / part_name(shard)).open("rb") as opened, pq.ParquetFile(opened) as file:
            number = file.schema_arrow.get_field_index("error")
            without = file.read(["error"]).column(0).null_count if number >= 0 else file.metadata.num_rows
            here = file.metadata.num_rows - without
            if here and len(shown) < SHOWN:
                rows = file.read(["path", "error"]).to_pylist()
                shown += [Skipped(row["path"], row["error"]) for row in rows if row["error"] is not None]
        errors += here
    return errors, tuple(shown[:SHOWN])
