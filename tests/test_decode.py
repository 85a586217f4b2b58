"""Image files to pixels: right colours, right side up, and a reason for every file that cannot be used."""

from __future__ import annotations

import io
import json
import lzma
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data import storage
from headstart.data.decode import Decoded, decode, from_pil
from heif_files import grid
from helpers import draw

GOLDEN = Path(__file__).parent / "golden"
PICTURE = draw("disc", 0, (61, 47))

# EXIF orientation as the standard words it: what has to be done to the stored rows and columns.
TURNS: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG file from its bare parts, without Pillow; `rows` holds the filter bytes too."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def retagged(tiff: bytes, tag: int, value: int, becomes: int | None = None) -> bytes:
    """A little-endian TIFF file with another value in one of its tags, which may become another tag."""
    (start,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", tiff, entry) == (tag,):
            return tiff[:entry] + struct.pack("<HHII", becomes or tag, 4, 1, value) + tiff[entry + 12 :]
    raise AssertionError(f"no tag {tag}")


def outcome(data: bytes, **options: Any) -> tuple[Decoded | None, str]:
    """The decoded image, or the reason why there is none; any other error is a failure of the test."""
    try:
        return decode(data, **options), ""
    except ImageError as error:
        return None, error.message


def reason(data: bytes, **options: Any) -> str:
    """Why a file is refused."""
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    return caught.value.message


FILES = {
    "jpeg": encoded(PICTURE, "JPEG"),
    "jpeg-progressive": encoded(PICTURE, "JPEG", progressive=True),
    "png": encoded(PICTURE, "PNG"),
    "png-palette": encoded(PICTURE.quantize(16), "PNG"),
    "gif": encoded(PICTURE, "GIF"),
    "webp": encoded(PICTURE, "WEBP"),
    "webp-lossless": encoded(PICTURE, "WEBP", lossless=True),
    "tiff": encoded(PICTURE, "TIFF"),
    "tiff-lzw": encoded(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff-jpeg": encoded(PICTURE, "TIFF", compression="jpeg"),
    "bmp": encoded(PICTURE, "BMP"),
    "ppm": encoded(PICTURE, "PPM"),
    "avif": encoded(PICTURE, "AVIF"),
    "jpeg2000": encoded(PICTURE, "JPEG2000"),
    "jpeg2000-tiles": encoded(PICTURE, "JPEG2000", tile_size=(16, 16), no_jp2=True),
    "heic": (GOLDEN / "quadrants.heic").read_bytes(),
    "heic-tiles": grid(3, 2),
}


# Files that end early


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_never_half_read(name: str) -> None:
    data = FILES[name]
    whole = decode(data).pixels
    refused = 0
    for cut in sorted({*range(1, 64), *range(64, len(data) - 40, 41), *range(len(data) - 40, len(data))}):
        image, message = outcome(data[:cut])
        if image is None:
            refused += 1
            # A cut may leave something that looks complete (a GIF that happens to end with its trailer).
            assert re.search(r"ends early|^damaged GIF", message), (cut, message)
            assert "0x" not in message
        else:  # only what comes after the last pixel is missing: an end marker, a checksum
            assert np.array_equal(image.pixels, whole), cut
            assert cut > len(data) - 40
    assert refused > 60


def test_a_jpeg_that_lacks_its_last_two_bytes_ends_early() -> None:
    assert reason(FILES["jpeg"][:-2]) == "JPEG that ends early"


def test_reasons_for_files_without_an_image() -> None:
    assert reason(b"") == "empty file"
    assert reason(b"\0" * 5000) == "no known image format"
    assert "ends early" in reason(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"There is no image here, only words.\n", "text"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "HTML"),
        (b"\xef\xbb\xbf\r\n<!-- cached --><HTML><svg></svg>", "HTML"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<svg width='1'>", "SVG"),
        (b"<!-- a drawing -->" * 100 + b"<svg>", "SVG"),
        (b'{"message": "Not Found"}', "XML or JSON"),
        (b"%PDF-1.7\n1 0 obj\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"\xc5\xd0\xd3\xc6" + bytes(60), "EPS"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"\x1f\x8b" + bytes(60), "gzip"),
        (b"\0\0\0\x18ftypmp42" + bytes(60), "video"),
        (b"\0\0\0\x14ftypqt  " + bytes(60), "video"),
        (b"\x1a\x45\xdf\xa3" + bytes(60), "video"),
        (b"RIFF\x10\0\0\0AVI LIST" + bytes(60), "video"),
        (b"\x7fELF" + bytes(60), "program"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, word: str) -> None:
    message = reason(data)
    assert message.startswith("looks like ")
    assert word in message
    assert message.endswith(", not an image")


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    for name in ("photo.JPG", "photo.jfif", "photo", "photo.jpg"):
        (tmp_path / name).write_bytes(FILES["png"])
        assert np.array_equal(decode(storage.FolderStorage(tmp_path).read(name)).pixels, np.asarray(PICTURE))


# Bombs

BOMB_RUNNER = """
import json, resource, sys, time
import pi_heif
from headstart.data.decode import decode
from headstart.core.errors import ImageError
decode(open(sys.argv[1], "rb").read())
results = {}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[2:]:
    data = open(path, "rb").read()
    start = time.process_time()
    try:
        results[path] = [str(decode(data).pixels.shape)]
    except ImageError as error:
        results[path] = [error.message]
    results[path] += [time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]
print(json.dumps(results))
"""


def endless_scans() -> bytes:
    """A progressive JPEG whose last scan, of a few bytes, comes 200 times."""
    data = encoded(Image.new("L", (64, 64), 100), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 200 + b"\xff\xd9"


def solid_png(width: int, height: int) -> bytes:
    """A PNG of one colour, a few kilobytes however large."""
    return png(width, height, 8, 0, (b"\0" + b"\x80" * width) * height)


def wide_webp() -> bytes:
    """An animated WebP of 2 x 2 pixels that claims a canvas of 16384 x 16384."""
    frames = [Image.new("RGB", (2, 2), (value, 9, 9)) for value in (0, 200)]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    at = data.index(b"VP8X") + 12
    return data[:at] + (16383).to_bytes(3, "little") * 2 + data[at + 6 :]


@pytest.mark.slow
def test_bombs_are_refused_from_their_headers(tmp_path: Path) -> None:
    """Each in under 0.2 s of processor time, and all of them together in less than 40 MiB."""
    tiff = retagged(retagged(FILES["tiff"], 256, 60000), 257, 60000)
    gif, bmp = FILES["gif"], FILES["bmp"]
    bombs = {
        "png": (solid_png(9000, 9000), "9000 x 9000 pixels, more than the limit of 64 megapixels"),
        "png-pillow": (solid_png(20000, 20000), "more than the limit of 64 megapixels"),
        "heic": (lzma.decompress((GOLDEN / "nine-thousand.heic.xz").read_bytes()), "9000 x 9000 pixels"),
        "gif": (gif[:6] + b"\xff\xff\xff\xff" + gif[10:], "more than the limit of 64 megapixels"),
        "tiff": (tiff, "more than the limit of 64 megapixels"),
        "bmp": (bmp[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + bmp[26:], "megapixels"),
        "bmp-wide": (bmp[:18] + struct.pack("<ii", 2**26, 1) + bmp[26:], "67108864 x 1 pixels"),
        "long": (png(150_000, 2, 8, 0, (b"\0" + bytes(150_000)) * 2), "a side of more than 100,000"),
        "ppm": (b"P6 50000 50000 255\n" + bytes(100), "megapixels"),
        "webp": (wide_webp(), "more than the limit of 64 megapixels"),
        "scans": (endless_scans(), "more than 100 scans"),
    }
    for name, (data, _) in bombs.items():
        assert len(data) < 500_000, name
        (tmp_path / name).write_bytes(data)
    (tmp_path / "warm-up").write_bytes(FILES["jpeg"])
    done = subprocess.run(
        [sys.executable, "-c", BOMB_RUNNER, tmp_path / "warm-up", *(tmp_path / name for name in bombs)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for path, (message, seconds, kibibytes) in json.loads(done.stdout).items():
        assert bombs[Path(path).name][1] in message, path
        assert seconds < 0.2, path
        assert kibibytes < 40 * 1024, path


def test_images_of_one_row_or_column_decode() -> None:
    for width, height in ((20000, 1), (1, 20000), (1, 1)):
        assert decode(solid_png(width, height)).pixels.shape == (height, width, 3)


@pytest.mark.slow
def test_the_limit_can_be_raised_past_the_level_where_pillow_warns() -> None:
    data = solid_png(9500, 9500)  # 90.25 megapixels; Pillow warns from 89.5
    assert decode(data, max_megapixels=91).pixels.shape == (9500, 9500, 3)
    assert "limit of 90 megapixels" in reason(data, max_megapixels=90)


def test_an_ordinary_progressive_jpeg_has_few_scans(photos: Path) -> None:
    photo = next(path for path in sorted(photos.rglob("*.jpg")))
    with Image.open(photo) as image:
        decode(encoded(image, "JPEG", progressive=True))
    # Scans in what is appended to a picture, a film say, are not scans of the picture.
    assert np.array_equal(decode(FILES["jpeg"] + b"\xff\xda\0\4" * 1000).pixels, decode(FILES["jpeg"]).pixels)


# Colours and depth


def ramp(pixels: np.ndarray) -> bool:
    """Whether a picture holds all 256 grey levels, from black at the left to white at the right."""
    grey = pixels[..., 0]
    same = bool((pixels == grey[..., None]).all())
    return same and np.array_equal(np.unique(grey), np.arange(256)) and bool((np.diff(grey[0].astype(int)) >= 0).all())


SIXTEEN = np.tile(np.linspace(0, 65535, 1024).round().astype(np.uint16), (4, 1))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(Image.fromarray(SIXTEEN), "PNG"), id="png-16"),
        pytest.param(encoded(Image.fromarray(SIXTEEN), "TIFF"), id="tiff-16-little-endian"),
        pytest.param(
            encoded(Image.frombytes("I;16B", (1024, 4), SIXTEEN.astype(">u2").tobytes()), "TIFF"),
            id="tiff-16-big-endian",
        ),
        pytest.param(encoded(Image.fromarray(SIXTEEN), "PPM"), id="pgm-16"),
        pytest.param(encoded(Image.fromarray(SIXTEEN), "JPEG2000", irreversible=False), id="jpeg2000-16"),
        pytest.param(encoded(Image.fromarray(SIXTEEN.astype(np.int32)), "TIFF"), id="tiff-32-of-16"),
        pytest.param(encoded(Image.fromarray((SIXTEEN >> 8).astype(np.int32)), "TIFF"), id="tiff-32-of-8"),
        pytest.param(encoded(Image.fromarray((SIXTEEN / 65535).astype(np.float32)), "TIFF"), id="tiff-float-of-1"),
        pytest.param(encoded(Image.fromarray((SIXTEEN / 257).astype(np.float32)), "TIFF"), id="tiff-float-of-255"),
        pytest.param(encoded(Image.fromarray(SIXTEEN.astype(np.float32)), "TIFF"), id="tiff-float-of-65535"),
        pytest.param(encoded(Image.fromarray((SIXTEEN >> 8).astype(np.uint8)), "PNG"), id="png-8"),
        pytest.param(retagged(encoded(Image.fromarray(65535 - SIXTEEN), "TIFF"), 262, 0), id="tiff-16-white-is-zero"),
        pytest.param(
            retagged(encoded(Image.fromarray(255 - (SIXTEEN >> 8).astype(np.uint8)), "TIFF"), 262, 0),
            id="tiff-8-white-is-zero",
        ),
    ],
)
def test_a_grey_ramp_keeps_256_levels(data: bytes) -> None:
    assert ramp(decode(data).pixels)


def test_depth_comes_from_the_file_and_not_from_its_brightest_pixel() -> None:
    dark = np.array([[0, 100, 255]], np.uint16)
    files = [
        encoded(Image.fromarray(dark), "PNG"),
        encoded(Image.frombytes("I;16B", (3, 1), dark.astype(">u2").tobytes()), "TIFF"),
        encoded(Image.fromarray(dark), "PPM"),
    ]
    for data in files:
        assert decode(data).pixels[0, :, 0].tolist() == [0, 0, 1]


def test_grey_values_of_no_known_range_are_refused() -> None:
    for values in (np.array([[-1, 5]], np.int32), np.array([[0, 70000]], np.int32), np.array([[-0.5, 1]], np.float32)):
        assert "expected 0 to 1, 0 to 255 or 0 to 65535" in reason(encoded(Image.fromarray(values), "TIFF"))
    assert "not finite" in reason(encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF"))


def test_one_bit_images() -> None:
    bits = np.array([[True, False, True]])
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert decode(encoded(Image.fromarray(bits), kind)).pixels[0, :, 0].tolist() == [255, 0, 255], kind
    assert decode(retagged(encoded(Image.fromarray(bits), "TIFF"), 262, 0)).pixels[0, :, 0].tolist() == [0, 255, 0]


def rgb(*colours: tuple[int, ...]) -> bytes:
    return b"".join(map(bytes, colours))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            png(3, 1, 8, 6, b"\0" + rgb((9, 99, 199, 0), (9, 99, 199, 255), (0, 0, 0, 128))),
            [(255, 255, 255), (9, 99, 199), (127, 127, 127)], id="rgba",
        ),
        pytest.param(
            png(3, 1, 8, 4, b"\0" + rgb((9, 0), (9, 255), (0, 128))),
            [(255,) * 3, (9,) * 3, (127,) * 3], id="grey-alpha",
        ),
        pytest.param(
            png(2, 1, 16, 4, b"\0" + struct.pack(">4H", 30000, 0, 30000, 65535)), [(255,) * 3, (117,) * 3],
            id="grey-alpha-16",
        ),
        pytest.param(
            png(2, 1, 16, 6, b"\0" + struct.pack(">8H", 30000, 0, 0, 0, 30000, 0, 0, 65535)),
            [(255,) * 3, (117, 0, 0)], id="rgba-16",
        ),
        pytest.param(
            png(3, 1, 8, 3, b"\0\0\1\2", (b"PLTE", bytes([9, 8, 7, 100, 110, 120, 0, 0, 0])), (b"tRNS", b"\0\xff\x80")),
            [(255,) * 3, (100, 110, 120), (127,) * 3], id="palette-alpha-of-each-colour",
        ),
        pytest.param(
            png(2, 1, 8, 3, b"\0\0\1", (b"PLTE", bytes([100, 110, 120, 9, 8, 7])), (b"tRNS", b"\xff\0")),
            [(100, 110, 120), (255,) * 3], id="palette-with-one-transparent-colour",
        ),
        pytest.param(
            png(2, 1, 8, 2, b"\0" + rgb((10, 20, 30), (1, 2, 3)), (b"tRNS", struct.pack(">3H", 10, 20, 30))),
            [(255,) * 3, (1, 2, 3)], id="rgb-with-transparent-colour",
        ),
        pytest.param(
            png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 1000, 2000, 3000, 5000, 0, 0),
                (b"tRNS", struct.pack(">3H", 1000, 2000, 3000))),
            [(255,) * 3, (19, 0, 0)], id="rgb-16-with-transparent-colour",
        ),
        pytest.param(
            png(3, 1, 8, 0, b"\0" + bytes([0, 100, 200]), (b"tRNS", struct.pack(">H", 100))),
            [(0,) * 3, (255,) * 3, (200,) * 3], id="grey-with-transparent-level",
        ),
        pytest.param(
            png(3, 1, 16, 0, b"\0" + struct.pack(">3H", 0, 30000, 60000), (b"tRNS", struct.pack(">H", 30000))),
            [(0,) * 3, (255,) * 3, (233,) * 3], id="grey-16-with-transparent-level",
        ),
        pytest.param(
            png(4, 1, 2, 0, b"\0\x1b", (b"tRNS", struct.pack(">H", 1))),
            [(0,) * 3, (255,) * 3, (170,) * 3, (255,) * 3], id="grey-2-with-transparent-level",
        ),
        pytest.param(
            encoded(Image.frombytes("L", (2, 1), b"\0\x64"), "GIF", transparency=0),
            [(255,) * 3, (100,) * 3], id="gif-with-transparent-colour",
        ),
    ],
)  # fmt: skip
def test_transparency_shows_white_and_never_the_hidden_colour(data: bytes, expected: list[tuple[int, ...]]) -> None:
    assert [tuple(pixel) for pixel in decode(data).pixels[0].tolist()] == expected


def test_cmyk_jpeg_is_not_inverted() -> None:
    inks = Image.new("CMYK", (16, 16), (200, 30, 10, 40))
    expected = [round((255 - ink) * (255 - 40) / 255) for ink in (200, 30, 10)]
    for data in (encoded(inks, "TIFF"), encoded(inks, "JPEG", quality=100)):
        assert np.abs(decode(data).pixels[8, 8].astype(int) - expected).max() <= 2
    assert b"Adobe" in encoded(inks, "JPEG")  # Pillow writes inverted inks, as Photoshop does, and says so here


def test_ycck_jpeg_has_the_colours_of_its_inks() -> None:
    # Adobe stores inverted inks, and the transform of YCCK inverts too: the luma and chroma are those of the inks.
    luma = Image.new("RGB", (1, 1), (200, 30, 10)).convert("YCbCr").getpixel((0, 0))
    assert isinstance(luma, tuple)
    planes = Image.new("CMYK", (16, 16), (*(255 - value for value in luma), 40))
    data = encoded(planes, "JPEG", quality=100, subsampling=0)
    marker = data.index(b"Adobe") + 11  # the byte that names the colour transform
    assert data[marker] == 0
    ycck = data[:marker] + b"\2" + data[marker + 1 :]
    expected = [round((255 - ink) * (255 - 40) / 255) for ink in (200, 30, 10)]
    assert np.abs(decode(ycck).pixels[8, 8].astype(int) - expected).max() <= 4


@pytest.mark.parametrize("lab", [(50.0, 0.0, 0.0), (54.0, 60.0, 40.0), (40.0, 20.0, -50.0), (90.0, -10.0, 10.0)])
def test_lab_tiff_has_the_colours_of_the_formula(lab: tuple[float, float, float]) -> None:
    stored = (round(lab[0] * 2.55), round(lab[1]) + 128, round(lab[2]) + 128)
    pixels = decode(encoded(Image.new("LAB", (2, 2), stored), "TIFF")).pixels
    f = (lab[0] + 16) / 116  # CIE 1976, white point D50
    xyz = [value**3 if value > 6 / 29 else 3 * (6 / 29) ** 2 * (value - 4 / 29)
           for value in (f + lab[1] / 500, f, f - lab[2] / 200)]  # fmt: skip
    to_rgb = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(to_rgb @ (np.array(xyz) * (0.9642, 1.0, 0.8251)), 0, 1)  # Lindbloom's matrix, Bradford-adapted
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(pixels[0, 0] - srgb).max() < 2.5


def test_luma_and_chroma_come_out_as_the_colours_that_went_in() -> None:
    colour = Image.new("RGB", (16, 16), (180, 60, 90))
    for data in (encoded(colour.convert("YCbCr"), "TIFF"), encoded(colour.convert("YCbCr"), "JPEG", quality=100)):
        assert np.abs(decode(data).pixels[8, 8].astype(int) - (180, 60, 90)).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr",
                                  "HSV", "I", "I;16", "I;16B", "I;16L", "F"])  # fmt: skip
