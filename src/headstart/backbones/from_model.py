"""The backbone inside a model file of ours, ``file:model.onnx``, as an embedder for the strategy `probe`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.backbones.embedder import Embedder
from headstart.core.digest import digest_bytes, digest_record
from headstart.core.errors import ModelError, OptionError
from headstart.core.graph import Graph
from headstart.core.text import quoted
from headstart.data import decode
from headstart.modelfile import guard
from headstart.preprocess.nodes import add_preprocess
from headstart.preprocess.spec import Preprocess
from headstart.settings.backbones import BackboneSpec
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto

EMBEDDING = "embedding"


def load(spec: BackboneSpec, recipe: Recipe, folder: Path | None, pictures: Iterable[NDArray[np.uint8]]) -> Embedder:
    """Cut the backbone out of a model file, behind its own preprocessing with the recipe's fit.

    Raises:
        ModelError: The file is missing, or refused.
        OptionError: Its backbone computes in int8.
    """
    path = Path(spec.name.removeprefix("file:"))
    name = quoted(str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The model file {name} cannot be read: {error.strerror}.") from error
    facts = guard.check(content, name)
    if facts.precision != "float32":
        raise OptionError(
            f"The backbone in {name} computes in {facts.precision or 'an unknown precision'}.",
            "Use --backbone lite0, or train that model with --precision float32.",
        )
    model = _cut(content, facts.preprocess, dataclasses.replace(facts.preprocess, fit=recipe.fit))
    preprocess = facts.preprocess.used_with(recipe.fit, recipe.white_level)
    record = {"backbone": digest_bytes(content), "preprocess": preprocess.as_dict(), "decode": decode.VERSION}
    return Embedder(
        backbone=spec.name,
        preprocess=preprocess,
        width=model.graph.output[0].type.tensor_type.shape.dim[1].dim_value,
        digest=digest_record(record),
        model=model.SerializeToString(deterministic=True),
        weights=facts.backbone.weights,
        licence=facts.backbone.licence,
    )


def _cut(content: bytes, before: Preprocess, after: Preprocess) -> ModelProto:
    """The nodes that the embedding depends on, behind the preprocessing `after` in the place of `before`."""
    import onnx

    old, graph = Graph(), Graph()
    new_pixels, old_pixels = add_preprocess(graph, after), add_preprocess(old, before)
    source = onnx.load_from_string(content).graph
    used, nodes = {EMBEDDING}, []
    for node in reversed(source.node[len(old.nodes) :]):
        if node.output[0] in used:
            used.update(node.input)
            node.input[:] = [new_pixels if name == old_pixels else name for name in node.input]
            nodes.append(node)
    graph.nodes += reversed(nodes)
    graph.constants |= {
        tensor.name: tensor for tensor in source.initializer if tensor.name in used and tensor.name not in old.constants
    }
    (width,) = [output.type.tensor_type.shape.dim[1].dim_value for output in source.output if output.name == EMBEDDING]
    return graph.model({EMBEDDING: ("N", width)})
