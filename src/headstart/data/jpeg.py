"""JPEG files of more pixels than are decoded: which of them can be read in little memory."""

from __future__ import annotations

import io
import re
from typing import cast

from PIL import Image

# Sequential DCT in one scan. Of all others (progressive; a scan for each channel) libjpeg keeps the coefficients of
# the whole picture in memory, at whatever scale it decodes: 2 bytes each, 3 to 6 bytes a stored pixel.
_SEQUENTIAL = {0xC0, 0xC1}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # C4, C8 and CC are tables
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")


def streams(data: bytes, kind: str) -> bool:
    """Whether a file is a JPEG that is decoded row by row, so that memory follows what is decoded, not what is stored.

    Args:
        data: The whole file.
        kind: Its format, as Pillow names it.
    """
    if kind not in {"JPEG", "MPO"}:
        return False
    position, channels = 2, 0
    while marker := _MARKER.search(data, position):
        code, position = marker[1][0], marker.end()
        length = int.from_bytes(data[position : position + 2], "big")
        if code in _FRAMES:
            # Of two frames nobody knows which one the decoder takes.
            if channels or code not in _SEQUENTIAL or position + 8 > len(data):
                return False
            channels = data[position + 7]
        elif code == 0xDA:  # the first scan
            return channels > 0 and data[position + 2 : position + 3] == bytes([channels])
        position += length
    return False


def open_large(data: bytes) -> Image.Image:
    """Open a JPEG file without Pillow's own limit on stored pixels; the caller checks the size before it decodes.

    Raises:
        OSError: It is none, or damaged.
        SyntaxError: The same, as Pillow raises it.
    """
    from PIL import JpegImagePlugin

    return cast(Image.Image, JpegImagePlugin.jpeg_factory(io.BytesIO(data)))
