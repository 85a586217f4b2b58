"""What the boxes of a HEIF or AVIF file say of its picture: where its coded parts lie, and how it is cropped.

The decoders silently fill a missing part of a picture with one colour; the boxes show that it is missing. Sources: the
boxes of ISO/IEC 14496-12 (ISO base media) and 23008-12 (HEIF), and 23000-22 (MIAF) for the order of crop and rotation.
No count of a file is trusted: each loop ends with the bytes that it reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_MAX_ITEMS = 20_000  # a picture of 200 megapixels in tiles of 512 x 512 pixels has 800; more are not looked at
# Three zero bytes never stand in a unit of HEVC (H.265, 7.4.2: "emulation prevention"), so that a hole left by a file
# system or a download can be recognised. AV1 has no such rule; its arithmetic coder writes no runs of this length.
_HEVC_HOLE = bytes(3)
_AV1_HOLE = bytes(64)
_HEVC, _AV1 = {b"hvc1", b"hev1"}, {b"av01"}


class Part(NamedTuple):
    """A range of the file, in bytes; its end may lie beyond the data."""

    start: int
    end: int


class Crop(NamedTuple):
    """The part of a stored picture that is shown, in pixels."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass
class Items:
    """The items of a file, as far as a picture needs them."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    parts: dict[int, list[Part]] = field(default_factory=dict)
    derived: dict[int, list[int]] = field(default_factory=dict)  # a grid or an overlay, and what it is made of
    alpha_of: dict[int, list[int]] = field(default_factory=dict)
    properties: list[tuple[bytes, Part]] = field(default_factory=list)
    owned: dict[int, list[int]] = field(default_factory=dict)  # indices of properties, from 1

    def needed(self) -> list[int]:
        """The primary item and all that it is made of, each once."""
        found: dict[int, None] = {}
        waiting = [self.primary]
        while waiting:
            item = waiting.pop()
            if item not in found:
                found[item] = None
                waiting += self.derived.get(item, [])
                waiting += self.alpha_of.get(item, [])
        return list(found)

    def property(self, item: int, name: bytes) -> Part | None:
        """The body of a property of an item; None where it has none."""
        for index in self.owned.get(item, []):
            if 0 < index <= len(self.properties) and self.properties[index - 1][0] == name:
                return self.properties[index - 1][1]
        return None


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, Part]]:
    """The boxes of a range: name and body. The last body may end beyond the data, never beyond `end` otherwise."""
    while start + 8 <= min(end, len(data)):
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = start + max(size, head) if size else end  # 0: up to the end
        yield name, Part(start + head, stop)
        start = stop


def read_items(data: bytes) -> Items | None:
    """The items of a file; None where it has no box of them, or one that makes no sense."""
    try:
        for name, meta in boxes(data, 0, len(data)):
            if name == b"meta":
                return _items(data, Part(meta.start + 4, min(meta.end, len(data))))
    except (struct.error, IndexError):
        pass
    return None


def missing(data: bytes) -> str:
    """What is missing of the picture, as the end of a sentence; empty where nothing is known to be."""
    ends = {name: part.end for name, part in boxes(data, 0, len(data))}
    # A sequence has its pictures in `moov`. The data may lie within `meta`, so that `mdat` may be absent.
    if not ends.keys() & {b"meta", b"moov"} or max(ends.values()) > len(data):
        return "ends early"
    items = read_items(data)
    if items is None:
        return ""
    needed = items.needed()
    if any(part.end > len(data) for item in needed for part in items.parts.get(item, [])):
        return "ends early"
    empty = sum(_has_hole(data, items, item) for item in needed)
    return f"is incomplete: zeros fill {empty:,} of its {len(needed):,} parts" if empty else ""


def is_cropped(data: bytes) -> bool:
    """Whether the picture has a crop box."""
    items = read_items(data)
    return items is not None and items.property(items.primary, b"clap") is not None


def stored_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of the picture before crop and rotation, as the file says; None where it does not."""
    items = read_items(data)
    found = None if items is None else items.property(items.primary, b"ispe")
    if found is None or found.end - found.start < 12 or found.end > len(data):
        return None
    width, height = struct.unpack_from(">II", data, found.start + 4)
    return width, height


