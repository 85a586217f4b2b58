"""PyTorch networks as nodes of a model file: equal to PyTorch on pictures, and accepted by the guard."""

from __future__ import annotations

import copy
import functools
import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

from headstart.backbones import catalog  # noqa: E402
from headstart.backbones.embedder import Embedder, load_embedder  # noqa: E402
from headstart.core.errors import ModelError  # noqa: E402
from headstart.core.graph import Graph  # noqa: E402
from headstart.core.operators import OPERATORS, complaint  # noqa: E402
from headstart.features.pixels import PixelSession  # noqa: E402
from headstart.heads.calibrated import Calibrated  # noqa: E402
from headstart.heads.linear import LinearHead  # noqa: E402
from headstart.heads.references import References  # noqa: E402
from headstart.modelfile import guard  # noqa: E402
from headstart.modelfile.schema import Backbone, Metadata  # noqa: E402
from headstart.modelfile.session import Session, import_silently  # noqa: E402
from headstart.modelfile.writer import write_model  # noqa: E402
from headstart.prediction.classifier import Classifier  # noqa: E402
from headstart.preprocess.nodes import add_preprocess  # noqa: E402
from headstart.preprocess.spec import Preprocess  # noqa: E402
from headstart.settings.recipe import Recipe  # noqa: E402
from headstart.strategies.proof import refuse_difference  # noqa: E402
from headstart.targets.classes.temperature import Temperature  # noqa: E402
from headstart.training.export import difference as embedding_difference  # noqa: E402
from headstart.training.tracing import add_module  # noqa: E402
from helpers import draw  # noqa: E402

nn, functional = torch.nn, torch.nn.functional
PICTURES = [np.asarray(draw(kind, seed, (90, 70))) for seed, kind in enumerate(("disc", "stripes", "noise"))]
# Both sides compute in float32, in another order.
PARITY = 1e-4


