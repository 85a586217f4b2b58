"""A simplified ResNet18 (He et al. 2015) of our own, to be read and to be trained from scratch on a CPU.

Against the original: the stem is one convolution of stride 4 without max pooling, and each stage has one residual block
instead of two. That is 44 % of the parameters, and 44 % of the multiplications.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headstart.core.errors import OptionError
from headstart.core.text import quoted
from headstart.preprocess.spec import Preprocess
from headstart.training.sources.loaded import Network

NAME = "simple-resnet18"
WIDTHS = (64, 128, 256, 512)
PREPROCESS = Preprocess(
    size_px=224,
    fit="crop",
    crop_fraction=0.875,
    mean=(0.485, 0.456, 0.406),  # of ImageNet
    std=(0.229, 0.224, 0.225),
    interpolation="bilinear",
)


class Block(nn.Module):
    """Two convolutions and a way around them: (N, in, H, W) to (N, out, H / stride, W / stride)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )
        nn.init.zeros_(self.norm2.weight)  # each block begins as its shortcut (Goyal et al. 2017)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return torch.relu(y + self.shortcut(x))


class SimpleResNet(nn.Module):
    """Normalised pixels (N, 3, 224, 224) to an embedding (N, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 7, stride=4, padding=3, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
        )  # (N, 64, 56, 56)
        self.stage1 = Block(WIDTHS[0], WIDTHS[0], stride=1)
        self.stage2 = Block(WIDTHS[0], WIDTHS[1], stride=2)
        self.stage3 = Block(WIDTHS[1], WIDTHS[2], stride=2)
        self.stage4 = Block(WIDTHS[2], WIDTHS[3], stride=2)  # (N, 512, 7, 7)
        self.pool = nn.AdaptiveAvgPool2d(1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.stem(x)
        x = self.stage4(self.stage3(self.stage2(self.stage1(x))))
        return torch.flatten(self.pool(x), 1)


def build(name: str, *, pretrained: bool) -> Network:
    """The network with random weights.

    Raises:
        OptionError: Its weights are asked for: it has none.
    """
    if pretrained:
        raise OptionError(
            f"{quoted(name)} has no pretrained weights: it is meant to be trained from scratch.",
            "Use --strategy scratch or --no-pretrained, or another backbone, such as resnet18.",
        )
    return Network(name, SimpleResNet(), PREPROCESS, WIDTHS[-1], licence="Apache-2.0")
