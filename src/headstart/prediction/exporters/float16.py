"""The network of a model in float16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.core.graph import Graph, replace_all

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_HALF_RANGE = (-65504.0, 65504.0)  # of float16


def halve(model: ModelProto, outside: set[str]) -> None:
    """Compute in float16 what is not outside, with a cast where a value goes in or comes out."""
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    made = Graph()
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    inside = {name for node in graph.node if node.name not in outside for name in node.output}
    used_outside = {name for node in graph.node if node.name in outside for name in node.input}
    wanted = used_outside | {output.name for output in graph.output}
    floats = _float_values(model)
    nodes: list[NodeProto] = []

    def half(name: str) -> str:
        if name in inside or not name:
            return f"{name}.half" if name in inside and name in floats else name
        if name in weights:
            values = np.clip(numpy_helper.to_array(weights[name]), *_HALF_RANGE)
            return made.constant(f"{name}.half", values.astype(np.float16))
        if name in floats and f"{name}.half" not in cast:
            cast.add(f"{name}.half")
            made.node("Cast", [name], f"{name}.half", to=TensorProto.FLOAT16)
        return f"{name}.half" if name in floats else name

    cast: set[str] = set()
    for node in graph.node:
        if node.name in outside:
            nodes.append(node)
            continue
        node.input[:] = [half(name) for name in node.input]
        given = list(node.output)
        node.output[:] = [half(name) for name in given]
        node.name = node.output[0]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
        nodes += [*made.nodes, node]
        made.nodes.clear()
        for name in given:
            if name in wanted and name in floats:
                made.node("Cast", [f"{name}.half"], name, to=TensorProto.FLOAT)
        nodes += made.nodes
        made.nodes.clear()
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    replace_all(graph.node, nodes)
    replace_all(graph.initializer, [*kept, *made.constants.values()])


def _float_values(model: ModelProto) -> set[str]:
    """Names of the values of type float32 that nodes give."""
    from onnx import TensorProto, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    known = [*graph.value_info, *graph.output]
    return {value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT}
