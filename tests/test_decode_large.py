"""JPEG files of many megapixels: the limit is on what is decoded, unless all that is stored is kept in memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data.decode import STORED_TIMES, decode
from headstart.data.jpeg import streams

RUNNER = """
import json, resource, sys
from headstart.data.decode import decode
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = decode(data, enough_px=512)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([image.pixels.shape, image.width, image.height, grown]))
"""


def jpeg(width: int, height: int, **options: Any) -> bytes:
    """A grey JPEG of one value."""
    buffer = io.BytesIO()
    Image.new("L", (width, height), 90).save(buffer, "JPEG", quality=20, **options)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(9248, 6936), (12000, 9000), (16384, 12288)])
def test_photos_of_large_sensors_take_little_memory(tmp_path: Path, width: int, height: int) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(jpeg(width, height))
    done = subprocess.run([sys.executable, "-c", RUNNER, file], capture_output=True, text=True, check=True, timeout=60)
    shape, *stored, kibibytes = json.loads(done.stdout)
    assert shape == [height // 8, width // 8, 3]
    assert stored == [width, height]
    assert kibibytes < 80 * 1024


def test_the_limit_is_on_what_is_decoded() -> None:
    data = jpeg(1600, 1200)  # 1.92 megapixels
    assert decode(data, max_megapixels=1, enough_px=256).pixels.shape == (300, 400, 3)
    with pytest.raises(ImageError, match="1600 x 1200 pixels, more than the limit of 1 megapixels"):
        decode(data, max_megapixels=1)
    with pytest.raises(ImageError, match="limit of 1 megapixels"):
        decode(data, max_megapixels=1, enough_px=1000)  # nothing smaller has enough
    with pytest.raises(ImageError, match="limit of 1 megapixels"):
        decode(jpeg(2000, 2002), max_megapixels=1, enough_px=100)
    assert STORED_TIMES * 1_000_000 < 2000 * 2002
    with pytest.raises(ImageError, match="limit of 1 megapixels"):
        decode(jpeg(1600, 1200, progressive=True), max_megapixels=1, enough_px=256)


def test_which_jpegs_are_decoded_row_by_row() -> None:
    plain, progressive = jpeg(64, 64), jpeg(64, 64, progressive=True)
    assert streams(plain, "JPEG")
    assert not streams(progressive, "JPEG")
    assert not streams(plain, "PNG")
    assert not streams(plain[:30], "JPEG")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    colour = buffer.getvalue()
    assert streams(colour, "JPEG")
    scan = colour.index(b"\xff\xda")
    assert not streams(colour[: scan + 4] + b"\1" + colour[scan + 5 :], "JPEG")  # a scan for each channel
