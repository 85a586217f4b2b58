"""Put an embedder, a head and metadata together to one model file, and prove it before it is handed out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from headstart.core.graph import Graph
from headstart.heads import Head
from headstart.heads.calibrated import Calibrated
from headstart.heads.references import References
from headstart.modelfile import feature_map, golden, guard
from headstart.modelfile.schema import SCHEMA, Metadata
from headstart.modelfile.session import Session
from headstart.modelfile.shapes import value_shapes
from headstart.modelfile.wire import KEY
from headstart.preprocess.nodes import add_preprocess

if TYPE_CHECKING:
    from onnx import ModelProto

    from headstart.backbones.embedder import Embedder


def write_model(
    embedder: Embedder, head: Calibrated[Head], metadata: Metadata, references: References | None = None
) -> bytes:
    """The model file: ``image`` uint8 (N, H, W, 3) to ``probabilities`` (N, C) and ``embedding`` (N, D), float32.

    With references, the output ``distance`` (N, 1) is that of the embedding to the nearest of them. Where the network
    ends in a mean over space, what it is the mean of is the output ``feature_map`` (N, D, h, w).

    Args:
        embedder: Pixels to embedding.
        head: Embedding to probabilities.
        metadata: All but the golden images, which are made here; its ``familiarity`` says what a distance means.
        references: Embeddings to compare with.
    """
    model = _assemble(embedder, head, len(metadata.classes), references)
    session = Session(model.SerializeToString())
    tolerance = golden.TOLERANCES[metadata.recipe["precision"]]
    metadata = dataclasses.replace(metadata, golden=golden.make(session), tolerance=tolerance)
    return _with_metadata(model, metadata)


def amend(model: bytes, **changes: Any) -> bytes:
    """The same model file with other metadata.

    Args:
        model: A model file.
        **changes: New values by the names of `Metadata`'s attributes, such as ``reasons``.

    Returns:
        The model file, which `guard.check` accepts; its graph is that of `model`.

    Raises:
        ModelError: The file, or a new value, is refused.
        TypeError: There is no such attribute.
    """
    import onnx

    metadata = dataclasses.replace(guard.check(model), **{"schema": SCHEMA} | changes)
    proto = onnx.load_from_string(model)
    del proto.metadata_props[:]
    content = _with_metadata(proto, metadata)
    guard.check(content)
    return content


def _with_metadata(model: ModelProto, metadata: Metadata) -> bytes:
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, metadata.to_json()
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _assemble(embedder: Embedder, head: Calibrated[Head], classes: int, references: References | None) -> ModelProto:
    import onnx
    from onnx import helper

    model = onnx.load_from_string(embedder.model)
    preprocess = Graph()
    add_preprocess(preprocess, embedder.preprocess)
    shapes = value_shapes(model, preprocess, embedder.preprocess.size_px)
    graph = Graph()
    embedding = model.graph.output[0].name
    name = head.add_nodes(graph, embedding)
    model.graph.output.insert(0, helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", classes]))
    if references is not None:
        name = references.add_nodes(graph, embedding)
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 1]))
    feature_map.expose(model, len(preprocess.nodes), shapes)
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(graph.constants.values())
    return model