def test_every_mode_of_pillow_becomes_rgb(mode: str) -> None:
    pixels = from_pil(Image.new(mode, (3, 2)))
    assert pixels.shape == (2, 3, 3)
    assert pixels.dtype == np.uint8


def test_from_pil_agrees_with_decode() -> None:
    for name in ("png", "png-palette", "tiff-lzw", "gif", "jpeg"):
        with Image.open(io.BytesIO(FILES[name])) as image:
            assert np.array_equal(from_pil(image), decode(FILES[name]).pixels), name
    with Image.open(io.BytesIO(FILES["png"][:-40])) as image, pytest.raises(ImageError, match="cannot be decoded"):
        from_pil(image)


# Orientation

WITH_EXIF = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "TIFF-LZW": {"compression": "tiff_lzw"},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
}


def saved(kind: str, exif: Any) -> bytes:
    return encoded(PICTURE, kind.partition("-")[0], **WITH_EXIF[kind], **({} if exif is None else {"exif": exif}))


@pytest.mark.parametrize("kind", WITH_EXIF)
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_applied_once(kind: str, orientation: int) -> None:
    if kind == "AVIF" and orientation in {0, 9}:
        pytest.skip("AVIF stores a rotation, which has no such values")
    exif = Image.Exif()
    exif[0x0112] = 1 if kind == "TIFF-LZW" else orientation
    stored = decode(saved(kind, None)).pixels
    upright = TURNS.get(orientation, TURNS[1])(stored)
    data = saved(kind, exif)
    if kind == "TIFF-LZW":  # libtiff reads other values and does not write them
        data = retagged(data, 0x0112, orientation)
    assert np.array_equal(decode(data).pixels, upright)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\xff\1\x12", b"Exif\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\x04\0\0\0abc\0\0\0\0\0",  # the orientation is a word
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\5\0\1\0\0\0\x1a\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0",  # 6 / 0
    ],
)  # fmt: skip
def test_broken_exif_is_never_fatal(kind: str, exif: bytes) -> None:
    assert np.array_equal(decode(saved(kind, exif)).pixels, decode(saved(kind, None)).pixels)


