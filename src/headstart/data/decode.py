"""From the bytes of one image file to upright 8-bit RGB pixels: the only place where image formats are known.

What cannot be decoded whole is an `ImageError` that names the reason; nothing is replaced or half-read.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data import heif, jpeg2000, jxl, netpbm, png, rgb, sixteen, tga, tiff, tiffpixels
from headstart.data.jpeg import open_large, streams
from headstart.data.sixteen import Levels
from headstart.data.sniff import AVIF_BRANDS, HEIC_BRANDS, HEIF_BRANDS, ends_early, reason, sniff
from headstart.settings.recipe import FULL_RANGE, MAX_MEGAPIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 2  # raised whenever the pixels of a file change: kept embeddings were made from them

# What people photograph and draw in. Formats that run programs (EPS), hold documents (PDF) or nobody
# photographs in (FITS, PSD, ICNS, ...) stay off, since each decoder is a way in for a hostile file.
# QOI is decoded in pure Python, 0.8 s a megapixel.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000")
_MAX_SIDE_PX = 100_000
# A JPEG at a reduced scale may be stored with this many times the limit, which bounds its time: 200 megapixels, the
# largest sensors of phones, are three times the usual limit of 64. By scale alone it would be 64 times.
STORED_TIMES = 4
# Cameras and encoders write about ten. Empty scans cost 100 bytes each and a pass over the image: 345 kB took 62 s.
_MAX_JPEG_SCANS = 100
_OF_LEVELS = {"PNG", "TIFF", "PPM"}  # kinds whose 16 bits may hold fewer


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded image.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, upright, alpha composited on white.
        animated: The file holds more frames or pages; only the first was decoded.
        width: Of the upright image as it is stored, in pixels; the pixels may be fewer, see `decode`.
        height: In pixels.
        format: ``JPEG``, ``PNG``, ``HEIF`` and so on.
        camera: Maker and model by the file's EXIF; empty if it names none.
        peak: The largest value of a PNG, TIFF or PNM file of 16 bits, whatever the white level; 0 for all others.
            Where it is a quarter of the range or more, it may be rounded.
    """

    pixels: NDArray[np.uint8]
    animated: bool = False
    width: int = 0
    height: int = 0
    format: str = ""
    camera: str = ""
    peak: int = 0


def decode(
    data: bytes, *, max_megapixels: int = 64, enough_px: int | None = None, white_level: int = FULL_RANGE
) -> Decoded:
    """Decode one image file.

    Args:
        data: The whole file.
        max_megapixels: Images of more pixels are refused from their header, before memory is taken. What counts is
            what is decoded: a JPEG at reduced scale, see `enough_px`, may be stored with `STORED_TIMES` as many,
            unless it is progressive, whose decoder keeps all of it in memory.
        enough_px: A JPEG may be decoded at a half, a quarter or an eighth of its size, as long as both sides
            keep this many pixels; None always decodes the full size.
        white_level: The value of 16-bit files (PNG, TIFF, PNM) that becomes 255, as those above it do. Files of 8 bits,
            and of formats that declare their own range, are decoded without it.

    Raises:
        ImageError: It cannot be decoded whole; the message is the reason.
    """
    if not data:
        raise ImageError("empty file")
    try:
        with _QUIET:
            if _is_heif(data):
                return _decode_heif(data, max_megapixels)
            levels = Levels(white_level)
            own = _decode_tiff(data, max_megapixels, levels) or _decode_other(data, max_megapixels, levels)
            if own is not None:
                return own
            content = png.without_text(data) if data.startswith(b"\x89PNG") else data
            image = _open(content, max_megapixels)
            stored, kind = image.size, image.format or ""
            if enough_px is not None and kind in {"JPEG", "MPO"}:
                # None keeps the mode. Nothing is decoded here.
                image.draft(None, (enough_px, enough_px))
            _check_size(image.size if streams(data, kind) else stored, max_megapixels, stored)
            _check_stream(data, kind)
            levels = levels if kind in _OF_LEVELS else Levels()
            if kind in _OF_LEVELS:
                sixteen.scale_colours(image, levels, lambda: _open(content, max_megapixels))
            if image.format == "PNG":
                rgb.scale_hidden(image, data[24], levels)
            # An MPO file holds one picture with a preview or a second lens, nothing that moves.
            animated = image.format != "MPO" and bool(getattr(image, "is_animated", False))
            if kind == "AVIF" and (shown := heif.crop(data, stored)) is not None:  # which its decoder leaves to us
                image = image.crop(shown)
                stored = image.size
            if kind == "JPEG2000":
                image = jpeg2000.in_order(data, image)
            pixels, facts = rgb.upright(image, levels)
            width, height = reversed(stored) if facts.on_its_side else stored
            peak = levels.peak if kind in _OF_LEVELS else 0
            return Decoded(pixels, animated, width, height, kind, facts.camera, peak)
    except ImageError:
        raise
    # Decoders meet hostile files here and fail in every way: besides OSError, public files have raised
    # ValueError, IndexError, SyntaxError, RuntimeError, struct.error, MemoryError and NotImplementedError.
    except Exception as error:
        raise ImageError(reason(data, error)) from error


