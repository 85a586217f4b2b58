"""The kinds of TIFF that Pillow reads wrong or not at all, decoded here or refused by name.

With Pillow 13, planes of 16 bits are noise unless they are compressed, 12 bits are 16 times too dark, and planes of
grey and alpha are white where they are compressed. Values become the same 8 bits as in the kinds that Pillow reads.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data import tiff
from headstart.data.sixteen import Levels
from headstart.data.tiff import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NONE, _DEFLATE = {1}, {8, 32946}
_JPEG = {6, 7}
_COLOURS = {tiff.WHITE_IS_ZERO: 1, tiff.BLACK_IS_ZERO: 1, tiff.RGB: 3, tiff.INKS: 4}
_WANTED = "save it as 8- or 16-bit grey or RGB, for example with ImageMagick or an image editor"


def unsupported(form: Layout) -> str:
    """Why a kind of TIFF is not read, with what to do."""
    return f"TIFF with {form.words()}, which is not supported: {_WANTED}"


def is_ours(form: Layout) -> bool:
    """Whether `read` decodes a file; otherwise Pillow does it right, or refuses it.

    Raises:
        ImageError: Neither does it right.
    """
    if form.compression == 1 and form.photometric == tiff.YCBCR and not _full_chroma(form):
        raise ImageError(f"TIFF with uncompressed YCbCr of reduced chroma, which is not supported: {_WANTED}")
    if (
        form.compression == 1
        and form.planar
        and form.photometric in {tiff.PALETTE, tiff.YCBCR, tiff.LAB}
        and (form.samples > 1 or form.depth != 8)
    ):  # Pillow mistakes the planes, or the depth
        raise ImageError(unsupported(form))
    colours = _COLOURS.get(form.photometric)
    if colours is None or form.compression in _JPEG or (_pillow_reads(form, colours) and not form.unopened):
        return False
    if form.sample_format == tiff.UNSIGNED and 0 < form.depth <= 16 and 0 <= form.samples - colours <= _most(colours):
        order_of_bits = tiff.numbers(form.tags, tiff.FILL_ORDER) or (1,)
        predictor = tiff.numbers(form.tags, tiff.PREDICTOR) or (1,)
        if order_of_bits == (1,) and (
            form.compression in _NONE
            or (form.compression in _DEFLATE and (predictor == (1,) or (predictor == (2,) and form.depth in {8, 16})))
        ):
            return True
    raise ImageError(unsupported(form))


def _pillow_reads(form: Layout, colours: int) -> bool:
    """Whether Pillow decodes a kind right, by comparison with files of known pixels."""
    more = form.samples - colours
    planes = form.planar and form.samples > 1
    if form.sample_format != tiff.UNSIGNED:  # 8 and 16 signed bits come out half as bright, or wrapped around
        big_packed = form.order == ">" and form.compression != 1  # its bytes come out in the wrong order
        return colours == form.samples == 1 and form.depth == 32 and not (big_packed or form.planar)
    if colours == 1 and more == 0:
        white = form.photometric == tiff.WHITE_IS_ZERO
        if form.planar and form.compression == 1 and (white or form.depth != 8):
            return False
        big = form.order == ">"
        return form.depth in {1, 2, 4, 8} or (form.depth == 16 and not (white and big)) or (
            form.depth == 32 and not white and not big
        )  # fmt: skip
    if planes and form.compression == 1 and more and not any(form.extra):
        return False  # the samples are dropped, but not their planes
    if form.depth == 8:
        return more <= _most(colours) and not (colours == 1 and planes)
    return form.depth == 16 and colours > 1 and more <= 1 and not (planes and form.compression == 1)


def _most(colours: int) -> int:
    """Samples beyond the colours that are left unseen; grey with more of them is no photo."""
    return 1 if colours == 1 else 3


def _full_chroma(form: Layout) -> bool:
    told = tiff.numbers(form.tags, tiff.SUBSAMPLING)
    stored = sum(tiff.numbers(form.tags, tiff.STRIP_BYTES) or tiff.numbers(form.tags, tiff.TILE_BYTES))
    return told == (1, 1) or (not told and stored >= 3 * form.width * form.height)


def read(data: bytes, form: Layout, levels: Levels) -> Image.Image:
    """The first image, of 8 bits, with its orientation and camera as EXIF.

    Args:
        data: The whole file.
        form: Its layout, one that `is_ours`.
        levels: For values of 16 bits.

    Raises:
        ImageError: It ends early, or its directory is contradictory.
    """
    colours = _COLOURS[form.photometric]
    extra = (*form.extra, *[0] * form.samples)[: form.samples - colours]
    if not form.extra and form.photometric == tiff.RGB and form.samples == 4:
        extra = (2,)  # as Pillow takes it
    with_alpha = bool(extra) and extra[0] in {1, 2} and form.photometric != tiff.INKS
    wanted = colours + with_alpha
    table = np.round(np.arange(1 << form.depth) * (255 / ((1 << form.depth) - 1))).astype(np.uint8)
    pixels = np.empty((form.height, form.width, wanted), np.uint8)
    for top, left, first, block in _blocks(data, form):  # (h, w, samples of this plane)
        target = pixels[top : top + block.shape[0], left : left + block.shape[1]]
        for sample in range(first, min(first + block.shape[2], wanted)):
            values = block[..., sample - first]
            if form.depth == 16:
                light = sample < colours and form.photometric != tiff.INKS
                scale = levels if light else Levels()  # alpha and inks have the whole range
                eight = scale.to_eight(values, exact=colours == 1)
            else:
                eight = table[values]
            target[..., sample] = ~eight if form.photometric == tiff.WHITE_IS_ZERO and sample == 0 else eight
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colours]
    if with_alpha:
        premultiplied = extra[0] == 1
        mode = {"L": "La" if premultiplied else "LA", "RGB": "RGBa" if premultiplied else "RGBA"}[mode]
    image = Image.frombytes(mode, (form.width, form.height), pixels.tobytes())
    exif = image.getexif()
    if turn := tiff.numbers(form.tags, tiff.ORIENTATION):
        exif[tiff.ORIENTATION] = turn[0]
    for tag in (tiff.MAKER, tiff.MODEL):
        exif[tag] = tiff.text(form.tags, tag)
    return image


def _blocks(data: bytes, form: Layout) -> Iterator[tuple[int, int, int, NDArray[np.integer]]]:
    """Strips or tiles: top, left, first sample, values (h, w, samples), cut to the image."""
    tags = form.tags
    tiled = bool(tiff.numbers(tags, tiff.TILES))
    if tiled:
        (width,), (height,) = tiff.numbers(tags, tiff.TILE_WIDTH)[:1], tiff.numbers(tags, tiff.TILE_HEIGHT)[:1]
    else:
        width = form.width
        height = min((tiff.numbers(tags, tiff.ROWS_PER_STRIP) or (form.height,))[0], form.height)
    starts = tiff.numbers(tags, tiff.TILES if tiled else tiff.STRIPS)
    sizes = tiff.numbers(tags, tiff.TILE_BYTES if tiled else tiff.STRIP_BYTES)
    planes = form.samples if form.planar else 1
    if not 0 < width <= 1 << 20 or not 0 < height <= 1 << 20 or width * height > 1 << 28:
        raise ImageError("damaged TIFF: its strips or tiles have no sensible size")
    rows, columns = -(-form.height // height), -(-form.width // width)
    if len(starts) < planes * rows * columns:
        raise ImageError("TIFF that ends early")
    samples = 1 if form.planar else form.samples
    row_bytes = -(-width * samples * form.depth // 8)
    for number in range(planes * rows * columns):
        plane, place = divmod(number, rows * columns)
        top, left = place // columns * height, place % columns * width
        # The last strip may hold only what is left of the image; a tile is always whole.
        stored = height if tiled else min(height, form.height - top)
        needed = row_bytes * stored
        start = starts[number]
        if form.compression in _NONE:
            packed = data[start : start + needed]
        else:
            packed = _inflate(data[start : start + (sizes[number] if number < len(sizes) else 0)], needed)
        if len(packed) < needed:
            raise ImageError("TIFF that ends early")
        block = _values(packed, (stored, row_bytes), width * samples, form).reshape(stored, width, samples)
        if form.compression in _DEFLATE and tiff.numbers(tags, tiff.PREDICTOR) == (2,):
            block = np.cumsum(block, axis=1, dtype=block.dtype)
        yield top, left, plane, block[: form.height - top, : form.width - left]


def _inflate(packed: bytes, needed: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, needed)
    except zlib.error as error:
        raise ImageError(f"damaged TIFF: {error}") from error


def _values(packed: bytes, shape: tuple[int, int], columns: int, form: Layout) -> NDArray[np.integer]:
    """The values of rows that each begin on a byte, (rows, columns)."""
    if form.depth == 8:
        return np.frombuffer(packed, np.uint8).reshape(shape)
    if form.depth == 16:
        return np.frombuffer(packed, form.order + "u2").reshape(shape[0], -1).astype(np.uint16)
    values = np.empty((shape[0], columns), np.uint16)
    weights = (1 << np.arange(form.depth - 1, -1, -1)).astype(np.uint16)
    for row, line in enumerate(
        np.frombuffer(packed, np.uint8).reshape(shape)
    ):  # one at a time: bits take 16 times the room
        bits = np.unpackbits(line)[: columns * form.depth].reshape(columns, form.depth)
        values[row] = bits @ weights
    return values
