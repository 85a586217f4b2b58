"""JPEG 2000 files whose channels Pillow would give in the wrong order, or with the wrong size.

Source: ISO/IEC 15444-1, A.5.1 (sizes of components), I.5.3.5 (component mapping) and I.5.3.6 (channel definition).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from headstart.core.errors import ImageError
from headstart.data.heif import Part, boxes

_COLOUR, _OPACITY = 0, 1
_SRGB = 16
_HINT = "a converter can save it as PNG"


class _Header(NamedTuple):
    """What the header says of the channels.

    Attributes:
        defined: Kind and colour of each channel that is named.
        space: Number of the colour space.
        mapped: Of each channel: the component that it comes from, whether through the palette (1), and which column of
            it. Empty where there is no palette.
    """

    defined: dict[int, tuple[int, int]]
    space: int
    mapped: tuple[tuple[int, int, int], ...]


def in_order(data: bytes, image: Image.Image) -> Image.Image:
    """The picture with its channels in the order that the file defines.

    Args:
        data: The whole file.
        image: As Pillow opened it; decoded here only where its channels are exchanged.

    Raises:
        ImageError: The file reduces the size of some channels, or defines or maps them in a way that is not supported.
    """
    if len(set(steps := _steps(data))) > 1:
        sizes = ", ".join(f"1/{across} x 1/{down}" for across, down in steps)
        raise ImageError(f"JPEG 2000 with channels of different sizes ({sizes}) is not supported; {_HINT}")
    if steps and steps[0] != (1, 1):
        raise ImageError(f"JPEG 2000 with channels of a reduced size is not supported; {_HINT}")
    header = _header(data)
    image = _through_palette(header, image)
    defined = header.defined
    bands = len(header.mapped or image.getbands())
    expected = {channel: (_COLOUR, channel + 1) for channel in range(bands)}
    if image.mode in {"RGBA", "LA"}:
        expected[bands - 1] = (_OPACITY, 0)
    # A channel that is not named is what it seems.
    if not defined or all(expected.get(channel) == value for channel, value in defined.items()):
        return image
    found = {**expected, **defined}
    order = [channel for value in expected.values() for channel, own in found.items() if own == value]
    permuted = sorted(order) == list(range(bands)) and sorted(found.values()) == sorted(expected.values())
    if image.mode not in {"RGB", "RGBA"} or header.space != _SRGB or header.mapped or not permuted:
        raise ImageError(f"JPEG 2000 whose channel definition (cdef) is not supported: {defined}; {_HINT}")
    return _arranged(image, order)


def _through_palette(header: _Header, image: Image.Image) -> Image.Image:
    """The picture with the columns of its palette in the order that the file maps them, which Pillow does not read."""
    columns = [column for _, _, column in header.mapped]
    straight = [(0, 1, place) for place in range(len(columns))]
    if list(header.mapped) == straight:
        return image
    if sorted(header.mapped) != straight or len(columns) != 3 or image.mode != "P" or header.space != _SRGB:
        raise ImageError(f"JPEG 2000 whose palette is mapped (cmap) as {list(header.mapped)} is not supported; {_HINT}")
    return _arranged(image.convert("RGB"), columns)


def _arranged(image: Image.Image, order: Sequence[int]) -> Image.Image:
    """The picture whose channels are those of these numbers."""
    parts = image.split()
    arranged = Image.merge(image.mode, [parts[channel] for channel in order])
    arranged.info = image.info
    return arranged


def _steps(data: bytes) -> list[tuple[int, int]]:
    """Of each component, every how many pixels it has a value, across and down."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 42 > len(data):
        return []
    (count,) = struct.unpack_from(">H", data, start + 40)
    sizes = data[start + 42 : start + 42 + 3 * count]
    return list(zip(sizes[1::3], sizes[2::3], strict=False))


def _header(data: bytes) -> _Header:
    defined: dict[int, tuple[int, int]] = {}
    space, mapped = _SRGB, b""
    for name, body in boxes(data, 0, len(data)):
        if name != b"jp2h":
            continue
        for inner, part in boxes(data, body.start, min(body.end, len(data))):
            if inner == b"cdef":
                defined = _definition(data, part)
            elif inner == b"colr" and data[part.start : part.start + 1] == b"\1":
                space = int.from_bytes(data[part.start + 3 : part.start + 7], "big")
            elif inner == b"cmap":
                mapped = data[part.start : part.end]
    whole = mapped[: len(mapped) // 4 * 4]
    return _Header(defined, space, tuple(struct.iter_unpack(">HBB", whole)))


def _definition(data: bytes, part: Part) -> dict[int, tuple[int, int]]:
    content = data[part.start + 2 : part.end]
    whole = content[: len(content) // 6 * 6]
    return {channel: (kind, colour) for channel, kind, colour in struct.iter_unpack(">3H", whole)}