def test_broken_exif_in_tiff_and_avif_is_never_fatal() -> None:
    exif = Image.Exif()
    exif[0x013B] = "An artist's name"
    data = saved("TIFF", exif)
    for pointer in (0, 1, 8, len(data) - 3, len(data) + 100, 2**32 - 1):
        assert np.array_equal(decode(retagged(data, 0x013B, pointer, becomes=0x8769)).pixels, np.asarray(PICTURE))
    exif = Image.Exif()
    exif[0x010F] = "A maker's name"
    data = saved("AVIF", exif)
    broken = data.replace(b"II*\0", b"oops").replace(b"MM\0*", b"oops")
    assert broken != data
    assert np.array_equal(decode(broken).pixels, decode(saved("AVIF", None)).pixels)
    data = (GOLDEN / "quadrants-turned.heic").read_bytes()
    broken = data.replace(b"II*\0", b"oops").replace(b"MM\0*", b"oops")
    assert broken != data
    assert np.array_equal(decode(broken).pixels, decode(data).pixels)


def test_a_warning_of_pillow_costs_no_image() -> None:
    """Here warnings are errors, and each of these files makes Pillow warn."""
    frames = [draw("disc", seed, (40, 30)) for seed in range(2)]
    mpo = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95)
    malformed = mpo.replace(b"MPF\0", b"MPF\0oops")[: len(mpo)]
    entry = FILES["tiff"].index(struct.pack("<H", 278))  # rows per strip
    doubled = FILES["tiff"][:entry] + struct.pack("<HHIHH", 278, 3, 2, 47, 47) + FILES["tiff"][entry + 12 :]
    with pytest.warns(UserWarning, match="malformed MPO"):
        Image.open(io.BytesIO(malformed))
    with pytest.warns(UserWarning, match="too many entries"):
        Image.open(io.BytesIO(doubled))
    assert decode(malformed).pixels.shape == (30, 40, 3)
    assert np.array_equal(decode(doubled).pixels, np.asarray(PICTURE))


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(FILES["png"]) for _ in range(20)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


