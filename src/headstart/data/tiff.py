"""The directories of a TIFF file: what it holds, and whether that is an image or a camera's raw file.

Read by the rules of TIFF 6.0 and BigTIFF, with bounds; pixels are left to `tiffpixels` and to Pillow.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MAX_ENTRIES = 4096
_MAX_DIRECTORIES = 64
_MAX_VALUES = 1 << 22  # strips of one row of the tallest image that is read, and much more
_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}

# Tags
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
MAKER, MODEL, STRIPS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 271, 272, 273, 274, 277, 278, 279
PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 284, 317, 322, 323, 324, 325
SUB_DIRECTORIES, EXTRA, SAMPLE_FORMAT, SUBSAMPLING, DNG_VERSION = 330, 338, 339, 530, 50706

# Without these nothing can be said of the pixels.
_NEEDED = {
    WIDTH,
    HEIGHT,
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    SAMPLES,
    PLANAR,
    STRIPS,
    STRIP_BYTES,
    TILES,
    TILE_BYTES,
    EXTRA,
}

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, INKS, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
_SENSOR = {32803, 34892}  # photometric: a colour filter array; linear raw
_REDUCED = 1  # the bit of NewSubfileType
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
_RAW_OF_MAKER = (
    ("NIKON", "Nikon NEF"), ("SONY", "Sony ARW"), ("CANON", "Canon CR2"), ("PENTAX", "Pentax PEF"),
    ("RICOH", "Pentax PEF"), ("SAMSUNG", "Samsung SRW"), ("HASSELBLAD", "Hasselblad 3FR"), ("PHASE", "Phase One IIQ"),
    ("LEAF", "Leaf MOS"), ("MAMIYA", "Mamiya MEF"), ("EPSON", "Epson ERF"), ("KODAK", "Kodak DCR"),
    ("EASTMAN", "Kodak DCR"),
)  # fmt: skip
ADVICE_RAW = "save it as JPEG or TIFF with the maker's program, darktable or RawTherapee"

Directory = dict[int, tuple[int, ...] | bytes]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the first image of a TIFF file is stored.

    Attributes:
        order: ``<`` or ``>``.
        tags: The first directory; text as bytes, all else as numbers.
        width: As stored, in pixels.
        height: In pixels.
        bits: Of each sample of a pixel.
        sample_format: Of all samples; 0 where they differ.
        photometric: Tag 262.
        compression: Tag 259.
        planar: Whether each sample has a plane of its own.
        unopened: Whether it is a big-endian BigTIFF, which Pillow 13 takes for an ordinary TIFF.
        extra: Meaning of the samples beyond the colours: 0 unspecified, 1 premultiplied alpha, 2 alpha.
    """

    order: str
    tags: Directory
    width: int
    height: int
    bits: tuple[int, ...]
    sample_format: int
    photometric: int
    compression: int
    planar: bool
    unopened: bool
    extra: tuple[int, ...]

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return len(self.bits)

    @property
    def depth(self) -> int:
        """Bits of every sample; 0 where they differ."""
        return self.bits[0] if len(set(self.bits)) == 1 else 0

    def words(self) -> str:
        """What it holds, for people: ``5 channels of 32-bit float``."""
        kind = {UNSIGNED: "", SIGNED: " signed integers", FLOAT: " float"}.get(self.sample_format, " mixed values")
        depth = f"{self.depth}-bit" if self.depth else "different depths"
        channels = f"{self.samples} channel{'' if self.samples == 1 else 's'} of {depth}{kind or ' values'}"
        planes = " in separate planes" if self.planar and self.samples > 1 else ""
        packed = "" if self.compression == 1 else f", compressed by {_COMPRESSIONS.get(self.compression, 'method')}"
        packed += f" {self.compression}" if packed.endswith("method") else ""
        return channels + planes + packed + (", as big-endian BigTIFF" if self.unopened else "")


