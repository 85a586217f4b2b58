"""Cut a backbone in two where training begins: the frozen part runs once an image, the rest every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from headstart.training.freezing import Stage

# More values than this at the cut would take more memory than the frozen part takes time.
MAX_VALUES = 4


@dataclass(frozen=True)
class Cut:
    """A backbone in two parts, which share its weights.

    Attributes:
        frozen: Pixels (N, 3, S, S) to the values at the cut, a tuple of tensors (N, ...).
        trained: These values to embeddings (N, D).
    """

    frozen: nn.Module
    trained: nn.Module


def cut(backbone: nn.Module, stages: Sequence[Stage], trained: Sequence[Stage], size_px: int) -> Cut | None:
    """Cut a backbone before its first trained stage.

    Args:
        backbone: Float32 (N, 3, S, S) to embeddings (N, D), in evaluation mode.
        stages: All its stages.
        trained: Those that are trained.
        size_px: Side S of its input.

    Returns:
        None where the backbone cannot be cut: its way from input to output depends on the values, or runs through
        trained stages before frozen ones.
    """
    try:
        graph = _with_defaults(_Tracer({name for stage in stages for name in stage.modules}).trace(backbone))
    except Exception:  # noqa: BLE001  tracing runs the network's own code on stand-ins, which may raise anything
        return None
    late: set[fx.Node] = set()
    for node in graph.nodes:
        own = node.op in {"call_module", "get_attr"} and any(stage.holds(str(node.target)) for stage in trained)
        if own or node.op == "output" or any(one in late for one in node.all_input_nodes):
            late.add(node)
    crossing = [
        node for node in graph.nodes
        if node not in late and node.op != "get_attr" and any(user in late for user in node.users)
    ]  # fmt: skip
    if not 1 <= len(crossing) <= MAX_VALUES:
        return None
    result = Cut(_first(backbone, graph, late, crossing), _second(backbone, graph, late, crossing))
    return result if _same(backbone, result, size_px) else None


class _Tracer(fx.Tracer):
    """Looks into the containers of stages, and never into a stage."""

    def __init__(self, leaves: set[str]) -> None:
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.leaves or super().is_leaf_module(m, module_qualified_name)


def _with_defaults(graph: fx.Graph) -> fx.Graph:
    """Put the default values of all arguments but the pixels in their place."""
    given = [node for node in graph.nodes if node.op == "placeholder"][1:]
    for argument in given:
        (default,) = argument.args
        for user in list(argument.users):

            def fill(node: fx.Node, argument: fx.Node = argument, default: Any = default) -> Any:
                return default if node is argument else node

            user.args, user.kwargs = fx.map_arg(user.args, fill), fx.map_arg(user.kwargs, fill)
        graph.erase_node(argument)
    return graph


def _first(backbone: nn.Module, graph: fx.Graph, late: set[fx.Node], crossing: list[fx.Node]) -> fx.GraphModule:
    part = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node not in late:
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(tuple(copies[node] for node in crossing))
    return fx.GraphModule(backbone, part, "Frozen")


def _second(backbone: nn.Module, graph: fx.Graph, late: set[fx.Node], crossing: list[fx.Node]) -> fx.GraphModule:
    part = fx.Graph()
    copies = {node: part.placeholder(f"value_{number}") for number, node in enumerate(crossing)}
    for node in graph.nodes:
        # A constant that is used on both sides is no value that crosses.
        if node in late or (node.op == "get_attr" and any(user in late for user in node.users)):
            copies[node] = part.node_copy(node, copies.__getitem__)
    return fx.GraphModule(backbone, part, "Trained")


def _same(backbone: nn.Module, parts: Cut, size_px: int) -> bool:
    """Whether the two parts together are the backbone, and every value at the cut has a row for each image."""
    device = next(backbone.parameters()).device
    pixels = torch.rand(2, 3, size_px, size_px, device=device, generator=torch.Generator(device).manual_seed(0))
    with torch.no_grad():
        values: tuple[Any, ...] = parts.frozen(pixels)
        if not all(isinstance(value, torch.Tensor) and value.shape[:1] == (2,) for value in values):
            return False
        # One image alone: a size of the batch that was read before the cut would not fit any more.
        alone = parts.trained(*(value[:1] for value in values))
        return torch.allclose(alone, backbone(pixels[:1]), rtol=1e-4, atol=1e-5)
