"""Run a model over all images of a table: N workers, each of which decodes one image and runs the session."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headstart.backbones.embedder import Embedder
from headstart.core.digest import digest_record
from headstart.core.errors import ImageError, SourceError
from headstart.core.options import Runtime
from headstart.core.text import counted, quoted
from headstart.data import decode as decoder
from headstart.data import traits as looks
from headstart.data.decode import decode
from headstart.data.table import ImageTable, Skipped
from headstart.data.traits import Traits, measure
from headstart.features.cache import FeatureCache
from headstart.features.dataset import Dataset
from headstart.features.pool import each, no_image, refuse_skipped
from headstart.modelfile.session import LazySession
from headstart.settings.recipe import FULL_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Engine(Protocol):
    """Runs a network beside ONNX Runtime, as `headstart.training.engine.TorchEngine` does on a GPU.

    Attributes:
        name: Part of the key of cached embeddings.
        workers: Threads that should ask it at once.
    """

    name: str
    workers: int

    def run(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The embedding of one image, uint8 (H, W, 3)."""
        ...


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
    session = engine or LazySession(embedder.model)
    matrix = np.empty((len(table), embedder.width), np.float32)
    digests: list[str] = []
    traits: list[Traits] = []
    keep: list[int] = []
    skipped: list[Skipped] = []
    cached = animated = 0
    # The limit is part of the key: an image beyond it is skipped, whether or not it was embedded before.
    record: dict[str, object] = {"embedder": embedder.digest, "max_megapixels": max_megapixels}
    if engine is not None:
        record["engine"] = engine.name
        runtime = replace(runtime, workers=max(runtime.workers, engine.workers))
    key = digest_record(record)
    spec = embedder.preprocess
    with FeatureCache(runtime.cache, key, embedder.width, traits_key(spec.enough_px, spec.white_level)) as cache:

        def embed(index: int) -> tuple[bytes, NDArray[np.float32], Traits, bool, bool]:
            data = table.storage.read(table.rows[index].path)
            digest = sha256(data).digest()
            embedding, measured = cache.get(digest), cache.traits(digest)
            hit = embedding is not None
            if embedding is not None and measured is not None:
                return digest, embedding, measured[0], True, False
            image = decode(data, max_megapixels=max_megapixels, enough_px=spec.enough_px, white_level=spec.white_level)
            if measured is None:
                measured = measure(data, image)
                cache.put_traits(digest, *measured)
            if embedding is None:
                (embedding,) = session.run(image.pixels)
                if np.isfinite(embedding).all():
                    cache.put(digest, embedding)
            return digest, embedding, measured[0], hit, image.animated

        for index, result in each(len(table), embed, runtime, "Embedding"):
            path = table.rows[index].path
            if isinstance(result, ImageError):
                skipped.append(Skipped(path, result.message))
                continue
            digest, embedding, measured, hit, moving = result
            if not np.isfinite(embedding).all():
                raise SourceError(
                    f"The embedding of {quoted(path)} holds values that are not finite.",
                    "Nothing was saved. Look at this image, or leave it out.",
                )
            matrix[len(keep)] = embedding
            keep.append(index)
            digests.append(digest.hex())
            traits.append(measured)
            cached += hit
            animated += moving
        notes = cache.notes
    kept = table.select(keep, skipped)
    refuse_skipped(kept, runtime)
    if not keep:
        raise no_image(kept)
    if animated:
        notes.append(f"{counted(animated, 'file')} with several frames or pages: the first was used.")
    return Dataset(kept, tuple(digests), tuple(traits), matrix[: len(keep)], cached, tuple(notes))


def traits_key(enough_px: int, white_level: int = FULL_RANGE) -> str:
    """Digest of what decides the traits of an image: the code that decodes and measures, and what is decoded."""
    level = {} if white_level == FULL_RANGE else {"white_level": white_level}
    return digest_record({"traits": looks.VERSION, "decode": decoder.VERSION, "enough_px": enough_px, **level})
