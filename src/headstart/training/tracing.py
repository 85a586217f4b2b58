"""Any PyTorch network as nodes of our graph.

PyTorch's exporter writes graphs that compute sizes while they run. A model file must not: all its sizes are known
before anything runs (see `core.operators`). So the exported graph is walked for two and for three images at once:
what is the same in both is a constant, what grows with the number of images becomes the -1 of a `Reshape`, and a node
is kept only where it computes something from pixels.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.errors import ModelError
from headstart.core.graph import OPSET
from headstart.core.operators import EXPLICIT, MAX_INTEGERS, MAX_SIZE, OPERATORS, complaint

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from headstart.core.graph import Graph

COUNTS = (2, 3)  # numbers of images; not 1, which exporters treat as a size of its own
EMBEDDING = "embedding"
PREFIX = "net."
# Attributes that change nothing in a network that does not learn.
_IRRELEVANT = {("BatchNormalization", "momentum"), ("LayerNormalization", "stash_type")}
_LOGGERS = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")
_HINT = "Choose another backbone."

Shape = tuple[int, ...]


def add_module(graph: Graph, pixels: str, module: torch.nn.Module, size_px: int) -> str:
    """Add a PyTorch network to a graph.

    The network is left as it is, and so is PyTorch's random state.

    Args:
        graph: Where the nodes go; their names begin with ``net.``.
        pixels: Name of the normalised input, float32 (N, 3, size_px, size_px).
        module: The network, without its classification layer: what it gives is the embedding.
        size_px: Side of its square input.

    Returns:
        ``embedding``, float32 (N, D).

    Raises:
        ModelError: The network cannot be exported, or computes what no model file may hold.
    """
    return _add_to(graph, _Walk(_exported(module, (3, size_px, size_px)), pixels, (3, size_px, size_px)))


def add_head(graph: Graph, embedding: str, module: torch.nn.Module, width: int) -> str:
    """Add a PyTorch head to a graph; see `add_module`.

    Args:
        graph: Where the nodes go; their names begin with ``head.``.
        embedding: Name of the embedding, float32 (N, width).
        module: Embeddings to class scores (N, C).
        width: Size D of the embedding.

    Returns:
        ``head.scores``, float32 (N, C).

    Raises:
        ModelError: The head cannot be exported, or computes what no model file may hold.
    """
    return _add_to(graph, _Walk(_exported(module, (width,)), embedding, (width,), "head.", "head.scores"))


def _add_to(graph: Graph, walk: _Walk) -> str:
    for name, values in walk.used_constants().items():
        graph.constant(name, values)
    for node in walk.used_nodes():
        graph.node(node.operator, node.inputs, node.output, **node.attributes)
    return walk.result


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[torch.device]:
    """The network in evaluation mode and without gradients, as it was before afterwards; gives its device."""
    import torch

    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield next((one.device for one in module.parameters()), torch.device("cpu"))
    finally:
        for part, mode in modes.items():
            part.training = mode


def _exported(module: torch.nn.Module, shape: Shape) -> ModelProto:
    import torch

    with evaluating(module) as device, _quiet(), torch.random.fork_rng(devices=[]):
        example = torch.zeros(COUNTS[0], *shape, device=device)
        try:
            program = torch.onnx.export(
                module,
                (example,),
                None,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise ModelError(f"The network cannot become a model file: {reason:.300}", _HINT) from error
        model: ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what the exporter says reaches the user: what matters is raised."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.disabled for logger in loggers]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.disabled = True
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


@dataclass(frozen=True)
class _Node:
    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class _Value:
    """A value of the exported graph.

    Attributes:
        name: What it is called in our graph.
        shapes: Its shape for each of `COUNTS`.
        known: What it is for each of `COUNTS`, where that follows without any pixel.
    """

    name: str
    shapes: tuple[Shape, Shape]
    known: tuple[NDArray[Any], NDArray[Any]] | None = None

    @property
    def fixed(self) -> bool:
        """Whether it is known and the same for any number of images."""
        return self.known is not None and (self.known[0] is self.known[1] or np.array_equal(*self.known))


class _Walk:
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

        self.result = result
        self._prefix = prefix
        self._rank = len(shape)
        self.nodes: list[_Node] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._pixels = pixels
        graph = model.graph
        if len(graph.input) != 1 or len(graph.output) != 1 or model.functions:
            raise ModelError("The network cannot become a model file: it is no function of one picture.", _HINT)
        if graph.input[0].type.tensor_type.shape.dim[0].dim_value:
            raise ModelError(
                "The network cannot become a model file: it works for one number of pictures only.",
                "Does its code use len(x) or int(...)? x.shape[0] stays open.",
            )
        first, second = ((count, *shape) for count in COUNTS)
        self._values = {"": _Value("", ((), ())), graph.input[0].name: _Value(pixels, (first, second))}
        for tensor in graph.initializer:
            self._know(tensor.name, numpy_helper.to_array(tensor))
        for node in graph.node:
            self._visit(node)
        self._finish(self._values[graph.output[0].name])

    def used_nodes(self) -> list[_Node]:
        """Our nodes that the embedding depends on, in order."""
        used, kept = {self.result}, []
        for node in reversed(self.nodes):
            if node.output in used:
                used.update(node.inputs)
                kept.append(node)
        return kept[::-1]

    def used_constants(self) -> dict[str, NDArray[Any]]:
        """The constants of those nodes."""
        names = [name for node in self.used_nodes() for name in node.inputs]
        return {name: self.constants[name] for name in names if name in self.constants}

    # --- walking ---------------------------------------------------------------------------------------------------

    def _visit(self, node: NodeProto) -> None:
        """Add what a node computes to the values, and nodes of ours to compute it unless it is known."""
        inputs = [self._values[name] for name in node.input]
        if node.op_type == "Shape":
            attributes = _attributes(node)
            part = slice(attributes.get("start", 0), attributes.get("end"))
            self._know(node.output[0], *(np.array(shape[part], np.int64) for shape in inputs[0].shapes))
        elif all(value.known is not None or not value.name for value in inputs):
            self._fold(node, inputs)
        else:
            self._infer(node, inputs)
            output = self._values[node.output[0]]
            handler: Callable[[NodeProto, list[_Value], _Value], None] = _HANDLERS.get(node.op_type, _Walk._plain)
            handler(self, node, inputs, output)  # type: ignore[call-arg, arg-type]

    def _know(self, name: str, first: NDArray[Any], second: NDArray[Any] | None = None) -> None:
        second = first if second is None else second
        self._values[name] = _Value(self._prefix + name, (first.shape, second.shape), (first, second))

    def _fold(self, node: NodeProto, inputs: list[_Value]) -> None:
        """Compute a node that no pixel reaches."""
        first = _evaluate(node, inputs, 0)
        fixed = all(value.fixed or not value.name for value in inputs)
        second = first if fixed else _evaluate(node, inputs, 1)
        for name, *results in zip(node.output, first, second, strict=True):
            self._know(name, *results)

    def _infer(self, node: NodeProto, inputs: list[_Value]) -> None:
        """The shapes of what a node computes."""
        import onnx
        from onnx import helper, numpy_helper

        if node.domain or not onnx.defs.has(node.op_type):
            raise _refusal(node.op_type)
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
                raise _refusal(node.op_type) from error
            shapes.append({name: _dims(kind) for name, kind in inferred.items()})
        for name in filter(None, node.output):
            if any(name not in one or min(one[name], default=1) < 1 for one in shapes):
                raise _refusal(node.op_type)
            self._values[name] = _Value(self._prefix + name, (shapes[0][name], shapes[1][name]))

    def _finish(self, embedding: _Value) -> None:
        """Call the last value by its name."""
        width = embedding.shapes[0][-1] if embedding.shapes[0] else 0
        if embedding.known or embedding.shapes != tuple((count, width) for count in COUNTS):
            raise ModelError(
                f"The network cannot become a model file: for {COUNTS[0]} pictures it gives values of the shape "
                f"{embedding.shapes[0]}; an embedding of each picture was expected, ({COUNTS[0]}, D).",
                "Its classification layer must be replaced by torch.nn.Identity().",
            )
        if embedding.name == self._pixels:
            raise ModelError("The network cannot become a model file: it computes nothing.", _HINT)
        for i, node in enumerate(self.nodes):
            inputs = tuple(self.result if name == embedding.name else name for name in node.inputs)
            output = self.result if node.output == embedding.name else node.output
            self.nodes[i] = _Node(node.operator, inputs, output, node.attributes)
        _check_nodes(self.used_nodes(), self.constants)

    # --- writing ---------------------------------------------------------------------------------------------------

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(_Node(operator, tuple(inputs), output, attributes))
        return output

    def _ints(self, name: str, values: list[int]) -> str:
        self.constants[name] = np.array(values, np.int64)
        return name

    def _input(self, operator: str, value: _Value) -> str:
        """The name of an input; a known one becomes a constant."""
        if value.known is None or not value.name:
            return value.name
        if not value.fixed:
            return self._repeat(operator, value)
        values = value.known[0]
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise _refusal(operator)
        self.constants[value.name] = values
        return value.name

    def _reshape(self, source: str, shapes: tuple[Shape, Shape], output: str) -> str:
        """To a shape that is known but for the number of images."""
        first, second = shapes
        target = [a if a == b else -1 for a, b in zip(first, second, strict=True)]
        if target.count(-1) > 1:
            raise _refusal("Reshape")
        return self._add("Reshape", [source, self._ints(f"{output}:shape", target)], output)

    def _alias(self, output: _Value, to: _Value, names: tuple[str, ...]) -> None:
        for name in names:
            self._values[name] = _Value(to.name, output.shapes)

    # --- operators -------------------------------------------------------------------------------------------------

    def _plain(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
        """An operator that a model file holds as it is."""
        if node.op_type not in OPERATORS or any(node.output[1:]):
            raise _refusal(node.op_type)
        names = [self._input(node.op_type, value) for value in inputs]
        while not names[-1]:
            names.pop()
        self._add(node.op_type, names, output.name, **_needed(node, inputs))

    def _same(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
        if node.op_type == "Cast" and _attributes(node)["to"] != 1:
            raise _refusal("Cast to another type")
        self._alias(output, inputs[0], tuple(node.output[:1]))

    def _reshaped(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
        """Reshape, Flatten, Squeeze and Unsqueeze: the values stay, in their order."""
        if inputs[0].shapes == output.shapes:
            self._alias(output, inputs[0], tuple(node.output))
        else:
            self._reshape(self._input(node.op_type, inputs[0]), output.shapes, output.name)

    def _reduced(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
        names = [self._input(node.op_type, inputs[0])]
        axes = _fixed_ints(node.op_type, inputs[1]) if len(inputs) > 1 and inputs[1].name else []
        axes = sorted(axis % len(inputs[0].shapes[0]) for axis in axes) or list(range(len(inputs[0].shapes[0])))
        names.append(self._ints(f"{output.name}:axes", axes))
        self._add(node.op_type, names, output.name, keepdims=_attributes(node).get("keepdims", 1))

    def _slice(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
        if inputs[0].shapes == output.shapes:
            self._alias(output, inputs[0], tuple(node.output))
            return
        parts = [_fixed_ints("Slice", value) for value in inputs[1:]]
        if len(parts) < 3:
            parts.append(list(range(len(parts[0]))))
        labels = ("starts", "ends", "axes", "steps")
        names = [self._ints(f"{output.name}:{label}", part) for label, part in zip(labels, parts, strict=False)]
        self._add("Slice", [self._input("Slice", inputs[0]), *names], output.name)

    def _cut(self, source: _Value, axis: int, start: int, end: int, output: str) -> str:
        names = [
            self._ints(f"{output}:{label}", [value])
            for label, value in (("starts", start), ("ends", end), ("axes", axis))
        ]
        return self._add("Slice", [self._input("Slice", source), *names], output)

    def _split(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
        """Parts are slices: every node has one output."""
        axis, start = _attributes(node).get("axis", 0) % len(output.shapes[0]), 0
        for name in node.output:
            part = self._values[name]
            end = start + part.shapes[0][axis]
            self._cut(inputs[0], axis, start, end, part.name)
            start = end

    def _gather(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
        """One row or column; or all values in their order, as strided views of tensors are exported."""
        source, index = inputs
        if index.known is None:
            raise _refusal("Gather")
        axis = _attributes(node).get("axis", 0) % len(source.shapes[0])
        whole = all(
            len(shape) == 1 and np.array_equal(places.ravel(), np.arange(shape[0]))
            for shape, places in zip(source.shapes, index.known, strict=True)
        )
        if whole:
            self._reshaped(node, inputs, output)
            return
        if index.known[0].size != 1 or not index.fixed:
            raise _refusal("Gather")
        start = int(index.known[0].ravel()[0]) % source.shapes[0][axis]
        cut = self._cut(source, axis, start, start + 1, f"{output.name}:cut")
        self._reshape(cut, output.shapes, output.name)

    def _pad(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
        if _attributes(node).get("mode", b"constant") != b"constant":
            raise _refusal("Pad with another mode than 'constant'")
        amounts = _fixed_ints("Pad", inputs[1])
        if len(inputs) > 3 and inputs[3].name:
            axes, rank = _fixed_ints("Pad", inputs[3]), len(inputs[0].shapes[0])
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

    def _expand(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
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
            raise _refusal("Expand")
        self.constants[f"{output.name}:zeros"] = np.zeros(grown[0], np.float32)
        self._add("Add", [self._input("Expand", inputs[0]), f"{output.name}:zeros"], output.name)

    def _repeat(self, operator: str, value: _Value) -> str:
        """What is the same for each image, once for each image (the class token of a vision transformer).

        The sum with a zero of each image, as a pixel times 0 is: pixels are finite.
        """
        first, second = value.shapes
        grows = [axis for axis, sizes in enumerate(zip(first, second, strict=True)) if sizes == COUNTS]
        if value.known is None or len(grows) != 1:
            raise _refusal(operator)
        token = np.take(value.known[0], [0], grows[0])
        if token.dtype != np.float32 or not all(
            np.array_equal(np.broadcast_to(token, v.shape), v) for v in value.known
        ):
            raise _refusal(operator)
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

    def _gemm(self, node: NodeProto, inputs: list[_Value], output: _Value) -> None:
        """A dense layer, its weights stored the way that the product needs them."""
        attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | _attributes(node)
        if (attributes["alpha"], attributes["beta"], attributes["transA"]) != (1.0, 1.0, 0):
            raise _refusal("Gemm")
        names = [self._input("Gemm", value) for value in inputs]
        if attributes["transB"]:
            if not inputs[1].fixed:
                raise _refusal("Gemm")
            names[1] = f"{names[1]}:t"
            self.constants[names[1]] = np.ascontiguousarray(inputs[1].known[0].T)  # type: ignore[index]
        self._add("Gemm", names, output.name)


_HANDLERS: dict[str, Any] = {
    **dict.fromkeys(("Identity", "Dropout", "Cast"), _Walk._same),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _Walk._reshaped),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"), _Walk._reduced),
    "Slice": _Walk._slice,
    "Split": _Walk._split,
    "Gather": _Walk._gather,
    "Pad": _Walk._pad,
    "Expand": _Walk._expand,
    "Gemm": _Walk._gemm,
}


def _refusal(operator: str) -> ModelError:
    return ModelError(f"The network uses the operator {operator}, which cannot become a part of a model file.", _HINT)


def _evaluate(node: NodeProto, inputs: list[_Value], index: int) -> list[NDArray[Any]]:
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
        raise _refusal(node.op_type) from error


def _attributes(node: NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _needed(node: NodeProto, inputs: list[_Value]) -> dict[str, Any]:
    """The attributes that differ from their defaults, and those that are always written."""
    import onnx
    from onnx import helper

    known = onnx.defs.get_schema(node.op_type, OPSET).attributes
    defaults = {
        name: helper.get_attribute_value(one.default_value) for name, one in known.items() if one.default_value.name
    }
    explicit = EXPLICIT.get(node.op_type, ())
    given = {name: value for name, value in _attributes(node).items() if (node.op_type, name) not in _IRRELEVANT}
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


def _fixed_ints(operator: str, value: _Value) -> list[int]:
    if value.known is None or not value.fixed:
        raise _refusal(operator)
    return [int(one) for one in value.known[0].ravel()]


def _dims(kind: Any) -> Shape:
    """A shape as inferred; 0 stands for a size that is not known."""
    tensor = kind.tensor_type
    return tuple(d.dim_value for d in tensor.shape.dim) if tensor.HasField("shape") else (0,)


def _check_nodes(nodes: list[_Node], constants: dict[str, NDArray[Any]]) -> None:
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
                f"The network cannot become a model file: a node of the operator {node.operator} {problem}.", _HINT
            )
