"""The training images that are most like other images, by the embeddings of the model file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.core.digest import digest_bytes, digest_record
from headstart.core.errors import ImageError
from headstart.core.options import Runtime
from headstart.core.vectors import unit_rows
from headstart.data import decode as decoder
from headstart.data.storage import Storage
from headstart.data.table import ImageTable, Row
from headstart.features.cache import FeatureCache
from headstart.features.loop import each
from headstart.prediction.classifier import Classifier
from headstart.prediction.explanation import Neighbour

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1024  # training images compared at once


class _Learnt(NamedTuple):
    """A training image with its embedding, float32 (D,), and whether that was computed now."""

    neighbour: Neighbour
    embedding: NDArray[np.float32]
    new: bool


@dataclass(frozen=True)
class _Recall:
    """The unit of work: an image of the source, if the model has learnt from it, with its embedding.

    Attributes:
        classifier: The classifier.
        storage: Where the images are.
        trained: What the training has kept.
        computed: What the model itself has computed before.
    """

    classifier: Classifier
    storage: Storage
    trained: FeatureCache
    computed: FeatureCache

    def __call__(self, row: Row, /) -> _Learnt | None:
        data = self.storage.read(row.path)
        metadata = self.classifier.metadata
        learnt = metadata.knows(data) if metadata.learnt_from else row.split in {None, "train"}
        if not learnt:
            return None
        digest = sha256(data).digest()
        kept = self.trained.get(digest)
        if kept is None:
            kept = self.computed.get(digest)
        embedding = self.classifier.run_file(data).embedding if kept is None else kept
        return _Learnt(Neighbour(row.path, row.label or "", 0.0, digest.hex()), embedding, kept is None)


def find_neighbours(
    classifier: Classifier, table: ImageTable, embeddings: NDArray[np.float32], count: int, runtime: Runtime
) -> tuple[list[tuple[Neighbour, ...]], int]:
    """The nearest training images of each of some images.

    Which images of the table the model has learnt from, it knows itself, by their content; of a model file that does
    not say, those count that the source has not set aside for measuring. Embeddings come from the cache where the
    training has kept them there, else the model computes them, once.

    Args:
        classifier: The classifier.
        table: The source that it was trained on.
        embeddings: Of the images that are asked about, float32 (Q, D), by the same classifier.
        count: How many of them, at most.
        runtime: Cache, workers, progress.

    Returns:
        For each image, the most similar first; and how many training images there were in the table.
    """
    asked = unit_rows(embeddings)
    best: list[list[Neighbour]] = [[] for _ in asked]
    block: list[_Learnt] = []
    found = 0

    def compare() -> None:
        cosines = asked @ unit_rows(np.stack([one.embedding for one in block])).T  # (Q, B)
        for place, row in enumerate(cosines):
            nearest = np.argsort(-row, kind="stable")[:count]
            candidates = [replace(block[i].neighbour, similarity=float(row[i])) for i in nearest]
            best[place] = sorted((*best[place], *candidates), key=lambda one: -one.similarity)[:count]
        block.clear()

    metadata = classifier.metadata
    width, limit = embeddings.shape[1], metadata.recipe["max_megapixels"]
    # What the training kept is read only: nobody has proved that this model file computes what it says that it does.
    trained = digest_record({"embedder": metadata.backbone.embedder, "max_megapixels": limit})
    own = digest_record({"model": digest_bytes(classifier.content), "decode": decoder.VERSION, "max_megapixels": limit})
    with FeatureCache(runtime.cache, trained, width) as kept, FeatureCache(runtime.cache, own, width) as computed:

        def keep(learnt: _Learnt | None) -> None:
            if learnt is not None and learnt.new:
                computed.put(bytes.fromhex(learnt.neighbour.digest), learnt.embedding)

        recall = _Recall(classifier, table.storage, kept, computed)
        for _, learnt in each(recall, table.rows, runtime, "Comparing", keep):
            if learnt is None or isinstance(learnt, ImageError):
                continue
            found += 1
            block.append(learnt)
            if len(block) == _BLOCK:
                compare()
        if block:
            compare()
    return [tuple(one) for one in best], found
