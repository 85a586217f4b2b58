"""Netpbm files (PBM, PGM, PPM, PAM) to pixels, by the specifications at netpbm.sourceforge.net.

Pillow decodes those with other depths than 8 bits, and those written as text, in Python, 2 to 4 s a megapixel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data.sixteen import Levels
from headstart.settings.recipe import FULL_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPACE = b" \t\n\v\f\r"
_COMMENT = re.compile(rb"#[^\r\n]*")
_TOKEN = re.compile(rb"(?:[ \t\n\v\f\r]|#[^\r\n]*[\r\n])*([0-9]{1,10})")  # before it, white space and comments
_WORD = re.compile(rb"[0-9 \t\n\v\f\r]*")
_TEXT_BLOCK = 1 << 22
_MAX_HEADER = 1 << 16
# Samples of a pixel by the kind that a PAM file names; others (HSV, planes of science) are no colours of ours.
_TUPLES = {
    b"BLACKANDWHITE": ("L", 1), b"GRAYSCALE": ("L", 1), b"RGB": ("RGB", 3), b"BLACKANDWHITE_ALPHA": ("LA", 2),
    b"GRAYSCALE_ALPHA": ("LA", 2), b"RGB_ALPHA": ("RGBA", 4),
}  # fmt: skip
_UNNAMED = {1: b"GRAYSCALE", 2: b"GRAYSCALE_ALPHA", 3: b"RGB", 4: b"RGB_ALPHA"}


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file.

    Attributes:
        kind: The digit after the P: 1 to 3 are text, 4 to 7 are not; 1 and 4 hold bits.
        width: In pixels.
        height: In pixels.
        largest: The value that means full light.
        mode: ``L``, ``LA``, ``RGB`` or ``RGBA``.
        start: Where the samples begin.
    """

    kind: int
    width: int
    height: int
    largest: int
    mode: str
    start: int


def is_netpbm(data: bytes) -> bool:
    """Whether a file begins as one of P1 to P7."""
    return data[:1] == b"P" and data[1:2] in set(map(bytes, zip(b"1234567", strict=True))) and data[2:3] in _STARTS


_STARTS = {bytes([one]) for one in _SPACE + b"#"}


def header(data: bytes) -> Header:
    """Read the header.

    Raises:
        ImageError: It ends early, or says what no file may.
    """
    kind = data[1] - ord("0")
    if kind == 7:
        return _pam_header(data)
    numbers, place = [], 2
    for _ in range(2 if kind in {1, 4} else 3):
        token = _TOKEN.match(data, place, place + _MAX_HEADER)
        if not token:
            rest = _COMMENT.sub(b"", data[place : place + _MAX_HEADER]).strip(_SPACE)
            raise ImageError("damaged PPM: its header lacks three numbers" if rest else "PPM that ends early")
        numbers.append(int(token[1]))
        place = token.end()
    width, height, largest = numbers if len(numbers) == 3 else (*numbers, 1)
    # One white space ends the header, after which a raster of bytes may look like anything.
    if data[place : place + 1] == b"#" and (comment := re.compile(rb"#[^\r\n]*").match(data, place)):
        place = comment.end()
    if place >= len(data):
        raise ImageError("PPM that ends early")
    if data[place] not in _SPACE:
        raise ImageError("damaged PPM: no white space after its header")
    _check_largest(largest)
    return Header(kind, width, height, largest, "RGB" if kind in {3, 6} else "L", place + 1)


