"""What a file looks like from its bytes, and why it could not be decoded, in words for somebody who sees its name."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from PIL import UnidentifiedImageError

from headstart.data import heif, tiff, tiffpixels
from headstart.data.signatures import unread

HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis"}
HEIF_BRANDS = {b"mif1", b"mif2", b"msf1"}  # HEIC or AVIF: the compatible brands say which
AVIF_BRANDS = {b"avif", b"avis"}


def reason(data: bytes, error: Exception) -> str:
    """Why a file could not be decoded: what it looks like, that it ends early, or what the decoder said."""
    kind = sniff(data)
    if len(data) < 8:
        return f"ends early, after {len(data)} bytes"
    if picture := unread(data):
        return picture
    if kind not in _IMAGE_KINDS:
        return f"looks like {kind}, not an image" if kind else "no known image format"
    text = str(error)
    if isinstance(error, MemoryError):
        return f"{kind} that needs more memory than is available"
    if ends_early(data, kind) or any(word in text.lower() for word in _SHORT):
        return f"{kind} that ends early"
    if isinstance(error, UnidentifiedImageError):  # its text names a buffer in memory
        if kind == "TIFF" and (form := tiff.layout(data)):
            return tiffpixels.unsupported(form)
        text = "its header is invalid"
    return f"damaged {kind}: {text or type(error).__name__}"[:200]


_IMAGE_KINDS = {"JPEG", "PNG", "GIF", "WebP", "TIFF", "BMP", "HEIF or AVIF", "JPEG 2000", "JPEG XL", "PPM"}
_SHORT = ("truncated", "end of file", "reached eof", "but only got", "not enough image data", "buffer is not large")


def ends_early(data: bytes, kind: str) -> bool:
    """Whether the end of a file is missing, if its format shows that."""
    if kind == "JPEG":
        return not data.rstrip(b"\0").endswith(b"\xff\xd9")
    if kind == "PNG":
        return b"IEND" not in data
    if kind == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if kind == "WebP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") > len(data)
    if kind == "TIFF":
        return _tiff_end(data) > len(data)
    if kind == "HEIF or AVIF":
        return heif.missing(data) == "ends early"
    if kind == "JPEG 2000":
        stream = data if data.startswith(b"\xff\x4f") else data[: dict(_boxes(data)).get(b"jp2c", 0)]
        return not stream.rstrip(b"\0").endswith(b"\xff\xd9")
    return False


_TIFF_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)  # bytes of a value of each type


def _tiff_end(data: bytes) -> int:
    """Where the first directory of a TIFF file, with the values that it points to, ends."""
    order = "<" if data[:1] == b"I" else ">"
    if data[2:4] not in {b"*\0", b"\0*"}:  # BigTIFF: its widths differ, and nobody sends it
        return 0
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    if start + 2 > len(data):
        return int(start + 2)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    end = int(start + 2 + 12 * count)
    for entry in range(start + 2, min(end, len(data) - 11), 12):
        _, kind, values, offset = struct.unpack_from(f"{order}HHII", data, entry)
        size = _TIFF_SIZES[kind] * values if kind < len(_TIFF_SIZES) else 0
        end = max(end, offset + size if size > 4 else 0)
    return end


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The outermost boxes of an ISO file: name and end. An end may lie beyond the data."""
    start = 0
    while start + 8 <= len(data):
        size = int.from_bytes(data[start : start + 4], "big")
        if size == 1:
            size = int.from_bytes(data[start + 8 : start + 16], "big")
        end = start + size if size else len(data)  # 0: up to the end of the file
        yield data[start + 4 : start + 8], end
        start = max(end, start + 8)


def sniff(data: bytes) -> str:
    """What a file looks like from its first bytes, in words; empty when nothing fits."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    brand = data[8:12]
    if data[4:8] == b"ftyp":
        if brand in HEIC_BRANDS | HEIF_BRANDS | AVIF_BRANDS or len(brand) < 4:
            return "HEIF or AVIF"
        return "a video"
    if data[:4] == b"RIFF":
        return "WebP" if brand == b"WEBP" or len(brand) < 4 else "a sound or video"
    if data[4:8] in {b"moov", b"mdat", b"wide"}:
        return "a video"
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "PPM"
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<!doctype html" in head or b"<html" in head or head.startswith((b"<head", b"<body")):
        return "HTML"
    if b"<svg" in head:
        return "SVG (a drawing program can save it as PNG)"
    if head.startswith((b"<?xml", b"{", b"[")):
        return "XML or JSON"
    if not any(byte < 9 or 13 < byte < 32 or byte > 126 for byte in data[:1024]):
        return "text"
    return ""


_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\1\0", "an icon file"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS or PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS or PostScript"),
    (b"PK\x03\x04", "a zip file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"Rar!", "a RAR file"),
    (b"7z\xbc\xaf", "a 7-Zip file"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"\0\0\1\xba", "a video"),
    (b"OggS", "a sound or video"),
    (b"ID3", "a sound"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
