"""lite0 as a PyTorch network: timm's twin of it, with the packaged weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.backbones import catalog
from headstart.backbones.lite0 import read_weights
from headstart.core.extras import require
from headstart.preprocess.spec import Preprocess
from headstart.training.sources.network import Network

if TYPE_CHECKING:
    import torch

TWIN = "tf_efficientnet_lite0"


def build(name: str, *, pretrained: bool) -> Network:
    """The network; its tensors are in the same order as the packaged ones, under other names.

    Raises:
        ModelError: The weights are missing or damaged.
    """
    timm = require("timm", "torch", "lite0 in PyTorch")
    model = timm.create_model(TWIN, pretrained=False)
    if pretrained:
        model.load_state_dict(_translate(model), strict=True)
    model.reset_classifier(0)
    entry = catalog.find("lite0")
    record = Preprocess(
        size_px=entry.size_px, fit="crop", crop_fraction=entry.crop_fraction, mean=entry.mean, std=entry.std,
        interpolation="bicubic",
    )  # fmt: skip
    return Network(name, model, record, entry.embedding_size, entry.licence, left_over=("classifier.",))


def _translate(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    import torch

    tensors = read_weights().values()
    return {name: torch.from_numpy(value) for name, value in zip(model.state_dict(), tensors, strict=True)}
