"""TGA files: the pixels that were stored, and nothing else passes for one."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core.errors import ImageError
from headstart.data import tga as tga_module
from headstart.data.decode import decode
from helpers import draw

PICTURE = draw("disc", 0, (37, 29))
PIXELS = np.asarray(PICTURE)
FOOTER = bytes(8) + b"TRUEVISION-XFILE.\0"
TOP_LEFT = 0x20


def tga(
    kind: int,
    pixels: np.ndarray,
    depth: int,
    flags: int = TOP_LEFT,
    palette: bytes = b"",
    end: bytes = b"",
    name: bytes = b"",
) -> bytes:
    """A file of stored pixels (H, W, bytes of a pixel), run lengths where the kind says so."""
    colours = len(palette) // 3
    head = struct.pack("<BBBHHBHHHHBB", len(name), bool(palette), kind, 0, colours, 24 if palette else 0, 0, 0,
                       pixels.shape[1], pixels.shape[0], depth, flags)  # fmt: skip
    body = pixels.astype(np.uint8).tobytes() if kind < 8 else runs(pixels)
    return head + name + palette + body + end


def runs(pixels: np.ndarray) -> bytes:
    """Packets: two equal pixels as a run, all others as they are; none crosses a row."""
    out = bytearray()
    for row in pixels.astype(np.uint8):
        place = 0
        while place < len(row):
            same = place + 1 < len(row) and (row[place] == row[place + 1]).all()
            out += bytes([129 if same else 0]) + row[place].tobytes()
            place += 2 if same else 1
    return bytes(out)


BGR = PIXELS[..., ::-1]
GREY = np.asarray(PICTURE.convert("L"))[..., None]
INDEXED = PICTURE.quantize(16)
INDICES = np.asarray(INDEXED)[..., None]
PALETTE = np.array(INDEXED.getpalette()[:48], np.uint8).reshape(-1, 3)[:, ::-1].tobytes()  # type: ignore[index]


@pytest.mark.parametrize("run", [0, 8])
@pytest.mark.parametrize("end", [b"", FOOTER])
@pytest.mark.parametrize("name", [b"", b"made by a test"])
def test_every_kind(run: int, end: bytes, name: bytes) -> None:
    grey = np.repeat(GREY, 3, -1)
    for data, expected in (
        (tga(2 + run, BGR, 24, end=end, name=name), PIXELS),
        (tga(3 + run, GREY, 8, end=end, name=name), grey),
        (tga(1 + run, INDICES, 8, palette=PALETTE, end=end, name=name), np.asarray(INDEXED.convert("RGB"))),
    ):
        image = decode(data)
        assert np.array_equal(image.pixels, expected)
        assert (image.format, image.width, image.height) == ("TGA", 37, 29)


@pytest.mark.parametrize(("flags", "turn"), [
    (0x00, lambda a: a[::-1]), (0x10, lambda a: a[::-1, ::-1]), (0x20, lambda a: a), (0x30, lambda a: a[:, ::-1]),
])  # fmt: skip
def test_the_first_pixel_may_lie_in_every_corner(flags: int, turn: object) -> None:
    assert np.array_equal(decode(tga(2, BGR, 24, flags)).pixels, turn(PIXELS))  # type: ignore[operator]


def alpha_file(attributes: int, kind: int | None = None) -> bytes:
    alpha = np.zeros((29, 37, 1), np.uint8)
    alpha[:, 20:] = 255
    data = tga(2, np.concatenate([BGR, alpha], -1), 32, TOP_LEFT | attributes)
    if kind is None:
        return data
    extension = bytearray(495)
    extension[:2], extension[494] = b"\xef\1", kind
    return data + bytes(extension) + struct.pack("<II", len(data), 0) + FOOTER[8:]


def test_alpha_counts_where_the_file_says_so() -> None:
    on_white = PIXELS.copy()
    on_white[:, :20] = 255
    assert np.array_equal(decode(alpha_file(8)).pixels, on_white)
    assert np.array_equal(decode(alpha_file(8, 3)).pixels, on_white)
    for data in (alpha_file(0), alpha_file(8, 0), alpha_file(8, 1), alpha_file(8, 2)):
        assert np.array_equal(decode(data).pixels, PIXELS)
    premultiplied = decode(alpha_file(8, 4)).pixels
    assert np.array_equal(premultiplied[:, 20:], PIXELS[:, 20:])


def test_files_of_pillow() -> None:
    for mode in ("L", "LA", "P", "RGB", "RGBA"):
        for compression in (None, "tga_rle"):
            buffer = io.BytesIO()
            PICTURE.convert(mode).save(buffer, "TGA", compression=compression)
            expected = PICTURE.convert(mode).convert("RGB")
            assert np.array_equal(decode(buffer.getvalue()).pixels, np.asarray(expected)), (mode, compression)


@pytest.mark.parametrize("kind", [2, 10])
def test_without_a_footer_the_pixels_must_end_with_the_file(kind: int) -> None:
    data = tga(kind, BGR, 24)
    for other in (data[:-1], data + b"\0", data[: len(data) // 2], data[:18]):
        with pytest.raises(ImageError, match="no known image format"):
            decode(other)


def test_with_a_footer_missing_pixels_are_missed() -> None:
    for kind in (2, 10):
        data = tga(kind, BGR, 24, end=FOOTER)
        with pytest.raises(ImageError, match=r"TGA that ends early|damaged TGA"):
            decode(data[:200] + FOOTER)


def test_sizes_are_bounded() -> None:
    head = bytearray(tga(10, BGR, 24, end=FOOTER))
    head[12:16] = struct.pack("<HH", 60000, 60000)
    with pytest.raises(ImageError, match="60000 x 60000 pixels, more than the limit"):
        decode(bytes(head))


@settings(max_examples=500, deadline=None)
@given(st.binary(min_size=0, max_size=18), st.binary(max_size=200))
def test_nothing_else_passes_for_one(start: bytes, rest: bytes) -> None:
    assert tga_module.header(start + rest) is None


@pytest.mark.parametrize(
    "data", [b"\0\0\2\0" + bytes(60), b"\0\0\1\0\1\0\x10\x10" + bytes(60), bytes(3000), b"\0\1\2" * 500]
)
def test_icons_zeros_and_patterns_are_none(data: bytes) -> None:
    assert tga_module.header(data) is None
