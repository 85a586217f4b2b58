"""The export to PyTorch: each operator is ONNX Runtime's, and the files work without Headstart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

import headstart  # noqa: E402
from headstart.core.errors import ExtraError, ModelError  # noqa: E402
from headstart.core.graph import IR_VERSION, OPSET  # noqa: E402
from headstart.core.operators import OPERATORS  # noqa: E402
from headstart.features.pixels import PixelSession  # noqa: E402
from headstart.modelfile.session import import_silently  # noqa: E402
from headstart.prediction.classifier import Classifier  # noqa: E402
from headstart.prediction.exporters.agreement import ROUNDING  # noqa: E402
from headstart.preprocess.spec import Preprocess  # noqa: E402
from headstart.training.portable.network import Network  # noqa: E402
from headstart.training.portable.operators import OPERATIONS  # noqa: E402
from headstart.training.portable.pixels import Pixels  # noqa: E402
from headstart.training.portable.program import PROGRAM, WEIGHTS, make, opened  # noqa: E402
from helpers import draw, headstart_cli  # noqa: E402
from test_explain import red_or_blue  # noqa: E402
from test_export import embedder_of, model_file, seeded  # noqa: E402

IMAGE = (2, 4, 9, 7)
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [0, 1, 1, 1]}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + sum(shape)).normal(size=shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.abs(normal(*shape)) + np.float32(0.1)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


ONE = np.float32(0.7)
# For each operator: shape of the input, constants behind it (None: left out), attributes.
CASES: dict[str, list[tuple[tuple[int, ...], list[Any], dict[str, Any]]]] = {
    "Add": [(IMAGE, [normal(1, 4, 1, 1)], {}), (IMAGE, [ONE], {})],
    "AveragePool": [
        (IMAGE, [], WINDOW | {"count_include_pad": 0}),
        (IMAGE, [], WINDOW | {"count_include_pad": 1}),
        (IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], "ceil_mode": 1}),
    ],
    "BatchNormalization": [(IMAGE, [positive(4), normal(4), normal(4), positive(4)], {"epsilon": 0.01})],
    "Cast": [((2, 3), [], {"to": 1})],
    "Clip": [((2, 9), [np.float32(-0.3), ONE], {}), ((2, 9), [None, ONE], {}), ((2, 9), [np.float32(0)], {})],
    "Concat": [(IMAGE, [normal(2, 3, 9, 7)], {"axis": 1})],
    "Conv": [
        (IMAGE, [normal(6, 4, 3, 3), normal(6)], WINDOW | {"group": 1}),
        (IMAGE, [normal(4, 1, 3, 3)], {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [2, 2, 2, 2],
                                       "dilations": [2, 2], "group": 4}),
    ],
    "Div": [(IMAGE, [positive(1, 4, 1, 1)], {}), (IMAGE, [ONE], {})],
    "Elu": [(IMAGE, [], {}), (IMAGE, [], {"alpha": 0.5})],
    "Flatten": [(IMAGE, [], {"axis": 1}), (IMAGE, [], {"axis": 2})],
    "Gemm": [((2, 5), [normal(5, 3), normal(3)], {}), ((2, 5), [normal(5, 3)], {})],
    "HardSigmoid": [(IMAGE, [], {}), (IMAGE, [], {"alpha": 1 / 6, "beta": 0.5})],
    "InstanceNormalization": [(IMAGE, [positive(4), normal(4)], {"epsilon": 0.01})],
    "LayerNormalization": [
        ((2, 3, 8), [positive(8), normal(8)], {"axis": -1, "epsilon": 1e-6}),
        ((2, 8), [positive(8)], {}),
    ],
    "LeakyRelu": [(IMAGE, [], {}), (IMAGE, [], {"alpha": 0.2})],
    "MatMul": [((2, 3, 5), [normal(5, 4)], {}), ((2, 3, 5), [normal(2, 5, 4)], {})],
    "MaxPool": [
        (IMAGE, [], WINDOW),
        (IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], "ceil_mode": 1}),
        (IMAGE, [], {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [2, 2]}),
    ],
    "Mul": [(IMAGE, [normal(1, 4, 1, 1)], {}), (IMAGE, [ONE], {})],
    "PRelu": [(IMAGE, [normal(4, 1, 1)], {}), (IMAGE, [ONE], {})],
    "Pad": [(IMAGE, [ints(0, 0, 1, 2, 0, 0, 3, 4)], {}), ((2, 3), [ints(0, 1, 0, 2), ONE], {})],
    "Pow": [(IMAGE, [np.float32(2)], {})],
    "Reshape": [(IMAGE, [ints(-1, 2, 2, 63)], {})],
    "Selu": [(IMAGE, [], {}), (IMAGE, [], {"alpha": 0.5, "gamma": 2.0})],
    "Slice": [(IMAGE, [ints(1, 2), ints(4, -1), ints(1, 3)], {}), (IMAGE, [ints(0), ints(9), ints(2), ints(2)], {})],
    "Softmax": [((2, 9), [], {"axis": 1}), (IMAGE, [], {})],
    "Sub": [(IMAGE, [normal(1, 4, 1, 1)], {})],
    "TopK": [((2, 9), [ints(3)], {"axis": 1}), ((2, 9), [ints(3)], {"axis": -1, "largest": 0})],
    "Transpose": [(IMAGE, [], {"perm": [0, 2, 3, 1]})],
    "Exp": [(IMAGE, [], {})],
}  # fmt: skip
CASES |= {name: [(IMAGE, [ints(2, 3)], {"keepdims": 1}), (IMAGE, [ints(1)], {"keepdims": 0})]
          for name in ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum")}  # fmt: skip
PLAIN = ("Abs", "Erf", "GlobalAveragePool", "HardSwish", "Neg", "Reciprocal", "Relu", "Sigmoid", "Sqrt", "Tanh")
CASES |= {name: [(IMAGE, [], {})] for name in PLAIN}


def test_every_operator_of_a_model_file_has_its_counterpart() -> None:
    """Those of int8 have become float32 before."""
    assert OPERATIONS.keys() == OPERATORS.keys() - {"QuantizeLinear", "DequantizeLinear"} == CASES.keys()


@pytest.mark.parametrize(
    ("operator", "number"), [(name, i) for name, cases in CASES.items() for i in range(len(cases))]
)
def test_an_operator_computes_what_onnx_runtime_computes(operator: str, number: int) -> None:
    shape, constants, attributes = CASES[operator][number]
    held = {f"c.{i}": value for i, value in enumerate(constants) if value is not None}
    names = ["x", *("" if value is None else f"c.{i}" for i, value in enumerate(constants))]
    outputs = ["y", "places"] if operator == "TopK" else ["y"]
    node = helper.make_node(operator, names, outputs, name="y", **attributes)
    graph = helper.make_graph(
        [node], "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(value), name) for name, value in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    values = positive(*shape) if operator in {"Reciprocal", "Sqrt"} else 2 * normal(*shape)
    (expected,) = import_silently().InferenceSession(model.SerializeToString()).run(["y"], {"x": values})
    with torch.no_grad():
        found = Network(model, 0, "x")(torch.from_numpy(values))["y"].numpy()
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_prepared_as_in_the_model_file(fit: Any, interpolation: Any) -> None:
    spec = Preprocess(
        size_px=64, fit=fit, crop_fraction=0.875, mean=(0.485, 0.456, 0.406), std=(0.2, 0.25, 0.3),
        interpolation=interpolation,
    )  # fmt: skip
    level = 1 / (255 * 0.2)
    ours, theirs = Pixels(spec), PixelSession(spec)
    # Wide, tall, beyond the limit of the aspect on both sides, small, and of odd sizes.
    for number, size in enumerate([(90, 70), (61, 150), (400, 9), (5, 333), (20, 31), (64, 64), (1, 3)]):
        image = np.asarray(draw(("disc", "stripes", "noise")[number % 3], number, size))
        expected = theirs.run(image)
        found = ours(torch.from_numpy(image.copy())[None])[0].numpy()
        assert found.shape == expected.shape
        levels = np.abs(found - expected) / level
        assert levels.max() < 2.01, size
        assert (levels > 0.01).mean() < 0.03, size


@pytest.mark.slow
def test_a_network_of_pytorch_comes_back_to_it() -> None:
    """By way of the model file: one with attention, of which lite0 has none."""
    timm = pytest.importorskip("timm")
    network = seeded(lambda: timm.create_model("test_vit", num_classes=0, img_size=64, depth=2))
    classifier = Classifier(model_file(embedder_of(network, 64)))
    run = opened(make(classifier, "vit", ()))
    for seed, size in enumerate([(90, 70), (301, 233)]):
        image = np.asarray(draw("stripes", seed, size))
        np.testing.assert_allclose(run(image), classifier.predict_proba(image), atol=0.01)


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Exported:
    """The program of the lite0 model, which computes in int8."""
    return headstart.export(model, "torch", out=tmp_path_factory.mktemp("torch") / "shapes-torch")


ALONE = """
import json, sys
import numpy as np, torch
about = {"headstart.json": ""}
program = torch.export.load("model.pt2", extra_files=about)
module, parts = program.module(), torch.export.unflatten(program)
found = []
with torch.inference_mode():
    for name in sys.argv[1:]:
        image = torch.from_numpy(np.load(name))
        found.append({key: values.tolist() for key, values in module(image).items() if key != "feature_map"})
        apart = parts.network(parts.pixels(image))["probabilities"]
        assert torch.equal(apart, module(image)["probabilities"])
