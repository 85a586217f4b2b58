"""The rivals' network: timm's EfficientNet-Lite0 with the very weights that Headstart uses."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import timm
import torch

from headstart.backbones import catalog
from headstart.backbones.packaged import packaged, read_weights

NAME = "tf_efficientnet_lite0"


def lite0() -> Any:
    """The network in eager PyTorch, without its classification layer: float32 (N, 3, 224, 224) to (N, 1280).

    The weights file lists the tensors in timm's order under other names; `load_state_dict` checks all shapes.
    """
    model = with_classes()
    model.reset_classifier(0)
    return model


def with_classes() -> Any:
    """The whole network, to ImageNet's 1,000 classes."""
    model = timm.create_model(NAME, pretrained=False)
    (weights,) = packaged(catalog.find("lite0")).weights
    tensors = (torch.from_numpy(values) for values in read_weights(weights).values())
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    return model


def main() -> None:
    """Write the weights as a file that timm reads, for rivals in an environment without Headstart."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    torch.save(with_classes().state_dict(), parser.parse_args().file)


if __name__ == "__main__":
    main()