def spec(size_px: int) -> Preprocess:
    return Preprocess(
        size_px=size_px, fit="crop", crop_fraction=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def seeded(make: Callable[[], Any], seen_px: int = 0) -> Any:
    """A network with random weights.

    Args:
        make: Its maker.
        seen_px: Where it is not 0, the running statistics are those of noise of this side. Deep networks keep the ones
            of a new network: such statistics make efficientnet_b0 turn a change of 1e-7 of its pixels into 4e-4 of its
            embedding, and float32 is then as far from float64 in PyTorch as in ONNX Runtime.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = make().train()
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 1.0
        if seen_px:
            network(torch.randn(4, 3, seen_px, seen_px))
    return network.eval()


def embedder_of(network: Any, size_px: int) -> Embedder:
    graph = Graph()
    name = add_module(graph, add_preprocess(graph, spec(size_px)), network, size_px)
    with torch.no_grad():
        width = copy.deepcopy(network).eval()(torch.zeros(2, 3, size_px, size_px)).shape[1]
    model = graph.model({name: ("N", width)}).SerializeToString(deterministic=True)
    return Embedder("test", spec(size_px), width, "", model, weights="", licence="")


def network_nodes(embedder: Embedder) -> list[onnx.NodeProto]:
    return [node for node in onnx.load_from_string(embedder.model).graph.node if not node.name.startswith("pre.")]


def model_file(embedder: Embedder) -> bytes:
    """A whole model file with a head of random weights."""
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(embedder.width, 2)).astype(np.float32) / 100, np.zeros(2, np.float32))
    record = Backbone("test", embedding_size=embedder.width)
    return write_model(
        embedder,
        Calibrated(head, Temperature(1.0)),
        Metadata(
            ("a", "b"), embedder.preprocess, {"max_megapixels": 64, "precision": "float32"}, record, 1.0, {}, None
        ),
    ).content


def agrees(network: Any, size_px: int) -> Embedder:
    """Alone and in a batch the embeddings are those of PyTorch, and the guard accepts the file."""
    embedder = embedder_of(network, size_px)
    assert embedding_difference(embedder, network, PICTURES) < PARITY
    options = import_silently().SessionOptions()
    session = import_silently().InferenceSession(embedder.model, options, providers=["CPUExecutionProvider"])
    (batch,) = session.run(None, {"image": np.stack(PICTURES)})
    prepared = PixelSession(spec(size_px))
    pixels = np.stack([prepared.run(picture) for picture in PICTURES])
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)).numpy()
    assert batch.shape == expected.shape
    difference = np.linalg.norm(batch - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert difference.max() < PARITY
    # Pictures are told apart, so that the comparison says something.
    assert np.linalg.norm(expected[0] - expected[1]) > 10 * PARITY * np.linalg.norm(expected[0])
    content = model_file(embedder)
    assert guard.check(content).classes == ("a", "b")
    classifier = Classifier(content)
    for picture in PICTURES:
        result = classifier.run_pixels(picture, feature_map=True)
        if result.feature_map is not None:
            length = np.linalg.norm(result.embedding)
            assert np.linalg.norm(result.feature_map.mean((0, 1)) - result.embedding) < PARITY * length
    return embedder


# --- networks ------------------------------------------------------------------------------------------------------


def of_timm(name: str, **options: Any) -> Callable[[], Any]:
    return lambda: timm.create_model(name, pretrained=False, num_classes=0, **options)


def without(build: Callable[[], Any], classifier: str) -> Callable[[], Any]:
    def make() -> Any:
        network = build()
        setattr(network, classifier, nn.Identity())
        return network

    return make


def has_feature_map(embedder: Embedder) -> bool:
    return [output.name for output in onnx.load_from_string(model_file(embedder)).graph.output][2:] == ["feature_map"]


def squeezenet() -> Any:
    return nn.Sequential(torchvision.models.squeezenet1_1(weights=None).features, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def small_shufflenet() -> Any:
    return torchvision.models.ShuffleNetV2([2, 2, 2], [24, 48, 96, 192, 256])


# Of each family one, with few layers: the nodes that they become are of the kinds of all layers.
QUICK: dict[str, tuple[Callable[[], Any], int]] = {
    "resnet18": (of_timm("resnet18", layers=(1, 1, 1, 1)), 64),
    "vit": (of_timm("deit_tiny_distilled_patch16_224", img_size=64, depth=2), 64),
    "squeezenet": (squeezenet, 96),
    "shufflenet": (without(small_shufflenet, "fc"), 64),
}


def small_efficientnet() -> Any:
    stages = ["ds_r1_k3_s1_e1_c16_se0.25"], ["ir_r2_k3_s2_e6_c24_se0.25"], ["ir_r1_k5_s2_e6_c40_se0.25"]
    blocks = timm.models._efficientnet_builder.decode_arch_def(stages)
    return timm.models.EfficientNet(blocks, num_classes=0, num_features=160, act_layer=nn.SiLU)


def small_mobilenet() -> Any:
    """As the third one: squeezed where a sigmoid is hard, and the head after the pool."""
    stages = ["ds_r1_k3_s2_e1_c16_se0.25_nre"], ["ir_r1_k3_s2_e4.5_c24_nre"], ["ir_r2_k5_s2_e4_c40_se0.25"], [
        "cn_r1_k1_s1_c64"
    ]  # fmt: skip
    squeeze = functools.partial(
        timm.models._efficientnet_blocks.SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU
    )
    blocks = timm.models._efficientnet_builder.decode_arch_def(stages)
    return timm.models.MobileNetV3(
        blocks, num_classes=0, num_features=128, act_layer=nn.Hardswish, se_layer=squeeze
    )  # fmt: skip


def small_ghostnet() -> Any:
    stages = [[[3, 16, 16, 0, 1]], [[3, 48, 24, 0, 2]], [[5, 72, 40, 0.25, 2]], [[5, 120, 40, 0.25, 1]]]
    return timm.models.GhostNet(stages, num_classes=0, width=0.5)


def small_googlenet() -> Any:
    network = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    for name in ("inception4b", "inception4c", "inception5a"):  # which leave the number of channels as it is
        setattr(network, name, nn.Identity())
    return network


def small_vit() -> Any:
    return torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128
    )  # fmt: skip


def small_swin() -> Any:
    return torchvision.models.SwinTransformer(
        patch_size=[4, 4], embed_dim=24, depths=[2, 1], num_heads=[2, 4], window_size=[7, 7]
    )


SLOW: dict[str, tuple[Callable[[], Any], int]] = {
    "efficientnet": (small_efficientnet, 96),
    "mobilenetv3": (small_mobilenet, 96),
    "regnety_002": (of_timm("regnety_002", depth=7), 96),
    "densenet121": (of_timm("densenet121", growth_rate=8, block_config=(2, 2, 2, 2)), 96),
    "ghostnet": (small_ghostnet, 96),
    "torchvision vit": (without(small_vit, "heads"), 64),
    "torchvision swin": (without(small_swin, "head"), 112),
    "torchvision googlenet": (without(small_googlenet, "fc"), 96),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "size_px"), QUICK.values(), ids=QUICK.keys())
def test_networks(make: Callable[[], Any], size_px: int) -> None:
    # Of a vision transformer, the embedding is no mean over a map.
    assert has_feature_map(agrees(seeded(make), size_px)) == (make != QUICK["vit"][0])


@pytest.mark.slow
@pytest.mark.parametrize(("make", "size_px"), SLOW.values(), ids=SLOW.keys())
def test_more_networks(make: Callable[[], Any], size_px: int) -> None:
    agrees(seeded(make), size_px)


# The large backbones that the README names, with fewer and narrower layers, on smaller images; operators are the same.
# DINOv2's layers add next to nothing before they are trained (1e-5), so that it would tell no picture from another.
_SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 64, "num_heads": 4}
NAMED: dict[str, tuple[dict[str, Any], int]] = {
    "timm:vit_small_patch14_dinov2.lvd142m": (_SMALL | {"img_size": 56, "init_values": 1.0}, 56),
    "timm:vit_base_patch16_clip_224.openai": (_SMALL | {"img_size": 64}, 64),
    "timm:convnext_tiny.fb_in22k": ({"depths": (1, 1, 1, 1), "dims": (16, 32, 64, 128)}, 64),
}


def test_the_readme_names_these_backbones() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    assert set(re.findall(r"--backbone (timm:[\w.]+)", readme)) == set(NAMED)
    for name in NAMED:
        row = catalog.find(name)  # refuses what is not listed
        size_mb, licence = 4 * row.parameters / 1e6, str(row.licence)
        assert re.search(
            rf"{re.escape(name)}`[^|]*\|[^\n]*\| {size_mb:.0f} MB[^\n]*\b{licence}\b", readme, re.IGNORECASE
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_backbones_of_the_readme(name: str) -> None:
    options, size_px = NAMED[name]
    made = agrees(seeded(of_timm(name.removeprefix("timm:").partition(".")[0], **options)), size_px)
    assert not has_feature_map(made)  # the embedding is a token's, or a norm comes after the mean


class Pooled(nn.Module):
    """A convolution, and a function of its map."""

    def __init__(self, pool: Callable[[Any], Any]) -> None:
        super().__init__()
        self.convolution, self.pool = nn.Conv2d(3, 5, 3, stride=2), pool

    def forward(self, x: Any) -> Any:
        return self.pool(self.convolution(x))


POOLS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "mean": (lambda y: y.mean((2, 3)), True),
    "mean over axes from the end": (lambda y: y.mean((-1, -2)), True),
    "mean that keeps the axes": (lambda y: y.mean((2, 3), keepdim=True).flatten(1), True),
    "global pool": (lambda y: functional.adaptive_avg_pool2d(y, 1).flatten(1), True),
    "channels last": (lambda y: y.relu().permute(0, 2, 3, 1).softmax(-1).mean((1, 2)), True),
    "maximum": (lambda y: y.amax((2, 3)), False),
    "mean over rows alone": (lambda y: y.mean(2).flatten(1), False),
    "sum": (lambda y: y.sum((2, 3)), False),
    "something after it": (lambda y: y.mean((2, 3)).relu(), False),
    "tokens": (lambda y: y.flatten(2).mean(2), False),
}


@pytest.mark.slow
@pytest.mark.parametrize(("pool", "found"), POOLS.values(), ids=POOLS.keys())
def test_feature_map_is_found_in_the_graph(pool: Callable[[Any], Any], found: bool) -> None:
    assert has_feature_map(agrees(seeded(lambda: Pooled(pool)), 32)) == found


@pytest.mark.slow
def test_pixels_are_no_feature_map() -> None:
    assert not has_feature_map(embedder_of(Function(lambda x: x.mean((2, 3))), 32))


# --- operators -----------------------------------------------------------------------------------------------------


class Zoo(nn.Module):
    """One of each kind of layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=2, dilation=2)
        self.norm, self.group_norm, self.layer_norm = nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.LayerNorm(16)
        self.activations = nn.ModuleList(
            [
                nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(0.9), nn.SELU(), nn.Sigmoid(), nn.Hardsigmoid(), nn.Hardswish(),
                nn.Tanh(), nn.PReLU(8), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.ReLU6(),
            ]
        )  # fmt: skip
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.dense = nn.Linear(16, 12)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        y = self.norm(functional.relu(self.convolution(x)))  # (N, 8, 32, 32)
        y = torch.cat([y, -y.abs().sqrt(), 1 / (2 + y.abs()), torch.exp(-y), y.abs() ** 1.5], 1).unflatten(1, (5, 8))
        y = y.sum(1) / y.norm(dim=1)
        y = functional.normalize(self.group_norm(y), dim=1) - y.amax((2, 3), keepdim=True)
        y = torch.stack([layer(y) for layer in self.activations]).mean(0)
        y = functional.max_pool2d(y, 3, 2, ceil_mode=True)  # (N, 8, 16, 16)
        y = functional.avg_pool2d(functional.pad(y, (0, 1, 1, 0)), 2, 1)
        y = functional.max_pool2d(functional.pad(y, (1, 1, 1, 1), value=-torch.inf), 3, 1)
        first, second = y.chunk(2, 1)
        rows = self.layer_norm(self.dropout(first + second[:, :, ::1].roll(3, 3)).flatten(1, 2))  # (N, 64, 16)
        rows = torch.cat([self.token.expand(rows.shape[0], -1, -1), rows], 1)
        rows = torch.softmax(rows @ rows.transpose(1, 2), -1) @ rows
        return self.dense(rows[:, 0] + rows[:, 1:].mean(1))


