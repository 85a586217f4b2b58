"""Refuse a model file that Headstart did not write, before ONNX Runtime sees it.

A valid ONNX file can read other files, and 102 bytes of one can take 1.5 GiB. So the file is checked for size, for one
metadata entry, for the operators that we emit, for data that is all inside, for the preprocessing that its own record
describes (node by node), and for the size of every tensor that it would compute.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.artifact.schema import KEY, Metadata
from headstart.core.errors import ModelError
from headstart.core.graph import Graph
from headstart.core.text import quoted
from headstart.preprocess.nodes import add_preprocess

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

MAX_MODEL_BYTES = 2**31 - 1  # protobuf's own limit
MAX_METADATA_BYTES = 64 * 2**20
MAX_TENSOR_VALUES = 2**26  # 256 MiB of float32 for each value that one image passes through
MAX_OPSET = 26

# Operators after the preprocessing. None of them computes a shape from values, so shapes are known beforehand.
OPERATORS = {
    "Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "QuantizeLinear", "DequantizeLinear",
    "Gemm", "Div", "Softmax",
}  # fmt: skip
_METADATA_FIELD = 14  # ModelProto.metadata_props
_LENGTH_DELIMITED = 2


def read_model(path: Path) -> bytes:
    """Read a model file, after a look at its outermost fields.

    Raises:
        ModelError: There is no such file, or it is no model of Headstart.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if not 0 < size <= MAX_MODEL_BYTES:
                raise ModelError(f"{quoted(str(path))} is {'empty' if not size else 'larger than 2 GiB'}.", _NOT_OURS)
            # A large file that is not ours is refused without being read: pages that are skipped stay on the disk.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                metadata_text(view, quoted(str(path)))
                return view[:]
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file {quoted(str(path))}.", "Train one: headstart train FOLDER") from error
    except IsADirectoryError as error:
        hint = f"Did you mean {quoted(str(path / 'model.onnx'))}?" if (path / "model.onnx").exists() else _NOT_OURS
        raise ModelError(f"{quoted(str(path))} is a folder, not a model file.", hint) from error
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{quoted(str(path))} cannot be read: {error}.") from error


_NOT_OURS = "Expected a model.onnx that `headstart train` wrote."


def check(content: bytes, name: str = "The model") -> Metadata:
    """Check a model file and read its metadata.

    Raises:
        ModelError: It is refused; the message says why.
    """
    from google.protobuf.message import DecodeError

    metadata = Metadata.from_json(metadata_text(content, name))
    import onnx

    try:
        model = onnx.load_from_string(content)
    except (DecodeError, ValueError, TypeError) as error:
        raise ModelError(f"{name} is damaged: it is not a valid ONNX file.", _NOT_OURS) from error
    _check_outside(model)
    for tensor in model.graph.initializer:
        _check_tensor(tensor)
    expected = Graph()
    add_preprocess(expected, metadata.preprocess)
    _check_preprocess(model, expected)
    _check_nodes(model, len(expected.nodes))
    _check_shapes(model, expected, metadata)
    return metadata


