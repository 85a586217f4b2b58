"""The walk through an exported graph, for two and for three images at once: see `headstart.training.tracing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import ModelError
from headstart.core.graph import OPSET
from headstart.core.operators import MAX_INTEGERS, complaint
from headstart.training.graph_values import COUNTS, HINT, Node, Shape, Value, attributes_of, dims, evaluate, refusal
from headstart.training.rewrite import HANDLERS, Rewriter

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

EMBEDDING = "embedding"
PREFIX = "net."


class Walk(Rewriter):
    """Goes through an exported graph once, node by node, and collects ours.

    Args:
        model: The exported graph, from values (N, ...) to (N, D).
        pixels: Name of its input in our graph.
        shape: Shape of one input, without N.
        prefix: What the names of our nodes begin with.
        result: Name of the last value.

    Raises:
        ModelError: It holds what no model file may hold.
    """

    def __init__(
        self, model: ModelProto, pixels: str, shape: Shape, prefix: str = PREFIX, result: str = EMBEDDING
    ) -> None:
        from onnx import numpy_helper

        super().__init__(pixels, len(shape), prefix)
        self.result = result
        graph = model.graph
        if len(graph.input) != 1 or len(graph.output) != 1 or model.functions:
            raise ModelError("The network cannot become a model file: it is not a function of a single image.", HINT)
        if graph.input[0].type.tensor_type.shape.dim[0].dim_value:
            raise ModelError(
                "The network cannot become a model file: it works for a single batch size only.",
                "Does its code use len(x) or int(...)? x.shape[0] stays open.",
            )
        first, second = ((count, *shape) for count in COUNTS)
        self._values[graph.input[0].name] = Value(pixels, (first, second))
        for tensor in graph.initializer:
            self._know(tensor.name, numpy_helper.to_array(tensor))
        for node in graph.node:
            self._visit(node)
        self._finish(self._values[graph.output[0].name])

    def used_nodes(self) -> list[Node]:
        """Our nodes that the embedding depends on, in order."""
        used, kept = {self.result}, []
        for node in reversed(self.nodes):
            if node.output in used:
                used.update(node.inputs)
                kept.append(node)
        return kept[::-1]

    def used_constants(self) -> dict[str, NDArray[np.generic]]:
        """The constants of those nodes."""
        names = [name for node in self.used_nodes() for name in node.inputs]
        return {name: self.constants[name] for name in names if name in self.constants}

    def _visit(self, node: NodeProto) -> None:
        """Add what a node computes to the values, and nodes of ours to compute it unless it is known."""
        inputs = [self._values[name] for name in node.input]
        if node.op_type == "Shape":
            attributes = attributes_of(node)
            part = slice(attributes.get("start", 0), attributes.get("end"))
            self._know(node.output[0], *(np.array(shape[part], np.int64) for shape in inputs[0].shapes))
        elif all(value.known is not None or not value.name for value in inputs):
            self._fold(node, inputs)
        else:
            self._infer(node, inputs)
            output = self._values[node.output[0]]
            HANDLERS.get(node.op_type, Rewriter._plain)(self, node, inputs, output)

    def _know(self, name: str, first: NDArray[np.generic], second: NDArray[np.generic] | None = None) -> None:
        second = first if second is None else second
        self._values[name] = Value(self._prefix + name, (first.shape, second.shape), (first, second))

    def _fold(self, node: NodeProto, inputs: list[Value]) -> None:
        """Compute a node that no pixel reaches."""
        first = evaluate(node, inputs, 0)
        fixed = all(value.fixed or not value.name for value in inputs)
        second = first if fixed else evaluate(node, inputs, 1)
        for name, *results in zip(node.output, first, second, strict=True):
            self._know(name, *results)

    def _infer(self, node: NodeProto, inputs: list[Value]) -> None:
        """The shapes of what a node computes."""
        import onnx
        from onnx import helper, numpy_helper

        if node.domain or not onnx.defs.has(node.op_type):
            raise refusal(node.op_type)
        schema = onnx.defs.get_schema(node.op_type, OPSET)
        shapes: list[dict[str, Shape]] = []
        for index in range(len(COUNTS)):
            types, data = {}, {}
            for name, value in zip(node.input, inputs, strict=True):
                if not name:
                    continue
                kind = helper.np_dtype_to_tensor_dtype(value.known[index].dtype) if value.known else 1
                types[name] = helper.make_tensor_type_proto(kind, value.shapes[index])
                if value.known and value.known[index].size <= MAX_INTEGERS:
                    data[name] = numpy_helper.from_array(np.ascontiguousarray(value.known[index]))
            try:
                inferred = onnx.shape_inference.infer_node_outputs(
                    schema, node, types, data, opset_imports=[helper.make_opsetid("", OPSET)]
                )
            except (onnx.shape_inference.InferenceError, RuntimeError) as error:
                raise refusal(node.op_type) from error
            shapes.append({name: dims(kind) for name, kind in inferred.items()})
        for name in filter(None, node.output):
            if any(name not in one or min(one[name], default=1) < 1 for one in shapes):
                raise refusal(node.op_type)
            self._values[name] = Value(self._prefix + name, (shapes[0][name], shapes[1][name]))

    def _finish(self, embedding: Value) -> None:
        """Call the last value by its name."""
        width = embedding.shapes[0][-1] if embedding.shapes[0] else 0
        if embedding.known or embedding.shapes != tuple((count, width) for count in COUNTS):
            raise ModelError(
                f"The network cannot become a model file: for {COUNTS[0]} images it gives values of the shape "
                f"{embedding.shapes[0]}; an embedding of each image was expected, ({COUNTS[0]}, D).",
                "Its classification layer must be replaced by torch.nn.Identity().",
            )
        if embedding.name == self._pixels:
            raise ModelError("The network cannot become a model file: it computes nothing.", HINT)
        for i, node in enumerate(self.nodes):
            inputs = tuple(self.result if name == embedding.name else name for name in node.inputs)
            output = self.result if node.output == embedding.name else node.output
            self.nodes[i] = Node(node.operator, inputs, output, node.attributes)
        check_nodes(self.used_nodes(), self.constants)


def check_nodes(nodes: list[Node], constants: dict[str, NDArray[np.generic]]) -> None:
    """No network is exported that the guard of model files would refuse."""
    from onnx import helper

    integers = {
        name: values.tolist() for name, values in constants.items() if values.dtype == np.int64 and values.size <= 64
    }
    for node in nodes:
        proto = helper.make_node(node.operator, node.inputs, [node.output], **node.attributes)
        problem = complaint(proto, integers)
        if problem:
            raise ModelError(
                f"The network cannot become a model file: a node of the operator {node.operator} {problem}.", HINT
            )
