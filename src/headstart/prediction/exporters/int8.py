"""The network of a model in int8, and back in float32."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.graph import Graph, replace_all

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

_MAX_LEVEL = 255  # of uint8


def dequantise(model: ModelProto) -> None:
    """Compute in float32 what was computed in int8: constants as they are, values clipped to their range, not rounded.

    The int8 form is that of `headstart.backbones.layers`: a pair of QuantizeLinear and DequantizeLinear behind each
    layer, whose range may also be what cuts off its values (ReLU6).
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = Graph()
    ranges: dict[str, list[str]] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        arguments = [numpy_helper.to_array(constants[name]) for name in node.input if name in constants]
        if node.op_type == "QuantizeLinear":
            scale, zero = (float(value) for value in arguments)
            low = made.constant(f"{node.output[0]}.low", np.float32(-zero * scale))
            high = made.constant(f"{node.output[0]}.high", np.float32((_MAX_LEVEL - zero) * scale))
            ranges[node.output[0]] = [node.input[0], low, high]
        elif node.op_type == "DequantizeLinear" and node.input[0] in ranges:
            made.nodes.clear()
            made.node("Clip", ranges[node.input[0]], node.output[0])
            nodes += made.nodes
        elif node.op_type == "DequantizeLinear":
            levels, scales, zeros = arguments
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            made.constant(node.output[0], _values(levels, scales, zeros, axis))
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used] + list(made.constants.values())
    replace_all(graph.node, nodes)
    replace_all(graph.initializer, kept)


def _values(
    levels: NDArray[np.integer], scale: NDArray[np.float32], zero: NDArray[np.integer], axis: int
) -> NDArray[np.float32]:
    if scale.ndim:
        shape = [1] * levels.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    values: NDArray[np.float32] = ((levels.astype(np.float64) - zero) * scale).astype(np.float32)
    return values


def quantised(content: bytes, outside: list[str], images: Iterable[NDArray[np.uint8]]) -> ModelProto:
    """Compute in int8 what is not outside.

    Args:
        content: A model in float32.
        outside: Names of the nodes that stay as they are.
        images: uint8 (H, W, 3) each; their values give the ranges.
    """
    import onnx
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[NDArray[np.uint8]] = iter(images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            pixels = next(self._left, None)
            return None if pixels is None else {"image": pixels[None]}

    # It reads and writes files.
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(content)
        with _quiet():
            quantization.quantize_static(
                source,
                target,
                Images(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,  # with 8 bits, sums overflow without VNNI; see `headstart.backbones.layers`
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=outside,
            )
        return _plain(onnx.load(target), onnx.load_from_string(content))


def _plain(made: ModelProto, source: ModelProto) -> ModelProto:
    """The nodes and constants of a model that another program has written, without what else it has put there."""
    from onnx import helper, numpy_helper

    # What was not touched stands where it stood: the nodes of the preprocessing first.
    untouched = {node.name: node for node in source.graph.node if node in made.graph.node}
    first = next(i for i, node in enumerate(source.graph.node) if node.name not in untouched)
    before = list(source.graph.node[:first])
    names = {node.name for node in before}
    behind = [node for node in made.graph.node if node.name not in names]
    graph = helper.make_graph(
        [helper.make_node(node.op_type, node.input, node.output, name=node.output[0]) for node in [*before, *behind]],
        source.graph.name,
        source.graph.input,
        source.graph.output,
        [numpy_helper.from_array(numpy_helper.to_array(one), one.name) for one in made.graph.initializer],
    )
    for node, old in zip(graph.node, [*before, *behind], strict=True):
        node.attribute.extend(old.attribute)
    return helper.make_model(
        graph, opset_imports=source.opset_import, ir_version=source.ir_version, producer_name=source.producer_name
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice of a library to its caller, which it gives to whoever reads the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
