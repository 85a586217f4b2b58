"""The embedder: one ONNX graph from uint8 pixels to an embedding, built once and kept in the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.backbones import catalog
from headstart.core.tables import resolve
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Embedder:
    """A backbone with its preprocessing, ready to run.

    Attributes:
        backbone: Name of the backbone.
        preprocess: What happens to the pixels first.
        width: Size D of the embedding.
        digest: Changes whenever an embedding could: the key of cached embeddings.
        model: The ONNX file: ``image`` uint8 (N, H, W, 3) to ``embedding`` float32 (N, D).
        weights: Digest of the weights; empty for random ones.
        licence: Of the weights.
    """

    backbone: str
    preprocess: Preprocess
    width: int
    digest: str
    model: bytes
    weights: str
    licence: str


def load_embedder(
    recipe: Recipe,
    cache: Path | None,
    pictures: Iterable[NDArray[np.uint8]] = (),
) -> Embedder:
    """The embedder of a recipe, from the cache or newly built, as the row of its backbone says.

    Args:
        recipe: Names the backbone, its weights, its precision and the fit.
        cache: The cache folder; None builds anew.
        pictures: uint8 (H, W, 3) each, on which an embedder that is exported computes what its network computes; taken
            only then. One that does not is not kept.

    Raises:
        OptionError: There is no such backbone.
        ModelError: Its weights are missing or damaged, or it cannot be exported, or its export computes something else.
        OfflineError: Its weights are not here and could not be fetched.
        ExtraError: The extra `torch` is needed and not installed.
    """
    spec = catalog.find(recipe.backbone)
    embedder: Embedder = resolve(spec.embedder)(spec, recipe, cache / "embedders" if cache else None, pictures)
    return embedder