def metadata_text(content: bytes | mmap.mmap, name: str) -> str:
    """The one metadata entry of a model file, found without reading the model.

    Raises:
        ModelError: The file is no ONNX file, or has no such entry, or several.
    """
    entries = []
    try:
        for field, start, end in _fields(content, 0, len(content)):
            if field == _METADATA_FIELD:
                if end - start > MAX_METADATA_BYTES:
                    raise ModelError(f"{name} has a metadata entry of {end - start:,} bytes; refused.", _NOT_OURS)
                entries.append(dict(_strings(content, start, end)))
                if len(entries) > 1:
                    raise ModelError(f"{name} has several metadata entries; Headstart writes one.", _NOT_OURS)
    except (ValueError, IndexError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{name} is not a valid ONNX file.", _NOT_OURS) from error
    if not entries or entries[0].get(1) != KEY.encode():
        raise ModelError(f"{name} is not a model of Headstart: it has no metadata entry '{KEY}'.", _NOT_OURS)
    try:
        return entries[0].get(2, b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{name} has metadata that is not UTF-8.", _NOT_OURS) from error


def _fields(content: bytes | mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each length-delimited field of a protobuf message; other fields are passed over."""
    while at < end:
        key, at = _varint(content, at)
        kind = key & 7
        if kind == _LENGTH_DELIMITED:
            length, at = _varint(content, at)
            if at + length > end:
                raise ValueError("a field ends outside the file")
            yield key >> 3, at, at + length
            at += length
        elif kind == 0:
            _, at = _varint(content, at)
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not a protobuf message")
    if at != end:
        raise ValueError("a field ends outside the file")


def _varint(content: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("not a protobuf message")


def _strings(content: bytes | mmap.mmap, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    for field, start, stop in _fields(content, at, end):
        yield field, bytes(content[start:stop])


def _check_outside(model: ModelProto) -> None:
    """Nothing but one graph of standard operators, with one image in and two results out."""
    graph = model.graph
    extras = (model.functions, model.training_info, graph.sparse_initializer, graph.quantization_annotation)
    if any(len(extra) for extra in extras):
        raise ModelError("The model holds functions or sparse data, which Headstart never writes; refused.")
    if len(model.opset_import) != 1 or model.opset_import[0].domain or model.opset_import[0].version > MAX_OPSET:
        raise ModelError("The model asks for operators that Headstart never writes; refused.")
    inputs, outputs = [value.name for value in graph.input], [value.name for value in graph.output]
    if inputs != ["image"] or outputs != ["probabilities", "embedding"]:
        raise ModelError(
            f"The model has the inputs {inputs} and outputs {outputs}; "
            "expected ['image'] and ['probabilities', 'embedding']."
        )


def _check_tensor(tensor: TensorProto) -> None:
    from onnx import helper

    if tensor.data_location or len(tensor.external_data):
        raise ModelError(f"The model keeps {quoted(tensor.name)} in another file; refused.")
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiu" or any(size < 0 for size in tensor.dims):
        raise ModelError(f"The model holds data of an unknown kind in {quoted(tensor.name)}; refused.")
    if math.prod(tensor.dims) * dtype.itemsize != len(tensor.raw_data):
        raise ModelError(f"The model's data in {quoted(tensor.name)} does not fit its dimensions; refused.")
    if dtype.kind == "f" and not np.isfinite(np.frombuffer(tensor.raw_data, dtype)).all():
        raise ModelError(f"The model's weights in {quoted(tensor.name)} are not all finite numbers; refused.")


def _check_preprocess(model: ModelProto, expected: Graph) -> None:
    """The graph begins with exactly the nodes that its preprocessing record asks for."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in expected.constants}
    same_nodes = list(model.graph.node[: len(expected.nodes)]) == expected.nodes
    if not same_nodes or constants != expected.constants:
        raise ModelError("The model does not prepare pixels the way that its record says; refused.")


def _check_nodes(model: ModelProto, first: int) -> None:
    from onnx import AttributeProto, helper

    plain = {AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT, AttributeProto.STRING}
    for node in model.graph.node[first:]:
        if node.domain or node.op_type not in OPERATORS:
            raise ModelError(
                f"The model uses the operator {quoted(node.op_type)}, which Headstart never writes; refused."
            )
        for attribute in node.attribute:
            if attribute.type not in plain:
                raise ModelError(f"The model hides data in an attribute of {quoted(node.name)}; refused.")
        attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        kernel = attributes.get("kernel_shape", [])
        if (attributes.get("pads") and max(attributes["pads"]) >= max(kernel, default=0)) or "auto_pad" in attributes:
            raise ModelError(f"The model pads {quoted(node.name)} by more than its kernel; refused.")


def _check_shapes(model: ModelProto, expected: Graph, metadata: Metadata) -> None:
    """The sizes of all values that one image passes through, inferred without running anything."""
    import onnx
    from onnx import TensorProto, helper

    size_px, graph, first = metadata.preprocess.size_px, model.graph, len(expected.nodes)
    pixels = helper.make_tensor_value_info(
        model.graph.node[first - 1].output[0], TensorProto.FLOAT, [1, 3, size_px, size_px]
    )
    # The shapes follow from the dimensions of the weights: their values stay outside.
    weights = [
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in graph.initializer
        if t.name not in expected.constants
    ]
    inner = helper.make_graph(graph.node[first:], "inner", [pixels, *weights], list(graph.output))
    try:
        inferred = onnx.shape_inference.infer_shapes(
            helper.make_model(inner, opset_imports=model.opset_import, ir_version=model.ir_version),
            strict_mode=True,
        )
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ModelError(f"The model's parts do not fit together: {str(error)[:200]}") from error
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.output)
    }
    for node in graph.node[first:]:
        shape = shapes.get(node.output[0])
        known = shape is not None and (all(shape) or node.output[0] in {"probabilities", "embedding"})
        if not known or math.prod(shape or [0]) > MAX_TENSOR_VALUES:
            raise ModelError(f"The model computes values of unbounded size in {quoted(node.name)}; refused.")
    width, classes = shapes["embedding"][-1], shapes["probabilities"][-1]
    if classes != len(metadata.classes):
        raise ModelError(f"The model names {len(metadata.classes)} classes and computes {classes}; refused.")
    if any(len(one.probabilities) != classes or len(one.embedding) != width for one in metadata.golden):
        raise ModelError("The model's golden images do not fit its outputs; refused.")
