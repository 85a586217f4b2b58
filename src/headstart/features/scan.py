"""Look at every image of a table once, without embedding it: which can be read, and what is in them."""

from __future__ import annotations

from hashlib import sha256

from headstart.core.errors import ImageError
from headstart.core.options import Runtime
from headstart.data.decode import decode
from headstart.data.table import ImageTable, Skipped
from headstart.data.traits import Traits, measure
from headstart.features.cache import FeatureCache
from headstart.features.dataset import Dataset
from headstart.features.extract import traits_key
from headstart.features.pool import each, no_image, refuse_skipped
from headstart.preprocess.spec import Preprocess


def scan(table: ImageTable, runtime: Runtime, preprocess: Preprocess, *, max_megapixels: int) -> Dataset:
    """Decode all images, so that none fails in the middle of a training.

    Args:
        table: The images.
        runtime: Workers, progress, strictness.
        preprocess: How they will be prepared.
        max_megapixels: See `headstart.data.decode.decode`.

    Returns:
        The images that can be read, without embeddings.

    Raises:
        SourceError: No image can be read; or a file is skipped and `runtime.strict` is set.
    """
    keep, digests, traits, skipped = [], [], [], []
    with FeatureCache(runtime.cache, "", 0, traits_key(preprocess.enough_px, preprocess.white_level)) as cache:

        def look(index: int) -> tuple[str, Traits]:
            data = table.storage.read(table.rows[index].path)
            image = decode(
                data, max_megapixels=max_megapixels, enough_px=preprocess.enough_px, white_level=preprocess.white_level
            )
            digest = sha256(data)
            measured = cache.traits(digest.digest())
            if measured is None:
                measured = measure(data, image)
                cache.put_traits(digest.digest(), *measured)
            return digest.hexdigest(), measured[0]

        for index, result in each(len(table), look, runtime, "Reading"):
            if isinstance(result, ImageError):
                skipped.append(Skipped(table.rows[index].path, result.message))
            else:
                keep.append(index)
                digests.append(result[0])
                traits.append(result[1])
    kept = table.select(keep, skipped)
    refuse_skipped(kept, runtime)
    if not keep:
        raise no_image(kept)
    return Dataset(kept, tuple(digests), tuple(traits))