@pytest.fixture(scope="module")
def zoo() -> Embedder:
    return agrees(seeded(Zoo, 32), 32)


@pytest.mark.slow
def test_what_is_exported_is_what_is_accepted(zoo: Embedder) -> None:
    """One list for both: each operator on it is written by someone, and nothing else is."""
    head = {"Gemm", "Div", "Softmax"}
    graph = Graph()
    References.of(np.eye(6, 8, dtype=np.float32), 5).add_nodes(graph, "embedding")
    head |= {one.op_type for one in graph.nodes}
    ours = [load_embedder(Recipe(precision=precision), None) for precision in ("float32", "int8")]
    written = {node.op_type for embedder in (zoo, *ours) for node in network_nodes(embedder)}
    assert written | head == set(OPERATORS)
    proto = onnx.load_from_string(zoo.model)
    integers = {
        one.name: onnx.numpy_helper.to_array(one).ravel().tolist()
        for one in proto.graph.initializer
        if one.data_type == 7
    }
    for node in network_nodes(zoo):
        assert complaint(node, integers) == ""


def test_names_and_constants(zoo: Embedder) -> None:
    proto = onnx.load_from_string(zoo.model)
    onnx.checker.check_model(proto, full_check=True)
    for node in network_nodes(zoo):
        assert len(node.output) == 1
        assert node.output[0].startswith("net.") or node.output[0] == "embedding"
        assert not any(one.type == onnx.AttributeProto.STRING for one in node.attribute)
    for tensor in proto.graph.initializer:
        assert tensor.data_type in {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
        assert tensor.HasField("raw_data")
    assert {tensor.name for tensor in proto.graph.initializer} <= {
        name for node in proto.graph.node for name in node.input
    }


# --- manners -------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.dropout = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        return self.dropout(self.norm(self.convolution(x))).mean((2, 3))


@pytest.mark.slow
def test_it_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    network = seeded(Small, 16).train()
    network.norm.eval()  # a frozen layer stays frozen
    modes = [part.training for part in network.modules()]
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    states = torch.get_rng_state().clone(), np.random.get_state()[1].tolist(), random.getstate()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        embedder = embedder_of(network, 16)
        assert warnings.filters == filters
    assert [str(one.message) for one in caught] == []
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]
    assert torch.is_grad_enabled()
    assert len(network_nodes(embedder)) < 5  # without dropout, batch norm inside the convolution


