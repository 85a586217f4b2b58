"""Explanations: the geometry, the maps, the pictures, the neighbours, and the command."""

from __future__ import annotations

import functools
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import headstart
from headstart.backbones.embedder import Embedder
from headstart.core import marks
from headstart.core.errors import ImageError, OptionError, SourceError
from headstart.core.graph import IR_VERSION, OPSET, Graph
from headstart.core.runtime import Runtime
from headstart.data.decode import decode
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead
from headstart.heads.mlp import MlpHead
from headstart.modelfile.schema import Backbone, Metadata
from headstart.modelfile.writer import write_model
from headstart.prediction import nearest, neighbours, overlay
from headstart.prediction.activation_map import Head, activation_map
from headstart.prediction.answers import Result
from headstart.prediction.classifier import Classifier
from headstart.prediction.explanation import Explainer
from headstart.prediction.occlusion import log_odds
from headstart.preprocess.frame import frame
from headstart.preprocess.nodes import add_preprocess
from headstart.preprocess.spec import Preprocess
from headstart.targets.classes.temperature import Temperature
from helpers import draw, headstart_cli

FITS = ("crop", "squash", "pad")
# Height and width: square, wide, tall, tiny, huge, and so long that most of it is never seen.
SHAPES = [(300, 300), (200, 330), (333, 210), (40, 61), (9, 7), (1500, 2300), (64, 700), (900, 50)]
OLD_MODEL = Path(__file__).parent / "golden" / "model-1.onnx"


def spec(fit: Any, size_px: int = 224) -> Preprocess:
    return Preprocess(size_px=size_px, fit=fit, crop_fraction=0.875, mean=(0.5, 0.5, 0.5), std=(1, 1, 1))


