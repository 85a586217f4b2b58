"""HEIF, AVIF and JPEG 2000: parts that are missing, crops, rotations, and channels that are out of order."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data import heif as parser
from headstart.data.decode import decode
from heif_files import Item, box, clap, coded_tile, grid, heif, ispe, overlay
from helpers import draw

TILE, CONFIGURATION, SIZE = coded_tile()
PICTURE = draw("disc", 0, SIZE)


def coded(*properties: bytes) -> bytes:
    """A HEIC of one coded picture."""
    return heif([Item(b"hvc1", TILE, [CONFIGURATION, ispe(*SIZE), *properties])])


def avif(*properties: bytes) -> bytes:
    """An AVIF of one coded picture, whose boxes are ours."""
    buffer = io.BytesIO()
    PICTURE.save(buffer, "AVIF", quality=90)
    data = buffer.getvalue()
    at = data.index(b"av1C") - 4
    content = data[data.index(b"mdat") + 4 :]
    return heif([Item(b"av01", content, [data[at : at + 12], ispe(*SIZE), *properties])], brand=b"avif")


# What is missing


@pytest.mark.parametrize("make", [lambda: grid(3, 2), coded, avif], ids=["grid", "hevc", "avif"])
def test_zeros_in_place_of_the_rest_are_never_a_picture(make: object) -> None:
    data = make()  # type: ignore[operator]
    whole = decode(data).pixels
    start = data.index(b"mdat") + 4
    for cut in range(start, len(data) - 1, 17):
        filled = data[:cut] + bytes(len(data) - cut)
        try:
            image = decode(filled)
        except ImageError as error:
            assert "is incomplete: zeros fill" in error.message or "damaged" in error.message, cut  # noqa: PT017
        else:  # less than AV1 can tell
            assert make is avif
            assert len(data) - cut < 64
            assert image.pixels.shape == whole.shape


def test_a_hole_in_one_tile_is_counted() -> None:
    data = grid(3, 2)
    at = data.index(b"mdat") + 4 + len(TILE) + 100
    with pytest.raises(ImageError, match=r"zeros fill 1 of its 7 parts"):
        decode(data[:at] + bytes(8) + data[at + 8 :])


def test_a_tile_is_never_given_for_the_main_picture() -> None:
    """The library takes another picture of the file where it cannot read the main one."""
    data = grid(3, 2)
    for plan in (b"\0\0\5\5", b"\0\0\1\0", b"\0\0\0\2"):
        at = data.rindex(b"\0\0\1\2")
        try:
            image = decode(data[:at] + plan + data[at + 4 :])
        except ImageError:
            continue
        assert image.pixels.shape == (128, 192, 3), plan


def test_data_beyond_the_end_is_told_though_the_boxes_end_in_time() -> None:
    data = coded()
    at = data.index(b"mdat") - 4
    cut = data[:at] + struct.pack(">I", len(data) - at - 50) + data[at + 4 : -50]
    with pytest.raises(ImageError, match="ends early"):
        decode(cut)


def test_data_within_the_boxes_and_long_sizes_are_read() -> None:
    assert decode(heif([Item(b"hvc1", TILE, [CONFIGURATION, ispe(*SIZE)])], long=True)).pixels.shape == (64, 64, 3)
    data = coded()
    at = data.index(b"mdat") - 4
    assert decode(data[:at] + bytes(4) + data[at + 4 :]).pixels.shape == (64, 64, 3)  # 0: to the end of the file


@pytest.mark.parametrize("inside", [False, True])
def test_a_plan_within_the_boxes_is_found(inside: bool) -> None:
    """A phone's grid lies in `idat`, whose offsets count from its own beginning."""
    data = grid(3, 2, inside=inside)
    assert np.array_equal(decode(data).pixels, decode(grid(3, 2)).pixels)
    at = data.rindex(b"\0\0\1\2" + struct.pack(">HH", 192, 128))
    with pytest.raises(ImageError, match=r"zeros fill 1 of its 7 parts"):
        decode(data[:at] + bytes(8) + data[at + 8 :])
    for cut in range(len(data) - 700, len(data), 50):
        with pytest.raises(ImageError, match="ends early"):
            decode(data[:cut])


