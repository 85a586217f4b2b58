"""Ten and twelve bits stored in sixteen: told where nobody scaled them, and scaled everywhere alike where asked."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import headstart
from headstart.checks import quality
from headstart.core.errors import ImageError, ModelError, OptionError
from headstart.data.decode import decode, from_pil
from headstart.data.table import Row
from headstart.features.look import traits_key
from headstart.modelfile.schema import Metadata
from headstart.modelfile.wire import metadata_text
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import FULL_RANGE, Recipe
from helpers import draw, headstart_cli
from test_check_kinds import subject, traits
from test_tiff import GREY, RGB, WHITE_IS_ZERO, tiff

H, W = 9, 13
PREPROCESS = Preprocess(size_px=32, fit="crop", crop_fraction=1.0, mean=(0.5,) * 3, std=(0.25,) * 3)
RUNTIME = headstart.Runtime(cache=None)


def png(values: np.ndarray, *chunks: tuple[bytes, bytes], kind: int | None = None) -> bytes:
    """A 16-bit PNG of values (H, W, samples), by the words of the specification, with each row's Up filter."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]] if kind is None else kind
    rows = values.astype(">u2").reshape(len(values), -1).view(np.uint8)
    filtered = np.diff(rows, axis=0, prepend=rows[:1] * 0)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\2" + row.tobytes() for row in filtered))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*one) for one in [(b"IHDR", head), *chunks, (b"IDAT", body), (b"IEND", b"")]
    )


def pnm(values: np.ndarray, largest: int = 65535, *, text: bool = False) -> bytes:
    kind = (2 if text else 5) + (values.shape[2] == 3)
    head = f"P{kind} {values.shape[1]} {values.shape[0]} {largest}\n".encode()
    return head + (" ".join(map(str, values.ravel())).encode() if text else values.astype(">u2").tobytes())


def by_pillow(values: np.ndarray, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(values[..., 0].astype(np.uint16)).save(content, kind, **options)
    return content.getvalue()


# name -> samples, how a file of such values is written
FILES = {
    "grey PNG": (1, png),
    "PNG": (3, png),
    "PNG with alpha": (4, png),
    "grey TIFF": (1, lambda values: tiff(values, 16, GREY)),
    "grey TIFF, big-endian": (1, lambda values: tiff(values, 16, GREY, order=">")),
    "grey TIFF of Pillow": (1, lambda values: by_pillow(values, "TIFF")),
    "grey TIFF of libtiff": (1, lambda values: by_pillow(values, "TIFF", compression="tiff_lzw")),
    "TIFF": (3, lambda values: tiff(values, 16, RGB)),
    "TIFF, big-endian": (3, lambda values: tiff(values, 16, RGB, order=">")),
    "TIFF in planes": (3, lambda values: tiff(values, 16, RGB, planar=True)),
    "TIFF, deflated": (3, lambda values: tiff(values, 16, RGB, deflate=True)),
    "TIFF with alpha": (4, lambda values: tiff(values, 16, RGB, extra=(2,))),
    "PGM": (1, pnm),
    "PPM": (3, pnm),
    "PGM as text": (1, lambda values: pnm(values, text=True)),
}
LEVELS = st.sampled_from([1, 255, 1000, 1023, 4095, 16383, 40_000, 65_534])


def scaled(values: np.ndarray, white: int) -> np.ndarray:
    """By the definition: RGB, 8 bits, uint8 (H, W, 3)."""
    eight = np.floor(np.minimum(values[..., :3].astype(np.float64), white) / white * 255 + 0.5)
    return np.broadcast_to(eight, (*values.shape[:2], 3)).astype(np.uint8)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), white=LEVELS, bits=st.integers(1, 16))
def test_values_are_scaled_by_the_level_and_by_nothing_else(name: str, seed: int, white: int, bits: int) -> None:
    samples, write = FILES[name]
    values = np.random.default_rng(seed).integers(0, 2**bits, (H, W, samples))
    if samples == 4:
        values[..., 3] = 65535
    image = decode(write(values), white_level=white)
    # Half a step is rounded up or down.
    assert np.abs(image.pixels.astype(int) - scaled(values, white)).max() <= (white % 2 == 0)
    largest = values[..., :3].max()
    assert image.peak == largest or (largest >= 2**14 and image.peak >= 2**14)
    plain = decode(write(values))
    assert plain.peak == largest or (largest >= 2**14 and plain.peak >= 2**14)
    assert np.abs(plain.pixels.astype(int) - scaled(values, 65535)).max() <= (samples > 1)


