"""TGA files: what is one, by Truevision's specification 2.0. The format has no signature at its start.

A footer names version 2. Without it the header must be sound in every field, and the pixels must end exactly where
the file does, so that nothing else is mistaken for one.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from headstart.core.errors import ImageError

_FOOTER = b"TRUEVISION-XFILE.\0"
_FOOTER_BYTES = 26
_HEADER_BYTES = 18
_RUNS = 8  # the bit of run lengths in the image type
_DEPTHS = {1: {8}, 2: {16, 24, 32}, 3: {8, 16}}
_MAX_PACKETS = 4_000_000  # about a second
_ATTRIBUTES_AT = 494
_ALPHA, _PREMULTIPLIED = 3, 4


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file.

    Attributes:
        width: In pixels.
        height: In pixels.
        kind: 1 palette, 2 colours, 3 grey; 8 more for run lengths.
        depth: Bits of a pixel.
        attributes: Bits of a pixel that are alpha.
        start: Where the pixels begin.
    """

    width: int
    height: int
    kind: int
    depth: int
    attributes: int
    start: int


def header(data: bytes) -> Header | None:
    """The header; None where the file is no TGA, or of a kind that is not read."""
    head = data[:_HEADER_BYTES]
    if len(head) < _HEADER_BYTES or head[1] > 1 or head[2] & ~_RUNS not in _DEPTHS:
        return None
    kind, mapped, depth = head[2] & ~_RUNS, head[1], head[16]
    colours, map_depth = int.from_bytes(head[5:7], "little"), head[7]
    sound = (map_depth in {16, 24, 32} and colours) if mapped else not any(head[3:8])
    if not sound or depth not in _DEPTHS[kind] or (kind == 1) != bool(mapped) or head[17] & 0xC0:
        return None
    attributes = head[17] & 15
    if attributes not in {16: {0, 1}, 32: {0, 8}}.get(depth, {0}) and not (kind == 3 and attributes == depth - 8):
        return None
    width, height = int.from_bytes(head[12:14], "little"), int.from_bytes(head[14:16], "little")
    if not width or not height or (kind == 3 and depth == 16 and attributes != 8):
        return None
    start = _HEADER_BYTES + head[0] + (colours * map_depth // 8 if mapped else 0)
    form = Header(width, height, head[2], depth, attributes, start)
    return form if data.endswith(_FOOTER) or _ends_with_its_pixels(data, form) else None


def _ends_with_its_pixels(data: bytes, form: Header) -> bool:
    pixel_bytes, pixels = form.depth // 8, form.width * form.height
    if not form.kind & _RUNS:
        return form.start + pixels * pixel_bytes == len(data)
    place, left = form.start, pixels
    for _ in range(_MAX_PACKETS):
        if place >= len(data) or left <= 0:
            break
        count = (data[place] & 127) + 1
        place += 1 + pixel_bytes * (1 if data[place] & 128 else count)
        left -= count
    return left == 0 and place == len(data)


def read(data: bytes, form: Header) -> Image.Image:
    """The image.

    Raises:
        ImageError: It ends early, or is damaged.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=("TGA",))
        image.load()
    except (OSError, ValueError, SyntaxError) as error:
        if form.start + form.width * form.height // 8 > len(data) or "truncated" in str(error):
            raise ImageError("TGA that ends early") from error
        raise ImageError(f"damaged TGA: {error}") from error
    if image.mode == "RGBA":
        kind = _alpha_kind(data)
        # Where no bit of a pixel is alpha, what stands in its place means nothing, and is often 0.
        if form.depth != 32 or not form.attributes or kind not in {None, _ALPHA, _PREMULTIPLIED}:
            return image.convert("RGB")
        if kind == _PREMULTIPLIED:
            return Image.frombytes("RGBa", image.size, image.tobytes())
    return image


def _alpha_kind(data: bytes) -> int | None:
    """What the extension of version 2 says of alpha; None without one."""
    if not data.endswith(_FOOTER):
        return None
    extension = int.from_bytes(data[-_FOOTER_BYTES : 4 - _FOOTER_BYTES], "little")
    place = extension + _ATTRIBUTES_AT
    return data[place] if extension and place < len(data) else None
