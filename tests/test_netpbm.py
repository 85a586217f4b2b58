"""Netpbm files: every form and depth, by the specification, against Pillow where Pillow reads them, and quickly."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.core.errors import ImageError
from headstart.data.decode import decode

RNG = np.random.default_rng(0)


def refused(data: bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)  # type: ignore[arg-type]
    return caught.value.message


def written(kind: int, values: np.ndarray, largest: int) -> bytes:
    """Values (H, W) or (H, W, 3) as P2, P3, P5 or P6."""
    head = b"P%d\n# made by a test\n%d %d\n%d\n" % (kind, values.shape[1], values.shape[0], largest)
    if kind in {2, 3}:
        return head + b"\n".join(b" ".join(b"%d" % value for value in row.ravel()) for row in values) + b"\n"
    return head + values.astype(np.uint8 if largest < 256 else ">u2").tobytes()


@pytest.mark.parametrize("kind", [2, 3, 5, 6])
@pytest.mark.parametrize("largest", [1, 2, 15, 100, 254, 255, 256, 1000, 1023, 4095, 65534, 65535])
def test_every_depth_is_scaled_by_its_largest_value(kind: int, largest: int) -> None:
    shape = (7, 11, 3) if kind in {3, 6} else (7, 11)
    values = RNG.integers(0, largest + 1, shape)
    values.flat[:2] = 0, largest
    data = written(kind, values, largest)
    pixels = decode(data).pixels
    expected = np.rint(values / largest * 255).astype(int)
    assert np.array_equal(pixels, expected if len(shape) == 3 else np.repeat(expected[..., None], 3, -1))
    with Image.open(io.BytesIO(data)) as image:
        theirs = np.asarray(image, float) / (257 if image.mode.startswith("I") else 1)
    ours = pixels if len(shape) == 3 else pixels[..., 0]
    assert np.abs(ours - theirs).max() <= 0.51 if theirs.dtype.kind == "f" else np.array_equal(ours, theirs)


@pytest.mark.parametrize("width", [1, 7, 8, 9, 30])
def test_bits(width: int) -> None:
    bits = RNG.integers(0, 2, (5, width))
    expected = np.where(bits[..., None] == 1, 0, 255).repeat(3, -1)  # 1 is black
    head = b"P%d %d 5\n"
    packed = head % (4, width) + np.packbits(bits.astype(bool), axis=1).tobytes()
    rows = [b"".join(b"%d" % bit for bit in row) for row in bits]
    apart = b"\t".join(b" ".join(b"%d" % bit for bit in row) for row in bits)
    for data in (packed, head % (1, width) + b"\n".join(rows), head % (1, width) + b"# bits\n" + apart):
        assert np.array_equal(decode(data).pixels, expected)
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), expected)


@pytest.mark.parametrize(
    "data",
    [
        b"P2 2 1 9 0 9", b"P2\n2\n1\n9\n0\n9\n",
        b"P2#c\n2 #c\r1 9\n#c\n0 #c\n9#c", b"P2 2 1 9\r\n0\r\n9", b"P2\t2\v1\f9 0\t9 junk",
        b"P5 2 1 9\n\0\x09", b"P5#c\n2#c\n 1 9 \0\x09", b"P5 2 1 9#c\n\0\x09", b"P2 02 001 9 000 0009",
    ],
)  # fmt: skip
def test_white_space_and_comments(data: bytes) -> None:
    assert decode(data).pixels[..., 0].tolist() == [[0, 255]]


def test_bytes_of_pixels_may_look_like_anything() -> None:
    for first in (b"#", b" ", b"\n", b"7"):
        data = b"P5 3 1 255\n" + first + b"#\n"
        assert decode(data).pixels[0, :, 0].tolist() == [first[0], ord("#"), ord("\n")]


def pam(values: np.ndarray, kind: str, largest: int = 255) -> bytes:
    named = f"TUPLTYPE {kind}\n" if kind else ""
    height, width, depth = values.shape
    head = f"P7\n# c\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {largest}\n{named}ENDHDR\n"
    return head.encode() + values.astype(np.uint8 if largest < 256 else ">u2").tobytes()


@pytest.mark.parametrize(("kind", "depth", "largest"), [
    ("GRAYSCALE", 1, 255), ("RGB", 3, 255), ("RGB", 3, 4095), ("BLACKANDWHITE", 1, 1), ("", 1, 255), ("", 3, 65535),
])  # fmt: skip
def test_pam(kind: str, depth: int, largest: int) -> None:
    values = RNG.integers(0, largest + 1, (4, 5, depth))
    expected = np.rint(values / largest * 255)
    assert np.array_equal(decode(pam(values, kind, largest)).pixels, np.broadcast_to(expected, (4, 5, 3)))


def test_pam_with_alpha_is_on_white() -> None:
    values = np.array([[[9, 99, 199, 0], [9, 99, 199, 255]]])
    assert decode(pam(values, "RGB_ALPHA")).pixels.tolist() == [[[255] * 3, [9, 99, 199]]]
    assert decode(pam(values[..., 2:], "GRAYSCALE_ALPHA")).pixels.tolist() == [[[255] * 3, [199] * 3]]


def test_pam_of_other_kinds_is_refused_by_name() -> None:
    message = refused(pam(np.zeros((1, 1, 5)), "MULTISPECTRAL"))
    assert message.startswith("PAM with 5 channels of kind MULTISPECTRAL, which is not supported")
    assert "lacks WIDTH" in refused(b"P7\nWIDTH 3\nENDHDR\n")


@pytest.mark.parametrize("data", [
    written(kind, np.full((3, 4, 3) if kind in {3, 6} else (3, 4), 7), largest)
    for kind in (2, 3, 5, 6) for largest in (9, 255, 999)
] + [b"P1 3 2\n101 010", b"P4 3 2\n\xa0\x40", pam(np.full((2, 2, 3), 7), "RGB")])  # fmt: skip
def test_a_cut_file_ends_early(data: bytes) -> None:
    whole = decode(data).pixels
    for cut in range(1, len(data)):
        try:
            pixels = decode(data[:cut]).pixels
        except ImageError as error:
            if "ends early" not in error.message and "lacks three numbers" not in error.message:
                pytest.fail(f"{cut}: {error.message}")
        else:  # only the white space at the end is missing
            assert data[cut:].isspace()
            assert np.array_equal(pixels, whole)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"P2 2 1 9 0 10", "a sample of 10, more than its largest value of 9"),
        (b"P5 2 1 9\n\0\x0a", "a sample of 10, more than its largest value of 9"),
        (b"P2 2 1 9 0 -1", "another character where a number was expected"),
        (b"P2 2 1 9 0 9x", "another character where a number was expected"),
        (b"P2 2 1 9 0 1e0", "another character where a number was expected"),
        (b"P2 2 1 9 0 " + b"9" * 30, "a number has too many digits"),
        (b"P1 2 1 02", "another character than 0 and 1"),
        (b"P5 2 1 0\n\0\0", "its largest value is 0, expected 1 to 65535"),
        (b"P5 2 1 65536\n\0\0", "its largest value is 65536, expected 1 to 65535"),
        (b"P6 2 x 255\n\0\0", "its header lacks three numbers"),
        (b"P5 0 1 255\n\0\0", "an image without pixels"),
        (b"P3 90000 90000 255\n0 0 0", "more than the limit of 64 megapixels"),
    ],
)
def test_what_no_file_may_say_is_refused(data: bytes, words: str) -> None:
    assert words in refused(data)


@pytest.mark.slow
def test_slow_forms_are_read_quickly() -> None:
    """A megapixel took Pillow 2 to 4 s; each takes far below a quarter of that here."""
    values = RNG.integers(0, 1000, (500, 2000, 3))
    grey = values[..., 0]
    for kind, each, largest in ((3, values, 1000), (6, values, 1000), (6, values % 100, 100), (2, grey, 1000)):
        data = written(kind, each, largest)
        start = time.process_time()
        decode(data)
        assert time.process_time() - start < 1.0


def test_numbers_at_the_seams_of_blocks_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.data import netpbm

    values = RNG.integers(0, 1000, (9, 31))
    for data in (written(2, values, 1000), written(2, values.reshape(1, -1), 1000)):
        expected = decode(data).pixels
        for block in (12, 13, 16, 40, 41, 100):
            monkeypatch.setattr(netpbm, "_TEXT_BLOCK", block)
            assert np.array_equal(decode(data).pixels, expected)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7\n"]),
    st.text(" \n#0123456789-xWIDTH", max_size=40),
    st.binary(max_size=30),
)
def test_any_text_decodes_or_is_refused(start: bytes, text: str, end: bytes) -> None:
    try:
        pixels = decode(start + text.encode() + end, max_megapixels=1).pixels
    except ImageError:
        return
    assert pixels.ndim == 3
