"""TIFF of every kind: read right, or refused by name. The files are written here, by the words of TIFF 6.0."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data.decode import decode

W, H = 37, 29
WHITE_IS_ZERO, GREY, RGB, INKS, YCBCR = 0, 1, 2, 5, 6


def picture(samples: int) -> np.ndarray:
    """Values in 0..1, (H, W, samples), another slope in each sample; the last of 2 or 4 is alpha."""
    y, x = np.mgrid[:H, :W]
    slopes = [x / (W - 1), y / (H - 1), (x + y) / (H + W - 2), 0.25 + x / (2 * W), y * 0 + 0.5, y * 0 + 0.2]
    chosen = [0, 3] if samples == 2 else range(samples)
    return np.stack([slopes[one] for one in chosen], -1)


def pack(block: np.ndarray, bits: int, order: str) -> bytes:
    """Rows of values (rows, columns, samples), the first bit of each value first, each row from a new byte on."""
    rows = block.reshape(block.shape[0], -1)
    if bits in {8, 16, 32}:
        return rows.astype(f"{order}{rows.dtype.kind}{bits // 8}").tobytes()
    text = ["".join(format(int(value), f"0{bits}b") for value in row) for row in rows]
    return b"".join(int(row.ljust(-(-len(row) // 8) * 8, "0"), 2).to_bytes(-(-len(row) // 8), "big") for row in text)


def tiff(
    values: np.ndarray, bits: int, photometric: int, *, order: str = "<", planar: bool = False, tile: int = 0,
    deflate: bool = False, predictor: bool = False, rows: int = 10, sample_format: int = 1,
    extra: tuple[int, ...] = (), more: Mapping[int, tuple[int, ...] | bytes] | None = None, big: bool = False,
) -> bytes:  # fmt: skip
    """A TIFF file of integers or floats (H, W, samples)."""
    height, width, samples = values.shape
    blocks = []
    for plane in range(samples) if planar else [slice(None)]:
        band = values[..., [plane]] if planar else values
        for top in range(0, height, tile or rows):
            for left in range(0, width, tile or width):
                block = band[top : top + (tile or rows), left : left + (tile or width)]
                if tile:
                    spare = ((0, tile - block.shape[0]), (0, tile - block.shape[1]), (0, 0))
                    block = np.pad(block, spare, "edge")
                if predictor:
                    block = np.diff(block, axis=1, prepend=block[:, :1] * 0)
                packed = pack(block, bits, order)
                blocks.append(zlib.compress(packed) if deflate else packed)
    head = 16 if big else 8
    starts = [head + sum(map(len, blocks[:number])) for number in range(len(blocks))]
    tags: dict[int, tuple[int, ...] | bytes] = {
        256: (width,), 257: (height,), 258: (bits,) * samples, 259: (8 if deflate else 1,), 262: (photometric,),
        277: (samples,), 284: (2 if planar else 1,), 339: (sample_format,) * samples, 338: extra, 317: (1 + predictor,),
        **({322: (tile,), 323: (tile,), 324: tuple(starts), 325: tuple(map(len, blocks))} if tile else
           {273: tuple(starts), 278: (rows,), 279: tuple(map(len, blocks))}), **(more or {}),
    }  # fmt: skip
    body = b"".join(blocks)
    body += bytes(len(body) % 2)
    return header(order, head + len(body), big) + body + directory(tags, head + len(body), order, big=big)


def header(order: str, first: int, big: bool = False) -> bytes:
    name = b"II" if order == "<" else b"MM"
    return name + (struct.pack(f"{order}HHHQ", 43, 8, 0, first) if big else struct.pack(f"{order}HI", 42, first))


def directory(
    tags: Mapping[int, tuple[int, ...] | bytes], start: int, order: str = "<", following: int = 0, big: bool = False
) -> bytes:
    kept = sorted((tag, value) for tag, value in tags.items() if value)
    size, word, inline = (20, "Q", 8) if big else (12, "I", 4)
    beyond = start + (8 if big else 2) + size * len(kept) + inline
    entries, outside = b"", b""
    for tag, value in kept:
        body = value if isinstance(value, bytes) else struct.pack(f"{order}{len(value)}I", *value)
        if len(body) > inline:
            place = struct.pack(order + word, beyond + len(outside))
            outside += body + bytes(len(body) % 2)
        else:
            place = body.ljust(inline, b"\0")
        entries += struct.pack(f"{order}HH{word}", tag, 2 if isinstance(value, bytes) else 4, len(value)) + place
    count = struct.pack(order + ("Q" if big else "H"), len(kept))
    return count + entries + struct.pack(order + word, following) + outside


def whole_numbers(samples: int, bits: int) -> np.ndarray:
    return np.round(picture(samples) * (2**bits - 1)).astype(np.uint32)


def shown(values: np.ndarray, bits: int, photometric: int, extra: tuple[int, ...]) -> np.ndarray:
    """The colours of the picture that was stored, on white, by the definitions, float (H, W, 3) in 0..255."""
    share = values / (2**bits - 1)
    if photometric in {WHITE_IS_ZERO, GREY}:
        grey = share[..., :1] if photometric == GREY else 1 - share[..., :1]
        colours, alpha = np.repeat(grey, 3, -1), share[..., 1:2]
    elif photometric == RGB:
        colours, alpha = share[..., :3], share[..., 3:4]
    else:
        colours, alpha = (1 - share[..., :3]) * (1 - share[..., 3:4]), share[..., 4:5]
    if extra == (2,):
        colours = colours * alpha + 1 - alpha
    return np.asarray(colours * 255)


def forms() -> Iterator[tuple[int, int, bool, tuple[int, ...]]]:
    for (photometric, samples, extra), bits, planar in itertools.product(
        [(WHITE_IS_ZERO, 1, ()), (GREY, 1, ()), (GREY, 2, (2,)), (GREY, 2, (0,)), (RGB, 3, ()), (RGB, 4, (2,)),
         (RGB, 4, (0,)), (INKS, 4, ())],
        [1, 2, 4, 8, 10, 12, 14, 16], [False, True],
    ):  # fmt: skip
        if bits > 1 or samples == 1:
            yield photometric, bits, planar, extra


@pytest.mark.parametrize(("photometric", "bits", "planar", "extra"), list(forms()))
def test_every_depth_and_arrangement_has_the_colours_that_were_stored(
    photometric: int, bits: int, planar: bool, extra: tuple[int, ...]
) -> None:
    samples = {WHITE_IS_ZERO: 1, GREY: 1, RGB: 3, INKS: 4}[photometric] + len(extra)
    values = whole_numbers(samples, bits)
    expected = shown(values, bits, photometric, extra)
    for order, tile, deflate, big in itertools.product("<>", (0, 16), (False, True), (False, True)):
        data = tiff(
            values, bits, photometric, planar=planar, extra=extra, order=order, tile=tile, deflate=deflate, big=big
        )
        image = decode(data)
        assert image.format == "TIFF"
        error = np.abs(image.pixels - expected).max()
        assert error <= 2.5, (order, tile, deflate, big, error)  # inks multiply rounded values


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("samples", [2, 3])
def test_differences_are_added_up(bits: int, order: str, planar: bool, samples: int) -> None:
    values = whole_numbers(samples, bits).astype(f"u{bits // 8}")
    form, extra = (RGB, ()) if samples == 3 else (GREY, (2,))
    data = tiff(values, bits, form, planar=planar, order=order, deflate=True, predictor=True, extra=extra)
    assert np.abs(decode(data).pixels - shown(values.astype(float), bits, form, extra)).max() <= 1.5


def test_planes_and_pixels_of_16_bits_give_the_same_picture() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (H, W, 3)).astype(np.uint32)
    together = decode(tiff(values, 16, RGB)).pixels
    assert np.array_equal(decode(tiff(values, 16, RGB, planar=True)).pixels, together)


def test_twelve_bits_have_their_own_white() -> None:
    values = np.array([[[0], [2048], [4095]]], np.uint32)
    assert decode(tiff(values, 12, GREY)).pixels[0, :, 0].tolist() == [0, 128, 255]


def test_premultiplied_alpha_in_planes() -> None:
    values = np.zeros((1, 2, 4), np.uint32)
    values[0, :, :3], values[0, 0, 3], values[0, 1, 3] = 0x4000, 0x8000, 0xFFFF
    pixels = decode(tiff(values, 16, RGB, planar=True, extra=(1,))).pixels[0, :, 0]
    assert np.abs(pixels.astype(int) - [64 + 127, 64]).max() <= 2


def test_orientation_camera_and_pages_are_told() -> None:
    values = whole_numbers(3, 16)
    more = {274: (6,), 271: b"Maker\0", 272: b"Model\0"}
    image, plain = decode(tiff(values, 16, RGB, planar=True, more=more)), decode(tiff(values, 16, RGB))
    assert np.array_equal(image.pixels, np.rot90(plain.pixels, -1))
    assert (image.camera, image.width, image.height, image.animated) == ("Maker Model", H, W, False)


@pytest.mark.parametrize("planar", [False, True])
def test_a_cut_file_ends_early(planar: bool) -> None:
    values = whole_numbers(3, 12)
    data = tiff(values, 12, RGB, planar=planar)
    first = struct.unpack_from("<I", data, 4)[0]
    moved = data[:4] + struct.pack("<I", 8) + directory_before(data, first)
    assert np.array_equal(decode(moved).pixels, decode(data).pixels)
    for cut in (len(moved) - 2, len(moved) // 2):
        with pytest.raises(ImageError, match="TIFF that ends early"):
            decode(moved[:cut])
    for cut in (first + 5, first, 9):
        with pytest.raises(ImageError, match="ends early"):
            decode(data[:cut])


def directory_before(data: bytes, first: int) -> bytes:
    """What follows the header, with the directory in front of the pixels."""
    shift = len(data) - first
    count = struct.unpack_from("<H", data, first)[0]
    out = bytearray(data[first:])
    for entry in range(2, 2 + 12 * count, 12):
        tag, kind, values, place = struct.unpack_from("<HHII", out, entry)
        size = values * (1 if kind == 2 else 4)
        if size > 4:
            struct.pack_into("<I", out, entry + 8, place - first + 8)
            if tag == 273:
                for one in range(values):
                    (old,) = struct.unpack_from("<I", out, place - first + 4 * one)
                    struct.pack_into("<I", out, place - first + 4 * one, old + shift)
    return bytes(out) + data[8:first]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"values": picture(5).astype(np.float32), "bits": 32, "photometric": GREY, "sample_format": 3,
          "extra": (0,) * 4},
         "TIFF with 5 channels of 32-bit float, which is not supported: save it as 8- or 16-bit grey or RGB"),
        ({"values": picture(3).astype(np.float32), "bits": 32, "photometric": RGB, "sample_format": 3, "planar": True},
         "TIFF with 3 channels of 32-bit float in separate planes, which is not supported"),
        ({"values": whole_numbers(5, 8), "bits": 8, "photometric": GREY, "extra": (0,) * 4},
         "5 channels of 8-bit values"),
        ({"values": whole_numbers(5, 16), "bits": 16, "photometric": GREY, "planar": True, "extra": (0,) * 4},
         "5 channels of 16-bit values in separate planes"),
        ({"values": whole_numbers(1, 7).astype(np.int8), "bits": 8, "photometric": GREY, "sample_format": 2},
         "1 channel of 8-bit signed integers"),
        ({"values": whole_numbers(1, 15).astype(np.int16), "bits": 16, "photometric": GREY, "sample_format": 2},
         "1 channel of 16-bit signed integers"),
        ({"values": whole_numbers(3, 32), "bits": 32, "photometric": RGB},
         "3 channels of 32-bit values"),
        ({"values": whole_numbers(1, 12), "bits": 12, "photometric": GREY, "more": {259: (5,)}},
         "1 channel of 12-bit values, compressed by LZW, which is not supported"),
        ({"values": whole_numbers(2, 8), "bits": 8, "photometric": GREY, "planar": True, "extra": (2,),
          "more": {259: (5,)}},
         "2 channels of 8-bit values in separate planes, compressed by LZW"),
        ({"values": whole_numbers(3, 8), "bits": 8, "photometric": YCBCR, "more": {530: (2, 2)}},
         "YCbCr of reduced chroma"),
        ({"values": whole_numbers(3, 8), "bits": 8, "photometric": RGB, "more": {258: (8, 8, 16)}},
         "3 channels of different depths"),
        ({"values": whole_numbers(3, 16), "bits": 16, "photometric": 8},
         "3 channels of 16-bit values"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(arguments: dict, words: str) -> None:
    for order in "<>":
        with pytest.raises(ImageError) as caught:
            decode(tiff(**arguments, order=order))
        assert words in caught.value.message
        assert "damaged" not in caught.value.message


# Camera raw in TIFF's clothes


def raw(maker: str, first: dict, *others: dict, chained: bool = False) -> bytes:
    """A TIFF file of a small picture, with further directories below the first, or after it."""
    small = whole_numbers(3, 8)
    plain = tiff(small, 8, RGB, more={271: maker.encode() + b"\0", **first})
    at = struct.unpack_from("<I", plain, 4)[0]
    bodies, places, place = [], [], len(plain) + 400
    for tags in others:
        places.append(place)
        bodies.append(directory({258: (16,), 277: (1,), 259: (1,), **tags}, place))
        place += len(bodies[-1])
    if not chained and places:
        first = {**first, 330: tuple(places)}
    plain = tiff(small, 8, RGB, more={271: maker.encode() + b"\0", **first})
    if chained:
        count = struct.unpack_from("<H", plain, at)[0]
        plain = plain[: at + 2 + 12 * count] + struct.pack("<I", places[0]) + plain[at + 6 + 12 * count :]
    shift = len(plain)
    assert shift <= (places or [shift])[0]
    return plain + bytes((places or [shift])[0] - shift) + b"".join(bodies)


LARGE = {256: (6000,), 257: (4000,), 262: (32803,)}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (raw("Adobe", {50706: (1, 4, 0, 0)}), "DNG"),
        (raw("NIKON CORPORATION", {254: (1,)}, LARGE), "Nikon NEF"),
        (raw("NIKON CORPORATION", {254: (1,)}, {**LARGE, 262: (2,)}), "Nikon NEF"),
        (raw("SONY", {}, LARGE), "Sony ARW"),
        (raw("Phase One", {254: (1,)}, LARGE), "Phase One IIQ"),
        (raw("PENTAX", {}, LARGE, chained=True), "Pentax PEF"),
        (raw("Somebody", {254: (1,)}, LARGE), "a camera's raw file"),
    ],
)
def test_a_camera_raw_file_is_not_classified_by_its_preview(data: bytes, name: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert name in caught.value.message
    assert "a camera's raw file" in caught.value.message
    assert "save it as JPEG or TIFF" in caught.value.message


def test_a_small_copy_in_front_of_the_image_is_refused_too() -> None:
    with pytest.raises(ImageError, match="whose first image, of 37 x 29 pixels, is a small copy"):
        decode(raw("", {254: (1,)}, {**LARGE, 262: (2,)}, chained=True))


def test_ordinary_files_with_further_directories_are_read() -> None:
    small = {256: (10,), 257: (10,), 262: (2,), 254: (1,)}
    for data in (raw("NIKON CORPORATION", {}, small), raw("x", {254: (1,)}, small), raw("x", {}, small, chained=True)):
        assert decode(data).pixels.shape == (H, W, 3)


def test_directories_that_point_at_each_other_end() -> None:
    data = raw("x", {}, {**LARGE, 262: (1,)})
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    looped = data[: at + 2 + 12 * count] + struct.pack("<I", at) + data[at + 6 + 12 * count :]
    assert decode(looped).pixels.shape == (H, W, 3)


def test_a_file_of_pillow_is_pillow_s() -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(np.round(picture(3) * 255).astype(np.uint8))
    image.save(buffer, "TIFF", compression="tiff_lzw")
    assert np.array_equal(decode(buffer.getvalue()).pixels, np.asarray(image))


SEEDS = [
    tiff(whole_numbers(3, 16), 16, RGB, planar=True),
    tiff(whole_numbers(1, 12), 12, GREY, tile=16, deflate=True),
    tiff(whole_numbers(2, 8), 8, GREY, planar=True, extra=(2,), order=">", big=True),
    raw("NIKON", {}, LARGE),
]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.sampled_from(SEEDS),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=5),
    behind=st.booleans(),
)
def test_damaged_files_decode_or_are_refused(data: bytes, flips: list[tuple[float, int]], behind: bool) -> None:
    damaged = bytearray(data)
    at = struct.unpack_from("<I" if data[:1] == b"I" else ">Q", data, 4 if data[:1] == b"I" else 8)[0]
    for place, value in flips:  # mostly in the directory
        damaged[(at if behind else 0) + int(place * (len(data) - at if behind else 16)) - (place == 1)] = value
    try:
        pixels = decode(bytes(damaged), max_megapixels=1).pixels
    except ImageError:
        return
    assert pixels.ndim == 3
