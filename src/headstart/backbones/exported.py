"""Backbones that are exported from PyTorch once; as long as the export is kept, PyTorch is not imported again."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.backbones import catalog, kept
from headstart.backbones.embedder import Embedder
from headstart.core.digest import digest_record
from headstart.core.graph import IR_VERSION, OPSET
from headstart.core.tables import resolve
from headstart.data import decode
from headstart.preprocess.spec import Preprocess
from headstart.settings.backbones import FILE, BackboneSpec
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Raised whenever `training.export` makes another graph of the same network.
EXPORT_VERSION = 2
# Imported only where a network must be exported: they need PyTorch.
_LOAD = "headstart.training.sources:load"
_EXPORT = "headstart.training.export:export_loaded"
# Packages whose version decides what a network computes, or how its images are prepared.
_PACKAGES = ("torch", "torchvision", "timm")


def load(spec: BackboneSpec, recipe: Recipe, folder: Path | None, pictures: Iterable[NDArray[np.uint8]]) -> Embedder:
    """The embedder of a PyTorch network, kept under what can be known without PyTorch.

    Raises:
        ModelError: The weights are damaged, or it cannot be exported, or its export computes something else.
        OfflineError: The weights are not here and could not be fetched.
        ExtraError: The extra `torch` is needed and not installed.
    """
    digest = _key(spec, recipe)
    found = kept.find_with_record(folder, digest) if digest else None
    if found is not None:
        model, facts = found
        preprocess = Preprocess.from_dict(facts["preprocess"])
        return Embedder(
            facts["backbone"], preprocess, facts["width"], digest, model, facts["weights"], facts["licence"]
        )
    loaded = resolve(_LOAD)(spec.name, pretrained=recipe.pretrained, weights=recipe.weights, seed=recipe.seed)
    # Again: what was not here has been fetched meanwhile.
    digest = _key(spec, recipe)
    preprocess = loaded.preprocess.used_with(recipe.fit, recipe.white_level)
    made: Embedder = resolve(_EXPORT)(loaded, preprocess, pictures)
    embedder = replace(made, digest=digest or digest_record(_facts(spec, recipe) | {"weights": made.weights}))
    if digest:
        facts = {
            "backbone": embedder.backbone, "preprocess": preprocess.as_dict(), "width": embedder.width,
            "weights": embedder.weights, "licence": embedder.licence,
        }  # fmt: skip
        kept.keep(folder, digest, embedder.model, facts)
    return embedder


def _key(spec: BackboneSpec, recipe: Recipe) -> str:
    """The digest of what decides an embedding, known without PyTorch; empty where the weights are not here."""
    if not recipe.pretrained:
        return digest_record(_facts(spec, recipe) | {"seed": recipe.seed})
    file = Path(recipe.weights) if recipe.weights else catalog.local_file(spec)
    weights = _file_digest(file) if file is not None else ""
    return digest_record(_facts(spec, recipe) | {"file": weights}) if weights else ""


def _facts(spec: BackboneSpec, recipe: Recipe) -> dict[str, object]:
    versions = {package: _version(package) for package in _PACKAGES}
    return {
        # A file may be moved: it counts by its content.
        "backbone": spec.name if spec.weights != FILE else "file", "fit": recipe.fit, "packages": versions,
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
