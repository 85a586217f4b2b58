"""The preprocessing record as ONNX nodes: ``image`` uint8 (N, H, W, 3) in, ``pixels`` float32 (N, 3, S, S) out.

The resize runs on uint8 with ``antialias``, which is Pillow's own algorithm; sizes and crop offsets are those of
torchvision's ``Resize`` and ``CenterCrop`` (which timm uses), so that a backbone sees what it was trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.preprocess.spec import Interpolation, Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

# The longer side beyond this many times the shorter one can never be inside the crop; cutting it off first bounds
# the memory of extreme shapes (a 20000 x 1 image would otherwise become 5,120,000 x 256).
MAX_ASPECT = 4
# Pillow's filters as attributes of `Resize`.
FILTERS: dict[Interpolation, dict[str, object]] = {
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
    "bilinear": {"mode": "linear"},
}


def add_preprocess(graph: Graph, spec: Preprocess) -> str:
    """Add the nodes of a record to a graph whose input is ``image``; the name of their output."""
    g, ints = graph, graph.ints
    shape = g.node("Shape", ["image"], "pre.shape")
    image, hw = "image", g.node("Slice", [shape, ints("pre.1", [1]), ints("pre.3", [3])], "pre.hw")
    if spec.fit == "crop":
        image, hw = _limit_aspect(g, image, hw)
        size = _scaled(g, hw, "ReduceMin", spec.resize_px)
    elif spec.fit == "pad":
        size = _scaled(g, hw, "ReduceMax", spec.resize_px)
    else:
        size = ints("pre.size", [spec.size_px, spec.size_px])
    batch = g.node("Slice", [shape, ints("pre.0", [0]), "pre.1"], "pre.batch")
    sizes = g.node("Concat", [batch, "pre.3", size], "pre.sizes", axis=0)
    planes = g.node("Transpose", [image], "pre.planes", perm=[0, 3, 1, 2])
    pixels = g.node(
        "Resize",
        [planes, "", "", sizes],
        "pre.resized",
        **FILTERS[spec.interpolation],
        antialias=1,
        exclude_outside=1,  # at the border, Pillow weighs only the pixels that there are
        coordinate_transformation_mode="half_pixel",
    )
    if spec.fit == "crop":
        pixels = _centre_crop(g, pixels, size, spec.size_px)
    pixels = g.node("Cast", [pixels], "pre.float", to=g.FLOAT)
    mean, std = (np.array(value, np.float64) * 255 for value in (spec.mean, spec.std))
    scale = g.constant("pre.scale", _by_channel(1 / std))
    shift = g.constant("pre.shift", _by_channel(mean / std))
    pixels = g.node("Sub", [g.node("Mul", [pixels, scale], "pre.scaled"), shift], "pre.normalised")
    if spec.fit == "pad":
        pixels = _pad(g, pixels, size, spec.size_px)
    return pixels


def _by_channel(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values (3,) to be broadcast over (N, 3, S, S): a scalar where they are equal, which ONNX Runtime does faster."""
    equal = np.all(values == values[0])
    return values[0].astype(np.float32) if equal else values.astype(np.float32).reshape(1, 3, 1, 1)


def _scaled(g: Graph, hw: str, reduce: str, target_px: int) -> str:
    """(H, W) scaled so that one side becomes the target, the other rounded down (torchvision), at least 1."""
    side = g.node(reduce, [hw], "pre.side", keepdims=1)
    product = g.node("Mul", [hw, g.ints("pre.target", [target_px])], "pre.product")
    return g.node("Max", [g.node("Div", [product, side], "pre.quotient"), "pre.1"], "pre.size")


def _limit_aspect(g: Graph, image: str, hw: str) -> tuple[str, str]:
    short = g.node("ReduceMin", [hw], "pre.short", keepdims=1)
    limit = g.node("Mul", [short, g.ints("pre.aspect", [MAX_ASPECT])], "pre.limit")
    kept = g.node("Min", [hw, limit], "pre.kept")
    spare = g.node("Sub", [hw, kept], "pre.spare")
    start = g.node("Div", [spare, g.ints("pre.2", [2])], "pre.start")
    end = g.node("Add", [start, kept], "pre.end")
    return g.node("Slice", [image, start, end, g.ints("pre.hw_axes", [1, 2])], "pre.limited"), kept


def _centre_crop(g: Graph, pixels: str, size: str, size_px: int) -> str:
    """Cut out the centre; half a pixel is rounded to the even offset, as Python's round() does in torchvision."""
    crop = g.ints("pre.crop", [size_px])
    spare = g.node("Sub", [size, crop], "pre.crop_spare")
    half = g.node("Div", [spare, "pre.2"], "pre.crop_half")
    odd = g.node("Mod", [half, "pre.2"], "pre.crop_odd")
    start = g.node("Div", [g.node("Add", [spare, odd], "pre.crop_sum"), "pre.2"], "pre.crop_start")
    end = g.node("Add", [start, crop], "pre.crop_end")
    return g.node("Slice", [pixels, start, end, g.ints("pre.crop_axes", [2, 3])], "pre.cropped")


def _pad(g: Graph, pixels: str, size: str, size_px: int) -> str:
    """Fill up to the square; zero after normalisation is the mean colour."""
    spare = g.node("Sub", [g.ints("pre.square", [size_px, size_px]), size], "pre.pad_spare")
    before = g.node("Div", [spare, g.ints("pre.2", [2])], "pre.pad_before")
    after = g.node("Sub", [spare, before], "pre.pad_after")
    none = g.ints("pre.pad_none", [0, 0])
    pads = g.node("Concat", [none, before, none, after], "pre.pads", axis=0)
    return g.node("Pad", [pixels, pads], "pre.padded", mode="constant")
