"""Put an embedder, a head and metadata together to one model file, and prove it before it is handed out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from headstart.artifact import golden
from headstart.artifact.schema import Metadata
from headstart.artifact.wire import KEY
from headstart.backbones.embedder import Embedder
from headstart.core.graph import Graph
from headstart.features.session import Session
from headstart.heads import Head

if TYPE_CHECKING:
    from onnx import ModelProto


def write_model(embedder: Embedder, head: Head, metadata: Metadata) -> bytes:
    """The model file: ``image`` uint8 (N, H, W, 3) to ``probabilities`` (N, C) and ``embedding`` (N, D), float32.

    Args:
        embedder: Pixels to embedding.
        head: Embedding to probabilities.
        metadata: All but the golden images, which are made here.
    """
    model = _assemble(embedder, head, len(metadata.classes))
    session = Session(model.SerializeToString())
    tolerance = golden.TOLERANCES[metadata.recipe["precision"]]
    metadata = dataclasses.replace(metadata, golden=golden.make(session), tolerance=tolerance)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, metadata.to_json()
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _assemble(embedder: Embedder, head: Head, classes: int) -> ModelProto:
    import onnx
    from onnx import helper

    model = onnx.load_from_string(embedder.model)
    graph = Graph()
    name = head.add_nodes(graph, model.graph.output[0].name)
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend(graph.constants.values())
    output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", classes])
    model.graph.output.insert(0, output)
    return model