# HEIC and AVIF

QUADRANTS = [(200, 30, 30), (30, 180, 60), (30, 60, 200), (240, 240, 240)]


def quarters(pixels: np.ndarray) -> np.ndarray:
    """The colours in the middle of the four quarters, in reading order."""
    height, width = pixels.shape[:2]
    return np.array([pixels[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)], int)


@pytest.mark.parametrize("name", ["quadrants", "quadrants-turned"])
def test_heic_colours_and_rotation(name: str) -> None:
    image = decode((GOLDEN / f"{name}.heic").read_bytes())
    assert image.pixels.shape == (48, 64, 3)
    assert np.abs(quarters(image.pixels) - QUADRANTS).max() <= 3
    assert not image.animated


def test_the_rotation_of_heic_is_not_applied_twice() -> None:
    """The turned file has both a rotation property and EXIF orientation 6, as phones write them."""
    data = (GOLDEN / "quadrants-turned.heic").read_bytes()
    assert b"irot" in data
    assert b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06" in data or b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00" in data
    plain = decode((GOLDEN / "quadrants.heic").read_bytes()).pixels
    assert np.abs(decode(data).pixels.astype(int) - plain).mean() < 2


def test_heic_alpha_is_on_white() -> None:
    pixels = decode((GOLDEN / "quadrants-alpha.heic").read_bytes()).pixels
    assert np.abs(quarters(pixels) - [(255, 255, 255), *QUADRANTS[1:]]).max() <= 3