def test_white_is_zero_and_alpha_and_the_hidden_colour() -> None:
    values = np.arange(H * W).reshape(H, W, 1) * 8
    inverted = decode(tiff(1023 - values, 16, WHITE_IS_ZERO), white_level=1023)
    assert np.array_equal(inverted.pixels, 255 - scaled(1023 - values, 1023))
    colours = np.broadcast_to(values, (H, W, 3)).copy()
    half = np.concatenate([colours, np.full((H, W, 1), 32896)], axis=2)  # alpha of 128 in 255
    on_white = decode(png(half), white_level=1023).pixels
    assert np.abs(on_white - (scaled(values, 1023) * (128 / 255) + 127)).max() <= 1.5
    hidden = decode(png(colours, (b"tRNS", struct.pack(">HHH", *colours[3, 4]))), white_level=1023).pixels
    assert (hidden[3, 4] == 255).all()
    assert np.array_equal(np.delete(hidden.reshape(-1, 3), 3 * W + 4, 0),
                          np.delete(scaled(values, 1023).reshape(-1, 3), 3 * W + 4, 0))  # fmt: skip


def test_what_cannot_be_scaled_is_refused_and_never_dark() -> None:
    values = np.full((H, W, 2), 800)
    assert decode(png(values)).pixels.max() > 200  # nearly transparent, and on white
    with pytest.raises(ImageError, match="no white level can be applied"):
        decode(png(values), white_level=1023)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "PPM", "WEBP", "BMP", "GIF"])
def test_images_of_8_bits_are_never_touched(kind: str) -> None:
    content = io.BytesIO()
    draw("disc", 3).save(content, kind)
    plain, other = decode(content.getvalue()), decode(content.getvalue(), white_level=100)
    assert np.array_equal(plain.pixels, other.pixels)
    assert plain.peak == other.peak == 0


def test_a_file_that_names_its_own_range_keeps_it() -> None:
    values = np.arange(H * W).reshape(H, W, 1) * 8
    twelve = tiff(values, 12, GREY)
    for data in (pnm(values, 1023), twelve):
        plain = decode(data)
        assert plain.peak == 0
        assert np.array_equal(decode(data, white_level=600).pixels, plain.pixels)


def test_pil_images() -> None:
    values = np.arange(H * W).reshape(H, W, 1) * 8
    image = Image.fromarray(values[..., 0].astype(np.uint16))
    assert np.array_equal(from_pil(image, white_level=1023), decode(png(values), white_level=1023).pixels)
    deep = Image.open(io.BytesIO(png(np.broadcast_to(values, (H, W, 3)))))
    with pytest.raises(ImageError, match="give the file"):
        from_pil(deep, white_level=1023)
    eight = draw("disc", 1)
    assert np.array_equal(from_pil(eight, white_level=1023), np.asarray(eight))


def test_the_record_keeps_it_and_is_what_it_was_without() -> None:
    assert "white_level" not in PREPROCESS.as_dict()
    assert Preprocess.from_dict(PREPROCESS.as_dict()).white_level == FULL_RANGE
    twelve = PREPROCESS.used_with("squash", 4095)
    assert Preprocess.from_dict(twelve.as_dict()) == twelve
    assert twelve.used_with("crop", 0).white_level == 4095
    for wrong in (0, 65536, 4095.0, "4095", True, None):
        with pytest.raises(ModelError, match="absurd"):
            Preprocess.from_dict(twelve.as_dict() | {"white_level": wrong})
    assert len({traits_key(512), traits_key(512, 4095), traits_key(512, 1023)}) == 3
    assert traits_key(512) == traits_key(512, FULL_RANGE)
    with pytest.raises(OptionError):
        Recipe(white_level=65536)
    assert Recipe.from_dict(Recipe(white_level=4095).as_dict()).white_level == 4095


# The whole way


