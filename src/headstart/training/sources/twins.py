"""Backbones of packaged weights as PyTorch networks: their twins in timm."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headstart.backbones import catalog, lite
from headstart.backbones.packaged import packaged, preprocess_of, read_weights
from headstart.core.extras import require
from headstart.training.sources.loaded import Network

if TYPE_CHECKING:
    import torch

    from headstart.core.graph import Graph
    from headstart.settings.backbones import Weights


def build(name: str, *, pretrained: bool) -> Network:
    """The network; its tensors are in the same order as the packaged ones, under other names.

    Raises:
        ModelError: The weights are missing or damaged.
    """
    row = catalog.find(name)
    twins = {weights.name: _twin(weights, pretrained) for weights in packaged(row).weights}
    from headstart.training.sources.joined import join

    return Network(
        name, join(twins), preprocess_of(row), row.embedding_size, row.licence, left_over=("classifier.",),
        nodes=add_twins,
    )  # fmt: skip


def _twin(weights: Weights, pretrained: bool) -> torch.nn.Module:
    timm = require("timm", "torch", f"{weights.name} in PyTorch")
    model: torch.nn.Module = timm.create_model(weights.twin, pretrained=False)
    if pretrained:
        model.load_state_dict(_translate(model, weights), strict=True)
    model.reset_classifier(0)
    return model


def _translate(model: torch.nn.Module, weights: Weights) -> dict[str, torch.Tensor]:
    import torch

    tensors = read_weights(weights).values()
    return {name: torch.from_numpy(value) for name, value in zip(model.state_dict(), tensors, strict=True)}


# The names of layers in timm and in the packages: outside the blocks, in those that widen their input first, in others.
_OUTSIDE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
_WIDENING = {
    "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
    "conv_pwl": "_project_conv", "bn3": "_bn2",
}  # fmt: skip
_PLAIN = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}


def add_twins(graph: Graph, pixels: str, module: torch.nn.Module, size_px: int) -> str:
    """Add a network with any weights to a graph, as the embedder of the packages is built.

    Without PyTorch's exporter, which takes some seconds for it.

    Args:
        graph: Where the nodes go.
        pixels: Name of the normalised input, float32 (N, 3, size_px, size_px).
        module: A network of `build`.
        size_px: Side of its square input.

    Returns:
        Name of the embedding, float32 (N, D).
    """
    from headstart.training.sources.joined import states

    tensors = {
        name: {theirs: state[ours].detach().cpu().numpy() for ours, theirs in names(list(state)).items()}
        for name, state in states(module).items()
    }
    return lite.add_networks(graph, pixels, tensors, size_px, "float32")


def names(tensors: list[str]) -> dict[str, str]:
    """What the packages call the tensors of a twin, by timm's names."""
    found, blocks = {}, list(dict.fromkeys(re.findall(r"blocks\.\d+\.\d+\.", "\n".join(tensors))))
    for name in tensors:
        block = next((one for one in blocks if name.startswith(one)), "")
        layer, _, parameter = name.removeprefix(block).partition(".")
        if block:
            layers = _WIDENING if f"{block}conv_pwl.weight" in tensors else _PLAIN
            found[name] = f"_blocks.{blocks.index(block)}.{layers[layer]}.{parameter}"
        else:
            found[name] = f"{_OUTSIDE[layer]}.{parameter}"
    return found
