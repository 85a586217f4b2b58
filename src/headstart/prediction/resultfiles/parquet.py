"""Predictions as a Parquet file, written by pyarrow (extra `parquet`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from headstart.core.errors import StorageError
from headstart.core.extras import require
from headstart.core.files import durable_file
from headstart.core.text import quoted

_GROUP = 10_000  # rows that are in memory at once


def ready() -> None:
    """Refuse early if pyarrow is missing.

    Raises:
        ExtraError: It is.
    """
    require("pyarrow", "parquet", "Parquet")


def finish(lines: Iterable[str], path: Path) -> None:
    """Make the file of records, as JSON lines, a group of rows at a time.

    Raises:
        StorageError: It cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    top = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))
    about = {"headstart": json.dumps({"headstart": "predictions", "version": 1})}  # see `headstart.core.marks.PARQUET`
    fields = [
        ("path", pa.string()), ("label", pa.string()), ("probability", pa.float64()), ("familiar", pa.bool_()),
        ("distance", pa.float64()), ("top", top), ("labels", pa.list_(pa.string())), ("abstained", pa.string()),
        ("error", pa.string()),
    ]  # fmt: skip
    schema = pa.schema(fields, about)
    # Opened here: pyarrow takes no name that is not UTF-8.
    with (
        durable_file(path) as temporary,
        temporary.open("wb") as opened,
        pq.ParquetWriter(opened, schema) as writer,
    ):
        left = iter(lines)
        while group := list(islice(left, _GROUP)):
            writer.write_table(pa.Table.from_pylist([json.loads(line) for line in group], schema))


def restore(path: Path) -> Iterator[dict[str, Any]]:
    """The records of such a file, as they were given to it.

    Raises:
        StorageError: It is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
            for batch in file.iter_batches(_GROUP):
                for row in batch.to_pylist():
                    if row["error"] is not None:
                        yield {"path": row["path"], "error": row["error"]}
                    else:
                        yield {name: value for name, value in row.items() if name != "error"}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StorageError(
            f"{quoted(str(path))} is not a Parquet file of predictions.",
            "Start over with --overwrite, or choose another file with --out.",
        ) from error
