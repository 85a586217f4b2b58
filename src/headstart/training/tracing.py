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
from collections.abc import Iterator
from typing import TYPE_CHECKING

from headstart.core.errors import ModelError
from headstart.core.graph import OPSET
from headstart.training.graph_values import COUNTS, HINT, Shape
from headstart.training.graph_walk import Walk

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

    from headstart.core.graph import Graph

_LOGGERS = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")


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
    return _add_to(graph, Walk(_exported(module, (3, size_px, size_px)), pixels, (3, size_px, size_px)))


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
    return _add_to(graph, Walk(_exported(module, (width,)), embedding, (width,), "head.", "head.scores"))


def _add_to(graph: Graph, walk: Walk) -> str:
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
            raise ModelError(f"The network cannot become a model file: {reason:.300}", HINT) from error
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
