"""Backbones as PyTorch networks. Everything here needs the extra `torch`; nothing of the lean install imports it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.backbones import catalog
from headstart.core.extras import require
from headstart.core.tables import resolve
from headstart.core.text import quoted
from headstart.preprocess.spec import Preprocess
from headstart.settings.backbones import FILE, BackboneSpec
from headstart.training.sources import hub
from headstart.training.sources.loaded import Network, quiet

if TYPE_CHECKING:
    import torch

    from headstart.core.graph import Graph


@dataclass(frozen=True)
class Loaded:
    """A backbone, ready to embed or to be trained.

    Attributes:
        name: Its canonical name: ``lite0``, ``timm:resnet18.a1_in1k``, ``torchvision:resnet18``, ``file:PATH``.
        architecture: The name by which the same network can be built again without weights; that of a file's is the
            network inside.
        module: float32 (N, 3, S, S) normalised pixels to embeddings (N, D), in evaluation mode, without classification
            layer.
        preprocess: The weights' own record; `fit` is what they were trained with.
        embedding_size: D.
        licence: Of the weights.
        weights: SHA-256 of the tensors' bytes, in the order of the state dict; empty for random ones.
        nodes: See `headstart.training.sources.loaded.Network`.
    """

    name: str
    architecture: str
    module: torch.nn.Module
    preprocess: Preprocess
    embedding_size: int
    licence: str
    weights: str
    nodes: Callable[[Graph, str, torch.nn.Module, int], str] | None = None


def load(
    name: str, *, pretrained: bool = True, weights: str = "", seed: int = 0, require_local: bool = False
) -> Loaded:
    """Load a backbone.

    The weights come from the library's own cache; what is not there, the library fetches and keeps. Random weights
    are drawn under `seed`; PyTorch's random state stays as it was.

    Args:
        name: See `headstart.backbones.catalog.canonical`.
        pretrained: With the weights; else with random ones.
        weights: Path of a weights file to take instead.
        seed: Seeds random weights.
        require_local: Fetch nothing.

    Raises:
        OptionError: There is no such backbone, or it has no weights.
        ModelError: The weights are damaged, refused, or do not fit the network.
        OfflineError: The weights are not here and could not be fetched.
        ExtraError: The extra `torch` is not installed.
    """
    _torch(name)
    from headstart.training.draws import seeded

    row = catalog.find(name)
    fetch = pretrained and not weights
    if fetch and require_local and row.address and not catalog.is_local(row):
        raise hub.missing(row, "nothing may be downloaded now")
    with seeded(seed), hub.fetching(row) if fetch else contextlib.nullcontext():
        network = build(row, pretrained=fetch)
    if weights:
        from headstart.training.sources.weights import load_into

        with quiet():
            load_into(network, Path(weights))
    module = network.module.float().eval()
    return _loaded(row, network, state_digest(module) if pretrained else "")


def architecture(name: str, *, weights: str = "") -> Loaded:
    """A backbone without the values of its weights, which costs neither their memory nor their download.

    Its tensors are on PyTorch's device ``meta``, except where a network cannot be built there.

    Args:
        name: See `load`.
        weights: Path of a weights file, which is checked to fit.

    Raises:
        OptionError: There is no such backbone.
        ModelError: The weights do not fit the network.
    """
    torch = _torch(name)
    row = catalog.find(name)
    try:
        with torch.device("meta"):
            network = build(row, pretrained=False)
    except RuntimeError:  # it reads numbers back while it is built
        with torch.random.fork_rng(devices=[]):
            network = build(row, pretrained=False)
    if weights:
        from headstart.training.sources.weights import fit, read_checkpoint

        with quiet():
            fit(network, read_checkpoint(Path(weights)).tensors, weights)
    return _loaded(row, network, "")


def state_digest(module: torch.nn.Module) -> str:
    """SHA-256 of the bytes of all tensors of a network, in order."""
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _loaded(row: BackboneSpec, network: Network, digest: str) -> Loaded:
    return Loaded(
        name=row.name if row.weights == FILE else network.name,
        architecture=network.name,
        module=network.module.eval(),
        preprocess=network.preprocess,
        embedding_size=network.embedding_size,
        licence=network.licence,
        weights=digest,
        nodes=network.nodes,
    )


def build(row: BackboneSpec, *, pretrained: bool) -> Network:
    """The network of a row, as its source builds it."""
    with quiet():
        network: Network = resolve(row.network)(row.name.partition(":")[2] or row.name, pretrained=pretrained)
        return network


def _torch(name: str) -> Any:
    with quiet():
        return require("torch", "torch", f"The backbone {quoted(name)}")