@pytest.mark.parametrize("inside", [False, True])
def test_the_parts_of_an_overlay_are_needed(inside: bool) -> None:
    data = overlay((0, 0), (100, 30), size=(170, 100), inside=inside)
    pixels = decode(data).pixels.astype(int)
    assert pixels.shape == (100, 170, 3)
    assert np.abs(pixels[:64, :64] - decode(coded()).pixels).max() <= 3
    assert np.abs(pixels[30:94, 100:164] - decode(coded()).pixels).max() <= 3
    assert np.abs(pixels[80, 30] - (255, 0, 0)).max() <= 3
    at = data.index(b"mdat") + 4 + len(TILE) + 100
    with pytest.raises(ImageError, match=r"zeros fill 1 of its 3 parts"):
        decode(data[:at] + bytes(8) + data[at + 8 :])
    with pytest.raises(ImageError, match="ends early"):
        decode(data[:-60])


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    kept=st.floats(0, 1),
)
def test_the_parser_ends_on_any_bytes(changes: list[tuple[float, int]], kept: float) -> None:
    data = bytearray(grid(2, 1, clap(60, 50, 40, 10, of=(128, 64))))
    for place, value in changes:
        data[int(place * len(data))] = value
    damaged = bytes(data[: int(kept * len(data))])
    assert isinstance(parser.missing(damaged), str)
    try:
        parser.crop(damaged, (128, 64))
    except ValueError as error:
        assert "clap" in str(error)  # noqa: PT017


# Crops and rotations


def test_the_crop_of_an_avif_is_applied_before_its_rotation() -> None:
    whole = decode(avif()).pixels
    part = whole[30:40, 12:32]
    crop = clap(20, 10, 12, 30, of=SIZE)
    image = decode(avif(crop))
    assert np.array_equal(image.pixels, part)
    assert (image.width, image.height) == (20, 10)
    turned = decode(avif(crop, box(b"irot", b"\1")))
    assert np.array_equal(turned.pixels, np.rot90(part))
    assert (turned.width, turned.height) == (10, 20)
    assert np.array_equal(decode(avif(crop, box(b"imir", b"\1"))).pixels, part[:, ::-1])


def test_the_crop_of_a_heic_is_applied() -> None:
    whole = decode(coded()).pixels
    crop = clap(20, 10, 24, 28, of=SIZE)
    assert np.array_equal(decode(coded(crop)).pixels, whole[28:38, 24:44])
    assert np.array_equal(decode(coded(crop, box(b"irot", b"\1"))).pixels, np.rot90(whole[28:38, 24:44]))
    tiles = decode(grid(3, 2)).pixels
    assert np.array_equal(decode(grid(3, 2, clap(100, 50, 40, 20, of=(192, 128)))).pixels, tiles[20:70, 40:140])
    identity = heif([Item(b"hvc1", TILE, [CONFIGURATION, ispe(*SIZE)]), Item(b"iden", b"", [ispe(*SIZE), crop], [1])])
    assert np.array_equal(decode(identity).pixels, whole[28:38, 24:44])


@pytest.mark.parametrize(
    ("crop", "word"),
    [
        (clap(20, 10, 60, 30, of=SIZE), "outside"),
        (clap(20, 10, 12, 30, of=(65, 64)), "between two pixels"),
        (box(b"clap", bytes(32)), "divides by zero"),
        (box(b"clap", bytes(8)), "too short"),
    ],
)
def test_a_crop_of_an_avif_that_makes_no_sense_is_refused(crop: bytes, word: str) -> None:
    with pytest.raises(ImageError, match=r"^damaged HEIF or AVIF"):
        decode(avif(crop))
    with pytest.raises(ValueError, match=word):
        parser.crop(avif(crop), SIZE)


# JPEG 2000


