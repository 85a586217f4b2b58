"""What can be measured on an image without a network: size, format, light, sharpness, and a fingerprint.

Measured in the pass that embeds it, from the pixels that are decoded there anyway.
"""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from headstart.data.decode import Decoded

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 3  # raised whenever a trait of a file, or its thumbnail, changes: kept ones were measured by this code
FINGERPRINT_PX = 32
THUMBNAIL_PX = 96
# About the longer side at which light and sharpness are measured: whole numbers of pixels become one, which is four
# times as fast as an exact size, so that it lies between two thirds and one and a half of this.
LOOK_PX = 256
_THUMBNAIL_QUALITY = 75


@dataclass(frozen=True, slots=True)
class Traits:
    """What can be measured on one image file without a network.

    Attributes:
        width: Of the upright image as it is stored, in pixels.
        height: In pixels.
        format: ``JPEG``, ``PNG`` and so on.
        file_bytes: Size of the file.
        camera: Maker and model by the file's EXIF; empty if it names none.
        brightness: Mean luma, in 0..255.
        contrast: Standard deviation of the luma, in 0..127.5.
        sharpness: Standard deviation of the luma's Laplacian at a longer side of about `LOOK_PX`.
        fingerprint: Luma at 32 x 32, uint8 in row order, 1,024 bytes; the whole image, squashed.
        peak: See `headstart.data.decode.Decoded`.
    """

    width: int
    height: int
    format: str
    file_bytes: int
    camera: str
    brightness: float
    contrast: float
    sharpness: float
    fingerprint: bytes = dataclasses.field(repr=False)
    peak: int = 0

    def to_bytes(self) -> bytes:
        """The record as bytes; `from_bytes` reads them back."""
        scalars = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "fingerprint"}
        return self.fingerprint + json.dumps(scalars, ensure_ascii=True).encode("ascii")

    @classmethod
    def from_bytes(cls, content: bytes) -> Traits:
        """Read a record.

        Raises:
            ValueError: It is none.
        """
        size = FINGERPRINT_PX**2
        try:
            return cls(**json.loads(content[size:]), fingerprint=content[:size])
        except TypeError as error:
            raise ValueError("no record of traits") from error


def measure(data: bytes, image: Decoded) -> tuple[Traits, bytes]:
    """The traits of an image, and a thumbnail of it as a JPEG file.

    Args:
        data: The whole file.
        image: What was decoded of it.
    """
    whole = Image.fromarray(image.pixels)
    factor = max(1, round(max(whole.size) / LOOK_PX))
    picture = whole.reduce(factor)
    grey = picture.convert("L")
    luma = np.asarray(grey, np.float32)
    # Weights that rise and fall smoothly, and the exact extent, of which the last reduced pixel may be a part: so a
    # scaled copy has the same fingerprint. Pillow's BOX takes whole pixels, and moved those of copies ten times as far.
    extent = (0, 0, whole.width / factor, whole.height / factor)
    small = grey.resize((FINGERPRINT_PX, FINGERPRINT_PX), Image.Resampling.BILINEAR, box=extent)
    traits = Traits(
        width=image.width,
        height=image.height,
        format=image.format,
        file_bytes=len(data),
        camera=image.camera,
        brightness=float(luma.mean()),
        contrast=float(luma.std()),
        sharpness=_sharpness(luma),
        fingerprint=small.tobytes(),
        peak=image.peak,
    )
    return traits, thumbnail(picture, THUMBNAIL_PX)


def thumbnail(picture: Image.Image, side_px: int) -> bytes:
    """A JPEG file of a picture, whose longer side is at most `side_px`, and more than half of it where it was."""
    content = io.BytesIO()
    picture.reduce(-(-max(picture.size) // side_px)).save(content, "JPEG", quality=_THUMBNAIL_QUALITY)
    return content.getvalue()


def _sharpness(luma: NDArray[np.float32]) -> float:
    """Standard deviation of the Laplacian, the measure of focus of Pech-Pacheco et al. 2000; 0 below 3 pixels."""
    if min(luma.shape) < 3:
        return 0.0
    middle = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
    return float(laplacian.std())
