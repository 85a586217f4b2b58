"""A small builder of ONNX graphs: names first, one line a node."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

# Old enough for ONNX Runtime 1.18 and its browser and mobile builds; `antialias` of Resize needs 18.
OPSET = 18
IR_VERSION = 9


class Graph:
    """Collects nodes and constants; every node has one output, which names it, but for `top`."""

    FLOAT = 1  # onnx.TensorProto.FLOAT

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.prefix = ""

    def within(self, prefix: str) -> Graph:
        """The same graph, in which the names of what is added through it begin with a prefix."""
        inner = copy.copy(self)
        inner.prefix = f"{self.prefix}{prefix}"
        return inner

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        from onnx import helper

        output = f"{self.prefix}{output}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def top(self, values: str, count: int, output: str) -> str:
        """Add a node for the `count` largest of each row of values (N, M); its name. Their places are not used."""
        from onnx import helper

        inputs = [values, self.ints(f"{output}.count", [count])]
        output = f"{self.prefix}{output}"
        outputs = [output, f"{output}.places"]
        self.nodes.append(helper.make_node("TopK", inputs, outputs, name=output, axis=1))
        return output

    def constant(self, name: str, values: NDArray[Any] | np.generic) -> str:
        """Add a constant, or keep the one of this name; the name."""
        from onnx import numpy_helper

        name = f"{self.prefix}{name}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def ints(self, name: str, values: Sequence[int]) -> str:
        """Add a constant of int64 values; the name."""
        return self.constant(name, np.array(values, np.int64))

    def model(self, outputs: dict[str, tuple[str, int]]) -> ModelProto:
        """The finished model.

        Args:
            outputs: For each output name, its first dimension's symbol and its width; all are float32 (N, width).
        """
        from onnx import TensorProto, helper

        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
        results = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "headstart", [image], results, list(self.constants.values()))
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="headstart")


def replace_all(field: Any, values: Sequence[Any]) -> None:
    """Put copies of messages in the place of a repeated field's own, of which some may be."""
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)