def test_avif_under_a_general_brand() -> None:
    data = FILES["avif"]
    assert data[8:12] == b"avif"
    assert np.array_equal(decode(data[:8] + b"mif1" + data[12:]).pixels, decode(data).pixels)
    assert np.abs(decode(data).pixels.astype(int) - np.asarray(PICTURE)).mean() < 6


# Several frames

FRAMES = [draw("disc", seed, (40, 30)) for seed in range(3)]


@pytest.mark.parametrize(
    ("kind", "options"), [("GIF", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("AVIF", {})]
)
def test_the_first_of_several_frames(kind: str, options: dict[str, Any]) -> None:
    image = decode(encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:], **options))
    single = decode(encoded(FRAMES[0], kind, **options))
    assert image.animated
    assert not single.animated
    tolerance = 8 if kind == "AVIF" else 0  # an encoder spends other bits on a sequence
    assert np.abs(image.pixels.astype(int) - single.pixels).mean() <= tolerance


def test_a_photo_with_a_preview_is_not_animated() -> None:
    image = decode(encoded(FRAMES[0], "MPO", save_all=True, append_images=FRAMES[1:]))
    assert not image.animated
    assert np.array_equal(image.pixels, decode(encoded(FRAMES[0], "JPEG")).pixels)


# Any bytes


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(FILES)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=6),
    header=st.lists(st.tuples(st.integers(0, 120), st.integers(1, 255)), max_size=3),
    kept=st.floats(0.2, 1),
    enough=st.sampled_from([None, 8]),
)
def test_damaged_files_decode_or_are_refused(
    name: str, flips: list[tuple[float, int]], header: list[tuple[int, int]], kept: float, enough: int | None
) -> None:
    data = bytearray(FILES[name])
    for place, mask in flips:
        data[int(place * len(data))] ^= mask
    for place, mask in header:
        data[place % len(data)] ^= mask
    damaged = bytes(data[: int(kept * len(data))])
    image, message = outcome(damaged, max_megapixels=1, enough_px=enough)
    if image is None:
        assert 0 < len(message) <= 250
        assert "\n" not in message
    else:
        assert image.pixels.dtype == np.uint8
        assert image.pixels.ndim == 3
        assert image.pixels.shape[2] == 3
        assert image.pixels.size > 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(data: bytes) -> None:
    image, message = outcome(data, max_megapixels=1)
    assert (image is None) == bool(message)


