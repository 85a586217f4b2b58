"""Paint a map over a picture in grey: strong places in bright colours, what was not seen dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Ten colours of viridis, in which people see the same order whatever their colour vision (Smith and van der Walt, CC0).
COLOURS = np.array([
    (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
    (31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37),
], np.float32)  # fmt: skip
MIN_SIDE_PX = 224  # a tiny picture is shown enlarged, its pixels as squares
_OPACITY = 0.75  # of the strongest place
_UNSEEN = 0.4  # brightness of what the network does not see
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # as Pillow's mode L


def picture(pixels: NDArray[np.uint8], max_side_px: int) -> NDArray[np.uint8]:
    """Pixels, uint8 (H, W, 3), at a size to look at; the shape is kept, but for sides that would vanish."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer <= max_side_px // 2 and longer < MIN_SIDE_PX:
        return pixels.repeat(-(-MIN_SIDE_PX // longer), 0).repeat(-(-MIN_SIDE_PX // longer), 1)
    if longer <= max_side_px:
        return pixels
    size = max(1, round(width * max_side_px / longer)), max(1, round(height * max_side_px / longer))
    reduced = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(reduced)


def paint(
    pixels: NDArray[np.uint8], strength: NDArray[np.float32], outlined: NDArray[np.bool_] | None = None
) -> Image.Image:
    """A picture in grey with a map in colours over it: on a yellow flower, yellow would say nothing.

    Args:
        pixels: uint8 (H, W, 3).
        strength: (H, W) in 0..1, from what leaves the picture as it is to what is painted brightest; NaN where the
            network does not see, which becomes dark, behind a line.
        outlined: (H, W); a thin line is drawn around these.
    """
    seen = np.isfinite(strength)
    value = np.where(seen, strength, 0)[..., None]  # (H, W, 1)
    grey = (pixels @ _LUMA)[..., None]
    result = np.where(seen[..., None], grey + (colours(value[..., 0]) - grey) * (_OPACITY * value), grey * _UNSEEN)
    if not seen.all():
        result[_around(seen, 2)] = 255
    if outlined is not None:
        result[_around(outlined, 1) & seen] = 255
    return Image.fromarray(np.clip(np.round(result), 0, 255).astype(np.uint8))


def colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The colours (H, W, 3) in 0..255 of values (H, W) in 0..1."""
    place = np.clip(values, 0, 1) * (len(COLOURS) - 1)
    below = np.minimum(place.astype(int), len(COLOURS) - 2)
    share = (place - below)[..., None].astype(np.float32)
    result: NDArray[np.float32] = COLOURS[below] * (1 - share) + COLOURS[below + 1] * share
    return result


def _around(inside: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """The pixels (H, W) just outside of others."""
    near = inside
    for _ in range(width_px):
        grown = near.copy()
        grown[1:] |= near[:-1]
        grown[:-1] |= near[1:]
        grown[:, 1:] |= near[:, :-1]
        grown[:, :-1] |= near[:, 1:]
        near = grown
    return near & ~inside
