"""HEIF files that tests make: boxes written by hand around pictures that are coded already."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def box(name: bytes, *body: bytes) -> bytes:
    """One box."""
    content = b"".join(body)
    return struct.pack(">I4s", 8 + len(content), name) + content


def full(name: bytes, version: int, *body: bytes, flags: int = 0) -> bytes:
    """One box with version and flags."""
    return box(name, struct.pack(">I", version << 24 | flags), *body)


def clap(width: int, height: int, left: int, top: int, *, of: tuple[int, int]) -> bytes:
    """A crop box: where a part of a picture lies."""
    across, down = 2 * left + width - of[0], 2 * top + height - of[1]  # twice the offsets of the middle
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, across, 2, down, 2))


def ispe(width: int, height: int) -> bytes:
    """The size of a picture."""
    return full(b"ispe", 0, struct.pack(">II", width, height))


@dataclass
class Item:
    """One item of a file. What is `inside` lies in ``idat``, within the boxes, as phones write the plan of a grid."""

    kind: bytes
    content: bytes
    properties: list[bytes]
    made_of: list[int] = field(default_factory=list)
    inside: bool = False


def heif(items: list[Item], *, brand: bytes = b"heic", primary: int | None = None, long: bool = False) -> bytes:
    """A file of items, numbered from 1; the last is the primary one. `long` writes sizes of 64 bits."""
    properties = [one for item in items for one in item.properties]
    names = b"".join(
        full(b"infe", 2, struct.pack(">HH4s", number, 0, item.kind) + b"\0") for number, item in enumerate(items, 1)
    )
    owned, index = b"", 0
    for number, item in enumerate(items, 1):
        count = len(item.properties)
        essential = [0x80 if one[4:8] in {b"clap", b"irot", b"imir"} else 0 for one in item.properties]
        owned += struct.pack(">HB", number, count) + bytes(i + index | e for i, e in enumerate(essential, 1))
        index += count
    references = b"".join(
        box(b"dimg", struct.pack(f">HH{len(item.made_of)}H", number, len(item.made_of), *item.made_of))
        for number, item in enumerate(items, 1) if item.made_of
    )  # fmt: skip
    head = box(b"ftyp", brand, bytes(4), b"mif1", brand)
    inner = b"".join(item.content for item in items if item.inside)

    def meta(start: int) -> bytes:
        places, inner_start = b"", 0
        for number, item in enumerate(items, 1):
            at = inner_start if item.inside else start
            places += struct.pack(">HHHHII", number, item.inside, 0, 1, at, len(item.content))
            if item.inside:
                inner_start += len(item.content)
            else:
                start += len(item.content)
        return full(
            b"meta", 0,
            full(b"hdlr", 0, bytes(4), b"pict", bytes(12), b"\0"),
            full(b"pitm", 0, struct.pack(">H", primary or len(items))),
            full(b"iloc", 1, struct.pack(">HH", 0x4400, len(items)), places),
            full(b"iinf", 0, struct.pack(">H", len(items)), names),
            *([full(b"iref", 0, references)] if references else []),
            *([box(b"idat", inner)] if inner else []),
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", 0, struct.pack(">I", len(items)), owned)),
        )  # fmt: skip

    content = b"".join(item.content for item in items if not item.inside)
    before = len(head) + len(meta(0)) + (16 if long else 8)
    size = struct.pack(">I4sQ", 1, b"mdat", 16 + len(content)) if long else box(b"mdat", content)[:8]
    return head + meta(before) + size + content


def coded_tile() -> tuple[bytes, bytes, tuple[int, int]]:
    """A picture of four quarters, coded in HEVC: its data, its configuration box, and its size."""
    data = (GOLDEN / "quadrants.heic").read_bytes()
    at = data.index(b"hvcC") - 4
    configuration = data[at : at + int.from_bytes(data[at : at + 4], "big")]
    content = data[data.index(b"mdat") + 4 :]
    return content, configuration, (64, 64)


def grid(columns: int, rows: int, *properties: bytes, inside: bool = False) -> bytes:
    """A HEIC of tiles, as phones write them: the coded picture of four quarters, columns x rows times."""
    content, configuration, (width, height) = coded_tile()
    tiles = [Item(b"hvc1", content, [configuration, ispe(width, height)]) for _ in range(columns * rows)]
    size = columns * width, rows * height
    plan = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    whole = Item(b"grid", plan, [ispe(*size), *properties], list(range(1, len(tiles) + 1)), inside)
    return heif([*tiles, whole])


def overlay(*places: tuple[int, int], size: tuple[int, int], inside: bool = False) -> bytes:
    """A HEIC whose picture is the coded one, laid on a red ground at each place (left, top)."""
    content, configuration, own = coded_tile()
    parts = [Item(b"hvc1", content, [configuration, ispe(*own)]) for _ in places]
    plan = struct.pack(">BBHHHHHH", 0, 0, 0xFFFF, 0, 0, 0xFFFF, *size)
    plan += b"".join(struct.pack(">hh", *place) for place in places)
    whole = Item(b"iovl", plan, [ispe(*size)], list(range(1, len(parts) + 1)), inside)
    return heif([*parts, whole])
