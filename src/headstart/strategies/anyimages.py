"""Embeddings of images of any kind that a classifier takes: paths, bytes, arrays, not only those of a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from headstart.backbones.embedder import Embedder, load_embedder
from headstart.core.digest import digest_record
from headstart.core.errors import ImageError, InputError
from headstart.core.runtime import Runtime
from headstart.data.decode import decode
from headstart.data.storage import read_file
from headstart.features.cache import FeatureCache
from headstart.modelfile.session import LazySession
from headstart.prediction import images as kinds
from headstart.prediction.embedded import Embedded
from headstart.settings.recipe import FULL_RANGE, Recipe
from headstart.strategies.proof import ENOUGH_PX, IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True)
class _Embed:
    """The unit of work: an image with its number."""

    embedder: Embedder
    network: LazySession
    kept: FeatureCache
    max_megapixels: int

    def __call__(self, item: tuple[int, object], /) -> Embedded:
        index, image = item
        with kinds.naming(image, index, of_several=True):
            if isinstance(image, str | os.PathLike):
                image = read_file(os.fspath(image))
            if not isinstance(image, bytes):
                image = kinds.pixels(image, self.embedder.preprocess, self.max_megapixels)
            digest = sha256(image if isinstance(image, bytes) else _spelled(image)).digest()
            found = self.kept.get(digest)
            if found is not None:
                return Embedded(digest, found, cached=True)
            (embedding,) = self.network.run(kinds.pixels(image, self.embedder.preprocess, self.max_megapixels))
            if not np.isfinite(embedding).all():
                raise ImageError("the network gives values that are not finite")
        return Embedded(digest, embedding, cached=False)


def _spelled(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels (H, W, 3) as bytes that no file of an image begins with."""
    return b"pixels %d %d " % pixels.shape[:2] + pixels.tobytes()


def load(images: Sequence[object], recipe: Recipe, runtime: Runtime) -> Embedder:
    """The embedder of a recipe; one that is exported for it is tried on some of the images.

    Raises:
        OptionError: There is no such backbone.
    """

    def pictures() -> Iterator[NDArray[np.uint8]]:
        step = max(1, len(images) // IMAGES)
        for image in images[::step][:IMAGES]:
            try:
                data = read_file(os.fspath(image)) if isinstance(image, str | os.PathLike) else image
                if isinstance(data, bytes):
                    white_level = recipe.white_level or FULL_RANGE
                    yield decode(
                        data, max_megapixels=recipe.max_megapixels, enough_px=ENOUGH_PX, white_level=white_level
                    ).pixels
                elif kinds.is_array(data):
                    yield kinds.channels_last(data)
            except InputError:  # it is told where all are embedded
                continue

    return load_embedder(recipe, runtime.cache, pictures())


def embed(
    images: Sequence[object], embedder: Embedder, recipe: Recipe, runtime: Runtime
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The embeddings of some images, each computed once and kept in the cache.

    Args:
        images: Of kinds that a classifier takes.
        embedder: What embeds.
        recipe: Its limit of megapixels holds.
        runtime: Cache, workers, progress.

    Returns:
        float32 (N, D), and the digest of each image, hexadecimal, (N,).

    Raises:
        ImageError: An image cannot be read; it is named.
        InputError: A value has an unsupported type.
    """
    matrix = np.empty((len(images), embedder.width), np.float32)
    digests: list[str] = []
    # The key is that of `headstart.features.extract`: the same file decodes to the same pixels.
    key = digest_record({"embedder": embedder.digest, "max_megapixels": recipe.max_megapixels})
    with FeatureCache(runtime.cache, key, embedder.width) as cache:

        def keep(found: Embedded) -> None:
            if not found.cached:
                cache.put(found.digest, found.embedding)

        work = _Embed(embedder, LazySession(embedder.model), cache, recipe.max_megapixels)
        passed = runtime.pool.run(work, enumerate(images), keep)  # in two steps, as in `headstart.features.passes`
        with closing(passed) as results:
            for found in results:
                if isinstance(found, ImageError):
                    raise found
                matrix[len(digests)] = found.embedding
                digests.append(found.digest.hex())
    return matrix, tuple(digests)
