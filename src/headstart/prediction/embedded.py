"""The embeddings that a model file gives images, each computed once and then kept in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.core.digest import digest_bytes, digest_record
from headstart.core.runtime import Runtime
from headstart.data import decode as decoder
from headstart.data.storage import Storage
from headstart.data.table import ImageTable, Row
from headstart.features.cache import FeatureCache
from headstart.features.passes import Pass
from headstart.prediction.classifier import Classifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE_PX = 8


class Embedded(NamedTuple):
    """An image: SHA-256 of its file or of its pixels, its embedding, float32 (D,), and whether that was kept."""

    digest: bytes
    embedding: NDArray[np.float32]
    cached: bool


@dataclass(frozen=True)
class _Embed:
    """The unit of work: the embedding of an image."""

    classifier: Classifier
    storage: Storage
    kept: FeatureCache

    def __call__(self, row: Row, /) -> Embedded:
        data = self.storage.read(row.path)
        digest = sha256(data).digest()
        found = self.kept.get(digest)
        embedding = self.classifier.run_file(data).embedding if found is None else found
        return Embedded(digest, embedding, found is not None)


def cache_key(classifier: Classifier) -> str:
    """Digest of all that decides an embedding that a model file computes."""
    return digest_record({
        "model": digest_bytes(classifier.content), "decode": decoder.VERSION,
        "max_megapixels": classifier.max_megapixels,
    })  # fmt: skip


def width_of(classifier: Classifier) -> int:
    """Size D of its embeddings, as it computes them."""
    return classifier.embed(np.zeros((_SIDE_PX, _SIDE_PX, 3), np.uint8)).size


@contextmanager
def embedding(classifier: Classifier, table: ImageTable, runtime: Runtime, stage: str) -> Iterator[Pass[Embedded]]:
    """One pass that embeds the images of a table, through the cache.

    Args:
        classifier: The classifier.
        table: The images.
        runtime: Cache, workers, progress, strictness.
        stage: What progress calls it.
    """
    with FeatureCache(runtime.cache, cache_key(classifier), width_of(classifier)) as cache:

        def keep(found: Embedded) -> None:
            if not found.cached:
                cache.put(found.digest, found.embedding)

        yield Pass(table, _Embed(classifier, table.storage, cache), runtime, stage, keep)