def crop(data: bytes, size: tuple[int, int]) -> Crop | None:
    """The part of the stored picture that its crop box (``clap``) shows; None where it has none.

    Args:
        data: The whole file.
        size: Width and height of the stored picture in pixels, before any rotation.

    Raises:
        ValueError: The crop makes no sense, or begins between two pixels.
    """
    items = read_items(data)
    if items is None or (found := items.property(items.primary, b"clap")) is None:
        return None
    if found.end - found.start < 32 or found.end > len(data):
        raise ValueError("its crop box (clap) is too short")
    values = struct.unpack_from(">8I", data, found.start)
    signed = struct.unpack_from(">8i", data, found.start)  # the offsets of the middle are signed
    if not all(values[1::2]):
        raise ValueError("its crop box (clap) divides by zero")
    ends: list[int] = []
    for axis, side in enumerate(size):
        extent, rest = divmod(values[2 * axis], values[2 * axis + 1])
        over, under = signed[4 + 2 * axis], values[5 + 2 * axis]
        # Twice the first pixel: (side - 1) / 2 + offset - (extent - 1) / 2
        twice, part = divmod((side - extent) * under + 2 * over, under)
        if rest or part or twice % 2:
            raise ValueError("its crop box (clap) begins or ends between two pixels")
        ends += [twice // 2, twice // 2 + extent]
    left, right, top, bottom = ends
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise ValueError("its crop box (clap) lies outside the picture")
    return Crop(left, top, right, bottom)


def _has_hole(data: bytes, items: Items, item: int) -> bool:
    kind = items.kinds.get(item)
    if kind not in _HEVC | _AV1 | {b"grid"} or item not in items.parts:
        return False
    content = b"".join(data[part.start : part.end] for part in items.parts[item])
    if kind == b"grid":  # its plan: version, flags, rows - 1, columns - 1, width, height
        return not any(content[4:])
    if kind in _AV1:
        return _AV1_HOLE in content or not content.strip(b"\0")
    record = items.property(item, b"hvcC")
    width = 1 + (data[record.start + 21] & 3) if record and record.start + 21 < len(data) else 4
    position = 0
    while position + width <= len(content):
        length = int.from_bytes(content[position : position + width], "big")
        position += width
        unit = content[position : position + length]
        # A hole of one or two bytes at the end of a unit is recognised by its last byte, which is never zero either.
        if not length or _HEVC_HOLE in unit or unit.endswith(b"\0"):
            return True
        position += length
    return False


def _items(data: bytes, meta: Part) -> Items:
    items = Items()
    found: dict[bytes, Part] = {}
    for name, body in boxes(data, meta.start, meta.end):
        found.setdefault(name, Part(body.start, min(body.end, meta.end)))
    if (box := found.get(b"pitm")) is not None:
        (items.primary,) = struct.unpack_from(">I" if data[box.start] else ">H", data, box.start + 4)
    if (box := found.get(b"iinf")) is not None:
        _kinds(data, box, items)
    if (box := found.get(b"iloc")) is not None:
        _parts(data, box, items, found.get(b"idat"))
    if (box := found.get(b"iprp")) is not None:
        _properties(data, box, items)
    if (box := found.get(b"iref")) is not None:
        _references(data, box, items)
    return items


def _kinds(data: bytes, box: Part, items: Items) -> None:
    for name, body in boxes(data, box.start + (8 if data[box.start] else 6), box.end):
        if name == b"infe" and data[body.start] >= 2 and len(items.kinds) < _MAX_ITEMS:
            wide = data[body.start] >= 3
            (item,) = struct.unpack_from(">I" if wide else ">H", data, body.start + 4)
            at = body.start + (10 if wide else 8)
            items.kinds[item] = data[at : at + 4]


class _Reader:
    """Unsigned numbers one after another; a number beyond the end is an `IndexError`."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self._at, self._end = data, start, end

    def __call__(self, size: int) -> int:
        self._at += size
        if self._at > self._end:
            raise IndexError("beyond the end of the box")
        return int.from_bytes(self._data[self._at - size : self._at], "big")


def _parts(data: bytes, box: Part, items: Items, idat: Part | None) -> None:
    read = _Reader(data, box.start, min(box.end, len(data)))
    version, _ = read(1), read(3)
    sizes = read(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    for _ in range(min(read(2 if version < 2 else 4), _MAX_ITEMS)):
        item = read(2 if version < 2 else 4)
        method = read(2) & 15 if version else 0
        read(2)  # which file; 0 is this one, and no other is ever written
        base = read(base_size)
        parts = []
        for _ in range(read(2)):
            if version:
                read(index_size)
            if not offset_size + length_size:
                raise IndexError("extents without a place")
            start, length = base + read(offset_size), read(length_size)
            if method == 1 and idat is not None:
                start += idat.start
            # Without a length, an extent goes on to the end of the file.
            parts.append(Part(start, start + length if length else max(start, len(data))))
        if method < 2:  # 2: a part of another item
            items.parts[item] = parts


def _properties(data: bytes, box: Part, items: Items) -> None:
    for name, body in boxes(data, box.start, box.end):
        if name == b"ipco":
            items.properties = list(boxes(data, body.start, min(body.end, box.end)))
        elif name == b"ipma":
            read = _Reader(data, body.start, min(body.end, len(data)))
            version, flags = read(1), read(3)
            for _ in range(min(read(4), _MAX_ITEMS)):
                item = read(4 if version else 2)
                wide = flags & 1
                found = [read(2) & 0x7FFF if wide else read(1) & 0x7F for _ in range(read(1))]
                items.owned.setdefault(item, []).extend(found)


def _references(data: bytes, box: Part, items: Items) -> None:
    width = 4 if data[box.start] else 2
    for name, body in boxes(data, box.start + 4, box.end):
        read = _Reader(data, body.start, min(body.end, len(data)))
        source = read(width)
        targets = [read(width) for _ in range(min(read(2), _MAX_ITEMS))]
        if name == b"dimg":
            items.derived.setdefault(source, []).extend(targets)
        elif name == b"auxl":
            kind = items.property(source, b"auxC")
            if kind is not None and _is_alpha(data[kind.start : kind.end]):
                for target in targets:
                    items.alpha_of.setdefault(target, []).append(source)


def _is_alpha(auxiliary: bytes) -> bool:
    """Whether an auxiliary picture is the alpha channel: the names of MPEG-B and of HEVC (23008-12)."""
    return b"auxiliary:alpha" in auxiliary or b"hevc:2015:auxid:1" in auxiliary