def jpeg2000(mode: str, *definition: tuple[int, int, int]) -> bytes:
    """A lossless JPEG 2000 file whose channel definition is ours."""
    picture = Image.merge(mode, [*PICTURE.split(), Image.new("L", SIZE, 255)][: len(mode)])
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG2000", irreversible=False)
    data = buffer.getvalue()
    at = data.index(b"jp2h") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    header = data[at + 8 : at + length]
    if (old := header.find(b"cdef")) >= 0:
        header = header[: old - 4]
    cdef = box(b"cdef", struct.pack(">H", len(definition)), *(struct.pack(">3H", *one) for one in definition))
    return data[:at] + box(b"jp2h", header, cdef if definition else b"") + data[at + length :]


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 1, 3), (3, 2, 1), (3, 1, 2), (2, 3, 1)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_channels_of_jpeg_2000_come_as_the_file_defines_them(mode: str, order: tuple[int, ...]) -> None:
    defined = [(channel, 0, colour) for channel, colour in enumerate(order)]
    defined += [(3, 1, 0)] if mode == "RGBA" else []
    stored, pixels = np.asarray(PICTURE), decode(jpeg2000(mode, *defined)).pixels
    for channel, colour in enumerate(order):
        assert np.array_equal(pixels[..., colour - 1], stored[..., channel])


def test_other_channel_definitions_are_refused() -> None:
    for defined in ([(0, 0, 3), (1, 0, 3), (2, 0, 2)], [(0, 1, 0), (1, 0, 2), (2, 0, 3)], [(7, 0, 1)]):
        with pytest.raises(ImageError, match=r"channel definition \(cdef\) is not supported"):
            decode(jpeg2000("RGB", *defined))


PALETTE = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


def with_palette(indices: np.ndarray, mapped: list[tuple[int, int, int]], *more: bytes) -> bytes:
    """A lossless JPEG 2000 file of indices in a palette, whose component mapping is ours."""
    buffer = io.BytesIO()
    Image.fromarray(indices).save(buffer, "JPEG2000", irreversible=False)
    data = buffer.getvalue()
    at, colour = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    rgb = box(b"colr", b"\1\0\0", struct.pack(">I", 16))
    colours = box(b"pclr", struct.pack(">HB", len(PALETTE), 3), bytes([7] * 3), *map(bytes, PALETTE))
    mapping = box(b"cmap", *(struct.pack(">HBB", *one) for one in mapped))
    return data[:at] + box(b"jp2h", data[at + 8 : colour], rgb, colours, mapping, *more) + data[at + length :]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_palette_of_jpeg_2000_is_mapped_as_the_file_says(order: tuple[int, ...]) -> None:
    indices = np.kron(np.random.default_rng(0).integers(0, 4, (8, 8)), np.ones((8, 8))).astype(np.uint8)
    expected = np.array(PALETTE)[:, order][indices]
    mapped = [(0, 1, column) for column in order]
    assert np.array_equal(decode(with_palette(indices, mapped)).pixels, expected)
    usual = box(b"cdef", struct.pack(">H9H", 3, 0, 0, 1, 1, 0, 2, 2, 0, 3))
    assert np.array_equal(decode(with_palette(indices, mapped, usual)).pixels, expected)


def test_other_mappings_of_a_palette_are_refused() -> None:
    indices = np.zeros((64, 64), np.uint8)
    for mapped in ([(0, 1, 0), (0, 1, 0), (0, 1, 0)], [(0, 0, 0), (0, 1, 1), (0, 1, 2)], [(0, 1, 2), (0, 1, 1)]):
        with pytest.raises(ImageError, match=r"palette is mapped \(cmap\) as .* is not supported; a converter"):
            decode(with_palette(indices, mapped))
    exchanged = box(b"cdef", struct.pack(">H9H", 3, 0, 0, 3, 1, 0, 2, 2, 0, 1))
    with pytest.raises(ImageError, match=r"channel definition \(cdef\) is not supported"):
        decode(with_palette(indices, [(0, 1, 0), (0, 1, 1), (0, 1, 2)], exchanged))


def test_reduced_chroma_of_jpeg_2000_is_refused_by_name() -> None:
    data = bytearray(jpeg2000("RGB"))
    at = data.index(b"\xff\x4f\xff\x51") + 42
    for channel in (1, 2):
        data[at + 3 * channel + 1 : at + 3 * channel + 3] = b"\2\2"
    with pytest.raises(ImageError, match=r"^JPEG 2000 with channels of different sizes .*save it as PNG$"):
        decode(bytes(data))
