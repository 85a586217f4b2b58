"""Embeddings of any number of images in a folder of Parquet shards, which is resumed where it was left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import headstart
from headstart.api.reading import table_of
from headstart.backbones.embedder import load_embedder
from headstart.core.arguments import A_CLASSIFIER, A_RECIPE, A_RUNTIME, must_be, must_be_flags, must_be_path
from headstart.core.digest import digest_bytes
from headstart.core.errors import OptionError
from headstart.core.runtime import Runtime
from headstart.core.text import listed, quoted
from headstart.data import decode as decoder
from headstart.data import traits as looks
from headstart.data.readers import Source
from headstart.data.table import ImageTable
from headstart.features.look import Look, Network, keep_nothing
from headstart.features.sharded.description import Description, Kind
from headstart.features.sharded.embedding_rows import DTYPES
from headstart.features.sharded.growing import begin, held
from headstart.features.sharded.plan import MAX_SHARD_ROWS, SHARD_ROWS, Plan
from headstart.features.sharded.run import Written, write_all
from headstart.features.sharded.work import EmbeddingForm, EmbedRow, WriteShard
from headstart.modelfile.session import LazySession
from headstart.prediction.classifier import Classifier
from headstart.prediction.embedded import cache_key, width_of
from headstart.settings.recipe import Recipe
from headstart.strategies.proof import pictures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Settings that decide the embedder of a recipe, with which it can be built again.
_OF_EMBEDDER = ("backbone", "precision", "fit", "white_level", "pretrained", "weights", "max_megapixels")


@dataclass(frozen=True)
class _ModelNetwork:
    """The network of a model file."""

    classifier: Classifier

    def run(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The embedding of one image; see `headstart.features.look.Network`."""
        return [self.classifier.run_pixels(image).embedding]


@dataclass(frozen=True)
class Shape:
    """How embeddings are written.

    Attributes:
        dtype: ``float32``, or ``float16``: half the size, and about three digits.
        shard_rows: Images of a shard, 1 to 65,536.
    """

    dtype: str = "float32"
    shard_rows: int = SHARD_ROWS

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise OptionError(f"There is no dtype {quoted(str(self.dtype))}.", f"Choose one of {listed(DTYPES)}.")
        refuse_shard_rows(self.shard_rows)


def refuse_shard_rows(rows: int) -> None:
    """Say that there are no shards of so many images.

    Raises:
        OptionError: There are not.
    """
    must_be("shard_rows", rows, int, "a whole number")
    if isinstance(rows, bool) or not 1 <= rows <= MAX_SHARD_ROWS:
        raise OptionError(f"Shards of {rows} images (shard_rows); expected 1 to {MAX_SHARD_ROWS:,}.")


def embed_into(
    images: ImageTable | Source,
    out: str | os.PathLike[str],
    *,
    classifier: Classifier | None = None,
    recipe: Recipe | None = None,
    shape: Shape | None = None,
    overwrite: bool = False,
    runtime: Runtime | None = None,
) -> Written:
    """Embed images into a folder of Parquet shards; what is there of the same images and network is kept.

    Whenever the process ends, the shards that were written stay, and the same call goes on. An image that cannot be
    read is a row with the reason. The feature cache is not used: the shards are what is kept.

    Args:
        images: An image table, or a source of one.
        out: The folder.
        classifier: Its network embeds; None for the backbone of the recipe.
        recipe: Names the backbone, its precision and the fit; None for the default.
        shape: How they are written.
        overwrite: Keep nothing of what is there.
        runtime: Workers, progress, strictness, and what runs the work on shards.

    Raises:
        SourceError: No image can be read.
        OptionError: Both a classifier and a recipe are given, or an argument is of a wrong kind.
        StorageError: The folder holds something else, another process writes it, or it cannot be written.
        ExtraError: pyarrow is missing.

    Example:
        >>> headstart.embed_into("photos/", "embeddings/")  # doctest: +SKIP
    """
    must_be_path("out", out)
    must_be("classifier", classifier, Classifier | None, *A_CLASSIFIER)
    must_be("recipe", recipe, Recipe | None, A_RECIPE)
    must_be("shape", shape, Shape | None, "headstart.api.sharding.Shape")
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    must_be_flags(overwrite=overwrite)
    if classifier is not None and recipe is not None:
        raise OptionError("A classifier brings its own network; a recipe names another one.", "Give one of them.")
    runtime, shape, path = runtime or Runtime(), shape or Shape(), Path(out).absolute()
    with held(path):
        table = table_of(images)
        look, made = _by_recipe(table, recipe or Recipe(), runtime) if classifier is None else _by_model(
            table, classifier)  # fmt: skip
        plan = Plan.of(table, shape.shard_rows)
        made |= {"dtype": shape.dtype, "max_megapixels": look.max_megapixels}
        made |= {"decode": decoder.VERSION, "traits": looks.VERSION}
        begun = begin(path, described("embeddings", made, table, plan), plan, overwrite=overwrite)
        ask, form = EmbedRow(look, shape.dtype), EmbeddingForm(begun.folder.width, shape.dtype)
        threads = 1 if runtime.on else runtime.workers
        written = write_all(begun, WriteShard(path, begun.folder.description, ask, form, threads), runtime, "Embedding")
    return replace(written, notes=(*table.notes, *written.notes))


def described(kind: Kind, made: Mapping[str, object], table: ImageTable, plan: Plan) -> Description:
    """The description of a folder for the images of a table."""
    return Description(
        kind=kind, made=made, task=table.task, classes=table.classes, source=table.source,
        images=len(plan.references), shard_rows=plan.shard_rows, references=plan.references_digest,
        headstart=headstart.__version__,
    )  # fmt: skip


def _by_recipe(table: ImageTable, recipe: Recipe, runtime: Runtime) -> tuple[Look, dict[str, object]]:
    embedder = load_embedder(recipe, runtime.cache, pictures(table, recipe))
    spec = embedder.preprocess
    look = _look(table, recipe.max_megapixels, spec.enough_px, spec.white_level, LazySession(embedder.model))
    chosen = {name: value for name, value in recipe.as_dict().items() if name in _OF_EMBEDDER}
    return look, {
        "network": embedder.backbone, "embedder": embedder.digest, "width": embedder.width, "recipe": chosen,
    }  # fmt: skip


def _by_model(table: ImageTable, model: Classifier) -> tuple[Look, dict[str, object]]:
    spec, name = model.metadata.preprocess, model.metadata.backbone.name
    look = _look(table, model.max_megapixels, spec.enough_px, spec.white_level, _ModelNetwork(model))
    return look, {
        "network": name,
        "embedder": cache_key(model),
        "width": width_of(model),
        "model": digest_bytes(model.content),
    }


def _look(table: ImageTable, max_megapixels: int, enough_px: int, white_level: int, network: Network) -> Look:
    return Look(table.storage, keep_nothing(), max_megapixels, enough_px, white_level, network)
