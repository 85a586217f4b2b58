"""The unit of work of training: look at one image once, and embed it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from headstart.core.digest import digest_record
from headstart.data import decode as decoder
from headstart.data import traits as looks
from headstart.data.decode import decode
from headstart.data.storage import Storage
from headstart.data.traits import Traits, measure
from headstart.features.cache import FeatureCache
from headstart.settings.recipe import FULL_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Network(Protocol):
    """Computes the embedding of one image; several threads may ask it at once."""

    def run(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The embedding, (D,), of one image, uint8 (H, W, 3), as a list of one array."""
        ...


class Located(Protocol):
    """What is known by where its storage finds it, as `headstart.data.table.Row` is."""

    @property
    def path(self) -> str:
        """Where its storage finds it."""
        ...


class Seen(NamedTuple):
    """What there is to know of an image.

    Attributes:
        digest: SHA-256 of its file.
        traits: What is known of it without a network.
        thumbnail: A JPEG file; None where the traits were kept already.
        embedding: float32 (D,); (0,) where nothing embeds.
        cached: The embedding was kept already.
        animated: The file has several frames or pages, and was decoded.
    """

    digest: bytes
    traits: Traits
    thumbnail: bytes | None
    embedding: NDArray[np.float32]
    cached: bool
    animated: bool


@dataclass(frozen=True)
class Look:
    """Read one image, decode it, measure its traits, and embed it: as far as that is not kept already.

    Without a network every image is decoded, whatever is kept, so that none fails later.

    Attributes:
        storage: Where the images are.
        kept: The cache, which is read here and not written.
        max_megapixels: See `headstart.data.decode.decode`; so are the next two.
        enough_px: From `Preprocess.enough_px`.
        white_level: The value of 16-bit images that is white.
        network: What embeds; None to embed nothing.
    """

    storage: Storage
    kept: FeatureCache
    max_megapixels: int
    enough_px: int
    white_level: int
    network: Network | None = None

    def __call__(self, row: Located, /) -> Seen:
        """Look at one image.

        Raises:
            ImageError: It cannot be read, or the network fails on it.
        """
        data = self.storage.read(row.path)
        digest = sha256(data).digest()
        found = self.kept.get(digest) if self.network else None
        known = self.kept.traits(digest)
        if known and found is not None:
            return Seen(digest, known[0], None, found, cached=True, animated=False)
        image = decode(data, max_megapixels=self.max_megapixels, enough_px=self.enough_px, white_level=self.white_level)
        traits, thumbnail = (known[0], None) if known else measure(data, image)
        embedding = self._embed(image.pixels) if found is None else found
        return Seen(digest, traits, thumbnail, embedding, found is not None, image.animated)

    def _embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.network is None:
            return np.empty(0, np.float32)
        (embedding,) = self.network.run(pixels)
        return embedding


def keep_nothing() -> FeatureCache:
    """A cache that holds nothing, where every image is looked at anew."""
    return FeatureCache(None, "", 0)


def keep(cache: FeatureCache, seen: Seen) -> None:
    """Keep what was not kept already, and is sound: an embedding that is not finite is not."""
    if seen.thumbnail is not None:
        cache.put_traits(seen.digest, seen.traits, seen.thumbnail)
    if seen.embedding.size and not seen.cached and np.isfinite(seen.embedding).all():
        cache.put(seen.digest, seen.embedding)


def traits_key(enough_px: int, white_level: int = FULL_RANGE) -> str:
    """Digest of what decides the traits of an image: the code that decodes and measures, and what is decoded."""
    level = {} if white_level == FULL_RANGE else {"white_level": white_level}
    return digest_record({"traits": looks.VERSION, "decode": decoder.VERSION, "enough_px": enough_px, **level})
