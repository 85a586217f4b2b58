"""The rivals' network: timm's EfficientNet-Lite0 with the very weights that Headstart uses."""

from __future__ import annotations

from typing import Any

import timm
import torch

from headstart.backbones.lite0 import read_weights


def lite0() -> Any:
    """The network in eager PyTorch, without its classification layer: float32 (N, 3, 224, 224) to (N, 1280).

    The weights file lists the tensors in timm's order under other names; `load_state_dict` checks all shapes.
    """
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    tensors = (torch.from_numpy(values) for values in read_weights().values())
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    model.reset_classifier(0)
    return model
