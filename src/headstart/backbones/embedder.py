"""The embedder: one ONNX graph from uint8 pixels to an embedding, built once and kept in the cache."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.backbones import catalog
from headstart.core.digest import digest_bytes, digest_record
from headstart.core.errors import StorageError
from headstart.core.files import durable_write, make_folder
from headstart.core.graph import IR_VERSION, OPSET, Graph
from headstart.core.recipe import Recipe
from headstart.data import decode
from headstart.preprocess.nodes import add_preprocess
from headstart.preprocess.spec import Preprocess

if TYPE_CHECKING:
    from onnx import ModelProto

MAX_KEPT = 16  # embedders in the cache folder; the oldest go first


@dataclass(frozen=True)
class Embedder:
    """A backbone with its preprocessing, ready to run.

    Attributes:
        backbone: Name of the backbone.
        preprocess: What happens to the pixels first.
        width: Size D of the embedding.
        digest: Changes whenever an embedding could: the key of cached embeddings.
        model: The ONNX file: ``image`` uint8 (N, H, W, 3) to ``embedding`` float32 (N, D).
    """

    backbone: str
    preprocess: Preprocess
    width: int
    digest: str
    model: bytes


def load_embedder(recipe: Recipe, cache: Path | None) -> Embedder:
    """The embedder of a recipe, from the cache or newly built.

    A kept file bears the digest of its content in its name; one that does not match is deleted and built again.

    Args:
        recipe: Names the backbone, its precision and the fit.
        cache: The cache folder; None builds anew.

    Raises:
        OptionError: There is no such backbone.
        ModelError: Its weights are missing or damaged.
    """
    entry = catalog.find(recipe.backbone)
    spec = preprocess_of(recipe)
    record = {
        "backbone": recipe.backbone, "weights": entry.digest, "version": entry.version,
        "precision": recipe.precision, "preprocess": spec.as_dict(), "opset": OPSET, "ir": IR_VERSION,
        "decode": decode.VERSION,
    }  # fmt: skip
    digest = digest_record(record)
    folder = cache / "embedders" if cache else None
    model = _kept(folder, digest) if folder else None
    if model is None:
        model = embedder_graph(recipe).SerializeToString(deterministic=True)
        if folder:
            _keep(folder, digest, model)
    return Embedder(recipe.backbone, spec, entry.embedding_size, digest, model)


def preprocess_of(recipe: Recipe) -> Preprocess:
    """The preprocessing that a recipe's backbone was trained with, with the recipe's fit."""
    entry = catalog.find(recipe.backbone)
    return Preprocess(
        size_px=entry.size_px,
        fit=recipe.fit,
        crop_fraction=entry.crop_fraction,
        mean=entry.mean,
        std=entry.std,
    )


def embedder_graph(recipe: Recipe) -> ModelProto:
    """Build the graph of an embedder."""
    entry = catalog.find(recipe.backbone)
    graph = Graph()
    pixels = add_preprocess(graph, preprocess_of(recipe))
    module, function = entry.module.split(":")
    name = getattr(importlib.import_module(module), function)(graph, pixels, recipe.precision)
    return graph.model({name: ("N", entry.embedding_size)})


def _kept(folder: Path, digest: str) -> bytes | None:
    with contextlib.suppress(OSError):  # a folder that cannot be listed keeps nothing
        for path in folder.glob(f"{digest[:32]}-*.onnx"):
            with contextlib.suppress(OSError):
                model = path.read_bytes()
                if path.stem.endswith(digest_bytes(model)[:32]):
                    return model
                path.unlink()
    return None


def _keep(folder: Path, digest: str, model: bytes) -> None:
    with contextlib.suppress(StorageError, OSError):  # a cache that cannot be written is not needed
        make_folder(folder)
        durable_write(folder / f"{digest[:32]}-{digest_bytes(model)[:32]}.onnx", model)
        kept = sorted(folder.glob(f"{'[0-9a-f]' * 32}-*.onnx"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-MAX_KEPT]:
            path.unlink()
