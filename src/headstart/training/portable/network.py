"""The network and the head of a model file as a PyTorch module: what its nodes say, node by node.

So one way serves all models, whichever library their network comes from: what the file computes is what is rebuilt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from headstart.training.portable.operators import OPERATIONS

_NOT_IN_NAMES = re.compile(r"\W")  # of parameters


@dataclass(frozen=True)
class _Step:
    """One node. Inputs are names of values, or what is known of them: a float, a list, None."""

    operator: str
    inputs: tuple[object, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, object]


class Network(nn.Module):
    """Prepared pixels, float32 (N, 3, S, S), to the outputs of a model file by their names, float32.

    Float weights are parameters, so that they can be trained further; other constants are buffers. Their names are
    those in the file, in letters, digits and underscores.

    Args:
        model: The model file, in float32.
        first: How many of its nodes prepare the pixels.
        pixels: What these give.
    """

    def __init__(self, model: ModelProto, first: int, pixels: str) -> None:
        super().__init__()
        self._pixels = pixels
        self._outputs = [output.name for output in model.graph.output]
        nodes = model.graph.node[first:]
        held = {tensor.name: tensor for tensor in model.graph.initializer}
        used = {name for node in nodes for name in node.input}
        # Names of values, and where a weight lies in this module.
        self._places: dict[str, str] = {}
        known: dict[str, object] = {"": None}
        for name in (name for name in held if name in used):
            known[name] = self._constant(name, held[name])
        self._steps = [_step(node, known) for node in nodes]

    def _constant(self, name: str, tensor: TensorProto) -> Any:
        """A small constant as a value of Python; a weight by its name."""
        if tensor.data_type == TensorProto.INT64:
            return numpy_helper.to_array(tensor).tolist()
        values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        if not values.ndim and values.is_floating_point():
            return values.item()
        place = _NOT_IN_NAMES.sub("_", name)
        while hasattr(self, place):
            place += "_"
        self._places[name] = place
        if values.is_floating_point():
            self.register_parameter(place, nn.Parameter(values))
        else:
            self.register_buffer(place, values)
        return name

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Run every node, in the order of the file."""
        values: dict[str, Any] = {name: getattr(self, place) for name, place in self._places.items()}
        values[self._pixels] = pixels
        for step in self._steps:
            inputs = [values[one] if isinstance(one, str) else one for one in step.inputs]
            result = OPERATIONS[step.operator](*inputs, **step.attributes)
            values.update(zip(step.outputs, result if isinstance(result, tuple) else (result,), strict=True))
        return {name: values[name] for name in self._outputs}


def _step(node: NodeProto, known: dict[str, object]) -> _Step:
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    inputs: Sequence[object] = [known.get(name, name) for name in node.input]
    return _Step(node.op_type, tuple(inputs), tuple(node.output), attributes)
