"""Where on an image the square lies that a network sees: the way back from its feature map to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.preprocess.nodes import MAX_ASPECT
from headstart.preprocess.spec import Preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """The network's square on an image, by its edges as shares of the image's sides.

    The top and the left edge of the image are at 0, the bottom and the right one at 1. Edges between them mean that a
    border of the image is never seen, edges beyond them that the image was padded.

    Attributes:
        top: Upper edge.
        left: Left edge.
        bottom: Lower edge.
        right: Right edge.
    """

    top: float
    left: float
    bottom: float
    right: float

    @property
    def seen(self) -> Frame:
        """The part of the image that the network sees."""
        return Frame(max(self.top, 0.0), max(self.left, 0.0), min(self.bottom, 1.0), min(self.right, 1.0))

    def on_image(self, grid: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
        """Bring a grid that covers the square to the image, or to a smaller picture of it.

        Args:
            grid: (h, w), whose cells divide the square evenly.
            height: Of the picture, in pixels.
            width: In pixels.

        Returns:
            float32 (height, width): the grid between the centres of its cells by bilinear interpolation, as Zhou et al.
            (2016) do; NaN where the network does not see.
        """
        down, unseen_rows = _weights(height, self.top, self.bottom, grid.shape[0])
        across, unseen_columns = _weights(width, self.left, self.right, grid.shape[1])
        result: NDArray[np.float32] = (down @ grid @ across.T).astype(np.float32)
        result[unseen_rows] = np.nan
        result[:, unseen_columns] = np.nan
        return result


def frame(spec: Preprocess, height: int, width: int) -> Frame:
    """Where the square of a preprocessing lies on an image of so many pixels.

    The sizes and offsets are, number by number, those of `headstart.preprocess.nodes.add_preprocess`.
    """
    if spec.fit == "squash":
        return Frame(0.0, 0.0, 1.0, 1.0)
    short = min(height, width)
    top, bottom = _edges(spec, height, short, max(height, width))
    left, right = _edges(spec, width, short, max(height, width))
    return Frame(top, left, bottom, right)


def _edges(spec: Preprocess, length: int, short: int, long: int) -> tuple[float, float]:
    """Both edges along a side of so many pixels, as shares of it."""
    if spec.fit == "pad":
        size = max(length * spec.resize_px // long, 1)
        before = (spec.size_px - size) // 2
        return -before / size, (spec.size_px - before) / size
    kept = min(length, short * MAX_ASPECT)
    cut = (length - kept) // 2
    size = max(kept * spec.resize_px // short, 1)
    spare = size - spec.size_px
    start = (spare + spare // 2 % 2) // 2
    first, last = ((cut + edge * kept / size) / length for edge in (start, start + spec.size_px))
    return first, last


def _weights(length: int, low: float, high: float, cells: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The share (length, cells) of each cell in each pixel, and which pixels (length,) lie outside the edges."""
    at = ((np.arange(length) + 0.5) / length - low) / (high - low)  # 0..1 within the square
    place = np.clip(at * cells - 0.5, 0, cells - 1)
    first = np.minimum(place.astype(int), max(cells - 2, 0))
    weights = np.zeros((length, cells))
    rows = np.arange(length)
    weights[rows, first] = 1 - (place - first)
    if cells > 1:
        weights[rows, first + 1] = place - first
    return weights, (at < 0) | (at > 1)