def write(folder: Path, white: int | None, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Discs and stripes in splits, of 8 bits, or of 16 in which `white` is white."""
    for split in splits:
        for label in ("disc", "stripes"):
            (folder / split / label).mkdir(parents=True)
            for number in range(8):
                pixels = np.asarray(draw(label, number + 100 * (split == "val")))
                path = folder / split / label / f"{number}.png"
                if white is None:
                    Image.fromarray(pixels).save(path)
                else:
                    path.write_bytes(png(np.rint(pixels.astype(np.float64) * white / 255).astype(int)))
    return folder


@pytest.mark.slow
def test_check_and_train_tell_and_the_model_keeps_what_train_was_told(tmp_path: Path) -> None:
    plain, deep = write(tmp_path / "8", None), write(tmp_path / "12", 4095)
    cache = tmp_path / "cache"
    environment = {"HEADSTART_CACHE": str(cache)}
    done = headstart_cli("check", deep, "--json", **environment)
    (told,) = [one for one in done.json["findings"] if one.get("problems") == ["range"]]
    largest = max(decode(file.read_bytes()).peak for file in deep.rglob("*.png"))
    assert (told["images"], told["largest"], told["white_level"]) == (32, largest, 4095)
    assert f"32 images of 16 bits use only 0 to {largest:,} of 65,535" in told["message"]
    assert "--white-level 4095" in told["message"]
    assert not any("dark" in one.get("problems", ()) for one in done.json["findings"])
    done = headstart_cli("train", deep, "--out", tmp_path / "dim", **environment)
    assert "--white-level 4095" in done.err
    # From the same cache, in which the dark embeddings are: another level is another key.
    done = headstart_cli("train", deep, "--white-level", "4095", "--out", tmp_path / "run", **environment)
    assert (done.code, "of 16 bits" in done.err) == (0, False)
    assert "(0 from the cache)" in done.out
    reference = headstart.train(plain, runtime=RUNTIME)
    model = headstart.load(tmp_path / "run" / "model.onnx")
    assert model.metadata.preprocess.white_level == 4095
    assert model.metadata.recipe["white_level"] == 4095
    assert "white_level = 4095" in (tmp_path / "run" / "recipe.toml").read_text()
    assert "white_level" not in Metadata.from_json(metadata_text(reference.fitted.model, "")).preprocess.as_dict()
    eight = sorted(plain.rglob("*.png"))
    for one, other in zip(eight, sorted(deep.rglob("*.png")), strict=True):
        assert np.array_equal(model.pixels(other), model.pixels(one))
    assert np.array_equal(model.predict_proba(eight[:4]), model.predict_proba(sorted(deep.rglob("*.png"))[:4]))
    same, _ = headstart.evaluate(model, plain)
    measured, _ = headstart.evaluate(model, deep)
    assert measured.log_loss == same.log_loss
    assert measured.log_loss == pytest.approx(headstart_cli(
        "evaluate", tmp_path / "run" / "model.onnx", deep, "--json").json["evaluation"]["log_loss"])  # fmt: skip


def test_values_above_the_level_are_told(tmp_path: Path) -> None:
    report = headstart.check(write(tmp_path, 4095), recipe=Recipe(white_level=1023), runtime=RUNTIME)
    (told,) = [one for one in report.of("quality") if one.facts["problems"] == ["range"]]
    assert told.facts["over"] > 0
    assert "above the white level of 1,023" in told.message


def test_the_training_loop_sees_the_same_pixels(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from headstart.training.pixel_feed import Images

    plain, deep = write(tmp_path / "8", None), write(tmp_path / "12", 4095)
    recipe = Recipe(strategy="finetune", flip=True)
    one = Images(headstart.read(plain), recipe, PREPROCESS)
    other = Images(headstart.read(deep), recipe, PREPROCESS.used_with("crop", 4095))
    assert all(np.array_equal(one.decoded(row), other.decoded(row)) for row in range(32))


@pytest.mark.parametrize(
    ("peaks", "white", "level"),
    [
        ([1020] * 120, FULL_RANGE, 1023), ([1020, 4000, 7], FULL_RANGE, 4095), ([0, 0, 1020], FULL_RANGE, 1023),
        ([16383], FULL_RANGE, 16383), ([16384, 100, 100], FULL_RANGE, None), ([0, 0], FULL_RANGE, None),
        ([1020], 1023, None), ([1024], FULL_RANGE, 2047),
    ],
)  # fmt: skip
def test_what_is_a_dim_range(peaks: list[int], white: int, level: int | None) -> None:
    rows = [Row(str(number), "a") for number in range(len(peaks))]
    found = quality.find(
        dataclasses.replace(subject(rows, looks=[traits(peak=peak) for peak in peaks]), white_level=white)
    )
    told = [one.facts for one in found if one.facts["problems"] == ["range"]]
    if level is None:
        assert not told
    else:
        assert told == [{"problems": ["range"], "images": sum(peak > 0 for peak in peaks), "largest": max(peaks),
                         "white_level": level}]  # fmt: skip
