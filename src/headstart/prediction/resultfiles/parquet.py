"""Predictions as a Parquet file, written by pyarrow (extra `parquet`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from headstart.core.errors import StorageError
from headstart.core.extras import require
from headstart.core.files import durable_file
from headstart.core.text import quoted

_EACH = "probabilities"  # of each label, where an image may have several
_GROUP = 10_000  # rows that are in memory at once


def ready() -> None:
    """Refuse early if pyarrow is missing.

    Raises:
        ExtraError: It is.
    """
    require("pyarrow", "parquet", "Parquet")


def schema(names: Sequence[str], metadata: Mapping[str, str]) -> Any:
    """The schema of pyarrow: the keys of the public record, and the reason where there is none.

    Args:
        names: The columns of a table of such records.
        metadata: Of the file.
    """
    import pyarrow as pa

    top = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))
    fields = [
        ("path", pa.string()), ("label", pa.string()), ("probability", pa.float64()), ("familiar", pa.bool_()),
        ("distance", pa.float64()), ("top", top), ("labels", pa.list_(pa.string())), ("abstained", pa.string()),
        ("error", pa.string()),
    ]  # fmt: skip
    if _EACH in names:
        fields.insert(-1, (_EACH, pa.map_(pa.string(), pa.float64())))
    return pa.schema(fields, dict(metadata))


def finish(lines: Iterable[str], path: Path, names: Sequence[str]) -> None:
    """Make the file of records, as JSON lines, a group of rows at a time.

    Args:
        lines: The records.
        path: The file.
        names: The columns of a table of such records.

    Raises:
        StorageError: It cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"headstart": json.dumps({"headstart": "predictions", "version": 1})}  # see `headstart.core.marks.PARQUET`
    form = schema(names, about)
    # Opened here: pyarrow takes no name that is not UTF-8.
    with (
        durable_file(path) as temporary,
        temporary.open("wb") as opened,
        pq.ParquetWriter(opened, form) as writer,
    ):
        left = iter(lines)
        while group := list(islice(left, _GROUP)):
            writer.write_table(pa.Table.from_pylist([json.loads(line) for line in group], form))


def restore(path: Path) -> Iterator[dict[str, object]]:
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
                        if row.get(_EACH) is not None:
                            row[_EACH] = dict(row[_EACH])
                        yield {name: value for name, value in row.items() if name != "error"}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StorageError(
            f"{quoted(str(path))} is not a Parquet file of predictions.",
            "Start over with --overwrite, or choose another file with --out.",
        ) from error
