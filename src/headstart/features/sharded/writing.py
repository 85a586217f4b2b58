"""Writing a folder of shards: its description first, then shard by shard, each durable and whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headstart.core import marks
from headstart.core.files import durable_file, durable_write
from headstart.features.sharded.description import Description
from headstart.features.sharded.folder import description_file, part_name

_COMPRESSION = "zstd"


def part_metadata(description: Description, shard: int, references: str) -> dict[str, str]:
    """The metadata of the file of a shard.

    Args:
        description: Of the folder.
        shard: Its number.
        references: Digest of its references.
    """
    about: dict[str, object] = {"headstart": description.kind}  # see `core.marks.PARQUET`
    about |= {"version": description.version}
    about |= {
        name: description.made[name] for name in ("network", "embedder", "width", "model") if name in description.made
    }
    about |= {"made": description.digest, "shard": shard, "references": references}
    return {"headstart": json.dumps(about)}


def write_part(folder: Path, shard: int, table: Any) -> int:
    """Write a shard, so that a crash at any moment leaves the old file or the whole new one.

    Args:
        folder: That of the shards.
        shard: Its number.
        table: Of pyarrow, its rows.

    Returns:
        Size of the file in bytes.

    Raises:
        StorageError: It cannot be written.
    """
    import pyarrow.parquet as pq

    path = folder / part_name(shard)
    named = [field.name for field in table.schema if field.name in {"label", "split", "group", "error"}]
    with durable_file(path) as temporary, temporary.open("wb") as opened:
        pq.write_table(
            table, opened, compression=_COMPRESSION, use_dictionary=named, write_page_checksum=True,
            write_statistics=named, row_group_size=max(1, table.num_rows),
        )  # fmt: skip
    return path.stat().st_size


def write_description(folder: Path, description: Description) -> None:
    """Write the description, and list it as a file of Headstart's own.

    Raises:
        StorageError: It cannot be written.
    """
    name = description_file(description.kind)
    marks.write_list(folder, [name])
    durable_write(folder / name, description.to_json())