# Reduced scale


@settings(max_examples=25, deadline=None)
@given(width=st.integers(1, 900), height=st.integers(1, 900), enough=st.integers(1, 300))
def test_reduced_decoding_keeps_enough_pixels(width: int, height: int, enough: int) -> None:
    data = encoded(Image.new("RGB", (width, height), (200, 100, 50)), "JPEG")
    got_height, got_width = decode(data, enough_px=enough).pixels.shape[:2]
    assert got_width >= min(width, enough)
    assert got_height >= min(height, enough)
    if min(width, height) >= 8 * enough:
        assert got_width <= -(-width // 8)
        assert got_height <= -(-height // 8)


def test_reduced_decoding_gives_the_same_picture(photos: Path) -> None:
    for path in sorted(photos.rglob("*.jpg"))[:3]:
        with Image.open(path) as photo:
            large = encoded(photo.convert("RGB").resize((2400, 1800), Image.Resampling.BICUBIC), "JPEG", quality=92)
        whole, part = decode(large).pixels, decode(large, enough_px=512).pixels
        assert part.shape == (900, 1200, 3) or part.shape == (600, 800, 3)
        small = [
            np.asarray(Image.fromarray(p).resize((341, 256), Image.Resampling.BICUBIC), float) for p in (whole, part)
        ]
        assert np.abs(small[0] - small[1]).mean() < 1.5


def test_reduced_decoding_applies_the_orientation_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(PICTURE.resize((800, 400)), "JPEG", exif=exif)
    assert decode(data, enough_px=100).pixels.shape == (200, 100, 3)


# Files that are none


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "piped.jpg").symlink_to(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
        folder = storage.FolderStorage(tmp_path)
        for name in ("pipe.jpg", "piped.jpg", "zero.jpg", "socket.jpg"):
            with pytest.raises(ImageError, match=r"^not a regular file$"):
                folder.read(name)
    for name, message in {
        "folder.jpg": "a folder, not a file",
        "loop.jpg": "cannot be read: ",
        "gone.jpg": "file not found",
        "pipe.jpg/x.jpg": "file not found",
        "nul\0.jpg": "the path holds a NUL character",
    }.items():
        with pytest.raises(ImageError, match=message):
            folder.read(name)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    """To open it would wake up the program that waits for a reader, and then break its pipe."""
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    with pytest.raises(ImageError):
        storage.read_file(str(pipe))
    with pytest.raises(OSError, match="No such device"):  # still nobody reads
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


def test_refused_files_leave_no_descriptor_open(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    for path in (tmp_path, tmp_path / "gone", Path(os.devnull)):
        with pytest.raises(ImageError):
            storage.read_file(str(path))
    if before:
        assert len(list(descriptors.iterdir())) == before


def test_file_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(storage.MAX_FILE_BYTES + 1)  # a hole: no disk space
    with pytest.raises(ImageError, match="more than the limit of 268,435,456"):
        storage.read_file(str(tmp_path / "large.jpg"))
    (tmp_path / "small.jpg").write_bytes(b"x" * 1000)
    assert storage.read_file(str(tmp_path / "small.jpg")) == b"x" * 1000


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="drops privileges, which needs root")
def test_a_file_without_permission_is_an_image_error() -> None:
    with tempfile.TemporaryDirectory() as folder:  # the folders of pytest are closed to others
        Path(folder).chmod(0o755)
        secret = Path(folder) / "secret.jpg"
        secret.write_bytes(b"x")
        secret.chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(ImageError, match="no permission to read"):
                storage.read_file(str(secret))
        finally:
            os.seteuid(0)
