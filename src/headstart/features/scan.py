"""Look at every image of a table once, without embedding it: which can be read, and what is in them."""

from __future__ import annotations

from functools import partial

from headstart.core.runtime import Runtime
from headstart.data.table import ImageTable
from headstart.features.cache import FeatureCache
from headstart.features.dataset import Dataset
from headstart.features.look import Look, keep, traits_key
from headstart.features.passes import Pass
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
    digests, traits = [], []
    with FeatureCache(runtime.cache, "", 0, traits_key(preprocess.enough_px, preprocess.white_level)) as cache:
        look = Look(table.storage, cache, max_megapixels, preprocess.enough_px, preprocess.white_level)
        images = Pass(table, look, runtime, "Reading", partial(keep, cache))
        for _, seen in images:
            digests.append(seen.digest.hex())
            traits.append(seen.traits)
    return Dataset(images.table(), tuple(digests), tuple(traits))