print(json.dumps({"classes": json.loads(about["headstart.json"])["classes"], "found": found}))
assert "headstart" not in sys.modules
"""


@pytest.mark.slow
def test_the_program_works_without_headstart(made: headstart.Exported, model: Path, tmp_path: Path) -> None:
    """For one image and for several, of any size, with all outputs and the names of the classes."""
    classifier = headstart.load(model)
    batches = [[(80, 64)], [(233, 301), (233, 301)], [(9, 400)], [(1000, 700)], [(224, 224)] * 3]
    images = [[np.asarray(draw("stripes", 3 + i, size)) for i, size in enumerate(batch)] for batch in batches]
    for number, batch in enumerate(images):
        np.save(tmp_path / f"{number}.npy", np.stack(batch))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, *(str(tmp_path / f"{n}.npy") for n in range(len(batches)))],
        cwd=made.path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["classes"] == list(classifier.classes)
    for batch, found in zip(images, told["found"], strict=True):
        for place, image in enumerate(batch):
            np.testing.assert_allclose(found["probabilities"][place], classifier.predict_proba(image), atol=0.1)
            assert abs(found["distance"][place][0] - classifier.predict(image).distance) < 0.05


@pytest.mark.slow
def test_the_weights_are_those_of_the_program(made: headstart.Exported) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    assert [file.name for file in made.files] == [PROGRAM, WEIGHTS]
    module = torch.export.load(made.path / PROGRAM).module()
    image = torch.from_numpy(np.asarray(draw("disc", 1, (90, 70))).copy())[None]
    before = module(image)["probabilities"].detach()
    for parameter in module.parameters():
        parameter.data.zero_()
    assert not torch.allclose(module(image)["probabilities"], before)
    assert module.load_state_dict(load_file(made.path / WEIGHTS)).missing_keys == []
    assert torch.equal(module(image)["probabilities"], before)
    # They can be trained further.
    module(image)["probabilities"][0, 0].backward()
    assert sum(parameter.grad is not None for parameter in module.parameters()) > 90
    with safe_open(made.path / WEIGHTS, "pt") as file:
        assert json.loads(file.metadata()["headstart"])["classes"] == ["disc", "noise", "stripes"]


@pytest.mark.slow
def test_it_is_proved_like_the_other_forms(made: headstart.Exported) -> None:
    assert made.proof is not None
    assert made.proof.images > 3
    assert made.proof.difference <= made.proof.bound == ROUNDING.bound  # from int8


@pytest.mark.slow
def test_it_is_the_same_each_time_or_refused(shapes: Path, tmp_path: Path) -> None:
    """A network of a pool and a head is enough: PyTorch needs seconds for lite0."""
    small = tmp_path / "small.onnx"
    small.write_bytes(red_or_blue("crop").content)
    one, again = (headstart.export(small, "torch", out=tmp_path / str(n), check=shapes / "disc") for n in range(2))
    assert [file.read_bytes() for file in again.files] == [file.read_bytes() for file in one.files]
    with pytest.raises(ModelError, match="differs too much"):
        headstart.export(small, "torch", out=tmp_path / "refused", check=shapes / "disc", bound=1e-9)
    assert not (tmp_path / "refused").exists()


def test_without_pytorch_the_error_says_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ExtraError, match="needs the package torch") as caught:
        headstart.export(model, "torch", out=tmp_path / "made")
    assert "pip install 'headstart[torch]'" in caught.value.hint
    done = headstart_cli("export", model, "--to", "torch", "--out", tmp_path / "made")
    assert done.code == 2
    assert not (tmp_path / "made").exists()
