"""JPEG 2000 files whose channels Pillow would give in the wrong order, or with the wrong size.

Source: ISO/IEC 15444-1, A.5.1 (sizes of components) and I.5.3.6 (channel definition).
"""

from __future__ import annotations

import struct

from PIL import Image

from headstart.core.errors import ImageError
from headstart.data.heif import Part, boxes

_COLOUR, _OPACITY = 0, 1
_SRGB = 16
_HINT = "a converter can save it as PNG"


def in_order(data: bytes, image: Image.Image) -> Image.Image:
    """The picture with its channels in the order that the file defines.

    Args:
        data: The whole file.
        image: As Pillow opened it; decoded here only where its channels are exchanged.

    Raises:
        ImageError: The file reduces the size of some channels, or defines them in a way that is not supported.
    """
    if len(set(steps := _steps(data))) > 1:
        sizes = ", ".join(f"1/{across} x 1/{down}" for across, down in steps)
        raise ImageError(f"JPEG 2000 with channels of different sizes ({sizes}) is not supported; {_HINT}")
    if steps and steps[0] != (1, 1):
        raise ImageError(f"JPEG 2000 with channels of a reduced size is not supported; {_HINT}")
    defined, space, mapped = _header(data)
    bands = len(image.getbands())
    expected = {channel: (_COLOUR, channel + 1) for channel in range(bands)}
    if image.mode in {"RGBA", "LA"}:
        expected[bands - 1] = (_OPACITY, 0)
    # A channel that is not named is what it seems.
    if not defined or all(expected.get(channel) == value for channel, value in defined.items()):
        return image
    found = {**expected, **defined}
    order = [channel for value in expected.values() for channel, own in found.items() if own == value]
    permuted = sorted(order) == list(range(bands)) and sorted(found.values()) == sorted(expected.values())
    if image.mode not in {"RGB", "RGBA"} or space != _SRGB or mapped or not permuted:
        raise ImageError(f"JPEG 2000 whose channel definition (cdef) is not supported: {defined}; {_HINT}")
    parts = image.split()
    ordered = Image.merge(image.mode, [parts[channel] for channel in order])
    ordered.info = image.info
    return ordered


def _steps(data: bytes) -> list[tuple[int, int]]:
    """Of each component, every how many pixels it has a value, across and down."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 42 > len(data):
        return []
    (count,) = struct.unpack_from(">H", data, start + 40)
    sizes = data[start + 42 : start + 42 + 3 * count]
    return list(zip(sizes[1::3], sizes[2::3], strict=False))


def _header(data: bytes) -> tuple[dict[int, tuple[int, int]], int, bool]:
    """The channel definition (kind and colour of each channel), the colour space, and whether there is a palette."""
    defined: dict[int, tuple[int, int]] = {}
    space, mapped = _SRGB, False
    for name, body in boxes(data, 0, len(data)):
        if name != b"jp2h":
            continue
        for inner, part in boxes(data, body.start, min(body.end, len(data))):
            if inner == b"cdef":
                defined = _definition(data, part)
            elif inner == b"colr" and data[part.start : part.start + 1] == b"\1":
                space = int.from_bytes(data[part.start + 3 : part.start + 7], "big")
            mapped = mapped or inner in {b"pclr", b"cmap"}
    return defined, space, mapped


def _definition(data: bytes, part: Part) -> dict[int, tuple[int, int]]:
    content = data[part.start + 2 : part.end]
    whole = content[: len(content) // 6 * 6]
    return {channel: (kind, colour) for channel, kind, colour in struct.iter_unpack(">3H", whole)}
