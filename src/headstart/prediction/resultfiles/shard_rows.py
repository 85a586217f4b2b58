"""The rows of a shard of predictions: the records that a file of predictions holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.core.errors import ImageError
from headstart.prediction.record import Wanted, record_of
from headstart.prediction.resultfiles.lines import columns
from headstart.prediction.resultfiles.parquet import schema

if TYPE_CHECKING:
    from headstart.features.sharded.plan import Reference
    from headstart.prediction.answers import Prediction


@dataclass(frozen=True)
class PredictionForm:
    """The table of a shard; see `headstart.features.sharded.work.Form`.

    Attributes:
        wanted: What was asked of each prediction.
    """

    wanted: Wanted

    def __call__(
        self, references: Sequence[Reference], found: Sequence[Prediction | str], metadata: Mapping[str, str], /
    ) -> Any:
        """The table of pyarrow."""
        import pyarrow as pa

        records = [
            record_of(one.path, ImageError(result) if isinstance(result, str) else result, self.wanted)
            for one, result in zip(references, found, strict=True)
        ]
        return pa.Table.from_pylist(records, schema(columns(self.wanted), metadata))
