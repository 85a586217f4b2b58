"""The model file: what it holds, that it runs anywhere, and that a stored one works for ever."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import headstart
from headstart.api import Run
from headstart.backbones.embedder import load_embedder
from headstart.core.errors import HeadstartError, ModelError
from headstart.core.graph import Graph
from headstart.modelfile import golden, guard, schema
from headstart.modelfile.schema import Metadata
from headstart.modelfile.session import Session
from headstart.modelfile.shapes import value_shapes
from headstart.modelfile.writer import ModelFile
from headstart.prediction.classifier import Classifier
from headstart.preprocess.nodes import add_preprocess
from headstart.settings.recipe import Recipe
from headstart.strategies import finish
from helpers import draw, headstart_cli

STORED = Path(__file__).parent / "golden" / "model-1.onnx"
STORED_2 = STORED.with_name("model-2.onnx")


@pytest.fixture(scope="module")
def run(shapes: Path) -> Run:
    return headstart.train(shapes)


@pytest.fixture(scope="module")
def float_run(shapes: Path) -> Run:
    return headstart.train(shapes, precision="float32")


def with_record(content: bytes, **fields: Any) -> bytes:
    """The model with other values in its metadata."""
    proto = onnx.load_from_string(content)
    record = json.loads(proto.metadata_props[0].value) | fields
    proto.metadata_props[0].value = json.dumps(record)
    return proto.SerializeToString()


# --- written and loaded --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("which", ["run", "float_run"])
def test_round_trip(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run: Run = request.getfixturevalue(which)
    path = run.save(tmp_path / "run") / "model.onnx"
    assert path.read_bytes() == run.fitted.model
    loaded = headstart.load(path)
    assert loaded.content == run.fitted.model
    assert loaded.classes == run.classifier.classes == run.fitted.data.targets.names
    assert loaded.verify().passed
    assert loaded.metadata.to_json() == run.classifier.metadata.to_json()
    assert Metadata.from_json(loaded.metadata.to_json()).to_json() == loaded.metadata.to_json()


@pytest.mark.slow
def test_same_training_gives_the_same_bytes(run: Run, shapes: Path) -> None:
    assert headstart.train(shapes, runtime=headstart.Runtime(cache=None, workers=1)).fitted.model == run.fitted.model


def test_metadata(run: Run) -> None:
    metadata = run.classifier.metadata
    assert metadata.classes == ("disc", "noise", "stripes")  # the order of the probabilities, as sorted names
    assert metadata.recipe == Recipe().as_dict()
    assert metadata.counts == run.fitted.counts
    assert sum(n for part in metadata.counts.values() for n in part.values()) == 36
    assert metadata.evaluation == json.loads(json.dumps(run.evaluation.as_dict()))
    assert metadata.temperature == pytest.approx(run.fitted.details.as_dict()["head"]["temperature"], rel=1e-6)
    assert metadata.version == headstart.__version__
    assert (metadata.schema, schema.SCHEMA) == (2, 3)  # 3 is for several labels an image
    assert metadata.backbone.name == "lite0"
    assert metadata.backbone.embedding_size == 1280
    assert metadata.backbone.embedder == load_embedder(Recipe(), None).digest
    assert len(metadata.backbone.weights) == 64
    assert metadata.backbone.licence == "Apache-2.0"
    assert metadata.tolerance == golden.TOLERANCES["int8"]


def test_golden_images(run: Run, float_run: Run) -> None:
    goldens = run.classifier.metadata.golden
    assert [Image.open(io.BytesIO(one.png)).size[::-1] for one in goldens] == list(golden.SHAPES)
    for one in goldens:
        assert one.probabilities.sum() == pytest.approx(1, abs=1e-6)
        assert one.embedding.shape == (1280,)
        result = run.classifier.run_file(one.png)
        np.testing.assert_array_equal(result.probabilities, one.probabilities)
        np.testing.assert_array_equal(result.embedding, one.embedding)
    assert [one.png for one in float_run.classifier.metadata.golden] == [one.png for one in goldens]
    assert sum(len(one.png) for one in goldens) < 20_000


def test_file_names_neither_people_nor_places(run: Run, shapes: Path) -> None:
    for word in (str(shapes.parent), str(Path.home()), "disc/000"):
        assert word.encode() not in run.fitted.model


def test_graph(run: Run, float_run: Run) -> None:
    """ONNX's own checker accepts it; the two precisions have the operators that they claim."""
    for one in (run, float_run):
        onnx.checker.check_model(one.fitted.model, full_check=True)
    int8, float32 = (
        {node.op_type for node in onnx.load_from_string(one.fitted.model).graph.node} for one in (run, float_run)
    )
    assert {"QuantizeLinear", "DequantizeLinear"} <= int8
    assert not {"QuantizeLinear", "DequantizeLinear"} & float32
    assert "Clip" in float32
    assert len(run.fitted.model) < 4_500_000 < 13_000_000 < len(float_run.fitted.model)