def _pam_header(data: bytes) -> Header:
    end = data.find(b"\nENDHDR\n", 0, _MAX_HEADER)
    if end < 0:
        raise ImageError("PAM that ends early" if len(data) < _MAX_HEADER else "damaged PAM: its header has no end")
    values: dict[bytes, bytes] = {}
    for line in data[3:end].split(b"\n"):
        name, _, value = line.strip(_SPACE).partition(b" ")
        if name and not name.startswith(b"#"):
            values[name] = (values[name] + b" " if name in values else b"") + value.strip(_SPACE)
    try:
        width, height, depth, largest = (int(values[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    except (KeyError, ValueError):
        raise ImageError("damaged PAM: its header lacks WIDTH, HEIGHT, DEPTH or MAXVAL") from None
    named = values.get(b"TUPLTYPE", _UNNAMED.get(depth, b"")) or _UNNAMED.get(depth, b"")
    mode, samples = _TUPLES.get(named, ("", depth))
    if not mode or samples != depth:
        words = named.decode("ascii", "replace")[:40]
        raise ImageError(
            f"PAM with {depth} channels{f' of kind {words}' if words else ''}, which is not supported: expected "
            "grey or RGB, with or without alpha; save it as PNG, for example with pamtopng or ImageMagick"
        )
    _check_largest(largest)
    return Header(7, width, height, largest, mode, end + len(b"\nENDHDR\n"))


def _check_largest(largest: int) -> None:
    if not 0 < largest < 65536:
        raise ImageError(f"damaged PPM: its largest value is {largest}, expected 1 to 65535")


def read(data: bytes, head: Header, levels: Levels) -> Image.Image:
    """The image, in the mode that the header names, 8 bits scaled by the largest value.

    Args:
        data: The whole file.
        head: Its header.
        levels: For values of 16 bits, where the header names the largest of those.

    Raises:
        ImageError: Samples are missing, or larger than the largest, or no numbers.
    """
    count = head.width * head.height * len(head.mode)
    if head.kind in {1, 4}:
        values = (_text_bits if head.kind == 1 else _bits)(data, head)
    elif head.kind in {2, 3}:
        values = _text_numbers(data, head, count, levels)
    else:
        values = _binary(data, head, count, levels)
    return Image.frombytes(head.mode, (head.width, head.height), np.ascontiguousarray(values).tobytes())


def _scaled(values: NDArray[np.integer], head: Header, levels: Levels) -> NDArray[np.uint8]:
    largest = head.largest
    if largest == 255 and values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    high = int(values.max(initial=0))
    if high > largest:
        raise ImageError(f"damaged PPM: a sample of {high}, more than its largest value of {largest}")
    if largest == FULL_RANGE and head.mode.endswith("A"):
        samples = values.reshape(-1, len(head.mode))
        alpha = Levels().to_eight(samples[:, -1:])  # which has the whole range
        return np.concatenate([levels.to_eight(samples[:, :-1]), alpha], axis=1).reshape(-1)
    if largest == FULL_RANGE:
        return levels.to_eight(values)
    table = np.rint(np.arange(largest + 1) / largest * 255).astype(np.uint8)
    scaled: NDArray[np.uint8] = table[values]
    return scaled


def _binary(data: bytes, head: Header, count: int, levels: Levels) -> NDArray[np.uint8]:
    kind = np.dtype(np.uint8 if head.largest < 256 else ">u2")
    if len(data) - head.start < count * kind.itemsize:
        raise ImageError("PPM that ends early")
    return _scaled(np.frombuffer(data, kind, count, head.start), head, levels)


def _bits(data: bytes, head: Header) -> NDArray[np.uint8]:
    row_bytes = -(-head.width // 8)
    if len(data) - head.start < row_bytes * head.height:
        raise ImageError("PPM that ends early")
    rows = np.frombuffer(data, np.uint8, row_bytes * head.height, head.start).reshape(head.height, row_bytes)
    return (1 - np.unpackbits(rows, axis=1, count=head.width)) * np.uint8(255)  # 1 is black


def _text_bits(data: bytes, head: Header) -> NDArray[np.uint8]:
    count = head.width * head.height
    digits = _COMMENT.sub(b"", data[head.start :]).translate(None, _SPACE)[:count]
    values = np.frombuffer(digits, np.uint8) - np.uint8(ord("0"))
    if values.size and values.max() > 1:
        raise ImageError("damaged PPM: another character than 0 and 1")
    if values.size < count:
        raise ImageError("PPM that ends early")
    return (1 - values) * np.uint8(255)


def _text_numbers(data: bytes, head: Header, count: int, levels: Levels) -> NDArray[np.uint8]:
    """Numbers in ASCII, a block at a time, so that memory stays near that of the pixels."""
    result = np.empty(count, np.uint8)
    done, place = 0, head.start
    while done < count and place < len(data):
        end = min(place + _TEXT_BLOCK, len(data))
        if end < len(data):  # not inside a number or a comment
            end = max(data.rfind(b"\n", place, end), data.rfind(b"\r", place, end)) + 1 or end
            if end == place + _TEXT_BLOCK:
                end = max(data.rfind(bytes([one]), place, end) for one in _SPACE) + 1
        if end <= place:
            raise ImageError("damaged PPM: a number has too many digits")
        block = _COMMENT.sub(b"", data[place:end])
        sound = _WORD.match(block)
        text = block[: sound.end()] if sound else b""
        if len(text) < len(block) and text[-1:].isdigit():
            text = text.rstrip(b"0123456789")  # a number that goes on in letters is none
        # Numbers of more digits than any may have would wrap around.
        if re.search(rb"[0-9]{11}", text):
            raise ImageError("damaged PPM: a number has too many digits")
        values = np.fromstring(text, np.int64, sep=" ")[: count - done] if text.strip(_SPACE) else np.empty(0, np.int64)
        result[done : done + values.size] = _scaled(values, head, levels)
        done += values.size
        if len(text) < len(block) and done < count:
            raise ImageError("damaged PPM: another character where a number was expected")
        place = end
    if done < count:
        raise ImageError("PPM that ends early")
    return result
