"""The network that is trained: a backbone and a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from headstart.core.tables import resolve
from headstart.heads import Head
from headstart.heads.linear import LinearHead
from headstart.heads.mlp import MlpHead
from headstart.settings.heads import HEADS
from headstart.settings.recipe import Recipe
from headstart.training.draws import seeded
from headstart.training.freezing import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Network(nn.Module):
    """A backbone and a head.

    Args:
        backbone: float32 (N, 3, S, S) to embeddings (N, D).
        head: Embeddings to class scores (N, C).
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Class scores (N, C) of normalised pixels (N, 3, S, S)."""
        scores: torch.Tensor = self.head(self.backbone(pixels))
        return scores


def make_head(recipe: Recipe, width: int, classes: int) -> nn.Module:
    """A new head with PyTorch's random weights, drawn under the recipe's seed."""
    with seeded(recipe.seed):
        module: nn.Module = resolve(recipe.head_spec.module)(recipe, width, classes)
        return module


def linear_module(recipe: Recipe, width: int, classes: int) -> nn.Module:
    """One layer."""
    return nn.Linear(width, classes)


def mlp_module(recipe: Recipe, width: int, classes: int) -> nn.Module:
    """Two layers, with dropout between them."""
    return nn.Sequential(
        nn.Linear(width, recipe.hidden), nn.ReLU(), nn.Dropout(recipe.dropout), nn.Linear(recipe.hidden, classes)
    )


def start_from_probe(head: nn.Module, probe: LinearHead, temperature: float) -> None:
    """Put the probe's solution in a linear head, with its scores divided by a temperature."""
    if not isinstance(head, nn.Linear):
        raise TypeError("only a linear head can begin as the probe's solution")
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(probe.weights.T / np.float32(temperature)))
        head.bias.copy_(torch.from_numpy(probe.bias / np.float32(temperature)))


def head_record(head: nn.Module, kind: str, width: int) -> Head:
    """A trained head as what the model file is written from.

    Args:
        head: The head.
        kind: Its name in `HEADS`.
        width: Size D of the embedding.
    """
    record: Head = resolve(HEADS[kind].trained)(head, width)
    return record


def linear_record(head: nn.Module, width: int) -> LinearHead:
    """The record of `linear_module`, trained."""
    ((weights, bias),) = _layers(head)
    return LinearHead(weights=weights, bias=bias)


def mlp_record(head: nn.Module, width: int) -> MlpHead:
    """The record of `mlp_module`, trained."""
    (weights, bias), (weights_out, bias_out) = _layers(head)
    return MlpHead(weights=weights, bias=bias, weights_out=weights_out, bias_out=bias_out)


def _layers(head: nn.Module) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights (inputs, outputs) and bias of each linear layer."""
    return [(_numpy(one.weight).T.copy(), _numpy(one.bias)) for one in head.modules() if isinstance(one, nn.Linear)]


def prepare(network: Network, stages: Sequence[Stage]) -> None:
    """Let gradients reach the head and these stages of the backbone alone."""
    for name, parameter in network.backbone.named_parameters():
        parameter.requires_grad_(any(stage.holds(name) for stage in stages))


def train_mode(network: Network, stages: Sequence[Stage], *, batch_norm: str) -> None:
    """Training mode for what is trained; all that is frozen stays as it predicts, its batch norms' statistics too."""
    network.eval()
    network.head.train()
    for name, module in network.backbone.named_modules():
        if name and any(stage.holds(name) for stage in stages):
            is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
            module.training = not (is_norm and batch_norm == "frozen")


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().float().numpy()
