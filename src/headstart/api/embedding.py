"""Embeddings for your own clustering and search."""

from __future__ import annotations

import numpy as np

from headstart.api.reading import table_of
from headstart.core.arguments import A_CLASSIFIER, A_RECIPE, A_RUNTIME, must_be
from headstart.core.errors import OptionError
from headstart.core.runtime import Runtime
from headstart.data.readers import Source
from headstart.data.table import ImageTable
from headstart.features.embeddings import Embeddings
from headstart.features.passes import refuse_skipped
from headstart.prediction.classifier import Classifier
from headstart.prediction.embedded import cache_key, embedding, width_of
from headstart.settings.recipe import Recipe


def embed(
    images: ImageTable | Source,
    *,
    classifier: Classifier | None = None,
    recipe: Recipe | None = None,
    runtime: Runtime | None = None,
) -> Embeddings:
    """Embed images with a pretrained backbone or with the network of a model. Each image is embedded once, then cached.

    Args:
        images: An image table, or a source of one.
        classifier: Embed with its network; None for the backbone of the recipe.
        recipe: Names the backbone, its precision and the fit; None for the defaults.
        runtime: Cache, workers, progress, strictness.

    Raises:
        SourceError: No image can be read.
        OptionError: Both a classifier and a recipe are given, or an argument has the wrong type.

    Examples:
        >>> found = headstart.embed("photos/")  # doctest: +SKIP
        >>> found.features.shape, found.table.rows[0].label  # doctest: +SKIP
        ((397, 1280), 'ants')
    """
    must_be("classifier", classifier, Classifier | None, *A_CLASSIFIER)
    must_be("recipe", recipe, Recipe | None, A_RECIPE)
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    if classifier is not None and recipe is not None:
        raise OptionError(
            "A classifier comes with its own network, and a recipe names another one.", "Give one of them."
        )
    runtime = runtime or Runtime()
    table = table_of(images)
    refuse_skipped(table, runtime)
    if classifier is not None:
        return _by_model(classifier, table, runtime)
    from headstart.strategies.embed import embed as by_backbone

    data, embedder, _ = by_backbone(table, recipe or Recipe(), runtime)
    return Embeddings(data.table, data.digests, data.matrix, embedder.backbone, embedder.digest, data.notes)


def _by_model(model: Classifier, table: ImageTable, runtime: Runtime) -> Embeddings:
    digests: list[str] = []
    matrix = np.empty((len(table), width_of(model)), np.float32)
    with embedding(model, table, runtime, "Embedding") as images:
        for _, found in images:
            matrix[len(digests)] = found.embedding
            digests.append(found.digest.hex())
    return Embeddings(
        images.table(), tuple(digests), matrix[: len(digests)], model.metadata.backbone.name, cache_key(model)
    )
