"""From an image that Pillow has opened, of any mode, to upright RGB of 8 bits; and what its EXIF says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data.sixteen import Levels
from headstart.settings.recipe import FULL_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORIENTATION = 0x0112  # EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = set(list(_TURNS.values())[3:])  # 5 to 8 exchange width and height
_MAKER_AND_MODEL = (0x010F, 0x0110)  # EXIF
_MAX_CAMERA = 64
_WHITE_IS_ZERO = 0  # TIFF's tag 262; Pillow heeds it up to 8 bits only


class Facts(NamedTuple):
    """What EXIF says."""

    turn: Image.Transpose | None = None
    camera: str = ""

    @property
    def on_its_side(self) -> bool:
        """Whether upright its width is the stored height."""
        return self.turn in _ON_ITS_SIDE


def facts(image: Image.Image) -> Facts:
    """What EXIF says; nothing where it is broken."""
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION)
        named = [exif.get(tag) for tag in _MAKER_AND_MODEL]
        camera = " ".join(one.strip("\0 ") for one in named if isinstance(one, str))[:_MAX_CAMERA]
        return Facts(_TURNS.get(orientation) if isinstance(orientation, int) else None, camera.strip())
    except Exception:  # noqa: BLE001  broken EXIF raises anything, and is never a reason to lose an image
        return Facts()


def upright(image: Image.Image, levels: Levels) -> tuple[NDArray[np.uint8], Facts]:
    """Pixels, uint8 (H, W, 3), turned as EXIF says; and what it says."""
    image.load()
    said = facts(image)
    rgb = to_rgb(image, levels)
    return np.asarray(rgb if said.turn is None else rgb.transpose(said.turn)), said


def to_rgb(image: Image.Image, levels: Levels) -> Image.Image:
    """The same in the mode RGB: alpha over white, more than 8 bits by `levels`."""
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bit(image, levels)).convert("RGB")
    if mode == "LAB":
        return _lab_to_rgb(image)
    if mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        rgba = (image.convert("LA") if mode == "La" else image).convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")


def scale_hidden(image: Image.Image, depth: int, levels: Levels) -> None:
    """Bring a PNG's transparent colour to the scale of its pixels, which Pillow brings to 8 bits without it."""
    hidden = image.info.get("transparency")
    if isinstance(hidden, tuple) and depth == 16:
        eight = Levels(levels.white).to_eight(np.array(hidden, np.uint16), exact=False)
        image.info["transparency"] = tuple(eight.tolist())
    elif isinstance(hidden, int) and image.mode in {"1", "L"} and depth < 8:
        image.info["transparency"] = hidden * 255 // (2**depth - 1)


def _eight_bit(image: Image.Image, levels: Levels) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits, scaled by the range that their type means (plain `convert` clips them)."""
    values = np.asarray(image)
    if image.mode == "F" and not np.isfinite(values).all():
        raise ImageError("holds values that are not finite")
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        grey: NDArray[np.uint8] = np.round(values * np.float32(255)).astype(np.uint8)
    # PGM files of up to 16 bits come as 32-bit integers scaled to 65535.
    elif (
        image.mode.startswith("I;16")
        or image.format == "PPM"
        or (low >= 0 and 255 < high <= 65535)
        or (
            image.mode == "I" and levels.white != FULL_RANGE and low >= 0 and high <= 65535  # which is said of 16 bits
        )
    ):
        grey = levels.to_eight(values if values.dtype.kind == "u" else np.round(values).astype(np.uint16))
    elif low >= 0 and high <= 255:
        # A 32-bit file of very dark 16-bit values cannot be distinguished from one of 8-bit values.
        grey = np.round(values).astype(np.uint8)
    else:
        raise ImageError(f"values from {low:g} to {high:g}: expected 0 to 1, 0 to 255 or 0 to 65535")
    if getattr(image, "tag_v2", {}).get(262) == _WHITE_IS_ZERO:
        grey = ~grey
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        grey[values == hidden] = 255
    return grey


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ImageError("LAB colours cannot be converted")
    return converted
