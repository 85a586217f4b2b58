"""From 16-bit values to the 8 bits that networks are fed with."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from headstart.core.errors import ImageError
from headstart.settings.recipe import FULL_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The raw mode that finds the lower byte of each value where Pillow finds the upper one.
_LOWER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_DARK = 64  # of 255: below it is a quarter of the range


class Levels:
    """How 16-bit values become 8 bits, and what the largest of one image was.

    Args:
        white: The value that becomes 255, as those above it do.

    Attributes:
        peak: The largest value so far; 0 where there was none of 16 bits.
    """

    def __init__(self, white: int = FULL_RANGE) -> None:
        self.white = white
        self.peak = 0

    def to_eight(self, values: NDArray[np.integer], *, exact: bool = True) -> NDArray[np.uint8]:
        """8 bits for values in 0..65535.

        Args:
            values: uint16.
            exact: Rounded; otherwise colours of the full range lose their lower half, as in Pillow.
        """
        self.peak = max(self.peak, int(values.max(initial=0)))
        if not exact and self.white == FULL_RANGE:
            return (values >> 8).astype(np.uint8)
        eight: NDArray[np.uint8] = _table(self.white)[values]
        return eight


@functools.cache
def _table(white: int) -> NDArray[np.uint8]:
    return np.rint(np.minimum(np.arange(FULL_RANGE + 1), white) * (255 / white)).astype(np.uint8)


def scale_colours(image: Image.Image, levels: Levels, again: Callable[[], Any]) -> None:
    """Bring colours of 16 bits, of which Pillow keeps the upper 8, to the white level, in place.

    Args:
        image: PNG or TIFF, not loaded yet.
        levels: Learns the largest value: exact where it is below a quarter of the range, else about.
        again: Opens the same file once more.

    Raises:
        ImageError: There is a white level, and Pillow cannot give the lower bytes of this kind.
    """
    if not has_deep_colours(image):
        return
    modes = _raw_modes(image)
    image.load()
    upper = np.asarray(image)  # (H, W, 3 or 4)
    high = int(upper[..., :3].max(initial=0))
    lower = {
        mode: f"{kind};{_LOWER[order]}"
        for mode in modes
        for kind, _, order in [mode.partition(";")]
        if kind in {"RGB", "RGBA"} and order in _LOWER
    }
    known = len(modes) == len(lower) == 1
    if levels.white == FULL_RANGE and (high >= _DARK or not known):
        levels.peak = high * 257
        return
    if not known:
        raise ImageError(
            "16 bits in grey with alpha, or in planes, to which no white level can be applied: save it as 16-bit grey "
            "or RGB"
        )
    below = again()
    below.tile = [tile._replace(args=_with_raw_mode(tile.args, lower)) for tile in below.tile]
    values = upper[..., :3].astype(np.uint16) << 8 | np.asarray(below)[..., :3]
    eight = levels.to_eight(values, exact=False)
    if levels.white != FULL_RANGE:
        image.paste(Image.fromarray(np.concatenate([eight, upper[..., 3:]], axis=2), image.mode))


def has_deep_colours(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has colours of 16 bits, of which Pillow will keep 8."""
    return image.mode in {"RGB", "RGBA", "RGBX"} and any(";16" in mode for mode in _raw_modes(image))


def _raw_modes(image: Image.Image) -> set[str]:
    args = [tile.args for tile in getattr(image, "tile", [])]
    found = [one if isinstance(one, str) else one[0] if one else "" for one in args]
    return {one for one in found if isinstance(one, str)}


def _with_raw_mode(args: Any, lower: dict[str, str]) -> Any:
    return lower[args] if isinstance(args, str) else (lower[args[0]], *args[1:])
