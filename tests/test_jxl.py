"""JPEG XL: the pixels, the size before memory is taken, and what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headstart.core.errors import ImageError
from headstart.data import jxl
from headstart.data.decode import decode
from helpers import draw

PIXELS = np.asarray(draw("disc", 0, (61, 47)))


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    imagecodecs = pytest.importorskip("imagecodecs")
    return bytes(imagecodecs.jpegxl_encode(pixels, **{"lossless": True, **options}))


@pytest.mark.parametrize("container", [False, True])
def test_pixels(container: bool) -> None:
    image = decode(encoded(PIXELS, usecontainer=container))
    assert np.array_equal(image.pixels, PIXELS)
    assert (image.format, image.width, image.height) == ("JPEG XL", 61, 47)


def test_grey_alpha_and_sixteen_bits() -> None:
    assert np.array_equal(decode(encoded(PIXELS[..., 0])).pixels, np.repeat(PIXELS[..., :1], 3, -1))
    assert np.array_equal(decode(encoded(PIXELS.astype(np.uint16) * 257)).pixels, PIXELS)
    alpha = np.zeros((47, 61, 1), np.uint8)
    alpha[:, 30:] = 255
    pixels = decode(encoded(np.concatenate([PIXELS, alpha], -1))).pixels
    assert (pixels[:, :30] == 255).all()
    assert np.array_equal(pixels[:, 30:], PIXELS[:, 30:])


def test_float_is_refused_by_name() -> None:
    with pytest.raises(ImageError, match="JPEG XL with 3 channels of float32, which is not supported"):
        decode(encoded((PIXELS / 255).astype(np.float32)))


@pytest.mark.parametrize("size", [(1, 1), (8, 16), (16, 16), (256, 256), (300, 400), (3, 2000), (700, 513), (90, 160)])
@pytest.mark.parametrize("container", [False, True])
def test_the_size_is_told_by_the_header(size: tuple[int, int], container: bool) -> None:
    assert jxl.size(encoded(np.zeros((*size, 3), np.uint8), usecontainer=container)) == size[::-1]


def test_large_images_are_refused_before_they_are_decoded() -> None:
    data = encoded(np.zeros((3000, 3000, 3), np.uint8), effort=1)
    assert len(data) < 20_000
    with pytest.raises(ImageError, match="3000 x 3000 pixels, more than the limit of 8 megapixels"):
        decode(data, max_megapixels=8)


def test_a_cut_file_ends_early() -> None:
    for data in (encoded(PIXELS), encoded(PIXELS, usecontainer=True)):
        for cut in (*range(8, 60), len(data) // 2, len(data) - 1):
            with pytest.raises(ImageError, match="JPEG XL"):
                decode(data[:cut])


def test_what_to_install_is_told(tmp_path: Path) -> None:
    data = tmp_path / "image.jxl"
    data.write_bytes(b"\xff\x0a\x07" + bytes(60))
    code = (
        "import sys; sys.modules['imagecodecs'] = None\nfrom headstart.data.decode import decode\n"
        "from headstart.core.errors import ImageError\n"
        f"try:\n    decode(open({str(data)!r}, 'rb').read())\nexcept ImageError as error:\n    print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == jxl.MISSING
    assert "pip install 'headstart[jxl]'" in done.stdout


def test_importing_the_reader_imports_no_decoder() -> None:
    code = "import sys, headstart.data.decode; assert 'imagecodecs' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