_COMPRESSIONS = {
    2: "CCITT", 3: "fax 3", 4: "fax 4", 5: "LZW", 6: "old JPEG", 7: "JPEG", 8: "deflate", 32773: "PackBits",
    32946: "deflate", 34712: "JPEG 2000", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
}  # fmt: skip


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as TIFF or BigTIFF."""
    return data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))


def layout(data: bytes) -> Layout | None:
    """How the first image is stored; None where the first directory is damaged."""
    try:
        tags, _ = _directory(data, _first(data))
        samples = _one(tags, SAMPLES, 1)
        bits = _numbers(tags, BITS) or (1,)
        bits = bits * samples if len(bits) == 1 and samples <= _MAX_ENTRIES else bits[:samples]
        formats = set(_numbers(tags, SAMPLE_FORMAT) or (UNSIGNED,))
        kind = formats.pop() if len(formats) == 1 else 0
        return Layout(
            order=_order(data),
            tags=tags,
            width=_one(tags, WIDTH),
            height=_one(tags, HEIGHT),
            bits=bits,
            sample_format=UNSIGNED if kind == 4 else kind,  # 4: undefined, to be read as if it were missing
            photometric=_one(tags, PHOTOMETRIC, 0),
            compression=_one(tags, COMPRESSION, 1),
            planar=_one(tags, PLANAR, 1) == 2,
            unopened=_is_big(data) and _order(data) == ">",
            extra=_numbers(tags, EXTRA),
        )
    except (struct.error, ValueError, IndexError, OverflowError):
        return None


def preview_only(data: bytes) -> str:
    """Why the first image of a file is only a small copy of what it holds, with what to do; empty where it is not."""
    if data[8:10] == b"CR" and data.startswith(b"II*\0\x10\0\0\0"):
        return _raw("Canon CR2")
    if data[8:16] in {b"IIIITwaR", b"IIIIDwaR", b"IIIIRwaR", b"MMMMRawT"}:
        return _raw("Phase One IIQ")
    try:
        directories = _directories(data)
    except (struct.error, ValueError, IndexError, OverflowError):
        return ""
    if not directories:
        return ""
    first = directories[0]
    if DNG_VERSION in first:
        return _raw("DNG")
    maker = text(first, MAKER).upper()
    name = next((raw for start, raw in _RAW_OF_MAKER if maker.startswith(start)), "")
    if any(_one(tags, PHOTOMETRIC, 0) in _SENSOR for tags in directories):
        return _raw(name)
    if _one(first, SUBFILE, 0) & _REDUCED and any(_area(tags) > _area(first) for tags in directories):
        if SUB_DIRECTORIES in first:
            return _raw(name)
        return (
            f"TIFF whose first image, of {_one(first, WIDTH)} x {_one(first, HEIGHT)} pixels, is a small copy of "
            "another: save the large one as a file of its own"
        )
    return ""


def has_more_pages(data: bytes) -> bool:
    """Whether another directory comes after the first."""
    try:
        return 0 < _directory(data, _first(data))[1] < len(data)
    except (struct.error, ValueError):
        return False


def text(tags: Directory, tag: int) -> str:
    """A text in a directory; empty where it is none."""
    value = tags.get(tag, b"")
    return value.partition(b"\0")[0].decode("latin-1").strip() if isinstance(value, bytes) else ""


def numbers(tags: Directory, tag: int) -> tuple[int, ...]:
    """The numbers of a tag; none where it is missing."""
    return _numbers(tags, tag)


def _raw(name: str) -> str:
    kind = f"a camera's raw file ({name})" if name else "a camera's raw file"
    return f"{kind}, of which only the small preview could be read: {ADVICE_RAW}"


def _area(tags: Directory) -> int:
    return _one(tags, WIDTH, 0) * _one(tags, HEIGHT, 0)


def _order(data: bytes) -> str:
    return "<" if data[:1] == b"I" else ">"


def _is_big(data: bytes) -> bool:
    return data[2:4] in {b"+\0", b"\0+"}


def _first(data: bytes) -> int:
    form, place = ("Q", 8) if _is_big(data) else ("I", 4)
    return int(struct.unpack_from(_order(data) + form, data, place)[0])


def _directories(data: bytes) -> list[Directory]:
    """The first directory, those after it, and all that they hold; bounded, each once."""
    found: list[Directory] = []
    queue, seen = [_first(data)], set[int]()
    while queue and len(found) < _MAX_DIRECTORIES:
        start = queue.pop(0)
        if not 0 < start < len(data) or start in seen:
            continue
        seen.add(start)
        try:
            tags, following = _directory(data, start)
        except (struct.error, ValueError):
            if not found:
                raise
            continue
        found.append(tags)
        queue += [following, *_numbers(tags, SUB_DIRECTORIES)[:_MAX_DIRECTORIES]]
    return found


def _directory(data: bytes, start: int) -> tuple[Directory, int]:
    """The tags of the directory at a place, and the place of the next one."""
    order = _order(data)
    count_form, entry_form, offset_form = ("Q", "HHQ", "Q") if _is_big(data) else ("H", "HHI", "I")
    (count,) = struct.unpack_from(order + count_form, data, start)
    if count > _MAX_ENTRIES:
        raise ValueError("too many entries")
    inline = struct.calcsize("=" + offset_form)
    head = struct.calcsize("=" + entry_form)
    place = start + struct.calcsize("=" + count_form)
    tags: Directory = {}
    for _ in range(count):
        tag, kind, values = struct.unpack_from(order + entry_form, data, place)
        form = _FORMATS.get(kind)
        if form and values <= _MAX_VALUES:
            where = place + head
            if values * struct.calcsize("=" + form) > inline:
                (where,) = struct.unpack_from(order + offset_form, data, where)
            if form == "s":
                tags[tag] = data[where : where + min(values, 1024)]
            elif where + values * struct.calcsize("=" + form) <= len(data):
                tags[tag] = struct.unpack_from(f"{order}{values}{form}", data, where)
            elif tag in _NEEDED:
                raise ValueError(f"the values of tag {tag} lie beyond the end")
        place += head + inline
    following = struct.unpack_from(order + offset_form, data, place)[0] if place + inline <= len(data) else 0
    return tags, int(following)


def _numbers(tags: Directory, tag: int) -> tuple[int, ...]:
    value = tags.get(tag, ())
    return () if isinstance(value, bytes) else value


def _one(tags: Directory, tag: int, default: int | None = None) -> int:
    value = _numbers(tags, tag)
    if value:
        return value[0]
    if default is None:
        raise ValueError(f"no tag {tag}")
    return default
