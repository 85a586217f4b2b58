"""What the network inside a model file may compute: the one list that the exporter obeys and the guard enforces.

None of the operators runs code, reads a file or makes up its own sizes: what a shape depends on is a constant in the
file, so all shapes are known before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto

MAX_KERNEL = 64
MAX_PAD = 1024
# A constant that decides a shape has one entry for each dimension, or two for `Pad`.
MAX_INTEGERS = 64
# Of one image and one value: 1 GiB of float32. ONNX multiplies dimensions in 64 bits, which larger ones overflow.
MAX_SIZE = 2**28


@dataclass(frozen=True)
class Operator:
    """How an operator may be used.

    Attributes:
        ints: Attributes of whole numbers, one or a list.
        floats: Attributes of type FLOAT.
        constant_inputs: The inputs that must be int64 constants, as they decide shapes.
        inputs: The largest number of inputs.
        outputs: The number of outputs.
    """

    ints: frozenset[str] = frozenset()
    floats: frozenset[str] = frozenset()
    constant_inputs: tuple[int, ...] = ()
    inputs: int = 6
    outputs: int = 1


def _of(
    *ints: str, floats: Sequence[str] = (), constants: tuple[int, ...] = (), inputs: int = 6, outputs: int = 1
) -> Operator:
    return Operator(frozenset(ints), frozenset(floats), constants, inputs, outputs)


_WINDOW = ("kernel_shape", "strides", "pads", "dilations")
_REDUCE = _of("keepdims", constants=(1,), inputs=2)

OPERATORS: dict[str, Operator] = {
    "Abs": _of(),
    "Add": _of(),
    "AveragePool": _of("kernel_shape", "strides", "pads", "ceil_mode", "count_include_pad"),
    "BatchNormalization": _of(floats=["epsilon"]),
    "Cast": _of("to", inputs=1),
    "Clip": _of(),
    "Concat": _of("axis", inputs=1000),
    "Conv": _of(*_WINDOW, "group"),
    "DequantizeLinear": _of("axis"),
    "Div": _of(),
    "Elu": _of(floats=["alpha"]),
    "Erf": _of(),
    "Exp": _of(),
    "Flatten": _of("axis"),
    "Gemm": _of(),
    "GlobalAveragePool": _of(),
    "HardSigmoid": _of(floats=["alpha", "beta"]),
    "HardSwish": _of(),
    "InstanceNormalization": _of(floats=["epsilon"]),
    "LayerNormalization": _of("axis", floats=["epsilon"]),
    "LeakyRelu": _of(floats=["alpha"]),
    "MatMul": _of(),
    "MaxPool": _of(*_WINDOW, "ceil_mode"),
    "Mul": _of(),
    "Neg": _of(),
    "PRelu": _of(),
    "Pad": _of(constants=(1,), inputs=3),
    "Pow": _of(),
    "QuantizeLinear": _of(),
    "Reciprocal": _of(),
    "ReduceL2": _REDUCE,
    "ReduceMax": _REDUCE,
    "ReduceMean": _REDUCE,
    "ReduceSum": _REDUCE,
    "Relu": _of(),
    "Reshape": _of(constants=(1,), inputs=2),
    "Selu": _of(floats=["alpha", "gamma"]),
    "Sigmoid": _of(),
    "Slice": _of(constants=(1, 2, 3, 4)),
    "Softmax": _of("axis"),
    "Sqrt": _of(),
    "Sub": _of(),
    "Tanh": _of(),
    "TopK": _of("axis", "largest", "sorted", constants=(1,), inputs=2, outputs=2),
    "Transpose": _of("perm"),
}
_FLOAT = 1  # onnx.TensorProto.FLOAT
Attributes = dict[str, "float | list[int]"]  # of a node, by name
_INTEGERS = {2: "i", 7: "ints"}  # onnx.AttributeProto.INT and INTS, with the fields that hold them
# Attributes that are written even where they have their default value: the checks below need them.
EXPLICIT = {
    "Conv": ("kernel_shape", "strides", "pads", "group"),
    "MaxPool": ("kernel_shape", "strides", "pads"),
    "AveragePool": ("kernel_shape", "strides", "pads"),
}


def complaint(node: NodeProto, integers: Mapping[str, list[int]]) -> str:
    """What is wrong with a node, as the predicate of a sentence; empty where nothing is.

    Args:
        node: A node of an operator in `OPERATORS`.
        integers: The int64 constants of at most `MAX_INTEGERS` entries, by name.
    """
    operator = OPERATORS[node.op_type]
    values: Attributes = {}
    for attribute in node.attribute:
        kinds = {attribute.FLOAT: "f"} if attribute.name in operator.floats else _INTEGERS
        held = {one.name for one, _ in attribute.ListFields()}
        if attribute.type not in kinds or not held <= {"name", "type", kinds[attribute.type]}:
            return "hides data in an attribute"
        if attribute.name not in operator.ints | operator.floats or attribute.name in values:
            return "has an attribute that Headstart never writes"
        value = getattr(attribute, kinds[attribute.type])
        if attribute.type == attribute.FLOAT and not math.isfinite(value):
            return "has an attribute that is not a finite number"
        values[attribute.name] = list(value) if attribute.type == attribute.INTS else value
    if len(node.input) > operator.inputs or len(node.output) != operator.outputs:
        return "has inputs or outputs that Headstart never writes"
    constants = [node.input[i] for i in operator.constant_inputs if i < len(node.input)]
    if operator.constant_inputs and (not constants or any(name not in integers for name in constants)):
        return "takes a size that is not a constant"
    return _window_complaint(node.op_type, values) or _size_complaint(
        node.op_type, values, [integers[name] for name in constants]
    )


def _window_complaint(operator: str, values: Attributes) -> str:
    """Of convolutions and pools: what slides over the picture is small, and pads no more than itself."""
    if operator not in EXPLICIT:
        return ""
    kernel, strides, pads = (_list(values.get(key)) for key in ("kernel_shape", "strides", "pads"))
    group, dilations = values.get("group", 1), _list(values.get("dilations", [1, 1]))
    lengths = [len(one) for one in (kernel, strides, pads, dilations)]
    if any(key not in values for key in EXPLICIT[operator]) or lengths != [2, 2, 4, 2] or not isinstance(group, int):
        return "lacks attributes"
    if not all(1 <= size <= MAX_KERNEL for size in (*kernel, *strides, *dilations)) or group < 1:
        return "has an absurd kernel"
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    if not all(0 <= pad < limit for pad, limit in zip(pads, reach * 2, strict=True)):
        return "pads by more than its kernel"
    return ""


def _list(value: float | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else []


def _size_complaint(operator: str, values: Attributes, constants: list[list[int]]) -> str:
    if operator == "Pad" and not all(0 <= size <= MAX_PAD for size in constants[0]):
        return "pads by an absurd amount"
    steps = [step for part in constants[3:] for step in part] if operator == "Slice" else []
    if (operator == "Slice" and len(constants) < 3) or not all(1 <= step <= MAX_PAD for step in steps):
        return "lacks axes, or has negative steps"
    if operator == "Cast" and values.get("to") != _FLOAT:
        return "changes to another type than float32"
    if operator == "TopK" and not (len(constants[0]) == 1 and 1 <= constants[0][0] <= MAX_SIZE):
        return "takes an absurd number of values"
    if operator == "Reshape":
        fixed = [size for size in constants[0] if size != -1]
        if len(constants[0]) - len(fixed) > 1 or min(fixed, default=1) < 1 or math.prod(fixed) > MAX_SIZE:
            return "has an absurd shape"
    return ""
