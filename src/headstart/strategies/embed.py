"""The one pass of all images through a frozen backbone, which strategies, the data check and comparisons share."""

from __future__ import annotations

from typing import NamedTuple

from headstart.backbones.embedder import Embedder, load_embedder
from headstart.core.runtime import Runtime
from headstart.data.table import ImageTable
from headstart.features.dataset import Dataset
from headstart.features.extract import Engine, extract
from headstart.settings.recipe import Recipe
from headstart.strategies.proof import pictures
from headstart.strategies.which_engine import find_engine


class Embedded(NamedTuple):
    """A table that was embedded.

    Attributes:
        data: The images that can be read, with their embeddings.
        embedder: What computed them.
        engine: What ran it; None for ONNX Runtime on the CPU.
    """

    data: Dataset
    embedder: Embedder
    engine: Engine | None


def embed(table: ImageTable, recipe: Recipe, runtime: Runtime) -> Embedded:
    """Embed all images of a table with the recipe's backbone, through the cache.

    Raises:
        SourceError: No image can be read.
        OptionError: There is no such backbone.
        ModelError: Its weights are missing or damaged.
    """
    embedder = load_embedder(recipe, runtime.cache, pictures(table, recipe))
    engine = find_engine(recipe, embedder, runtime)
    data = extract(table, embedder, runtime, max_megapixels=recipe.max_megapixels, engine=engine)
    return Embedded(data, embedder, engine)
