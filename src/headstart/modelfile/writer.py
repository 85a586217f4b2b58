"""Put an embedder, a head and metadata together to one model file, and prove it before it is handed out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from headstart.core.equality import ByValue
from headstart.core.graph import Graph
from headstart.heads import Head
from headstart.heads.calibrated import Calibrated
from headstart.heads.references import References
from headstart.modelfile import feature_map, golden
from headstart.modelfile.schema import Metadata
from headstart.modelfile.session import Session
from headstart.modelfile.shapes import value_shapes
from headstart.modelfile.wire import KEY
from headstart.preprocess.nodes import add_preprocess

if TYPE_CHECKING:
    from onnx import ModelProto

    from headstart.backbones.embedder import Embedder


@dataclass(frozen=True, eq=False)
class ModelFile(ByValue):
    """A model file before it is written: what it computes, and what it says of itself.

    Attributes:
        graph: The ONNX model without metadata.
        metadata: All that it says of itself.
    """

    graph: bytes = field(repr=False)
    metadata: Metadata

    @cached_property
    def content(self) -> bytes:
        """The bytes of ``model.onnx``."""
        import onnx

        model = onnx.load_from_string(self.graph)
        entry = model.metadata_props.add()
        entry.key, entry.value = KEY, self.metadata.to_json()
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def because(self, reasons: tuple[str, ...]) -> ModelFile:
        """The same with the sentences that say why its recipe is what it is."""
        return ModelFile(self.graph, dataclasses.replace(self.metadata, reasons=reasons))


def write_model(
    embedder: Embedder, head: Calibrated[Head], metadata: Metadata, references: References | None = None
) -> ModelFile:
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
    graph = model.SerializeToString(deterministic=True)
    tolerance = golden.TOLERANCES[metadata.precision]
    metadata = dataclasses.replace(metadata, golden=golden.make(Session(graph)), tolerance=tolerance)
    return ModelFile(graph, metadata)


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