# --- it runs anywhere ----------------------------------------------------------------------------------------------

PLAIN = """
    import sys
    import numpy, onnxruntime
    path, images, out = sys.argv[1:]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    described = [(v.name, v.type, v.shape) for v in (*session.get_inputs(), *session.get_outputs())]
    assert described[0] == ("image", "tensor(uint8)", ["N", "H", "W", 3]), described
    assert described[1] == ("probabilities", "tensor(float)", ["N", 3]), described
    assert described[2] == ("embedding", "tensor(float)", ["N", 1280]), described
    assert described[3] == ("distance", "tensor(float)", ["N", 1]), described
    assert described[4] == ("feature_map", "tensor(float)", ["N", 1280, 7, 7]), described
    names = ["probabilities", "embedding", "distance", "feature_map"]
    results = dict(zip(names, session.run(names, {"image": numpy.load(images)})))
    assert "headstart" not in sys.modules
    numpy.savez(out, **results)
"""


@pytest.mark.parametrize("which", ["run", "float_run"])
def test_plain_runtime_gives_the_same(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Two images at once, in a process without Headstart: the documented names, shapes and numbers."""
    run: Run = request.getfixturevalue(which)
    (tmp_path / "model.onnx").write_bytes(run.fitted.model)
    images = np.stack([np.asarray(draw(label, 500)) for label in ("disc", "stripes")])
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", textwrap.dedent(PLAIN), "model.onnx", "images.npy", "out.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    assert out["probabilities"].dtype == out["embedding"].dtype == np.float32
    np.testing.assert_allclose(out["probabilities"].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(out["probabilities"], run.classifier.predict_proba(images), atol=1e-5)
    np.testing.assert_allclose(out["embedding"], run.classifier.embed(images), atol=1e-4)
    np.testing.assert_allclose(out["feature_map"].mean((2, 3)), out["embedding"], atol=1e-5)
    distances = [prediction.distance for prediction in run.classifier.predict(images)]
    np.testing.assert_allclose(out["distance"][:, 0], distances, atol=1e-5)
    assert [run.classifier.classes[i] for i in out["probabilities"].argmax(1)] == ["disc", "stripes"]


def test_graph_agrees_with_the_formula_of_the_head(run: Run, shapes: Path) -> None:
    """softmax((embedding @ W + b) / T) in float64, written out here, with the temperature of the metadata."""
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(run.fitted.model).graph.initializer}
    weights, bias = (tensors[name].astype(np.float64) for name in ("head.weights", "head.bias"))
    for path in sorted(shapes.rglob("*.png"))[::5]:
        result = run.classifier.run_file(path.read_bytes())
        scores = (result.embedding @ weights + bias) / run.classifier.metadata.temperature
        powers = np.exp(scores - scores.max())
        np.testing.assert_allclose(result.probabilities, powers / powers.sum(), atol=1e-5)


def test_embedding_is_that_of_the_training(run: Run, shapes: Path) -> None:
    """Training and serving go through the same graph: no skew, to the last bit."""
    embedder = Session(load_embedder(Recipe(), None).model)
    pixels = np.asarray(Image.open(shapes / "noise" / "003.png"))
    (embedding,) = embedder.run(pixels)
    np.testing.assert_array_equal(run.classifier.run_pixels(pixels).embedding, embedding)


# --- the feature map -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["run", "float_run"])
def test_feature_map_is_what_the_embedding_is_the_mean_of(which: str, request: pytest.FixtureRequest) -> None:
    classifier: Classifier = request.getfixturevalue(which).classifier
    pixels = np.asarray(draw("disc", 41))
    result = classifier.run_pixels(pixels, feature_map=True)
    assert result.feature_map is not None
    assert result.feature_map.shape == (7, 7, 1280)
    assert result.feature_map.dtype == np.float32
    np.testing.assert_allclose(result.feature_map.mean((0, 1)), result.embedding, atol=1e-5)
    plain = classifier.run_pixels(pixels)
    assert plain.feature_map is None
    np.testing.assert_array_equal(plain.embedding, result.embedding)
    np.testing.assert_array_equal(plain.probabilities, result.probabilities)


def test_feature_map_lies_as_the_picture_does(run: Run) -> None:
    """Upright: what changes at the top left of the picture changes the top left of the map most."""
    grey = np.full((224, 224, 3), 128, np.uint8)
    marked = grey.copy()
    marked[:40, 140:] = np.asarray(draw("noise", 1, (84, 40)))
    before, after = (run.classifier.run_pixels(one, feature_map=True).feature_map for one in (grey, marked))
    assert before is not None
    assert after is not None
    change = np.linalg.norm(after - before, axis=2)
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert row <= 1
    assert column >= 4


# --- reasons --------------------------------------------------------------------------------------------------------


def test_reasons_enter_before_it_is_written(run: Run) -> None:
    file = run.fitted.model_file.because(("The probe won.", "So did \ud800 lite0."))
    classifier = Classifier(file.content)
    assert classifier.metadata.reasons == ("The probe won.", "So did \\xed\\xa0\\x80 lite0.")
    before, after = onnx.load_from_string(run.fitted.model), onnx.load_from_string(file.content)
    assert before.graph == after.graph
    assert file.because(()).content == run.fitted.model
    assert file != file.because(()) == run.fitted.model_file
    assert run.classifier.metadata.reasons == ()
    assert run.classifier.metadata.to_json() == run.fitted.model_file.metadata.to_json()


def test_too_many_reasons_are_refused(run: Run) -> None:
    with pytest.raises(ModelError, match="reasons"):
        Classifier(run.fitted.model_file.because(("x",) * (schema.MAX_REASONS + 1)).content)


# --- verify --------------------------------------------------------------------------------------------------------


def test_verify_passes_here(run: Run, float_run: Run) -> None:
    for one in (run, float_run):
        result = one.classifier.verify()
        assert result.passed
        assert result.images == 3
        assert result.probability_difference == result.embedding_difference == 0


def poisoned(content: bytes, name: str, change: float) -> bytes:
    proto = onnx.load_from_string(content)
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.raw_data = (values * np.asarray(change).astype(values.dtype)).astype(values.dtype).tobytes()
    return proto.SerializeToString()


@pytest.mark.parametrize("name", ["head.bias", "head.weights", "head.temperature", "_conv_head.kernel"])
def test_verify_notices_a_changed_weight(float_run: Run, tmp_path: Path, name: str) -> None:
    content = poisoned(float_run.fitted.model, name, 1.5)
    result = Classifier(content).verify()
    assert not result.passed
    assert max(result.probability_difference, result.embedding_difference) > 0.001


def test_verify_of_the_program(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(run.fitted.model)
    done = headstart_cli("verify", path, "--json")
    assert done.code == 0
    assert done.json["passed"] is True
    assert "Verified. 3 golden images" in headstart_cli("verify", path).out
    path.write_bytes(poisoned(run.fitted.model, "head.weights", -1))
    done = headstart_cli("verify", path, "--json")
    assert done.code == 2
    assert "gives different results here than on the machine that trained it" in done.json["error"]
    path.write_bytes(with_record(run.fitted.model, golden=[]))
    done = headstart_cli("verify", path)
    assert done.code == 2
    assert "no golden images" in done.err
    assert not headstart.load(path).verify().passed


@pytest.mark.parametrize("tolerance", [{}, {"probability": 1.0}, {"embedding": 1.0}])
def test_verify_without_tolerance_wants_equality(run: Run, tolerance: dict[str, float]) -> None:
    assert Classifier(with_record(run.fitted.model, tolerance=tolerance)).verify().passed  # the same machine
    changed = poisoned(run.fitted.model, "head.bias", 1.01)
    loose = Classifier(with_record(changed, tolerance=tolerance)).verify()
    assert loose.passed == ("probability" in tolerance)


class Broken:
    """A session whose arithmetic is broken."""

    def __init__(self, probabilities: list[float], embedding: float) -> None:
        self.result = [np.array(probabilities, np.float32), np.full(1280, embedding, np.float32)]

    def run(self, image: object, outputs: object = None) -> list[Any]:
        return self.result


@pytest.mark.parametrize(
    ("probabilities", "embedding"),
    [([np.nan] * 3, 0.0), ([1, 0, np.nan], 0.0), ([1, 0, 0], np.nan), ([1, 0, 0], np.inf), ([np.inf, 0, 0], 0.0)],
)
def test_verify_notices_what_is_no_number(run: Run, probabilities: list[float], embedding: float) -> None:
    """NaN compares as false with everything: the maximum of 0 and NaN is 0."""
    result = golden.verify(Broken(probabilities, embedding), run.classifier.metadata)  # type: ignore[arg-type]
    assert not result.passed
    assert result.probability_difference == np.inf or result.embedding_difference == np.inf


def test_verify_of_a_golden_image_that_cannot_be_decoded(run: Run) -> None:
    record = json.loads(run.classifier.metadata.to_json())
    record["golden"][1]["png"] = "aGVsbG8="
    classifier = Classifier(with_record(run.fitted.model, golden=record["golden"]))
    with pytest.raises(ModelError, match="golden image"):
        classifier.verify()


def test_training_does_not_hand_out_a_model_that_differs(
    shapes: Path, run: Run, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """What was evaluated and what was written are compared before anything is saved."""
    write = finish.write_model

    def wrong(*arguments: Any) -> ModelFile:
        file = write(*arguments)
        return dataclasses.replace(file, graph=poisoned(file.graph, "head.weights", -1))

    monkeypatch.setattr(finish, "write_model", wrong)
    with pytest.raises(HeadstartError, match="not saved"):
        headstart.train(shapes)


# --- for ever ------------------------------------------------------------------------------------------------------


def test_stored_model_of_schema_1() -> None:
    """Written by version 0.1.0. It loads, verifies and predicts with every later version; never write it anew."""
    classifier = headstart.load(STORED)
    assert classifier.metadata.schema == 1
    assert classifier.metadata.version == "0.1.0"
    assert classifier.classes == ("disc", "noise", "stripes")
    assert classifier.verify().passed
    pictures = [draw(label, seed) for seed in (70, 80, 90) for label in classifier.classes]
    assert [one.label for one in classifier.predict(pictures)] == list(classifier.classes) * 3
    assert STORED.stat().st_size < 4_000_000


def test_stored_model_of_schema_1_has_no_doubts() -> None:
    """It answers as before, without what came later."""
    classifier = headstart.load(STORED)
    metadata = classifier.metadata
    assert (metadata.familiarity, metadata.conformal, metadata.reasons) == (None, None, ())
    prediction = classifier.predict(draw("disc", 70))
    assert (prediction.familiar, prediction.distance, prediction.labels) == (None, None, None)
    result = classifier.run_pixels(np.asarray(draw("disc", 70)), feature_map=True)
    assert (result.distance, result.feature_map) == (None, None)
    expected = np.array([0.948, 0.020, 0.032])
    assert classifier.classes[result.probabilities.argmax()] == "disc"
    assert result.probabilities == pytest.approx(expected, abs=0.05)


def test_stored_model_of_schema_2() -> None:
    """It loads, verifies, predicts and doubts with every later version; never write it anew."""
    classifier = headstart.load(STORED_2)
    metadata = classifier.metadata
    assert (metadata.schema, metadata.version) == (2, "0.1.0")
    assert metadata.reasons == ("Probe: the quickest strategy, and no other was asked for.",)
    assert metadata.familiarity is not None
    assert metadata.familiarity.threshold == pytest.approx(0.27608, abs=1e-5)
    assert classifier.verify().passed
    pictures = [draw(label, seed) for seed in (70, 80, 90) for label in classifier.classes]
    predictions = classifier.predict(pictures, coverage=0.9)
    assert [one.label for one in predictions] == list(classifier.classes) * 3
    assert all(one.familiar for one in predictions)
    distances = [0.146, 0.031, 0.177, 0.148, 0.046, 0.179, 0.119, 0.024, 0.112]
    assert [one.distance for one in predictions] == pytest.approx(distances, abs=0.02)
    assert [one.labels for one in predictions[1:]] == [(one.label,) for one in predictions[1:]]
    blank = classifier.predict(np.full((64, 64, 3), 255, np.uint8))
    assert (blank.familiar, blank.distance) == (False, pytest.approx(0.5576, abs=0.02))
    result = classifier.run_pixels(np.asarray(pictures[0]), feature_map=True)
    assert result.feature_map is not None
    assert result.feature_map.shape == (7, 7, 1280)
    assert STORED_2.stat().st_size < 4_000_000


def test_a_poisoned_reference_is_noticed() -> None:
    content = poisoned(STORED_2.read_bytes(), "novelty.scales", 0.5)
    result = Classifier(content).verify()
    assert not result.passed
    assert result.distance_difference > 0.05
    assert result.probability_difference < 0.03


def test_stored_model_in_the_program(tmp_path: Path) -> None:
    draw("stripes", 70).save(tmp_path / "a.png")
    done = headstart_cli("predict", STORED, tmp_path / "a.png", "--json")
    assert done.code == 0
    assert done.json["predictions"][0]["label"] == "stripes"
    assert headstart_cli("verify", STORED).code == 0


def test_cost_of_the_stored_model_is_far_from_the_limits() -> None:
    """The number that stands beside the guard's limit, 24 million values for an image, is about right."""
    model, expected = onnx.load(STORED), Graph()
    add_preprocess(expected, headstart.load(STORED).metadata.preprocess)
    shapes = value_shapes(model, expected, 224)
    values = sum(int(np.prod(shapes[node.output[0]])) for node in model.graph.node[len(expected.nodes) :])
    assert 23e6 < values < 26e6
    assert values * 5 < guard.MAX_VALUES
