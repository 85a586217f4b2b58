"""PNG files are read for their pixels: no text in them costs an image or changes it."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from headstart.core.errors import ImageError
from headstart.data.decode import decode
from headstart.data.png import without_text
from helpers import draw

PICTURE = draw("disc", 0, (61, 47))
PIXELS = np.asarray(PICTURE)
BOMB = zlib.compress(bytes(70_000_000), 9)  # more than Pillow takes of all texts together


def chunk(name: bytes, body: bytes, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ wrong)


def png(*chunks: bytes, last: bytes = b"", **options: object) -> bytes:
    """A PNG file with chunks after its header, and others before its end."""
    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG", **options)
    data = buffer.getvalue()
    return data[:33] + b"".join(chunks) + data[33:-12] + last + data[-12:]


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
TEXTS = {
    "compressed": chunk(b"zTXt", b"Comment\0\0" + BOMB),
    "international": chunk(b"iTXt", b"Comment\0\1\0en\0\0" + BOMB),
    "profile": chunk(b"iCCP", b"profile\0\0" + BOMB),
    "exif": chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB),
    "xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "many": chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes(900_000))) * 80,
    "plain": chunk(b"tEXt", b"Comment\0" + b"x" * 70_000_000),
    "method": chunk(b"zTXt", b"Comment\0\7" + b"x" * 9),
    "profile-method": chunk(b"iCCP", b"profile\0\7" + b"x" * 9),
    "profile-empty": chunk(b"iCCP", b"profile"),
    "checksum": chunk(b"tEXt", b"Comment\0words", wrong=1),
    "xmp-checksum": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP, wrong=1),
    "xmp-damaged": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)[2:]),
    "transparency": chunk(b"tEXt", b"transparency\0words"),  # Pillow takes it for that of the image
    "exif-garbage": chunk(b"tEXt", b"Raw profile type exif\0\n\nnot hexadecimal\n"),
    "empty": chunk(b"tEXt", b"") + chunk(b"zTXt", b"") + chunk(b"iTXt", b""),
}


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_costs_an_image(name: str) -> None:
    for data in (png(TEXTS[name]), png(last=TEXTS[name])):
        image = decode(data)
        assert np.array_equal(image.pixels, PIXELS)
        assert image.format == "PNG"


def test_pillow_still_refuses_such_files() -> None:
    """Where it no longer does, `without_text` can go."""
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(png(TEXTS["compressed"]))).load()


def test_the_limits_of_pillow_are_left_alone() -> None:
    decode(png(TEXTS["compressed"]))
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1 << 20


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(
            b"\nexif\n      32\n" + (b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0").hex().encode())),
    ],
    ids=["xmp", "xmp-compressed", "exif"],
)  # fmt: skip
def test_an_orientation_in_a_text_counts(text: bytes) -> None:
    assert np.array_equal(decode(png(text, TEXTS["compressed"])).pixels, np.rot90(PIXELS, -1))


def test_a_file_without_texts_is_not_copied() -> None:
    data = png()
    assert without_text(data) is data


def test_only_texts_are_taken_away() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = png(exif=exif)
    assert without_text(png(TEXTS["checksum"], TEXTS["compressed"], last=TEXTS["plain"], exif=exif)) == plain


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"PLTE"])
def test_what_is_wrong_with_other_chunks_is_still_found(name: bytes) -> None:
    buffer = io.BytesIO()
    PICTURE.quantize(16).save(buffer, "PNG")
    data = bytearray(buffer.getvalue()[:33] + TEXTS["compressed"] + buffer.getvalue()[33:])
    data[data.index(name) + 9] ^= 1
    with pytest.raises(ImageError, match="damaged PNG"):
        decode(bytes(data))


def test_a_text_that_ends_early_is_no_whole_image() -> None:
    data = png(TEXTS["plain"])
    with pytest.raises(ImageError, match="PNG that ends early"):
        decode(data[:5000])
