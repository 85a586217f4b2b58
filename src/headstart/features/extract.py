"""Embed all images of a table, each once, through the feature cache."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headstart.backbones.embedder import Embedder
from headstart.core.digest import digest_record
from headstart.core.errors import SourceError
from headstart.core.runtime import Runtime
from headstart.core.text import counted, quoted
from headstart.data.table import ImageTable
from headstart.features.cache import FeatureCache
from headstart.features.dataset import Dataset
from headstart.features.look import Look, Network, keep, traits_key
from headstart.features.passes import Pass
from headstart.modelfile.session import LazySession

if TYPE_CHECKING:
    from headstart.data.traits import Traits


class Engine(Network, Protocol):
    """Runs a network beside ONNX Runtime, as `headstart.training.engine.TorchEngine` does on a GPU.

    Attributes:
        name: Part of the key of cached embeddings.
        workers: Threads that should ask it at once.
    """

    name: str
    workers: int


def extract(
    table: ImageTable, embedder: Embedder, runtime: Runtime, *, max_megapixels: int, engine: Engine | None = None
) -> Dataset:
    """Embed all images of a table, each once, through the cache.

    Args:
        table: The images.
        embedder: What turns one image into an embedding.
        runtime: Cache, workers, progress, strictness.
        max_megapixels: See `headstart.data.decode.decode`.
        engine: What runs the embedder's network; None for ONNX Runtime.

    Raises:
        SourceError: No image can be read; an embedding is not finite; or a file is skipped and
            `runtime.strict` is set.
    """
    # The limit is part of the key: an image beyond it is skipped, whether or not it was embedded before.
    record: dict[str, object] = {"embedder": embedder.digest, "max_megapixels": max_megapixels}
    if engine is not None:
        record["engine"] = engine.name
        runtime = replace(runtime, workers=max(runtime.workers, engine.workers))
    spec = embedder.preprocess
    measured = traits_key(spec.enough_px, spec.white_level)
    matrix = np.empty((len(table), embedder.width), np.float32)
    digests: list[str] = []
    traits: list[Traits] = []
    cached = animated = 0
    with FeatureCache(runtime.cache, digest_record(record), embedder.width, measured) as cache:
        network = engine or LazySession(embedder.model)
        look = Look(table.storage, cache, max_megapixels, spec.enough_px, spec.white_level, network)
        images = Pass(table, look, runtime, "Embedding", partial(keep, cache))
        for row, seen in images:
            if not np.isfinite(seen.embedding).all():
                raise SourceError(
                    f"The embedding of {quoted(row.path)} holds values that are not finite.",
                    "Nothing was saved. Look at this image, or remove it from the source.",
                )
            matrix[len(digests)] = seen.embedding
            digests.append(seen.digest.hex())
            traits.append(seen.traits)
            cached += seen.cached
            animated += seen.animated
        notes = cache.notes
    kept = images.table()
    if animated:
        notes.append(f"{counted(animated, 'file')} with several frames or pages: the first was used.")
    return Dataset(kept, tuple(digests), tuple(traits), matrix[: len(digests)], cached, tuple(notes))