def network_sees(record: Preprocess, pixels: np.ndarray) -> np.ndarray:
    """The square that the nodes make of an image, float (S, S, 3) in 0..255; -1 where it is padded."""
    from onnx import TensorProto, helper

    graph = Graph()
    name = add_preprocess(graph, record)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, record.size_px, record.size_px])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "test", [image], [output], list(graph.constants.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (square,) = session.run(None, {"image": pixels[None]})
    return np.where(square[0] == 0, -1, (square[0] + 0.5) * 255).transpose(1, 2, 0)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_frame_lies_where_the_nodes_look(fit: str, shape: tuple[int, int]) -> None:
    """An image whose colours tell the place: red from left to right, green from top to bottom."""
    record = spec(fit)
    # Of a long side, the colours are for the middle alone, so that there are enough of them for what the crop sees.
    halves = [min(0.5, min(shape) / length) if fit == "crop" else 0.5 for length in shape]
    ramps = [
        np.clip(((np.arange(length) + 0.5) / length - 0.5) / half / 2 + 0.5, 0, 1) * 255
        for length, half in zip(shape, halves, strict=True)
    ]
    pixels = np.zeros((*shape, 3))
    pixels[..., 1], pixels[..., 0] = ramps[0][:, None], ramps[1]
    pixels = np.round(pixels).astype(np.uint8)
    # With its negative, so that rounding, which always goes one way, has no say.
    there, back = network_sees(record, pixels), network_sees(record, 255 - pixels)
    square = np.where(there < 0, -1, (there + 255 - back) / 2)
    where = frame(record, *shape)
    places = (np.arange(record.size_px) + 0.5) / record.size_px
    for low, high, half, colours in (
        (where.top, where.bottom, halves[0], square[..., 1].max(1)),
        (where.left, where.right, halves[1], square[..., 0].max(0)),
    ):
        expected = low + places * (high - low)  # shares of the image's side, for each pixel of the square
        found = (colours / 255 - 0.5) * half * 2 + 0.5
        inside = (colours > 35) & (colours < 220)  # filters reach over the edge of tiny images
        assert inside.sum() >= 3
        error = (found - expected)[inside] * record.size_px / (high - low)  # in pixels of the square
        assert abs(error.mean()) < 0.25
        padded = (expected < 0) | (expected > 1)
        assert (colours[padded] == -1).all()
        assert (colours[~padded] >= 0).all()


def test_a_grid_is_brought_to_the_image() -> None:
    grid = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    by_pillow = np.asarray(Image.fromarray(grid).resize((210, 140), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(frame(spec("squash"), 140, 210).on_image(grid, 140, 210), by_pillow, atol=1e-5)
    padded = frame(spec("pad"), 120, 240).on_image(grid, 120, 240)  # the middle of a square of 240 x 240
    square = np.asarray(Image.fromarray(grid).resize((240, 240), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(padded, square[60:180], atol=1e-5)
    cropped = frame(spec("crop"), 256, 512).on_image(grid, 256, 512)
    square = np.asarray(Image.fromarray(grid).resize((224, 224), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(cropped[16:240, 144:368], square, atol=1e-5)
    outside = np.isnan(cropped)
    outside[16:240, 144:368] = ~outside[16:240, 144:368]
    assert outside.all()
    # A smaller picture of the image shows the same at the same places.
    np.testing.assert_allclose(
        frame(spec("crop"), 256, 512).on_image(grid, 128, 256)[8:120, 72:184],
        square.reshape(112, 2, 112, 2).mean((1, 3)),
        atol=0.05,
    )
    assert np.isnan(frame(spec("crop"), 1, 90_000).on_image(grid, 1, 800)).all()  # 3.5 pixels of 90,000 are seen


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_the_map_adds_up_to_the_log_odds(classes: int) -> None:
    rng = np.random.default_rng(classes)
    features = rng.uniform(0, 6, (7, 5, 64)).astype(np.float32)
    head = Head(rng.normal(0, 0.5, (64, classes)), rng.normal(size=classes))
    scores = features.mean((0, 1), dtype=np.float64) @ head.weights + head.bias
    probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    result = Result(probabilities.astype(np.float32), features.mean((0, 1)), feature_map=features)
    assert head.gives(result)
    assert not head._replace(bias=head.bias[::-1]).gives(result)
    for number in range(classes):
        others = np.delete(scores, number)
        expected = scores[number] - others.max() - np.log(np.exp(others - others.max()).sum())
        grid, offset = activation_map(head, result, number)
        assert grid.shape == (7, 5)
        assert grid.mean() + offset == pytest.approx(expected, abs=1e-5)
        # A little more of the features at one place changes the log-odds by what the map's weights say.
        step = np.zeros_like(features, np.float64)
        step[2, 3] = 1e-4 * features[2, 3]
        moved = (features + step).mean((0, 1)) @ head.weights + head.bias
        others = np.delete(moved, number)
        change = moved[number] - others.max() - np.log(np.exp(others - others.max()).sum()) - expected
        assert change == pytest.approx(1e-4 * grid[2, 3] / 35, abs=2e-8)


def test_the_map_of_a_label_adds_up_to_its_own_log_odds() -> None:
    rng = np.random.default_rng(3)
    features = rng.uniform(0, 6, (7, 5, 64)).astype(np.float32)
    head = Head(rng.normal(0, 0.5, (64, 4)), rng.normal(size=4), exclusive=False)
    scores = features.mean((0, 1), dtype=np.float64) @ head.weights + head.bias
    probabilities = (1 / (1 + np.exp(-scores))).astype(np.float32)
    result = Result(probabilities, features.mean((0, 1)), feature_map=features)
    assert head.gives(result)
    assert not head._replace(exclusive=True).gives(result)
    for number in range(4):
        grid, offset = activation_map(head, result, number)
        assert grid.mean() + offset == pytest.approx(scores[number], abs=1e-5)
    changed = head._replace(weights=head.weights * [1, 1, 1, 2])
    np.testing.assert_array_equal(activation_map(changed, result, 0)[0], activation_map(head, result, 0)[0])


def test_log_odds_of_probabilities_that_round_to_one() -> None:
    probabilities = np.array([1, 1e-9, 1e-9], np.float32)
    assert log_odds(probabilities, 0) == pytest.approx(np.log(1 / 2e-9), rel=1e-6)
    assert log_odds(probabilities, 1) == pytest.approx(np.log(1e-9), rel=1e-6)


def test_a_real_model_is_explained_exactly(model: Path) -> None:
    classifier = headstart.load(model)
    for kind in classifier.classes:
        pixels = np.asarray(draw(kind, 77, (120, 90)))
        for label in (None, *classifier.classes):
            one = headstart.explain(classifier, pixels, label)
            assert one.method == "cam"
            assert one.label == (label or classifier.predict(pixels).label)
            probabilities = classifier.predict_proba(pixels)
            number = classifier.classes.index(one.label)
            assert one.probability == probabilities[number]
            assert one.offset is not None
            assert one.grid.mean() + one.offset == pytest.approx(log_odds(probabilities, number), abs=2e-3)
            assert one.prediction == classifier.predict(pixels)


# Where the patch lies, as shares of the image's sides.
PLACES = [(0.5, 0.5), (0.35, 0.62), (0.66, 0.36)]


@functools.lru_cache(32)  # for each fit and each method the same, and large ones take a while
def scene(shape: tuple[int, int], place: tuple[float, float], kind: str, seed: int) -> np.ndarray:
    """Grey noise with one textured patch at a place; the colour of the patch is the class. Do not change it."""
    rng = np.random.default_rng(seed)
    height, width = shape
    pixels = np.clip(rng.normal(128, 12, (height, width, 1)) + np.zeros(3), 0, 255)
    top, left, side = corner(shape, place)
    pixels[top : top + side, left : left + side] = [225, 40, 30] if kind == "red" else [30, 70, 225]
    return pixels.astype(np.uint8)


def corner(shape: tuple[int, int], place: tuple[float, float]) -> tuple[int, int, int]:
    """The first row, the first column and the side of a scene's patch, in whole pixels."""
    side = max(2, round(0.22 * min(shape)))
    return round(place[0] * shape[0] - side / 2), round(place[1] * shape[1] - side / 2), side


@functools.cache
def red_or_blue(fit: Any, kind: str = "linear") -> Classifier:
    """A network whose feature map is how red and how blue each seventh of the square is, so that the truth is known."""
    graph = Graph()
    record = spec(fit)
    cells = graph.node(
        "AveragePool",
        [add_preprocess(graph, record)],
        "cells",
        kernel_shape=[32, 32],
        strides=[32, 32],
        pads=[0, 0, 0, 0],
    )
    pool = graph.node("GlobalAveragePool", [graph.node("Relu", [cells], "colours")], "pool")
    model = graph.model({graph.node("Flatten", [pool], "embedding", axis=1): ("N", 3)}).SerializeToString()
    embedder = Embedder("colours", record, 3, "0" * 64, model, "", "")
    weights, none = np.array([[-60, 60], [0, 0], [60, -60]], np.float32), np.zeros(2, np.float32)
    head: Any = LinearHead(weights, none)
    if kind == "mlp":
        head = MlpHead(weights, none, np.eye(2, dtype=np.float32), none)
    recipe = headstart.Recipe(precision="float32", fit=fit).as_dict()
    backbone = Backbone("colours", "0" * 64, "", 3, "")
    metadata = Metadata(("blue", "red"), record, recipe, backbone, 1.5, {}, None)
    return Classifier(write_model(embedder, Calibrated(head, Temperature(1.5)), metadata).content)


def distance_in_cells(
    one: headstart.Explanation, fit: str, shape: tuple[int, int], place: tuple[float, float]
) -> float:
    """How far the middle of the strongest places is from that of a scene's patch, in sevenths of what is seen."""
    top, left, side = corner(shape, place)
    picture = np.array(one.map.shape)
    hot = (np.argwhere(one.highlighted(0.02)).mean(0) + 0.5) / picture * shape
    cells = np.array(shape) / 7 if fit == "squash" else (max(shape) if fit == "pad" else 0.875 * min(shape)) / 7
    return float((np.abs(hot - (top + side / 2, left + side / 2)) / cells).max())


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("method", ["cam", "occlusion"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_hot_spot_lies_on_the_only_thing_there_is(fit: str, method: Any, shape: tuple[int, int]) -> None:
    explainer = Explainer(red_or_blue(fit), method)
    for place in PLACES:
        # Within the middle square, so that the crop sees it.
        at = tuple(0.5 + (share - 0.5) * min(shape) / length for share, length in zip(place, shape, strict=True))
        one = explainer.explain(scene(shape, at, "red", 99), "red", workers=2)  # type: ignore[arg-type]
        assert (one.label, one.method, one.prediction.label) == ("red", method, "red")
        assert distance_in_cells(one, fit, shape, at) < 0.75  # type: ignore[arg-type]


def test_a_head_that_is_not_linear_is_explained_by_occlusion() -> None:
    classifier = red_or_blue("squash", "mlp")
    pixels = scene((240, 240), (0.5, 0.5), "red", 99)
    one = headstart.explain(classifier, pixels)
    assert (one.label, one.method) == ("red", "occlusion")
    assert distance_in_cells(one, "squash", (240, 240), (0.5, 0.5)) < 0.75
    with pytest.raises(OptionError, match="needs a linear head"):
        headstart.explain(classifier, pixels, method="cam")


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    """A classifier for each fit, which has learnt the colour of a patch that lies anywhere."""
    folder = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    for kind in ("blue", "red"):
        (folder / kind).mkdir()
        for number in range(24):
            shape, place = tuple(rng.integers(180, 320, 2)), tuple(rng.uniform(0.3, 0.7, 2))
            Image.fromarray(scene(shape, place, kind, number)).save(folder / kind / f"{number}.png")  # type: ignore[arg-type]
    return {fit: headstart.train(folder, recipe=headstart.Recipe(fit=fit)).classifier for fit in FITS}  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(240, 240), (200, 330), (330, 200), (1200, 1900)])
def test_a_trained_model_looks_at_the_patch(patches: dict[str, Classifier], fit: str, shape: tuple[int, int]) -> None:
    explainer = Explainer(patches[fit], "cam")
    for place in PLACES:
        at = tuple(0.5 + (share - 0.5) * min(shape) / length for share, length in zip(place, shape, strict=True))
        one = explainer.explain(scene(shape, at, "red", 99))  # type: ignore[arg-type]
        assert one.label == "red"
        # Each place of the map looks at more of the image than its own cell.
        assert distance_in_cells(one, fit, shape, at) < 1.5  # type: ignore[arg-type]


def test_an_image_on_its_side_is_explained_as_it_is_seen(tmp_path: Path) -> None:
    pixels = scene((220, 330), (0.4, 0.6), "red", 5)
    upright, turned = tmp_path / "upright.png", tmp_path / "turned.png"
    Image.fromarray(pixels).save(upright)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(turned, exif=exif)
    one, other = headstart.explain(red_or_blue("crop"), [str(upright), str(turned)])
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.map, other.map)


def test_all_that_predict_takes_is_explained(tmp_path: Path) -> None:
    pixels = scene((220, 330), (0.4, 0.6), "red", 5)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    forms = [path, str(path), path.read_bytes(), Image.open(path), pixels]
    explanations = headstart.explain(red_or_blue("squash"), forms)
    assert len({one.grid.tobytes() for one in explanations}) == 1
    assert isinstance(headstart.explain(red_or_blue("squash"), path), headstart.Explanation)
    with pytest.raises(ImageError, match=r"b\.png"):
        headstart.explain(red_or_blue("squash"), [str(path), str(tmp_path / "b.png")])
    with pytest.raises(headstart.InputError, match="empty list"):
        headstart.explain(red_or_blue("squash"), [])


def test_a_model_without_a_map_is_explained_by_occlusion() -> None:
    old = Classifier.load(OLD_MODEL)
    pixels = np.asarray(draw("disc", 3, (90, 70)))
    one = headstart.explain(old, pixels)
    assert (one.method, one.offset, one.grid.shape) == ("occlusion", None, (14, 14))
    with pytest.raises(OptionError, match="no class activation map"):
        headstart.explain(old, pixels, method="cam")
    with pytest.raises(OptionError, match=r"no method 'cams'.*Did you mean 'cam'"):
        headstart.explain(old, pixels, method="cams")  # type: ignore[call-overload]
    with pytest.raises(OptionError, match="does not know the class 'dics'"):
        headstart.explain(old, pixels, "dics")


def test_occlusion_does_not_depend_on_the_number_of_workers() -> None:
    explainer = Explainer(red_or_blue("pad"), "occlusion")
    pixels = scene((60, 300), (0.5, 0.5), "red", 5)
    one, other = (explainer.explain(pixels, workers=workers) for workers in (1, 3))
    np.testing.assert_array_equal(one.grid, other.grid)
    # Nothing lies above and below the image, where the square is padded.
    assert (one.grid[:3] == 0).all()
    assert (one.grid[-3:] == 0).all()


def test_the_overlay() -> None:
    luma = overlay.COLOURS @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luma) > 8).all()  # the order is seen without seeing colours
    grey = np.full((60, 80, 3), 100, np.uint8)
    strength = np.zeros((60, 80), np.float32)
    strength[20:30, 20:30] = 1
    strength[:, 60:] = np.nan
    painted = np.asarray(overlay.paint(grey, strength)).astype(int)
    assert (painted[5, 5] == 100).all()
    assert painted[25, 25, 0] > 180  # yellow
    assert painted[25, 25, 2] < 60
    assert (painted[10, 70] == 40).all()
    assert (painted[:, 60:62] == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (150, 100), (4000, 3000), (1, 3000), (2000, 1)])
def test_pictures_are_of_a_size_to_look_at(model: Path, shape: tuple[int, int]) -> None:
    one = headstart.explain(headstart.load(model), np.full((*shape, 3), 90, np.uint8))
    picture = one.overlay()
    assert max(picture.size) <= 800
    assert max(picture.size) >= min(max(shape), 150)
    assert one.map.shape == picture.size[::-1]
    seen = np.isfinite(one.map).sum()
    assert one.highlighted(0.2).sum() == round(0.2 * seen)


def test_a_class_that_nothing_speaks_for(model: Path) -> None:
    import dataclasses

    one = headstart.explain(headstart.load(model), np.asarray(draw("noise", 3)))
    none = dataclasses.replace(one, grid=-np.abs(one.grid))
    painted = np.asarray(none.overlay()).astype(int)
    assert (painted[..., 0] == painted[..., 1]).all()  # grey: nothing is painted


def test_neighbours_are_the_nearest_of_those_that_were_learnt_from(
    model: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    classifier = headstart.load(model)
    table = headstart.read(shapes)
    files = [table.storage.read(row.path) for row in table.rows]
    known = [i for i, data in enumerate(files) if classifier.metadata.knows(data)]
    asked = classifier.embed([np.asarray(draw("disc", 500)), np.asarray(draw("noise", 501))])
    learnt = classifier.embed([files[i] for i in known])
    cosines = (asked @ learnt.T) / np.outer(np.linalg.norm(asked, axis=1), np.linalg.norm(learnt, axis=1))
    for block in (1024, 5, 1):
        monkeypatch.setattr(nearest, "_BLOCK", block)
        found, count = neighbours.find_neighbours(classifier, table, asked, 4, Runtime(cache=cache))
        assert count == len(known)
        for row, near in zip(cosines, found, strict=True):
            expected = [known[i] for i in np.argsort(-row, kind="stable")[:4]]
            assert [one.path for one in near] == [table.rows[i].path for i in expected]
            assert [one.label for one in near] == [table.rows[i].label for i in expected]
            np.testing.assert_allclose([one.similarity for one in near], np.sort(row)[::-1][:4], atol=1e-5)
    monkeypatch.setattr(Classifier, "run_file", None)  # from here on the cache has them all
    again, _ = neighbours.find_neighbours(classifier, table, asked, 4, Runtime(cache=cache))
    assert again == found


def test_what_a_training_kept_is_read_and_never_written(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = headstart.train(shapes)
    classifier, table = run.classifier, headstart.read(shapes)
    asked = classifier.embed([np.asarray(draw("disc", 500))])
    monkeypatch.setattr(Classifier, "run_file", None)
    found, _ = neighbours.find_neighbours(classifier, table, asked, 3, Runtime())
    assert len(found[0]) == 3


def test_a_source_that_was_never_learnt_from_is_refused(model: Path, tmp_path: Path) -> None:
    from helpers import write_images

    other = write_images(tmp_path / "other", {"disc": 2, "noise": 2}, seed=900)
    with pytest.raises(SourceError, match="trained on none"):
        headstart.explain(headstart.load(model), np.asarray(draw("disc", 3)), source=other)


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run(shapes: Path, tmp_path: Path) -> Path:
    """A run folder with its own copy of the images."""
    source = tmp_path / "photos"
    shutil.copytree(shapes, source)
    return headstart.train(source).save(tmp_path / "run")


@pytest.mark.slow
def test_the_command(run: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    draw("disc", 300, (300, 200)).save(new / "a.png")
    draw("noise", 301, (200, 300)).save(new / "b.jpg")
    (new / "broken.jpg").write_bytes(b"no image")
    source = tmp_path / "photos"
    done = headstart_cli("explain", run / "model.onnx", new, "--source", source, "--json", "--top", "2", cwd=tmp_path)
    assert done.code == 3, done.err
    assert len(done.json["skipped"]) == 1
    assert done.json["skipped"][0]["path"].endswith("broken.jpg")
    first, second = done.json["explanations"]
    assert (first["label"], first["predicted"], first["method"]) == ("disc", "disc", "cam")
    assert len(first["top"]) == 2
    assert first["top"][0] == {"label": "disc", "probability": first["probability"]}
    assert len(first["neighbours"]) == 5
    assert first["neighbours"][0]["label"] == "disc"
    assert (source / first["neighbours"][0]["path"]).is_file()
    similarities = [near["similarity"] for near in first["neighbours"]]
    assert similarities == sorted(similarities, reverse=True)
    assert first["image"] == str(Path("explanations", "001-a.png"))
    for one in (first, second):
        with Image.open(tmp_path / one["image"]) as picture:
            assert (picture.format, max(picture.size)) == ("PNG", 300)
    page = Page((tmp_path / "explanations" / "explanations.html").read_text("utf-8"))
    pictures = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2 * (2 + 5)
    assert all(source.startswith("data:image/jpeg;base64,") for source in pictures)
    assert "broken.jpg" in page.text
    assert "class activation map" in page.text

    again = headstart_cli("explain", run / "model.onnx", new, "--json", cwd=tmp_path)
    assert again.code == 2
    assert "already exists, and 2 other files" in again.json["error"]
    done = headstart_cli(
        "explain", run / "model.onnx", new / "a.png", "--out", "other", "--html", "page.html", "--class", "noise",
        "--method", "occlusion", "--neighbours", "0", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "1 picture in 'other'; open 'page.html'" in done.out
    assert "the map explains noise" in " ".join(Page((tmp_path / "page.html").read_text("utf-8")).text.split())
    assert sorted(file.name for file in (tmp_path / "other").iterdir()) == [marks.LIST, "001-a.png"]
    done = headstart_cli("explain", run / "model.onnx", new / "a.png", "--class", "nois", cwd=tmp_path)
    assert done.code == 2
    assert "Did you mean 'noise'?" in done.err
    done = headstart_cli("explain", run / "model.onnx", new, "--strict", "--overwrite", cwd=tmp_path)
    assert done.code == 2
    assert "broken.jpg" in done.err


def test_without_the_training_images_it_says_how_to_get_them(model: Path, tmp_path: Path) -> None:
    alone = shutil.copy(model, tmp_path / "alone.onnx")
    draw("disc", 300).save(tmp_path / "a.png")
    done = headstart_cli("explain", alone, "a.png", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["explanations"][0]["neighbours"] == []
    assert "--source SOURCE" in done.json["notes"][-1]
    assert "--source SOURCE" in Page((tmp_path / "explanations/explanations.html").read_text("utf-8")).text
    done = headstart_cli("explain", alone, "a.png", "--source", "nowhere", "--out", "other", cwd=tmp_path)
    assert done.code == 2
    assert "'nowhere'" in done.err


@pytest.mark.parametrize(
    "damage", ["[]", "{", '{"source": 7}', '{"source": "gone"}', '{"source": "p", "columns": [1]}']
)
def test_a_damaged_record_of_the_source_is_no_more_than_a_note(model: Path, tmp_path: Path, damage: str) -> None:
    from headstart.api.explaining import training_source

    (tmp_path / "analysis.json").write_text(damage)
    with pytest.raises(SourceError):
        training_source(tmp_path / "model.onnx")


def test_the_source_that_a_run_remembers(run: Path, tmp_path: Path) -> None:
    from headstart.api.explaining import training_source

    record = {"source": str(tmp_path / "photos"), "columns": {}}
    (run / "analysis.json").write_text(json.dumps(record))
    lines = (run / "splits.csv").read_text().splitlines()
    changed = lines[1].replace(",disc,", ",moon,")
    assert changed != lines[1]
    (run / "splits.csv").write_text("\n".join([lines[0], changed, *lines[2:]]))
    table = training_source(run / "model.onnx")
    labels = {row.path: row.label for row in table.rows}
    assert labels.pop(lines[1].split(",")[0]) == "moon"  # as a decision may have had it
    assert all(label == path.split("/")[0] for path, label in labels.items())


def test_hostile_names(model: Path, tmp_path: Path) -> None:
    picture = io.BytesIO()
    draw("disc", 3).save(picture, "PNG")
    names = [
        "<img src=x onerror=alert(1)>.png",
        "a\u202egnp.png",
        "\n.png",
        "a..png",
        "-rf.png",
        "con.png",
        "x" * 200 + ".png",
    ]
    folders = ["one", "two"]
    for folder in folders:
        (tmp_path / "new" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "new" / folder / f"{name}.png").write_bytes(picture.getvalue())
    done = headstart_cli("explain", model, "new", "--json", "--neighbours", "0", cwd=tmp_path)
    assert done.code == 0, done.err
    images = [one["image"] for one in done.json["explanations"]]
    assert len(set(images)) == len(names) * len(folders)
    written = sorted(file.name for file in (tmp_path / "explanations").iterdir())
    assert written == sorted([*(Path(image).name for image in images), "explanations.html", marks.LIST])
    assert all(len(name) < 80 and name.isascii() and " " not in name and "<" not in name for name in written)
    page = Page((tmp_path / "explanations" / "explanations.html").read_text("utf-8"))
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert "<img src=x onerror=alert(1)>.png" in page.text
    assert "\u202e" not in page.text


def test_the_page_is_bounded(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.cli.main import run as program
    from headstart.report import explanations

    monkeypatch.setattr(explanations, "MAX_SHOWN", 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    for number in range(4):
        draw("disc", number).save(tmp_path / "new" / f"{number}.png")
    assert program(["explain", str(model), "new", "--neighbours", "0", "--quiet"]) == 0
    page = (tmp_path / "explanations" / "explanations.html").read_text("utf-8")
    assert "This page shows the first 2" in page
    assert page.count('<section id="image-') == 2
    assert len(list((tmp_path / "explanations").glob("*.png"))) == 4


@pytest.mark.slow
def test_decoded_photos_give_the_probabilities_of_predict(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    draw("stripes", 4, (2400, 1800)).save(path, quality=95)  # which is decoded at reduced size
    classifier = headstart.load(model)
    one = headstart.explain(classifier, str(path))
    assert one.probability == classifier.predict(str(path)).probability
    assert one.pixels.shape == (600, 800, 3)
    assert decode(path.read_bytes()).pixels.shape == (1800, 2400, 3)
