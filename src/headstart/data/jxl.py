"""JPEG XL, by libjxl in the package imagecodecs (BSD-3-Clause), which the extra `jxl` installs.

The size is read here (ISO/IEC 18181-1, SizeHeader) before memory is allocated, since the package does not give it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from headstart.core.errors import ImageError

_CODESTREAM, _CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
_SIZE_BITS = (9, 13, 18, 30)
MISSING = "JPEG XL, for which a decoder is missing: pip install 'headstart[jxl]', or save it as PNG"


def is_jxl(data: bytes) -> bool:
    """Whether a file begins as JPEG XL, bare or in its container."""
    return data.startswith((_CODESTREAM, _CONTAINER))


def size(data: bytes) -> tuple[int, int]:
    """Width and height, as stored.

    Raises:
        ImageError: The header ends early.
    """
    stream = _codestream(data)[2:64]
    bits = int.from_bytes(stream, "little")
    place = 0

    def take(count: int) -> int:
        nonlocal place
        if place + count > 8 * len(stream):
            raise ImageError("JPEG XL that ends early")
        value = bits >> place & ((1 << count) - 1)
        place += count
        return value

    def side(small: int) -> int:
        return 8 * (1 + take(5)) if small else 1 + take(_SIZE_BITS[take(2)])

    small = take(1)
    height = side(small)
    ratio = take(3)
    if ratio:
        times, per = _RATIOS[ratio - 1]
        return height * times // per, height
    return side(small), height


def read(data: bytes) -> Image.Image:
    """The first frame, upright, of 8 bits.

    Raises:
        ImageError: It is damaged or of a kind that is not read, or the extra is not installed.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise ImageError(MISSING) from error
    try:
        pixels = imagecodecs.jpegxl_decode(data, index=0)
    except (ValueError, RuntimeError, IndexError, MemoryError) as error:
        early = "NEED_MORE_INPUT" in str(error)
        raise ImageError("JPEG XL that ends early" if early else f"damaged JPEG XL: {error}"[:200]) from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if pixels.dtype != np.uint8 or not 1 <= pixels.shape[2] <= 4:
        raise ImageError(
            f"JPEG XL with {pixels.shape[2]} channels of {pixels.dtype}, which is not supported: save it with 8 or 16 "
            "bits as grey or RGB"
        )
    mode = ("L", "LA", "RGB", "RGBA")[pixels.shape[2] - 1]
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())


def _codestream(data: bytes) -> bytes:
    if data.startswith(_CODESTREAM):
        return data[:64]
    for name, start in _boxes(data):
        if name in {b"jxlc", b"jxlp"}:
            begin = start + 4 * (name == b"jxlp")  # after the number of the part
            return data[begin : begin + 64]
    raise ImageError("JPEG XL that ends early")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Names of the outermost boxes, and where their content begins."""
    start = 0
    while start + 8 <= len(data):
        length, head = int.from_bytes(data[start : start + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        yield data[start + 4 : start + 8], start + head
        start += max(length, head) if length else len(data)
