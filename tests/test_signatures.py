"""Pictures that are not read are named, with what to do."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data.decode import decode

SPARE = bytes(200)


def pcx() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 30, 40)).save(buffer, "PCX")
    return buffer.getvalue()


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


FILM = box(b"moov", SPARE) + box(b"mdat", SPARE)


def jpeg_of(marker: int, depth: int = 8) -> bytes:
    """A JPEG file of one frame header of some process, and nothing that could be decoded."""
    frame = bytes([depth]) + struct.pack(">HHB", 16, 16, 1) + b"\1\x11\0"
    return (
        b"\xff\xd8\xff"
        + bytes([marker])
        + struct.pack(">H", 2 + len(frame))
        + frame
        + b"\xff\xda\0\x08\1\1\0\0\0\0"
        + SPARE
    )


@pytest.mark.parametrize(
    ("data", "name", "advice"),
    [
        (b"FUJIFILMCCD-RAW 0201" + SPARE, "Fujifilm RAF", "RawTherapee"),
        (b"IIU\0\x18\0\0\0" + SPARE, "Panasonic RW2", "RawTherapee"),
        (b"IIRO\x08\0\0\0" + SPARE, "Olympus ORF", "RawTherapee"),
        (b"II\x1a\0\0\0HEAPCCDR" + SPARE, "Canon CRW", "RawTherapee"),
        (b"\0MRM" + SPARE, "Minolta MRW", "RawTherapee"),
        (b"FOVb" + SPARE, "Sigma X3F", "RawTherapee"),
        (box(b"ftyp", b"crx \0\0\0\1crx isom") + SPARE, "Canon CR3", "RawTherapee"),
        (b"II*\0\x10\0\0\0CR\2\0" + SPARE, "Canon CR2", "RawTherapee"),
        (bytes(128) + b"DICM" + SPARE, "DICOM", "DICOM viewer"),
        (b"\x76\x2f\x31\x01\2\0\0\0" + SPARE, "OpenEXR", "8 or 16 bits"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "Radiance HDR", "8 or 16 bits"),
        (b"gimp xcf file\0" + SPARE, "GIMP", "export it as PNG"),
        (pcx(), "PCX", "save it as PNG"),
        (b"8BPS\0\1" + SPARE, "Photoshop", "save it as PNG"),
        (b"SIMPLE  =                    T", "FITS", "PNG"),
        (b"qoif" + struct.pack(">II", 8000, 8000) + b"\4\0" + b"\xfd" * 1000, "QOI", "save it as PNG"),
        (jpeg_of(0xC3), "lossless JPEG", "save it as PNG"),
        (jpeg_of(0xC3, 14), "lossless JPEG", "save it as PNG"),
        (jpeg_of(0xF7), "JPEG-LS", "save it as PNG"),
        (jpeg_of(0xC5), "hierarchical JPEG", "save it as PNG"),
        (jpeg_of(0xC1, 12), "JPEG of 12 bits", "save it as PNG"),
        (box(b"ftyp", b"hevc\0\0\0\0msf1hevc") + FILM, "an HEIC sequence", "export"),
        (box(b"ftyp", b"msf1\0\0\0\0hevcmsf1") + FILM, "sequence", "export"),
    ],
)  # fmt: skip
def test_a_picture_that_is_not_read_is_named(data: bytes, name: str, advice: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert name in caught.value.message
    assert advice in caught.value.message
    assert "ends early" not in caught.value.message
    assert len(caught.value.message) <= 250


def test_a_general_heif_brand_is_no_video() -> None:
    with pytest.raises(ImageError, match="HEIF or AVIF that ends early"):
        decode(box(b"ftyp", b"mif2\0\0\0\0mif2heic") + SPARE)


def test_a_first_byte_alone_makes_no_pcx() -> None:
    with pytest.raises(ImageError, match="no known image format"):
        decode(b"\x0a\5\1\x08" + b"\xff" * 300)


def test_an_ordinary_jpeg_that_is_cut_still_ends_early() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    with pytest.raises(ImageError, match=r"^JPEG that ends early$"):
        decode(buffer.getvalue()[:-9])