@pytest.mark.slow
def test_the_same_network_gives_the_same_bytes() -> None:
    network = seeded(Small, 16)
    assert embedder_of(network, 16).model == embedder_of(network, 16).model


# --- refused -------------------------------------------------------------------------------------------------------


class Function(nn.Module):
    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another operator": (lambda x: torch.sin(x).mean((2, 3)), "Sin"),
    "a resize": (lambda x: functional.interpolate(x, scale_factor=2.0).mean((2, 3)), "Resize"),
    "reflected pads": (lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect").mean((2, 3)), "Pad"),
    "indices from pixels": (lambda x: x.argmax(1).float().mean(2), "ArgMax"),
    "a map": (lambda x: x.mean(1, keepdim=True), "was expected"),
    "no pixels": (lambda x: torch.ones(x.shape[0], 4), "was expected"),
    "nothing": (lambda x: x, "was expected"),
    "images that meet": (lambda x: x.mean((2, 3)).mean(0, keepdim=True), "was expected"),
    "order of images": (lambda x: x.mean((2, 3)) * torch.arange(x.shape[0])[:, None], "cannot become"),
    "one number of images": (lambda x: x.mean((2, 3)).view(len(x), 3), "a single batch size"),
    "branches on pixels": (lambda x: x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3)), "cannot become"),
    "a kernel that is too large": (lambda x: functional.avg_pool2d(x, 96).flatten(1), "absurd kernel"),
    "noise": (lambda x: torch.rand_like(x).mean((2, 3)), "cannot become"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("function", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(function: Callable[[Any], Any], words: str) -> None:
    graph = Graph()
    with pytest.raises(ModelError, match=words) as caught:
        add_module(graph, "pixels", Function(function), 96)
    assert "model file" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not graph.nodes
    assert not graph.constants


def test_parity_is_checked() -> None:
    network = seeded(Small, 16)
    embedder = embedder_of(network, 16)
    assert embedding_difference(embedder, network, PICTURES) < 1e-5
    with torch.no_grad():
        network.convolution.bias += 0.1
    with pytest.raises(ModelError, match="differs from the PyTorch one"):
        refuse_difference(embedding_difference(embedder, network, PICTURES))
    with torch.no_grad():
        network.convolution.bias += torch.nan
    with pytest.raises(ModelError, match="differs from the PyTorch one"):
        refuse_difference(embedding_difference(embedder, network, PICTURES))


@pytest.mark.slow
def test_pixels_are_those_of_the_embedder() -> None:
    embedder = embedder_of(Function(lambda x: x.relu().flatten(1)), 32)
    pixels = PixelSession(embedder.preprocess).run(PICTURES[0])
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(np.maximum(pixels, 0).ravel(), Session(embedder.model).run(PICTURES[0])[0])
