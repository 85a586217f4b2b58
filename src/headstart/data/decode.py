"""From the bytes of one image file to upright 8-bit RGB pixels: the only place where image formats are known.

What cannot be decoded whole is an `ImageError` that names the reason; nothing is replaced or half-read.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from headstart.core.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What people photograph and draw in. Formats that run programs (EPS), hold documents (PDF) or nobody
# photographs in (FITS, PSD, ICNS, ...) stay off, since each decoder is a way in for a hostile file.
# TGA has no signature: random bytes can pass for it.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000", "QOI")
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_MAX_SIDE_PX = 100_000


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded image.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, upright, alpha composited on white.
        animated: The file holds more frames or pages; only the first was decoded.
    """

    pixels: NDArray[np.uint8]
    animated: bool = False


def decode(data: bytes, *, max_megapixels: int = 64, enough_px: int | None = None) -> Decoded:
    """Decode one image file.

    Args:
        data: The whole file.
        max_megapixels: Larger images are refused from their header, before memory is taken.
        enough_px: A JPEG may be decoded at a half, a quarter or an eighth of its size, as long as both sides
            keep this many pixels; None always decodes the full size.

    Raises:
        ImageError: It cannot be decoded whole; the message is the reason.
    """
    if not data:
        raise ImageError("empty file")
    try:
        image = _open(data)
        _check_size(image.size, max_megapixels)
        # An MPO file holds one picture with a preview or a second lens, nothing that moves.
        animated = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        if enough_px is not None and image.format in {"JPEG", "MPO"}:
            image.draft(None, (enough_px, enough_px))  # None keeps the mode
        image.load()
        pixels = np.asarray(_to_rgb(_upright(image)))
    except ImageError:
        raise
    # Decoders meet hostile files here and fail in every way: besides OSError, public files have raised
    # ValueError, IndexError, SyntaxError, RuntimeError, struct.error, MemoryError and NotImplementedError.
    except Exception as error:
        raise ImageError(_reason(data, error)) from error
    return Decoded(pixels, animated)


def from_pil(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels, uint8 (H, W, 3), of a PIL image, with the same treatment of orientation, alpha and depth.

    Raises:
        ImageError: The pixels cannot be loaded or converted.
    """
    try:
        image.load()
        return np.asarray(_to_rgb(_upright(image)))
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"cannot be decoded: {error}") from error


def _open(data: bytes) -> Image.Image:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        import pi_heif

        # The container's own rotation is applied by the library; EXIF orientation is no more than a copy.
        heif: Image.Image = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True).to_pillow()
        heif.getexif().pop(0x0112, None)
        heif.info.pop("exif", None)
        return heif
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _check_size(size: tuple[int, int], max_megapixels: int) -> None:
    width, height = size
    if width * height > max_megapixels * 1_000_000:
        raise ImageError(
            f"{width} x {height} pixels, more than the limit of {max_megapixels} megapixels (--max-megapixels)"
        )
    if max(size) > _MAX_SIDE_PX:
        raise ImageError(f"{width} x {height} pixels: a side of more than {_MAX_SIDE_PX:,}")
    if min(size) < 1:
        raise ImageError("an image without pixels")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  broken EXIF raises anything, and is never a reason to lose an image
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bit(image)).convert("RGB")
    if mode == "LAB":
        return _lab_to_rgb(image)
    if mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits, scaled by the range that their type means (plain `convert` clips them)."""
    if image.mode in {"I;16B", "I;16L", "I;16N"}:
        image = image.convert("I")
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ImageError("holds values that are not finite")
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        scale = 255.0
    elif image.mode.startswith("I;16") or (low >= 0 and 255 < high <= 65535):
        scale = 255.0 / 65535.0
    elif low >= 0 and high <= 255:
        # An integer image of up to 32 bits that came from 16-bit data and is very dark cannot be told from
        # 8-bit data; 16-bit PNG and TIFF files do not come here.
        scale = 1.0
    else:
        raise ImageError(f"values from {low:g} to {high:g}: expected 0 to 1, 0 to 255 or 0 to 65535")
    eight: NDArray[np.uint8] = np.round(values * scale).astype(np.uint8)
    return eight


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ImageError("LAB colours cannot be converted")
    return converted


def _reason(data: bytes, error: Exception) -> str:
    """Why a file could not be decoded, in words for somebody who sees a file name and nothing else."""
    kind = sniff(data)
    if kind in {"JPEG", "PNG", "GIF", "WebP", "TIFF", "BMP", "HEIF or AVIF"}:
        text = str(error)
        if "truncated" in text or "end of file" in text.lower() or "broken data stream" in text:
            return f"{kind} that ends early or is damaged"
        if isinstance(error, MemoryError):
            return f"{kind} that needs more memory than there is"
        return f"damaged {kind}: {text or type(error).__name__}"[:200]
    return f"looks like {kind}, not an image" if kind else "no image format that is known"


def sniff(data: bytes) -> str:
    """What a file looks like from its first bytes, in words; empty when nothing fits."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[4:8] == b"ftyp":
        return "HEIF or AVIF" if data[8:12] in _HEIF_BRANDS | {b"avif", b"avis"} else "a video"
    if data[:4] == b"RIFF":
        return "WebP" if data[8:12] == b"WEBP" else "a sound or video"
    if b"<svg" in head:
        return "SVG (a drawing program can save it as PNG)"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "HTML"
    if head.startswith((b"<?xml", b"{", b"[")):
        return "XML or JSON"
    if not any(byte < 9 or 13 < byte < 32 for byte in data[:1024]):
        return "text"
    return ""


_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS or PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS or PostScript"),
    (b"8BPS", "a Photoshop file"),
    (b"SIMPLE  =", "a FITS file"),
    (b"PK\x03\x04", "a zip file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
