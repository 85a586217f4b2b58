"""The embedder: one ONNX graph from uint8 pixels to an embedding, built once and kept in the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.backbones import catalog, kept
from headstart.backbones.from_model import backbone_of, is_model_file
from headstart.core.digest import digest_record
from headstart.core.graph import IR_VERSION, OPSET, Graph
from headstart.core.tables import resolve
from headstart.data import decode
from headstart.preprocess.nodes import add_preprocess
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import FULL_RANGE, Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto

# Raised whenever `training.tracing` makes another graph of the same network.
EXPORT_VERSION = 1
# Imported only where a network must be exported: they need PyTorch.
_LOAD = "headstart.training.sources:load"
_ARCHITECTURE = "headstart.training.sources:architecture"
_EXPORT = "headstart.training.export:export_loaded"
# Packages whose version decides what a network computes, or how its images are prepared.
_PACKAGES = ("torch", "torchvision", "timm")


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
    """The embedder of a recipe, from the cache or newly built.

    lite0 with its own weights is built without PyTorch, and so is the backbone of a model file. Others are exported
    from PyTorch once; as long as the export is kept, PyTorch is not imported again.

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
    folder = cache / "embedders" if cache else None
    if _is_built_in(recipe):
        return _built_in(recipe, folder)
    if is_model_file(recipe.backbone):
        return _of_model_file(recipe)
    return _exported(recipe, folder, pictures)


def preprocess_of(recipe: Recipe) -> Preprocess:
    """The preprocessing that a recipe's backbone was trained with, with the recipe's fit."""
    if not _is_built_in(recipe):
        spec: Preprocess = resolve(_ARCHITECTURE)(recipe.backbone).preprocess
        return spec.used_with(recipe.fit, recipe.white_level)
    entry = catalog.find(recipe.backbone)
    return Preprocess(
        size_px=entry.size_px,
        fit=recipe.fit,
        crop_fraction=entry.crop_fraction,
        mean=entry.mean,
        std=entry.std,
        white_level=recipe.white_level or FULL_RANGE,
    )


def embedder_graph(recipe: Recipe) -> ModelProto:
    """Build the graph of an embedder without PyTorch."""
    entry = catalog.find(recipe.backbone)
    graph = Graph()
    pixels = add_preprocess(graph, preprocess_of(recipe))
    name = resolve(entry.module)(graph, pixels, recipe.precision)
    return graph.model({name: ("N", entry.embedding_size)})


def _is_built_in(recipe: Recipe) -> bool:
    return recipe.backbone in catalog.BACKBONES and recipe.pretrained and not recipe.weights


def _built_in(recipe: Recipe, folder: Path | None) -> Embedder:
    entry = catalog.find(recipe.backbone)
    spec = preprocess_of(recipe)
    record = {
        "backbone": recipe.backbone, "weights": entry.digest, "version": entry.version,
        "precision": recipe.precision, "preprocess": spec.as_dict(), "opset": OPSET, "ir": IR_VERSION,
        "decode": decode.VERSION,
    }  # fmt: skip
    digest = digest_record(record)
    model = kept.find(folder, digest)
    if model is None:
        model = embedder_graph(recipe).SerializeToString(deterministic=True)
        kept.keep(folder, digest, model)
    return Embedder(recipe.backbone, spec, entry.embedding_size, digest, model, entry.digest, entry.licence)


def _of_model_file(recipe: Recipe) -> Embedder:
    part = backbone_of(recipe.backbone, recipe.fit)
    spec = part.preprocess.used_with(recipe.fit, recipe.white_level)
    record = {"backbone": part.digest, "preprocess": spec.as_dict(), "decode": decode.VERSION}
    return Embedder(recipe.backbone, spec, part.width, digest_record(record), part.model, part.weights, part.licence)


def _exported(recipe: Recipe, folder: Path | None, pictures: Iterable[NDArray[np.uint8]]) -> Embedder:
    """The embedder of a PyTorch network, kept under what can be known without PyTorch."""
    name = catalog.canonical(recipe.backbone)
    digest = _key(recipe, name)
    found = kept.find_with_record(folder, digest) if digest else None
    if found is not None:
        model, facts = found
        spec = Preprocess.from_dict(facts["preprocess"])
        return Embedder(facts["backbone"], spec, facts["width"], digest, model, facts["weights"], facts["licence"])
    loaded = resolve(_LOAD)(name, pretrained=recipe.pretrained, weights=recipe.weights, seed=recipe.seed)
    # Again: what was not here has been fetched meanwhile.
    digest = _key(recipe, name)
    spec = loaded.preprocess.used_with(recipe.fit, recipe.white_level)
    made: Embedder = resolve(_EXPORT)(loaded, spec, pictures)
    embedder = replace(made, digest=digest or digest_record(_facts(recipe, name) | {"weights": made.weights}))
    if digest:
        facts = {
            "backbone": embedder.backbone, "preprocess": spec.as_dict(), "width": embedder.width,
            "weights": embedder.weights, "licence": embedder.licence,
        }  # fmt: skip
        kept.keep(folder, digest, embedder.model, facts)
    return embedder


def _key(recipe: Recipe, name: str) -> str:
    """The digest of what decides an embedding, known without PyTorch; empty where the weights are not here."""
    if not recipe.pretrained:
        return digest_record(_facts(recipe, name) | {"seed": recipe.seed})
    if recipe.weights or name.startswith("file:"):
        file: Path | None = Path(recipe.weights or name.removeprefix("file:"))
    else:
        row = catalog.row_of(name)
        file = catalog.local_file(row) if row is not None else None
    weights = _file_digest(file) if file is not None else ""
    return digest_record(_facts(recipe, name) | {"file": weights}) if weights else ""


def _facts(recipe: Recipe, name: str) -> dict[str, object]:
    versions = {package: _version(package) for package in _PACKAGES}
    return {
        # A file may be moved: it counts by its content.
        "backbone": name if not name.startswith("file:") else "file", "fit": recipe.fit, "packages": versions,
        "version": EXPORT_VERSION, "opset": OPSET, "ir": IR_VERSION, "decode": decode.VERSION,
        **({"white_level": recipe.white_level} if recipe.white_level else {}),
    }  # fmt: skip


def _file_digest(path: Path) -> str:
    """SHA-256 of a file's content; empty where it cannot be read, which loading it will tell."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
