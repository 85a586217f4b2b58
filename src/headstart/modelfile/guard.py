"""Refuse a model file that Headstart did not write, before ONNX Runtime sees it.

A valid ONNX file can read other files, and 102 bytes of one can take 1.5 GiB. So a file is checked for its outermost
structure (`wire`), for its metadata (`schema`), for the operators and attributes that we emit, for data that is all
inside, for the preprocessing that its own record describes (node by node), and for what one image would cost.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import ModelError
from headstart.core.graph import Graph
from headstart.core.operators import MAX_SIZE, OPERATORS, complaint
from headstart.core.text import quoted
from headstart.modelfile.location import NOT_OURS
from headstart.modelfile.schema import DISTANCE, FEATURE_MAP, OUTPUTS, Metadata
from headstart.modelfile.shapes import decides, value_shapes
from headstart.modelfile.wire import check_structure, metadata_text
from headstart.preprocess.nodes import add_preprocess

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import ModelProto, NodeProto, TensorProto

MIN_OPSET, MAX_OPSET = 18, 26  # `antialias` of Resize needs 18
MAX_IR_VERSION = 14
MAX_NODES = 20_000
MAX_RANK = 8
# The shorter side that images are brought to; the longer one is at most four times that.
MAX_RESIZE_PX = 2048
# All values that one image passes through, were they held at once: 1 GiB of float32. lite0 has 24 million.
MAX_VALUES = MAX_SIZE
# About ten seconds of one core, with a step for each value that is read. lite0 takes 0.4e9, a large vision transformer
# 60e9.
MAX_MULTIPLICATIONS = 2**38

_MODEL_FIELDS = {"ir_version", "producer_name", "graph", "opset_import", "metadata_props"}
_GRAPH_FIELDS = {"node", "name", "initializer", "input", "output"}
_NODE_FIELDS = {"input", "output", "name", "op_type", "attribute"}
_TENSOR_FIELDS = {"dims", "data_type", "name", "raw_data"}
# TensorProto.DataType of what we write.
_DTYPES: dict[int, np.dtype[np.generic]] = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
}


def check(content: bytes, name: str = "The model") -> Metadata:
    """Check a model file and read its metadata.

    Raises:
        ModelError: It is refused; the message says why.
    """
    metadata = Metadata.from_json(metadata_text(content, name))
    if metadata.preprocess.resize_px > MAX_RESIZE_PX:
        raise ModelError(f"{name} brings images to {metadata.preprocess.resize_px:,} pixels; refused.")
    check_structure(content, name)
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(content)
    except (DecodeError, ValueError, TypeError) as error:
        raise ModelError(f"{name} is damaged: it is not a valid ONNX file.", NOT_OURS) from error
    _check_outside(model, metadata)
    _check_names(model)
    for tensor in model.graph.initializer:
        _check_tensor(tensor)
    expected = Graph()
    with np.errstate(all="ignore"):  # what an absurd mean makes infinite is refused as a weight
        add_preprocess(expected, metadata.preprocess)
    _check_preprocess(model, expected)
    integers = {tensor.name: _integers(tensor) for tensor in model.graph.initializer if decides(tensor)}
    for node in model.graph.node[len(expected.nodes) :]:
        _check_node(node, integers)
    _check_cost(model, expected, metadata)
    return metadata


def _check_outside(model: ModelProto, metadata: Metadata) -> None:
    """Nothing but one graph of standard operators, with one image in and the results out that Headstart writes."""
    graph = model.graph
    if not _only(model, _MODEL_FIELDS) or not _only(graph, _GRAPH_FIELDS) or len(graph.node) > MAX_NODES:
        raise ModelError("The model holds functions or other parts that Headstart never writes; refused.")
    opset = list(model.opset_import)
    standard = len(opset) == 1 and not opset[0].domain and MIN_OPSET <= opset[0].version <= MAX_OPSET
    if not standard or not 0 < model.ir_version <= MAX_IR_VERSION:
        raise ModelError("The model uses operators that Headstart never writes; refused.")
    inputs, outputs = [value.name for value in graph.input], [value.name for value in graph.output]
    required = [*OUTPUTS, DISTANCE] if metadata.familiarity else OUTPUTS
    allowed = [required, [*required, FEATURE_MAP]] if metadata.schema > 1 else [OUTPUTS]
    if inputs != ["image"] or outputs not in allowed:
        raise ModelError("The model's inputs and outputs are not those that Headstart writes; refused.")
    # Element types are those of TensorProto: 2 is uint8, 1 is float32. A dimension that is a symbol has the value 0.
    declared = [
        (value.type.tensor_type.elem_type, [d.dim_value for d in value.type.tensor_type.shape.dim])
        for value in (*graph.input, *graph.output)
    ]
    ranks = [4 if name == FEATURE_MAP else 2 for name in outputs]
    if declared[0] != (2, [0, 0, 0, 3]) or any(
        kind != 1 or len(dims) != rank or dims[0] != 0 for (kind, dims), rank in zip(declared[1:], ranks, strict=True)
    ):
        raise ModelError("The model's inputs and outputs are not of the shapes that Headstart writes; refused.")


def _check_names(model: ModelProto) -> None:
    """Every value is defined once: of two definitions, this check might see one and ONNX Runtime the other."""
    graph = model.graph
    defined = ["image", *(tensor.name for tensor in graph.initializer)]
    for node in graph.node:
        if len(node.output) != (2 if node.op_type == "TopK" else 1):
            raise ModelError("The model has a node without exactly one output; refused.")
        defined += node.output
    used = [name for node in graph.node for name in (node.name, node.op_type, *node.input)]
    # protobuf gives bytes for a name that is not UTF-8
    if not all(isinstance(name, str) for name in (*defined, *used)):
        raise ModelError("The model has names that are not UTF-8; refused.")
    if len(set(defined)) < len(defined) or "" in defined:
        raise ModelError("The model defines a value twice, or without a name; refused.")


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.data_location or len(tensor.external_data):
        raise ModelError(f"The model keeps {quoted(tensor.name)} in another file; refused.")
    if not _only(tensor, _TENSOR_FIELDS) or tensor.data_type not in _DTYPES:
        raise ModelError(f"The model holds data of an unknown kind in {quoted(tensor.name)}; refused.")
    dtype = _DTYPES[tensor.data_type]
    fits = len(tensor.dims) <= MAX_RANK and all(size > 0 for size in tensor.dims)
    if not fits or math.prod(tensor.dims) * dtype.itemsize != len(tensor.raw_data):
        raise ModelError(f"The model's data in {quoted(tensor.name)} does not fit its dimensions; refused.")
    if dtype.kind == "f" and not np.isfinite(np.frombuffer(tensor.raw_data, dtype)).all():
        raise ModelError(f"The model's weights in {quoted(tensor.name)} are not all finite numbers; refused.")


def _check_preprocess(model: ModelProto, expected: Graph) -> None:
    """The graph begins with exactly the nodes that its preprocessing record asks for."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in expected.constants}
    same_nodes = list(model.graph.node[: len(expected.nodes)]) == expected.nodes
    if not same_nodes or constants != expected.constants:
        raise ModelError(
            "The model does not preprocess pixels as its record says; refused.",
            "It was changed, or written by an unreleased version: train it again, or get the original file.",
        )


