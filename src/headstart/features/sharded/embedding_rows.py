"""The rows of a shard of embeddings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.text import portable
from headstart.data.traits import FINGERPRINT_PX, Traits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.features.sharded.plan import Reference

DTYPES = ("float32", "float16")
_SEPARATE = ("width", "height")  # traits that have a column of their own


@dataclass(frozen=True)
class Found:
    """What was found of an image that can be read.

    Attributes:
        digest: SHA-256 of its file, hexadecimal.
        traits: What is known of it without a network.
        embedding: (D,), of the shard's dtype.
    """

    digest: str
    traits: Traits
    embedding: NDArray[np.float32] | NDArray[np.float16]


def schema(width: int, dtype: str, metadata: Mapping[str, str]) -> Any:
    """The schema of pyarrow: a row an image; see docs/scale.md.

    Args:
        width: Size D of the embedding.
        dtype: ``float32`` or ``float16``.
        metadata: Of the file.
    """
    import pyarrow as pa

    traits = pa.struct([
        ("format", pa.string()), ("file_bytes", pa.int64()), ("camera", pa.string()), ("brightness", pa.float64()),
        ("contrast", pa.float64()), ("sharpness", pa.float64()), ("fingerprint", pa.binary(FINGERPRINT_PX**2)),
        ("peak", pa.int32()),
    ])  # fmt: skip
    number = pa.float32() if dtype == "float32" else pa.float16()
    fields = [
        ("path", pa.string()), ("label", pa.string()), ("split", pa.string()), ("group", pa.string()),
        ("digest", pa.string()), ("width", pa.int32()), ("height", pa.int32()), ("traits", traits),
        ("embedding", pa.list_(number, width)), ("error", pa.string()),
    ]  # fmt: skip
    return pa.schema(fields, dict(metadata))


def table_of(references: Sequence[Reference], found: Sequence[Found | str], form: Any) -> Any:
    """The rows of a shard.

    Args:
        references: The images.
        found: What was found of each, or why it cannot be used.
        form: The schema.
    """
    import pyarrow as pa

    kind = form.field("embedding").type
    flat = np.zeros((len(found), kind.list_size), kind.value_type.to_pandas_dtype())
    for row, one in zip(flat, found, strict=True):
        if isinstance(one, Found):
            row[:] = one.embedding
    without = np.array([isinstance(one, str) for one in found])
    sound = [one if isinstance(one, Found) else None for one in found]
    columns: dict[str, object] = {
        name: [None if (value := getattr(one, name)) is None else portable(value) for one in references]
        for name in ("path", "label", "split", "group")
    }
    columns["digest"] = [one and one.digest for one in sound]
    for name in _SEPARATE:
        columns[name] = [one and getattr(one.traits, name) for one in sound]
    columns["traits"] = [one and _traits(one.traits) for one in sound]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), kind.list_size, mask=pa.array(without))
    columns["error"] = [portable(one) if isinstance(one, str) else None for one in found]
    arrays = [vectors if field.name == "embedding" else pa.array(columns[field.name], field.type) for field in form]
    return pa.Table.from_arrays(arrays, schema=form)


def _traits(traits: Traits) -> dict[str, object]:
    names = [one.name for one in dataclasses.fields(traits) if one.name not in _SEPARATE]
    return {name: getattr(traits, name) for name in names}
