"""The preprocessing nodes, run by ONNX Runtime, against Pillow; and one image in all its orientations."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from functools import cache as memoised
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.backbones.embedder import load_embedder
from headstart.core.errors import ModelError
from headstart.core.graph import IR_VERSION, OPSET, Graph
from headstart.data.decode import decode
from headstart.modelfile.session import Session
from headstart.preprocess.nodes import MAX_ASPECT, add_preprocess
from headstart.preprocess.spec import Interpolation, Preprocess
from headstart.settings.recipe import Recipe
from helpers import draw

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # three different ones tell the channels apart
FITS = ("crop", "squash", "pad")
SHAPES = [(80, 64), (64, 80), (300, 301), (256, 256), (224, 224), (257, 400), (1000, 320), (640, 481), (33, 97), (7, 5)]


def spec(
    fit: Any, size_px: int = 224, crop_fraction: float = 0.875, interpolation: Interpolation = "bicubic"
) -> Preprocess:
    return Preprocess(
        size_px=size_px, fit=fit, crop_fraction=crop_fraction, mean=MEAN, std=STD, interpolation=interpolation
    )


@memoised
def session(record: Preprocess) -> Any:
    """The nodes of a record as a model of their own: `image` to `pixels`."""
    from onnx import TensorProto, checker, helper

    graph = Graph()
    name = add_preprocess(graph, record)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
    pixels = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, record.size_px, record.size_px])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "test", [image], [pixels], list(graph.constants.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def prepared(record: Preprocess, batch: np.ndarray) -> np.ndarray:
    """What the nodes make of a batch, with the normalisation undone: float (N, S, S, 3) in 0..255."""
    (pixels,) = session(record).run(None, {"image": batch})
    assert pixels.dtype == np.float32
    result: np.ndarray = (pixels.transpose(0, 2, 3, 1) * STD + MEAN) * 255
    return result


def resized(image: Image.Image, width: int, height: int) -> Image.Image:
    """Pillow's bicubic resize, first across and then down.

    So did all of Pillow until 13, which begins with what is cheaper; it makes a difference of up to 23 levels in
    single pixels of noise, where values between the two passes are clipped to 0..255.
    """
    across = image.resize((width, image.height), Image.Resampling.BICUBIC)
    return across.resize((width, height), Image.Resampling.BICUBIC)


def bilinear(image: Image.Image, width: int, height: int) -> Image.Image:
    """The same with the filter that most networks of torchvision were trained with."""
    across = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return across.resize((width, height), Image.Resampling.BILINEAR)


def reference(record: Preprocess, image: Image.Image, resize: Any = resized) -> np.ndarray:
    """The same by Pillow, written from the words of the record: float (S, S, 3) in 0..255."""
    side, (width, height) = record.size_px, image.size
    if record.fit == "squash":
        return np.asarray(resize(image, side, side), float)
    if record.fit == "pad":
        ratio = side / max(width, height)
        small = resize(image, max(1, int(width * ratio + 1e-9)), max(1, int(height * ratio + 1e-9)))
        canvas = np.full((side, side, 3), np.array(MEAN) * 255)
        left, top = (side - small.width) // 2, (side - small.height) // 2
        canvas[top : top + small.height, left : left + small.width] = np.asarray(small, float)
        return canvas
    target = int(side / record.crop_fraction)
    long = int(target * max(width, height) / min(width, height))
    size = (target, long) if width <= height else (long, target)
    left, top = (round((length - side) / 2.0) for length in size)
    return np.asarray(resize(image, *size).crop((left, top, left + side, top + side)), float)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("label", ["disc", "noise"])
def test_the_nodes_agree_with_pillow(fit: str, size: tuple[int, int], label: str) -> None:
    image = draw(label, 1, size)
    difference = np.abs(prepared(spec(fit), np.asarray(image)[None])[0] - reference(spec(fit), image))
    assert difference.mean() < 0.001  # of 255
    assert difference.max() < 2.5  # one level, or two, where both passes round another way


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("label", ["disc", "noise"])
def test_bilinear_nodes_agree_with_pillow(fit: str, size: tuple[int, int], label: str) -> None:
    record, image = spec(fit, interpolation="bilinear"), draw(label, 1, size)
    difference = np.abs(prepared(record, np.asarray(image)[None])[0] - reference(record, image, bilinear))
    # Where the sizes have a simple ratio (256 to 224), many sums are halves, which the two may round apart.
    assert difference.mean() < 0.05  # of 255
    assert difference.max() < 2.5


@pytest.mark.parametrize("fit", FITS)
def test_bilinear_real_photos_agree_with_torchvision(fit: str, photos: Path) -> None:
    for path in sorted(photos.rglob("*.jpg"))[::80]:
        with Image.open(path) as photo:
            image = photo.convert("RGB")
        record = spec(fit, interpolation="bilinear")
        made = prepared(record, np.asarray(image)[None])[0]
        difference = np.abs(made - reference(record, image, bilinear))
        assert difference.mean() < 0.01, path
        assert difference.max() < 2.5, path
        at_once = reference(record, image, lambda img, *size: img.resize(size, Image.Resampling.BILINEAR))
        assert np.abs(made - at_once).mean() < 0.5, path


@pytest.mark.parametrize("fit", FITS)
def test_real_photos_agree_with_pillow(fit: str, photos: Path) -> None:
    for path in sorted(photos.rglob("*.jpg"))[::80]:
        with Image.open(path) as photo:
            image = photo.convert("RGB")
        difference = np.abs(prepared(spec(fit), np.asarray(image)[None])[0] - reference(spec(fit), image))
        assert difference.mean() < 0.001, path
        assert difference.max() < 2.5, path
        at_once = reference(spec(fit), image, lambda img, *size: img.resize(size, Image.Resampling.BICUBIC))
        assert np.abs(prepared(spec(fit), np.asarray(image)[None])[0] - at_once).mean() < 0.5, path


@pytest.mark.parametrize("fit", FITS)
def test_each_image_of_a_batch_is_prepared_as_if_alone(fit: str) -> None:
    batch = np.stack([np.asarray(draw("noise", seed, (90, 70))) for seed in range(3)])
    together = prepared(spec(fit), batch)
    assert together.shape == (3, 224, 224, 3)
    for index in range(3):
        assert np.array_equal(together[index], prepared(spec(fit), batch[index : index + 1])[0])


def torchvision_offset(length: int, crop: int) -> int:
    """The first row or column that `torchvision.transforms.functional.center_crop` keeps."""
    return int(round((length - crop) / 2.0))  # noqa: RUF046  torchvision's own expression


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    short=st.integers(1, 400), ratio=st.floats(1, MAX_ASPECT), tall=st.booleans(), side=st.sampled_from([1, 7, 32, 33]),
    crop_fraction=st.sampled_from([0.875, 0.9, 1.0, 0.71]),
)  # fmt: skip
def test_crops_begin_where_torchvision_begins(
    short: int, ratio: float, tall: bool, side: int, crop_fraction: float
) -> None:
    """Read off from the pixels: the image is a ramp along its long side, which a shift by one would show."""
    long = int(short * ratio)
    record = spec("crop", side, crop_fraction)
    target = int(side / crop_fraction)
    length = int(target * long / short)
    ramp = np.tile(np.linspace(0, 255, long).round().astype(np.uint8)[:, None, None], (1, short, 3))
    image = ramp if tall else ramp.transpose(1, 0, 2)
    whole = resized(Image.fromarray(image), *((target, length) if tall else (length, target)))
    across, along = torchvision_offset(target, side), torchvision_offset(length, side)
    left, top = (across, along) if tall else (along, across)
    expected = np.asarray(whole.crop((left, top, left + side, top + side)), float)
    assert np.abs(prepared(record, np.ascontiguousarray(image)[None])[0] - expected).max() < 2.5


@pytest.mark.parametrize("length", [224, 225, 226, 227, 228, 229, 341, 342, 343])
def test_half_a_pixel_is_rounded_as_torchvision_does(length: int) -> None:
    """Without any resizing, each column has a value of its own, so that the crop is exact."""
    record = spec("crop", 224, 1.0)
    image = np.tile(np.arange(length, dtype=np.uint16)[None, :, None] % 256, (224, 1, 3)).astype(np.uint8)
    start = torchvision_offset(length, 224)
    expected = image[:, start : start + 224]
    assert np.array_equal(prepared(record, image[None])[0].round().astype(np.uint8), expected)


def test_a_very_long_image_is_its_middle() -> None:
    """Beyond `MAX_ASPECT` the ends are cut off first; what is left is what Pillow makes of the middle."""
    image = draw("noise", 3, (2000, 50))
    middle = image.crop((900, 0, 1100, 50))  # four times as wide as high
    assert np.abs(prepared(spec("crop"), np.asarray(image)[None])[0] - reference(spec("crop"), middle)).mean() < 0.001
    whole = reference(spec("crop"), image)  # without the cut, in more memory
    assert np.abs(prepared(spec("crop"), np.asarray(image)[None])[0] - whole).mean() < 1.0


EXTREMES = """
import json, resource, sys, time
import numpy as np
from headstart.settings.recipe import Recipe
from headstart.modelfile.session import Session
from headstart.backbones.embedder import load_embedder
session = Session(load_embedder(Recipe(fit=sys.argv[1]), None).model)
session.run(np.zeros((300, 400, 3), np.uint8))
results = []
for height, width in ((1, 1), (1, 20000), (20000, 1), (2, 20001), (3000, 4000)):
    image = np.full((height, width, 3), 90, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    (embedding,) = session.run(image)
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    results.append([height, width, bool(np.isfinite(embedding).all()), seconds, grown])
print(json.dumps(results))
"""


@pytest.mark.parametrize("fit", FITS)
def test_extreme_shapes_run_in_bounded_memory(fit: str) -> None:
    """20000 x 1 pixels scaled to a shorter side of 256 would take 3.7 GiB."""
    done = subprocess.run(
        [sys.executable, "-c", EXTREMES, fit], capture_output=True, text=True, check=True, timeout=120
    )
    for height, width, finite, seconds, mebibytes in json.loads(done.stdout):
        assert finite, (height, width)
        assert seconds < 2, (height, width)
        assert mebibytes < 3 * height * width * 3 / 2**20 + 64, (height, width)


def test_one_pixel_fills_the_square() -> None:
    pixel = np.array([[[[10, 200, 90]]]], np.uint8)
    for fit in FITS:
        assert np.abs(prepared(spec(fit), pixel) - (10, 200, 90)).max() < 0.01


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_embedding_does_not_depend_on_the_stored_orientation(kind: str, embed: Any) -> None:
    upright = draw("disc", 5, (120, 90))
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    expected = embed(np.asarray(upright))
    for orientation, method in undo.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        (upright if method is None else upright.transpose(method)).save(buffer, kind, exif=exif)
        np.testing.assert_allclose(embed(decode(buffer.getvalue()).pixels), expected, atol=1e-6)
    turned = embed(np.asarray(upright.transpose(Image.Transpose.ROTATE_90)))
    assert np.abs(turned - expected).max() > 0.01  # it would show


@pytest.fixture(scope="module")
def embed() -> Any:
    run = Session(load_embedder(Recipe(), None).model).run
    return lambda pixels: run(pixels)[0]


# The record


def test_a_record_survives_json() -> None:
    for fit in FITS:
        assert Preprocess.from_dict(json.loads(json.dumps(spec(fit).as_dict()))) == spec(fit)


def test_the_filters_differ() -> None:
    image = np.asarray(draw("noise", 1, (300, 301)))[None]
    made = [prepared(spec("crop", interpolation=name), image) for name in ("bicubic", "bilinear")]
    assert np.abs(made[0] - made[1]).mean() > 1


def test_a_record_without_interpolation_is_bicubic() -> None:
    """The models that were written before there was a choice."""
    record = spec("crop").as_dict()
    assert record.pop("interpolation") == "bicubic"
    assert Preprocess.from_dict(record) == spec("crop")
    bilinear_record = spec("crop", interpolation="bilinear")
    assert Preprocess.from_dict(json.loads(json.dumps(bilinear_record.as_dict()))) == bilinear_record


def test_any_resize_of_torchvision_is_met() -> None:
    """Its networks say what to resize to and what to crop, as 232 and 224; the record holds the quotient."""
    for size_px in (*range(1, 100), 224, 299, 384, 480, 518, 1024):
        for resize_px in range(size_px, min(10 * size_px, 2048) + 1):
            assert spec("crop", size_px, size_px / resize_px).resize_px == resize_px


def test_the_resize_of_each_pretrained_network_of_timm_is_met() -> None:
    timm = pytest.importorskip("timm")
    for name in timm.list_models(pretrained=True):
        found = timm.get_pretrained_cfg(name)
        if found.crop_pct <= 1:
            expected = math.floor(found.input_size[-1] / found.crop_pct)
            assert spec("crop", found.input_size[-1], found.crop_pct).resize_px == expected, name


def test_the_side_that_is_resized_to() -> None:
    assert spec("crop").resize_px == 256
    assert spec("crop", 240, 0.9).resize_px == 266
    assert spec("pad").resize_px == spec("squash").resize_px == 224
    assert spec("crop").enough_px == 512


@pytest.mark.parametrize(
    "change",
    [
        {"size_px": 0}, {"size_px": 10**9}, {"size_px": 224.5}, {"size_px": "224"}, {"size_px": True},
        {"fit": "stretch"}, {"fit": ["crop"]}, {"crop_fraction": 0}, {"crop_fraction": 1.5},
        {"crop_fraction": float("nan")}, {"mean": [0.5, 0.5]}, {"mean": [0.5, 0.5, float("inf")]},
        {"std": [0.5, 0.5, 0]}, {"std": [0.5, 0.5, float("nan")]}, {"mean": None},
        {"mean": "abc"}, {"extra": 1}, {"interpolation": "nearest"}, {"interpolation": None}, {"interpolation": ["a"]},
    ],
)  # fmt: skip
def test_absurd_records_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="preprocessing record"):
        Preprocess.from_dict(spec("crop").as_dict() | change)


def test_a_record_with_a_missing_field_is_refused() -> None:
    for field in set(spec("crop").as_dict()) - {"interpolation"}:
        record = spec("crop").as_dict()
        del record[field]
        with pytest.raises(ModelError, match="damaged"):
            Preprocess.from_dict(record)
