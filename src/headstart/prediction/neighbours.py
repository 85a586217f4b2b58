"""The training images that are most like other images, by the embeddings of the model file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from headstart.core.digest import digest_record
from headstart.core.runtime import Runtime
from headstart.data.storage import Storage
from headstart.data.table import ImageTable, Row
from headstart.features.cache import FeatureCache
from headstart.features.passes import each
from headstart.prediction.classifier import Classifier
from headstart.prediction.embedded import cache_key
from headstart.prediction.explanation import Neighbour
from headstart.prediction.nearest import Nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Learnt(NamedTuple):
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

    def __call__(self, row: Row, /) -> Learnt | None:
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
        return Learnt(Neighbour(row.path, row.label or "", 0.0, digest.hex()), embedding, kept is None)


def find_neighbours(
    classifier: Classifier, table: ImageTable, embeddings: NDArray[np.float32], count: int, runtime: Runtime
) -> tuple[list[tuple[Neighbour, ...]], int]:
    """The nearest training images of each of some images.

    The model file records which images it was trained on, by their content; if it does not, all count that the source
    has not set aside for measuring. Embeddings come from the cache where the training has kept them there, else the
    model computes them, once.

    Args:
        classifier: The classifier.
        table: The source that it was trained on.
        embeddings: Of the images that are asked about, float32 (Q, D), by the same classifier.
        count: How many of them, at most.
        runtime: Cache, workers, progress.

    Returns:
        For each image, the most similar first; and how many training images there were in the table.
    """
    nearest = Nearest[Neighbour](embeddings, count)
    for learnt in learnt_images(classifier, table, embeddings.shape[1], runtime):
        nearest.add(learnt.embedding, learnt.neighbour)
    found = [tuple(replace(one, similarity=cosine) for cosine, one in best) for best in nearest.found()]
    return found, nearest.added


def learnt_images(classifier: Classifier, table: ImageTable, width: int, runtime: Runtime) -> Iterator[Learnt]:
    """The images of a table that a classifier has learnt from, with their embeddings; see `find_neighbours`.

    Args:
        classifier: The classifier.
        table: The source that it was trained on.
        width: D of its embeddings.
        runtime: Cache, workers, progress.
    """
    metadata = classifier.metadata
    limit = metadata.max_megapixels
    # What the training kept is read only: nobody has proved that this model file computes what it says that it does.
    trained = digest_record({"embedder": metadata.backbone.embedder, "max_megapixels": limit})
    with (
        FeatureCache(runtime.cache, trained, width) as kept,
        FeatureCache(runtime.cache, cache_key(classifier), width) as computed,
    ):

        def keep(learnt: Learnt | None) -> None:
            if learnt is not None and learnt.new:
                computed.put(bytes.fromhex(learnt.neighbour.digest), learnt.embedding)

        recall = _Recall(classifier, table.storage, kept, computed)
        for _, learnt in each(recall, table.rows, runtime, "Comparing", keep):
            if isinstance(learnt, Learnt):
                yield learnt
