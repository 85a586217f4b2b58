"""What becomes of each operator of an exported graph: nodes of ours, whose sizes are all constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.operators import MAX_SIZE, OPERATORS
from headstart.training.graph_values import (
    COUNTS,
    Node,
    Shape,
    Value,
    attributes_of,
    fixed_ints,
    needed_attributes,
    refusal,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto


class Rewriter:
    """Nodes and constants of our graph, as they are collected.

    Args:
        pixels: Name of the input in our graph.
        rank: Axes of one input, without N.
        prefix: What the names of our nodes begin with.
    """

    def __init__(self, pixels: str, rank: int, prefix: str) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[np.generic]] = {}
        self._pixels = pixels
        self._rank = rank
        self._prefix = prefix
        self._values = {"": Value("", ((), ()))}

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(Node(operator, tuple(inputs), output, attributes))
        return output

    def _ints(self, name: str, values: list[int]) -> str:
        self.constants[name] = np.array(values, np.int64)
        return name

    def _input(self, operator: str, value: Value) -> str:
        """The name of an input; a known one becomes a constant."""
        if value.known is None or not value.name:
            return value.name
        if not value.fixed:
            return self._repeat(operator, value)
        values = value.known[0]
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise refusal(operator)
        self.constants[value.name] = values
        return value.name

    def _reshape(self, source: str, shapes: tuple[Shape, Shape], output: str) -> str:
        """To a shape that is known but for the number of images."""
        first, second = shapes
        target = [a if a == b else -1 for a, b in zip(first, second, strict=True)]
        if target.count(-1) > 1:
            raise refusal("Reshape")
        return self._add("Reshape", [source, self._ints(f"{output}:shape", target)], output)

    def _alias(self, output: Value, to: Value, names: tuple[str, ...]) -> None:
        for name in names:
            self._values[name] = Value(to.name, output.shapes)

    # --- operators -------------------------------------------------------------------------------------------------

    def _plain(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        """An operator that a model file holds as it is."""
        if node.op_type not in OPERATORS or any(node.output[1:]):
            raise refusal(node.op_type)
        names = [self._input(node.op_type, value) for value in inputs]
        while not names[-1]:
            names.pop()
        self._add(node.op_type, names, output.name, **needed_attributes(node, inputs))

    def _same(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        if node.op_type == "Cast" and attributes_of(node)["to"] != 1:
            raise refusal("Cast to another type")
        self._alias(output, inputs[0], tuple(node.output[:1]))

    def _reshaped(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        """Reshape, Flatten, Squeeze and Unsqueeze: the values stay, in their order."""
        if inputs[0].shapes == output.shapes:
            self._alias(output, inputs[0], tuple(node.output))
        else:
            self._reshape(self._input(node.op_type, inputs[0]), output.shapes, output.name)

    def _reduced(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        names = [self._input(node.op_type, inputs[0])]
        axes = fixed_ints(node.op_type, inputs[1]) if len(inputs) > 1 and inputs[1].name else []
        axes = sorted(axis % len(inputs[0].shapes[0]) for axis in axes) or list(range(len(inputs[0].shapes[0])))
        names.append(self._ints(f"{output.name}:axes", axes))
        self._add(node.op_type, names, output.name, keepdims=attributes_of(node).get("keepdims", 1))

    def _slice(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        if inputs[0].shapes == output.shapes:
            self._alias(output, inputs[0], tuple(node.output))
            return
        parts = [fixed_ints("Slice", value) for value in inputs[1:]]
        if len(parts) < 3:
            parts.append(list(range(len(parts[0]))))
        labels = ("starts", "ends", "axes", "steps")
        names = [self._ints(f"{output.name}:{label}", part) for label, part in zip(labels, parts, strict=False)]
        self._add("Slice", [self._input("Slice", inputs[0]), *names], output.name)

    def _cut(self, source: Value, axis: int, start: int, end: int, output: str) -> str:
        names = [
            self._ints(f"{output}:{label}", [value])
            for label, value in (("starts", start), ("ends", end), ("axes", axis))
        ]
        return self._add("Slice", [self._input("Slice", source), *names], output)

    def _split(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        """Parts are slices: every node has one output."""
        axis, start = attributes_of(node).get("axis", 0) % len(output.shapes[0]), 0
        for name in node.output:
            part = self._values[name]
            end = start + part.shapes[0][axis]
            self._cut(inputs[0], axis, start, end, part.name)
            start = end

    def _gather(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        """One row or column; or all values in their order, as strided views of tensors are exported."""
        source, index = inputs
        if index.known is None:
            raise refusal("Gather")
        axis = attributes_of(node).get("axis", 0) % len(source.shapes[0])
        whole = all(
            len(shape) == 1 and np.array_equal(places.ravel(), np.arange(shape[0]))
            for shape, places in zip(source.shapes, index.known, strict=True)
        )
        if whole:
            self._reshaped(node, inputs, output)
            return
        if index.known[0].size != 1 or not index.fixed:
            raise refusal("Gather")
        start = int(index.known[0].ravel()[0]) % source.shapes[0][axis]
        cut = self._cut(source, axis, start, start + 1, f"{output.name}:cut")
        self._reshape(cut, output.shapes, output.name)

    def _pad(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        if attributes_of(node).get("mode", b"constant") != b"constant":
            raise refusal("Pad with another mode than 'constant'")
        amounts = fixed_ints("Pad", inputs[1])
        if len(inputs) > 3 and inputs[3].name:
            axes, rank = fixed_ints("Pad", inputs[3]), len(inputs[0].shapes[0])
            some, amounts = amounts, [0] * (2 * rank)
            for i, axis in enumerate(axes):
                amounts[axis % rank], amounts[axis % rank + rank] = some[i], some[i + len(axes)]
        if not any(amounts):
            self._alias(output, inputs[0], tuple(node.output))
            return
        names = [self._input("Pad", inputs[0]), self._ints(f"{output.name}:pads", amounts)]
        if len(inputs) > 2 and inputs[2].known and inputs[2].known[0]:
            lowest = np.finfo(np.float32).min  # for the -inf that some networks put around a MaxPool
            self.constants[f"{output.name}:value"] = np.maximum(inputs[2].known[0], lowest).astype(np.float32)
            names.append(f"{output.name}:value")
        self._add("Pad", names, output.name)

    def _expand(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        """Repeat along an axis: the sum with zeros of the larger shape."""
        if inputs[0].shapes == output.shapes:
            self._alias(output, inputs[0], tuple(node.output))
            return
        rank = len(output.shapes[0])
        before, after = (
            np.array([(1,) * (rank - len(one)) + one for one in two]) for two in (inputs[0].shapes, output.shapes)
        )
        grown = np.where(before == after, 1, after)
        if not np.array_equal(grown[0], grown[1]) or grown[0].prod() > MAX_SIZE:
            raise refusal("Expand")
        self.constants[f"{output.name}:zeros"] = np.zeros(grown[0], np.float32)
        self._add("Add", [self._input("Expand", inputs[0]), f"{output.name}:zeros"], output.name)

    def _repeat(self, operator: str, value: Value) -> str:
        """What is the same for each image, once for each image (the class token of a vision transformer).

        The sum with a zero of each image, as a pixel times 0 is: pixels are finite.
        """
        first, second = value.shapes
        grows = [axis for axis, sizes in enumerate(zip(first, second, strict=True)) if sizes == COUNTS]
        if value.known is None or len(grows) != 1:
            raise refusal(operator)
        token = np.take(value.known[0], [0], grows[0])
        if token.dtype != np.float32 or not all(
            np.array_equal(np.broadcast_to(token, v.shape), v) for v in value.known
        ):
            raise refusal(operator)
        name = f"{value.name}:repeated"
        if not any(node.output == name for node in self.nodes):
            self.constants[f"{name}:token"] = token
            target = [-1 if axis in grows else 1 for axis in range(len(first))]
            zeros = self._add("Reshape", [self._zeros(), self._ints(f"{name}:shape", target)], f"{name}:zeros")
            self._add("Add", [f"{name}:token", zeros], name)
        return name

    def _zeros(self) -> str:
        """A zero for each image, (N, 1, ...)."""
        name = f"{self._prefix}:zeros"
        if f"{name}:factor" not in self.constants:
            self.constants[f"{name}:factor"] = np.array(0, np.float32)
            axes = list(range(1, self._rank + 1))
            parts = {"starts": [0] * len(axes), "ends": [1] * len(axes), "axes": axes}
            names = [self._ints(f"{name}:{label}", part) for label, part in parts.items()]
            corner = self._add("Slice", [self._pixels, *names], f"{name}:corner")
            self._add("Mul", [corner, f"{name}:factor"], name)
        return name

    def _gemm(self, node: NodeProto, inputs: list[Value], output: Value) -> None:
        """A dense layer, its weights stored the way that the product needs them."""
        attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | attributes_of(node)
        if (attributes["alpha"], attributes["beta"], attributes["transA"]) != (1.0, 1.0, 0):
            raise refusal("Gemm")
        names = [self._input("Gemm", value) for value in inputs]
        if attributes["transB"]:
            if (known := inputs[1].known) is None or not inputs[1].fixed:
                raise refusal("Gemm")
            names[1] = f"{names[1]}:t"
            self.constants[names[1]] = np.ascontiguousarray(known[0].T)
        self._add("Gemm", names, output.name)


HANDLERS: dict[str, Callable[[Rewriter, NodeProto, list[Value], Value], None]] = {
    **dict.fromkeys(("Identity", "Dropout", "Cast"), Rewriter._same),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), Rewriter._reshaped),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"), Rewriter._reduced),
    "Slice": Rewriter._slice,
    "Split": Rewriter._split,
    "Gather": Rewriter._gather,
    "Pad": Rewriter._pad,
    "Expand": Rewriter._expand,
    "Gemm": Rewriter._gemm,
}
