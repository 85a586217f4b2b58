"""The preprocessing record as a PyTorch module: the same sizes, filters and offsets as `headstart.preprocess.nodes`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from headstart.preprocess.nodes import MAX_ASPECT
from headstart.preprocess.spec import Preprocess


class Pixels(nn.Module):
    """``image`` uint8 (N, H, W, 3), of any size, to float32 (N, 3, S, S).

    The resize is PyTorch's own with `antialias`, which follows Pillow's. It rounds its kernels to other fractions
    than ONNX Runtime: on photos about one value in 200 differs by one of the 256 levels. PyTorch has it for uint8 on
    CPUs alone.

    Args:
        spec: The record.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: Preprocess) -> None:
        super().__init__()
        self._spec = spec
        mean, std = (np.array(value, np.float64).reshape(1, 3, 1, 1) * 255 for value in (spec.mean, spec.std))
        self.register_buffer("scale", torch.from_numpy((1 / std).astype(np.float32)))
        self.register_buffer("shift", torch.from_numpy((mean / std).astype(np.float32)))

    def forward(self, image: Tensor) -> Tensor:
        """Prepare images; nothing here depends on the values of H and W but the sizes themselves."""
        spec = self._spec
        if spec.fit == "crop":
            image = _limited_aspect(image)
        height, width = image.shape[1], image.shape[2]
        if spec.fit == "squash":
            size = (spec.size_px, spec.size_px)
        else:
            side = (torch.sym_min if spec.fit == "crop" else torch.sym_max)(height, width)
            size = tuple(torch.sym_max(one * spec.resize_px // side, 1) for one in (height, width))
        planes = image.permute(0, 3, 1, 2)
        pixels = functional.interpolate(planes, size, mode=spec.interpolation, align_corners=False, antialias=True)
        if spec.fit == "crop":
            pixels = _centre(pixels, size, spec.size_px)
        pixels = pixels.to(torch.float32) * self.scale - self.shift
        if spec.fit == "pad":
            spare = [spec.size_px - one for one in size]
            top, left = (one // 2 for one in spare)
            pixels = functional.pad(pixels, (left, spare[1] - left, top, spare[0] - top))
        return pixels


def _limited_aspect(image: Tensor) -> Tensor:
    """Cut off what lies far outside of the crop: the middle of the longer side, at most so many times the shorter."""
    limit = MAX_ASPECT * torch.sym_min(image.shape[1], image.shape[2])
    for axis in (1, 2):
        kept = torch.sym_min(image.shape[axis], limit)
        start = (image.shape[axis] - kept) // 2
        # As places, since a view of unknown strides would be tied to one side being the longer.
        image = image.index_select(axis, start + torch.arange(kept, device=image.device))
    return image


def _centre(pixels: Tensor, size: tuple[int, ...], side: int) -> Tensor:
    """Cut out the centre; half a pixel is rounded to the even offset, as Python's round() does in torchvision."""
    for axis, length in zip((2, 3), size, strict=True):
        spare = length - side
        pixels = pixels.narrow(axis, (spare + spare // 2 % 2) // 2, side)
    return pixels
