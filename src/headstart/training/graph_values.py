"""Values and nodes of an exported graph, known for two numbers of images at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.errors import ModelError
from headstart.core.graph import OPSET
from headstart.core.operators import EXPLICIT

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

COUNTS = (2, 3)  # numbers of images; not 1, which exporters treat as a size of its own
HINT = "Choose another backbone."
# Attributes that change nothing in a network that does not learn.
_IRRELEVANT = {("BatchNormalization", "momentum"), ("LayerNormalization", "stash_type")}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """A node of our graph.

    Attributes:
        operator: ONNX's name of what it computes.
        inputs: Names of values.
        output: Name of the one value that it gives.
        attributes: By name.
    """

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Value:
    """A value of the exported graph.

    Attributes:
        name: What it is called in our graph.
        shapes: Its shape for each of `COUNTS`.
        known: What it is for each of `COUNTS`, where that follows without any pixel.
    """

    name: str
    shapes: tuple[Shape, Shape]
    known: tuple[NDArray[np.generic], NDArray[np.generic]] | None = None

    @property
    def fixed(self) -> bool:
        """Whether it is known and the same for any number of images."""
        return self.known is not None and (self.known[0] is self.known[1] or np.array_equal(*self.known))


def refusal(operator: str) -> ModelError:
    """The error for an operator that no model file may hold, or not in this way."""
    return ModelError(f"The network uses the operator {operator}, which cannot become a part of a model file.", HINT)


def evaluate(node: NodeProto, inputs: list[Value], index: int) -> list[NDArray[np.generic]]:
    """What a node computes of known values, by ONNX's own reference."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = {name: value.known[index] for name, value in zip(node.input, inputs, strict=True) if value.known}
    names = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(given[name].dtype), None) for name in given
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "one", names, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    try:
        return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, given)]
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise refusal(node.op_type) from error


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes of an exported node, by name."""
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def needed_attributes(node: NodeProto, inputs: list[Value]) -> dict[str, Any]:
    """The attributes that differ from their defaults, and those that are always written."""
    import onnx
    from onnx import helper

    known = onnx.defs.get_schema(node.op_type, OPSET).attributes
    defaults = {
        name: helper.get_attribute_value(one.default_value) for name, one in known.items() if one.default_value.name
    }
    explicit = EXPLICIT.get(node.op_type, ())
    given = {name: value for name, value in attributes_of(node).items() if (node.op_type, name) not in _IRRELEVANT}
    if explicit and given.get("auto_pad") == b"VALID":
        given["auto_pad"] = b"NOTSET"  # no padding, which is what the default below says
    if explicit:
        kernel = list(inputs[1].shapes[0][2:]) if node.op_type == "Conv" else given["kernel_shape"]
        axes = len(kernel)
        given = {"kernel_shape": kernel, "strides": [1] * axes, "pads": [0] * 2 * axes} | given
        if "group" in explicit:
            given = {"group": 1} | given
    if "dilations" in given and set(given["dilations"]) == {1}:
        del given["dilations"]
    return {name: value for name, value in given.items() if name in explicit or value != defaults.get(name)}


def fixed_ints(operator: str, value: Value) -> list[int]:
    """The integers of an input that is the same for any number of images.

    Raises:
        ModelError: It is not.
    """
    if value.known is None or not value.fixed:
        raise refusal(operator)
    return [int(one) for one in value.known[0].ravel()]


def dims(kind: Any) -> Shape:
    """A shape as inferred; 0 stands for a size that is not known."""
    tensor = kind.tensor_type
    return tuple(d.dim_value for d in tensor.shape.dim) if tensor.HasField("shape") else (0,)