def _integers(tensor: TensorProto) -> list[int]:
    values: list[int] = np.frombuffer(tensor.raw_data, "<i8").tolist()
    return values


def _check_node(node: NodeProto, integers: dict[str, list[int]]) -> None:
    if not _only(node, _NODE_FIELDS) or node.op_type not in OPERATORS:
        raise ModelError(f"The model uses the operator {quoted(node.op_type)}, which Headstart never writes; refused.")
    problem = complaint(node, integers)
    if problem:
        raise ModelError(f"The model's node {quoted(node.name)} {problem}; refused.")


def _check_cost(model: ModelProto, expected: Graph, metadata: Metadata) -> None:
    """The sizes of all values that one image passes through, inferred without running anything."""
    nodes = model.graph.node[len(expected.nodes) :]
    shapes = value_shapes(model, expected, metadata.preprocess.size_px)
    values = multiplications = 0
    for node in nodes:
        shape = shapes.get(node.output[0])
        # The places that TopK gives besides its values have the same shape.
        if not shape or not all(size > 0 for size in shape) or not all(name in shapes for name in node.input if name):
            raise ModelError(f"The model computes values of unknown size in {quoted(node.name)}; refused.")
        size, read = math.prod(shape), [math.prod(shapes[name]) for name in node.input if name]
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        if not -len(shapes[node.input[0]]) <= axis < max(1, len(shapes[node.input[0]])):
            raise ModelError(f"The model's node {quoted(node.name)} has an absurd axis; refused.")
        # Shape inference takes the word of a shape that has no -1.
        if node.op_type == "Reshape" and [size] != read[:1]:
            raise ModelError(f"The model gives {quoted(node.name)} the shape of other values; refused.")
        values += size * len(node.output)
        multiplications += size * _terms(node, shapes) + sum(read)
    if values > MAX_VALUES or multiplications > MAX_MULTIPLICATIONS:
        raise ModelError("One image would cost more memory or time than any model of Headstart takes; refused.")
    classes, width = len(metadata.classes), shapes["embedding"][-1] if "embedding" in shapes else 0
    declared = [[d.dim_value for d in output.type.tensor_type.shape.dim[1:]] for output in model.graph.output]
    computed = [shapes.get(output.name) for output in model.graph.output]
    dims = {"probabilities": [classes], "embedding": [width], DISTANCE: [1]}
    dims[FEATURE_MAP] = [width, *shapes.get(FEATURE_MAP, [])[2:]]
    wanted = [dims[output.name] for output in model.graph.output]
    if declared != wanted or computed != [[1, *one] for one in wanted]:
        raise ModelError(f"The model's outputs do not fit the {classes:,} classes that it names; refused.")
    if any(len(one.probabilities) != classes or len(one.embedding) != width for one in metadata.golden):
        raise ModelError("The model's golden images do not fit its outputs; refused.")


def _terms(node: NodeProto, shapes: dict[str, list[int]]) -> int:
    """How many values are multiplied, or compared, for one result."""
    if node.op_type == "Conv":
        return math.prod(shapes[node.input[1]][1:])
    if node.op_type in {"Gemm", "MatMul"}:
        return shapes[node.input[0]][-1]
    if node.op_type in {"MaxPool", "AveragePool"}:
        return math.prod(next(one.ints for one in node.attribute if one.name == "kernel_shape"))
    return 1


def _only(message: Message, names: set[str]) -> bool:
    """Whether a protobuf message has no fields but these."""
    return all(field.name in names for field, _ in message.ListFields())
