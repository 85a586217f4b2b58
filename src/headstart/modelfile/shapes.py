"""The shapes of all values of a model, inferred without running anything."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headstart.core.errors import ModelError
from headstart.core.graph import Graph
from headstart.core.operators import MAX_INTEGERS

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


def decides(tensor: TensorProto) -> bool:
    """Whether the values of a tensor may decide shapes, so that they must be looked at."""
    return tensor.data_type == tensor.INT64 and math.prod(tensor.dims) <= MAX_INTEGERS


def value_shapes(model: ModelProto, expected: Graph, size_px: int) -> dict[str, list[int]]:
    """The shape of each value after the preprocessing, for one image; 0 stands for a size that is not known.

    Args:
        model: A model that begins with the nodes of `expected`.
        expected: The preprocessing alone.
        size_px: Side of the square that it gives.

    Raises:
        ModelError: The parts of the model do not fit together.
    """
    import onnx
    from onnx import TensorProto, helper

    first = len(expected.nodes)
    # The shapes follow from the dimensions of the weights: their values stay outside, but for those that are sizes.
    given = {model.graph.node[first - 1].output[0]: (TensorProto.FLOAT, [1, 3, size_px, size_px])}
    constants = [tensor for tensor in model.graph.initializer if tensor.name not in expected.constants]
    sizes = [tensor for tensor in constants if decides(tensor)]
    for tensor in constants:
        if not decides(tensor):
            given[tensor.name] = tensor.data_type, list(tensor.dims)
    inputs = [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in given.items()]
    # Without declared shapes, so that nothing but the inferred ones counts.
    outputs = [helper.make_tensor_value_info(output.name, TensorProto.FLOAT, None) for output in model.graph.output]
    inner = helper.make_graph(model.graph.node[first:], "inner", inputs, outputs, sizes)
    try:
        inferred = onnx.shape_inference.infer_shapes(
            helper.make_model(inner, opset_imports=model.opset_import, ir_version=model.ir_version),
            check_type=True,
            strict_mode=True,
        ).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ModelError("The model's parts do not fit together; refused.") from error
    shapes = {name: dims for name, (_, dims) in given.items()} | {one.name: list(one.dims) for one in sizes}
    for value in (*inferred.value_info, *inferred.output):
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    return shapes
