"""From a trained network to what the model file is written from, and the proof that both compute the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from headstart.backbones.embedder import Embedder
from headstart.core.digest import digest_bytes
from headstart.core.graph import Graph
from headstart.preprocess.nodes import add_preprocess
from headstart.preprocess.spec import Preprocess
from headstart.strategies.proof import embedding_difference, refuse_difference
from headstart.training.network import Network
from headstart.training.sources import Loaded, state_digest
from headstart.training.sources.file import KEY
from headstart.training.tracing import add_module, evaluating

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.targets import Calibration


def export(
    backbone: nn.Module, loaded: Loaded, preprocess: Preprocess, pictures: Iterable[NDArray[np.uint8]]
) -> tuple[Embedder, float]:
    """The embedder of a backbone that was trained here.

    A network that was trained for a few steps only may be so sensitive that two ways to add the same numbers give
    other embeddings. So their difference is only reported, and a difference in the probabilities is refused.

    Args:
        backbone: On the CPU, in evaluation mode.
        loaded: The backbone as it was before training.
        preprocess: How pixels are prepared for it.
        pictures: uint8 (H, W, 3) each, on which the embedder is compared with the network.

    Returns:
        The embedder, and the largest difference of an embedding; see `headstart.strategies.proof.embedding_difference`.

    Raises:
        ModelError: The network cannot be exported.
    """
    graph = Graph()
    add_nodes = loaded.nodes or add_module
    name = add_nodes(graph, add_preprocess(graph, preprocess), backbone, preprocess.size_px)
    model = graph.model({name: ("N", loaded.embedding_size)}).SerializeToString(deterministic=True)
    embedder = Embedder(
        backbone=loaded.name, preprocess=preprocess, width=loaded.embedding_size, digest=digest_bytes(model),
        model=model, weights=state_digest(backbone), licence=loaded.licence,
    )  # fmt: skip
    return embedder, difference(embedder, backbone, pictures)


def difference(embedder: Embedder, module: nn.Module, pictures: Iterable[NDArray[np.uint8]]) -> float:
    """See `headstart.strategies.proof.embedding_difference`; the network is left as it is."""
    with evaluating(module) as device:

        def network(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
            embeddings: NDArray[np.float32] = module(torch.from_numpy(pixels).to(device)).cpu().numpy()
            return embeddings

        return embedding_difference(embedder, network, pictures)


def export_loaded(loaded: Loaded, preprocess: Preprocess, pictures: Iterable[NDArray[np.uint8]]) -> Embedder:
    """The embedder of a backbone as it was loaded.

    Args:
        loaded: The backbone.
        preprocess: How pixels are prepared for it.
        pictures: uint8 (H, W, 3) each, on which the embedder computes what the network computes.

    Raises:
        ModelError: The network cannot be exported, or computes something else.
    """
    embedder, largest = export(loaded.module, loaded, preprocess, pictures)
    refuse_difference(largest)
    return replace(embedder, weights=loaded.weights)


def weights_file(network: Network, loaded: Loaded, preprocess: Preprocess, classes: Sequence[str], head: str) -> bytes:
    """The content of ``weights.safetensors``: tensors ``backbone.*`` and ``head.*``, and a record of what they are."""
    record = {
        "backbone": loaded.architecture, "preprocess": preprocess.as_dict(), "embedding_size": loaded.embedding_size,
        "classes": list(classes), "head": head, "licence": loaded.licence,
    }  # fmt: skip
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    # One entry: safetensors writes several in an order that changes from process to process.
    return save(tensors, metadata={KEY: json.dumps(record)})


def probabilities(network: Network, pixels: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float64]:
    """What the network itself says of normalised pixels (N, 3, S, S), (N, C)."""
    with torch.no_grad():
        return calibration.probabilities(network(torch.from_numpy(pixels)).numpy())