def from_pil(image: Image.Image, *, max_megapixels: int = 64, white_level: int = FULL_RANGE) -> NDArray[np.uint8]:
    """Pixels, uint8 (H, W, 3), of a PIL image, with the same treatment of size, orientation, alpha and depth.

    Raises:
        ImageError: The pixels cannot be loaded or converted; or there is a white level, and Pillow keeps 8 bits of 16.
    """
    try:
        with _QUIET:
            _check_size(image.size, max_megapixels)
            if white_level != FULL_RANGE and image.format in _OF_LEVELS and sixteen.has_deep_colours(image):
                raise ImageError("a PIL image keeps 8 of 16 bits of a colour, which a white level needs: give the file")
            return rgb.upright(image, Levels(FULL_RANGE if image.format == "JPEG2000" else white_level))[0]
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"cannot be decoded: {error}") from error


class _Quiet:
    """Silences Pillow's warnings while any thread is inside.

    They speak of metadata. Where warnings are errors, each would lose a good image; and
    `warnings.catch_warnings` alone is not made for threads, whose exits may come in another order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_QUIET = _Quiet()


def _open(data: bytes, max_megapixels: int) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:  # Pillow's own limit, which does not name the size
        if data.startswith(b"\xff\xd8"):  # ours is on what is decoded
            return open_large(data)
        limit = min(max_megapixels, 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000)
        raise ImageError(f"more than the limit of {limit} megapixels") from error
    except (OSError, ValueError):
        # An AVIF file is lost over broken EXIF; under another name nobody reads it. The rotation that counts is
        # a property of the image.
        if sniff(data) == "HEIF or AVIF" and b"Exif" in data:
            return Image.open(io.BytesIO(data.replace(b"Exif", b"none")), formats=("AVIF",))
        raise


def _decode_heif(data: bytes, max_megapixels: int) -> Decoded:
    import pi_heif

    _check_parts(data)
    file = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    _check_size(file.size, max_megapixels)
    # Where the main picture cannot be read, the library gives another of the file's: a tile, or a preview.
    if (size := heif.stored_size(data)) is not None and not heif.is_cropped(data) and sorted(size) != sorted(file.size):
        raise ImageError(f"damaged HEIF: its main picture of {size[0]} x {size[1]} pixels cannot be read")
    image: Image.Image = file.to_pillow()
    # The container's own rotation was applied by the library; EXIF orientation is no more than a copy.
    pixels = np.asarray(rgb.to_rgb(image, Levels()))
    return Decoded(pixels, len(file) > 1, pixels.shape[1], pixels.shape[0], "HEIF", rgb.facts(image).camera)


def _decode_tiff(data: bytes, max_megapixels: int, levels: Levels) -> Decoded | None:
    """What Pillow would read wrong; None for all other files."""
    if not tiff.is_tiff(data):
        return None
    if preview := tiff.preview_only(data):
        raise ImageError(preview)
    form = tiff.layout(data)
    if form is None:
        return None
    _check_size((form.width, form.height), max_megapixels)
    if not tiffpixels.is_ours(form):
        return None
    return _decoded(tiffpixels.read(data, form, levels), "TIFF", levels, animated=tiff.has_more_pages(data))


def _decode_other(data: bytes, max_megapixels: int, levels: Levels) -> Decoded | None:
    """Netpbm, TGA and JPEG XL, whose sizes are checked before memory is taken; None for all other files."""
    if netpbm.is_netpbm(data):
        head = netpbm.header(data)
        _check_size((head.width, head.height), max_megapixels)
        return _decoded(netpbm.read(data, head, levels), "PPM", levels)
    if jxl.is_jxl(data):
        _check_size(jxl.size(data), max_megapixels)
        return _decoded(jxl.read(data), "JPEG XL", Levels())
    if form := tga.header(data):
        _check_size((form.width, form.height), max_megapixels)
        return _decoded(tga.read(data, form), "TGA", Levels())
    return None


def _decoded(image: Image.Image, kind: str, levels: Levels, *, animated: bool = False) -> Decoded:
    pixels, facts = rgb.upright(image, levels)
    return Decoded(pixels, animated, pixels.shape[1], pixels.shape[0], kind, facts.camera, levels.peak)


def _is_heif(data: bytes) -> bool:
    if data[4:8] != b"ftyp":
        return False
    compatible = data[16 : int.from_bytes(data[:4], "big")]
    return data[8:12] in HEIC_BRANDS or (
        data[8:12] in HEIF_BRANDS and not any(brand in compatible for brand in AVIF_BRANDS)
    )


def _check_parts(data: bytes) -> None:
    if lack := heif.missing(data):
        raise ImageError(f"HEIF or AVIF that {lack}")  # the decoders paint what is missing in one colour


def _check_size(size: tuple[int, int], max_megapixels: int, stored: tuple[int, int] | None = None) -> None:
    """Refuse what would take too much memory, which follows `size`, or time, which follows the `stored` size."""
    width, height = stored or size
    limit = max_megapixels * 1_000_000
    if size[0] * size[1] > limit or width * height > limit * (STORED_TIMES if size != stored else 1):
        raise ImageError(
            f"{width} x {height} pixels, more than the limit of {max_megapixels} megapixels ("
            + (
                "--max-megapixels, or max_megapixels in Python"
                if width * height <= MAX_MEGAPIXELS * 1_000_000
                else f"save it smaller: at most {MAX_MEGAPIXELS} can be allowed"
            )
            + ")"
        )
    if max(width, height) > _MAX_SIDE_PX:
        raise ImageError(f"{width} x {height} pixels: a side of more than {_MAX_SIDE_PX:,}")
    if min(size) < 1 or min(width, height) < 1:
        raise ImageError("an image without pixels")


def _check_stream(data: bytes, kind: str) -> None:
    """Refuse what the decoder accepts too readily: see the messages."""
    if kind == "AVIF":
        _check_parts(data)
    if kind == "JPEG2000" and ends_early(data, "JPEG 2000"):
        raise ImageError("JPEG 2000 that ends early")  # the decoder leaves missing tiles black
    # The quick count may find scans in metadata, or in what phones append after the picture.
    if kind in {"JPEG", "MPO"} and data.count(b"\xff\xda") > _MAX_JPEG_SCANS and _scans(data) > _MAX_JPEG_SCANS:
        raise ImageError(f"JPEG with more than {_MAX_JPEG_SCANS} scans, more than any camera or program writes")


_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # a zero or a restart belongs to the scan


def _scans(data: bytes) -> int:
    """Number of scans of the first image in a JPEG file."""
    scans, position = 0, 2
    while marker := _JPEG_MARKER.search(data, position):
        position = marker.end()
        if marker[1] == b"\xd9":  # end of image
            break
        scans += marker[1] == b"\xda"
        position += int.from_bytes(data[position : position + 2], "big")
    return scans
