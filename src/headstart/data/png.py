"""What a PNG file holds besides its pixels, and what of it is given to the decoder."""

from __future__ import annotations

import zlib

_SIGNATURE = 8
_FRAME = 12  # length, name and checksum of a chunk
_NEEDLESS = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}  # colour profiles are not applied
# Two keywords may hold the orientation, as ImageMagick and Adobe's programs write it.
_ORIENTED = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
# Photos carry up to 64 kB of EXIF, and XMP of one JPEG segment; the decoder's own limit is 1 MiB once unpacked.
_MAX_ORIENTED_BYTES = 1 << 20


def without_text(data: bytes) -> bytes:
    """A PNG file without its texts and colour profile; the same object where it has none.

    The decoder refuses an image for a text that is damaged or too large, and takes a text of the name "transparency"
    for the image's own. What holds an orientation stays, where it is sound. All other bytes, their checksums
    and whatever is wrong with them stay too.
    """
    parts, kept_from, start = [], 0, _SIGNATURE
    view = memoryview(data)
    room = _MAX_ORIENTED_BYTES
    while start + _FRAME <= len(data):
        end = start + _FRAME + int.from_bytes(view[start : start + 4], "big")
        name = data[start + 4 : start + 8]
        if end > len(data):
            break
        if name in _NEEDLESS:
            size = _oriented_bytes(name, data[start + 8 : end - 4], data[end - 4 : end], room)
            room -= size
            if not size:
                parts.append(view[kept_from:start])
                kept_from = end
        start = end
    return b"".join([*parts, view[kept_from:]]) if parts else data


def _oriented_bytes(name: bytes, body: bytes, checksum: bytes, room: int) -> int:
    """Bytes of a text that may hold the orientation, once unpacked; 0 where it is another text, or one to drop."""
    if not body.startswith(_ORIENTED) or zlib.crc32(body, zlib.crc32(name)).to_bytes(4, "big") != checksum:
        return 0
    text = body.partition(b"\0")[2]
    packed = b""
    if name == b"zTXt":
        packed = text[1:]
    elif name == b"iTXt" and text[:1] != b"\0":
        packed = text[2:].split(b"\0", 2)[-1]
    if packed:
        unpacking = zlib.decompressobj()
        try:
            text = unpacking.decompress(packed, room)
        except zlib.error:
            return 0
        if unpacking.unconsumed_tail:
            return 0
    return len(text) if len(text) <= room else 0
