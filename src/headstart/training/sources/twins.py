"""Backbones of a package's weights as PyTorch networks: their twins in timm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.backbones import catalog
from headstart.backbones.packaged import packaged, preprocess_of, read_weights
from headstart.core.extras import require
from headstart.training.sources.loaded import Network

if TYPE_CHECKING:
    import torch

    from headstart.settings.backbones import BackboneSpec


def build(name: str, *, pretrained: bool) -> Network:
    """The network; its tensors are in the same order as the packaged ones, under other names.

    Raises:
        ModelError: The weights are missing or damaged.
    """
    timm = require("timm", "torch", f"{name} in PyTorch")
    row = catalog.find(name)
    model = timm.create_model(packaged(row).twin, pretrained=False)
    if pretrained:
        model.load_state_dict(_translate(model, row), strict=True)
    model.reset_classifier(0)
    return Network(name, model, preprocess_of(row), row.embedding_size, row.licence, left_over=("classifier.",))


def _translate(model: torch.nn.Module, row: BackboneSpec) -> dict[str, torch.Tensor]:
    import torch

    tensors = read_weights(row).values()
    return {name: torch.from_numpy(value) for name, value in zip(model.state_dict(), tensors, strict=True)}
