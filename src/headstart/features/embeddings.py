"""Embeddings as a value of their own, and as a file for other programs: NumPy's .npz, or Parquet."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.arguments import must_be_flags, must_be_path
from headstart.core.equality import ByValue
from headstart.core.errors import OptionError, StorageError
from headstart.core.extras import require
from headstart.core.files import durable_file, make_folder, refuse_unwritable_file
from headstart.core.tables import resolve
from headstart.core.text import listed, portable, quoted
from headstart.data.table import ImageTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Suffix of the file -> what writes it.
FORMS = {".npz": "headstart.features.embeddings:write_npz", ".parquet": "headstart.features.embeddings:write_parquet"}
_VERSION = 1
_GROUP = 10_000  # rows that are made at once


@dataclass(frozen=True, eq=False)
class Embeddings(ByValue):
    """The embeddings of images.

    Attributes:
        table: The images that could be read; the others are in its `skipped`.
        digests: SHA-256 of each image file, hexadecimal, (N,).
        features: float32 (N, D).
        network: Name of what computed them.
        embedder: Digest of it: where this is the same, embeddings can be compared.
        notes: Remarks for the user.
    """

    table: ImageTable
    digests: tuple[str, ...] = field(repr=False)
    features: NDArray[np.float32] = field(repr=False)
    network: str
    embedder: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number N of images."""
        return len(self.table)

    @property
    def metadata(self) -> dict[str, str | int]:
        """What a file says of its embeddings."""
        count, width = self.features.shape
        return {
            "headstart": "embeddings", "version": _VERSION, "network": self.network, "embedder": self.embedder,
            "images": count, "width": width,
        }  # fmt: skip

    def columns(self) -> dict[str, list[str | None]]:
        """What is known of each image, as text: ``path``, ``label``, ``split``, ``group``, ``digest``."""
        rows = self.table.rows
        return {
            "path": [portable(row.path) for row in rows],
            **{
                name: [None if (value := getattr(row, name)) is None else portable(value) for row in rows]
                for name in ("label", "split", "group")
            },
            "digest": list(self.digests),
        }

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write them to a file.

        Args:
            path: Ends in ``.npz`` or ``.parquet``.
            overwrite: Replace what is there.

        Raises:
            OptionError: The name ends in something else.
            StorageError: It is there already, or cannot be written.
            ExtraError: pyarrow is missing.
        """
        must_be_path("path", path)
        must_be_flags(overwrite=overwrite)
        path = Path(path)
        refuse_unfit(path, overwrite=overwrite)
        make_folder(path.parent)
        with durable_file(path) as temporary:
            resolve(FORMS[path.suffix.lower()])(self, temporary)
        return path


def refuse_unfit(path: Path, *, overwrite: bool) -> None:
    """Say that embeddings cannot be written to a file, before they are computed.

    Raises:
        OptionError: Its name ends in something else.
        StorageError: It is there already, or cannot be written.
        ExtraError: pyarrow is missing.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMS:
        raise OptionError(f"{quoted(path.name)} is not a name for a file of embeddings.", f"Expected {listed(FORMS)}.")
    if suffix == ".parquet":
        require("pyarrow", "parquet", "Parquet")
    refuse_unwritable_file(path)
    if os.path.lexists(path) and not overwrite:
        raise StorageError(
            f"{quoted(str(path))} already exists.",
            "Choose another one with --out, or replace what is there with --overwrite (overwrite=True in Python).",
        )


def write_npz(embeddings: Embeddings, path: Path) -> None:
    """Arrays of numbers and text, without pickle; what is not known is an empty text."""
    # Any: one of the names could be that of an option, for all that a type checker knows.
    arrays: dict[str, Any] = {
        name: np.array([value or "" for value in values], np.str_) for name, values in embeddings.columns().items()
    }
    arrays["embedding"] = embeddings.features
    arrays["metadata"] = np.array(json.dumps(embeddings.metadata))
    with path.open("wb") as file:  # a name would get a suffix
        np.savez(file, **arrays)


def write_parquet(embeddings: Embeddings, path: Path) -> None:
    """A row an image, the embedding as a list of fixed size; the metadata is that of the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    width = embeddings.features.shape[1]
    columns = embeddings.columns()
    schema = pa.schema(
        [*((name, pa.string()) for name in columns), ("embedding", pa.list_(pa.float32(), width))],
        {"headstart": json.dumps(embeddings.metadata)},
    )
    with path.open("wb") as file, pq.ParquetWriter(file, schema) as writer:  # a name may be no UTF-8
        for begin in range(0, len(embeddings), _GROUP):
            part = slice(begin, begin + _GROUP)
            arrays = [pa.array(values[part], pa.string()) for values in columns.values()]
            flat = pa.array(embeddings.features[part].reshape(-1), pa.float32())
            vectors = pa.FixedSizeListArray.from_arrays(flat, width)
            writer.write_table(pa.Table.from_arrays([*arrays, vectors], schema=schema))
