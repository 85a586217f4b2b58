"""Exports that other programs run: each gives what its model gives, or is refused."""

from __future__ import annotations

import functools
import io
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from PIL import Image

import headstart
from headstart.api.samples import sample_of
from headstart.core.errors import ModelError, OptionError, SourceError
from headstart.modelfile import guard
from headstart.prediction.classifier import Classifier
from headstart.prediction.exporters import EXPORTERS
from headstart.prediction.exporters.agreement import ROUNDING, Allowance, prove
from helpers import draw, headstart_cli

OF = "training and golden images"  # a small set is measured by folds, so that none is held out
FORMS = [name for name, spec in EXPORTERS.items() if spec.run and not spec.folder]  # which ONNX Runtime runs


@pytest.fixture(scope="module")
def in_float32(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose backbone computes in float32."""
    run = headstart.train(shapes, headstart.Recipe(precision="float32"))
    return run.save(tmp_path_factory.mktemp("float32") / "shapes") / "model.onnx"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], headstart.Exported]:
    """Exports a model to a form; each only once. Do not change what it gives."""

    @functools.cache
    def make(source: Path, form: str) -> headstart.Exported:
        return headstart.export(source, form, out=tmp_path_factory.mktemp("made") / "made")

    return make


@pytest.fixture(params=["int8", "float32"])
def source(request: pytest.FixtureRequest, model: Path, in_float32: Path) -> Path:
    return model if request.param == "int8" else in_float32


def pixels(seed: int) -> np.ndarray:
    """An image as another program would read it."""
    file = io.BytesIO()
    draw("stripes", seed, (301, 233)).save(file, "PNG")
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_another_program_gives_what_predict_gives(
    form: str, source: Path, made_once: Callable[[Path, str], headstart.Exported]
) -> None:
    made = made_once(source, form)
    classifier, spec = Classifier.load(source), EXPORTERS[form]
    bound = ROUNDING.bound if spec.rounds(classifier.metadata.precision) else spec.bound
    session = onnxruntime.InferenceSession(made.path.read_bytes())
    for seed in range(4):
        image = pixels(seed)
        (found,) = session.run(["probabilities"], {"image": image[None]})
        np.testing.assert_allclose(found[0], classifier.predict_proba(image), atol=bound)
    assert json.loads(session.get_modelmeta().custom_metadata_map["headstart"])["classes"] == [*classifier.classes]
    proof = made.proof
    assert proof is not None
    assert proof.images > 3
    assert (proof.of, made.notes) == (OF, ())
    assert proof.difference <= proof.bound == bound
    assert proof.median <= proof.difference
    assert proof.same <= proof.images
    assert proof.interval[0] <= proof.same / proof.images <= proof.interval[1]


@pytest.mark.slow
def test_what_has_the_precision_already_stays_as_it_is(model: Path, in_float32: Path, tmp_path: Path) -> None:
    for source, form in ((model, "onnx-int8"), (in_float32, "onnx")):
        assert EXPORTERS[form].keeps == headstart.load(source).metadata.precision
        made = headstart.export(source, form, out=tmp_path / form)
        assert made.path.read_bytes() == source.read_bytes()
        assert made.proof is not None
        assert made.proof.difference == 0


@pytest.mark.slow
@pytest.mark.parametrize(("form", "precision"), [("onnx", "float32"), ("onnx-int8", "int8")])
def test_onnx_is_a_model_file_of_ours(
    form: str, precision: str, model: Path, in_float32: Path, made_once: Callable[[Path, str], headstart.Exported]
) -> None:
    """It says what it computes in, has golden images of its own, and knows what the first one knew."""
    source = model if precision == "float32" else in_float32
    made = headstart.load(made_once(source, form).path)
    before = headstart.load(source)
    assert made.metadata.precision == precision != before.metadata.precision
    assert made.verify().passed
    assert made.metadata.golden != before.metadata.golden
    for name in ("classes", "preprocess", "temperature", "familiarity", "conformal", "learnt_from", "evaluation"):
        assert getattr(made.metadata, name) == getattr(before.metadata, name), name
    sizes = len(made.content) / len(before.content)
    assert sizes < 0.35 if precision == "int8" else sizes > 3


@pytest.mark.slow
def test_float16_leaves_the_preprocessing_and_the_head(
    in_float32: Path, made_once: Callable[[Path, str], headstart.Exported]
) -> None:
    before = onnx.load(in_float32)
    made = onnx.load(made_once(in_float32, "onnx-fp16").path)
    assert list(made.graph.input) == list(before.graph.input)
    assert list(made.graph.output) == list(before.graph.output)
    kinds = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert {kind for name, kind in kinds.items() if name.startswith(("pre.", "head."))} <= {
        TensorProto.FLOAT,
        TensorProto.INT64,
    }
    halves = [tensor for tensor in made.graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    assert sum(numpy_helper.to_array(tensor).size for tensor in halves) > 3_000_000  # all of the network
    outside = ("pre.", "head.", "novelty.", "references")
    assert not [n for n, kind in kinds.items() if kind == TensorProto.FLOAT and not n.startswith(outside)]
    onnx.checker.check_model(made, full_check=True)


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for form in FORMS if form != "ort"])  # which ONNX Runtime writes as it likes
def test_an_export_is_the_same_each_time(
    form: str, in_float32: Path, made_once: Callable[[Path, str], headstart.Exported], tmp_path: Path
) -> None:
    again = headstart.export(in_float32, form, out=tmp_path / "again")
    assert again.path.read_bytes() == made_once(in_float32, form).path.read_bytes()


@pytest.mark.slow
def test_what_differs_too_much_is_refused_and_not_written(in_float32: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a probability by 0\.\d+ \(at most 1e-09 is accepted\)"):
        headstart.export(in_float32, "onnx-fp16", out=tmp_path / "half.onnx", bound=1e-9)
    assert not list(tmp_path.iterdir())


def test_a_proof_sees_what_is_wrong(model: Path) -> None:
    classifier = Classifier.load(model)
    images = [pixels(seed) for seed in range(5)]

    def swapped(image: np.ndarray) -> np.ndarray:
        return classifier.run_pixels(image).probabilities[::-1]

    def undefined(image: np.ndarray) -> np.ndarray:
        return classifier.run_pixels(image).probabilities * np.float32(np.nan)

    def same(image: np.ndarray) -> np.ndarray:
        return classifier.run_pixels(image).probabilities

    found = prove(classifier, swapped, images, "images", Allowance(0.5))
    assert found.same < found.images == 8
    assert not found.passed
    assert not prove(classifier, undefined, images, "images", Allowance(1.0)).passed
    good = prove(classifier, same, images, "images", Allowance(0.0))
    assert (good.same, good.difference, good.passed) == (8, 0.0, True)


@pytest.mark.parametrize(("wrong", "passes"), [(0, True), (1, True), (2, False)])
def test_rounding_may_move_one_image_in_twenty(model: Path, wrong: int, passes: bool) -> None:
    """And golden images, which are drawn patterns, as far as it likes; but not where there are no others."""
    classifier = Classifier.load(model)
    images = [np.full((1, 1, 3), level, np.uint8) for level in range(20)]

    def moved(image: np.ndarray) -> np.ndarray:
        found = classifier.run_pixels(image).probabilities
        # Of three probabilities one is at most a third: it moves by a third or more.
        return 1 - found if image.size > 3 or image.max() < wrong else found

    proof = prove(classifier, moved, images, "images", ROUNDING)
    assert (proof.beyond, proof.allowed, proof.passed) == (wrong, 1, passes)
    assert not prove(classifier, moved, (), "golden images", ROUNDING).passed
    assert prove(classifier, moved, images, "images", Allowance(ROUNDING.bound)).beyond > wrong


def test_a_model_without_its_run(model: Path, shapes: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(model, tmp_path / "alone.onnx"))
    made = headstart.export(alone, "ort")
    assert made.path == tmp_path / "alone.ort"
    assert made.proof is not None
    assert (made.proof.images, made.proof.of) == (3, "golden images")
    assert "--check FOLDER" in made.notes[0]
    with pytest.raises(ModelError) as caught:
        headstart.export(alone, "onnx", bound=1e-9)
    assert caught.value.hint.startswith("Golden images are drawn patterns: test it on images like yours")
    assert "Train with --precision float32" in caught.value.hint
    proved = headstart.export(alone, "ort", check=shapes / "disc", overwrite=True)
    assert proved.proof is not None
    assert (proved.proof.images, proved.notes) == (15, ())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SourceError, match="No image"):
        headstart.export(alone, "ort", check=tmp_path / "empty", overwrite=True)


@pytest.mark.slow
def test_int8_needs_images(in_float32: Path, shapes: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(in_float32, tmp_path / "alone.onnx"))
    with pytest.raises(ModelError, match="needs images") as caught:
        headstart.export(alone, "onnx-int8")
    assert "--check" in caught.value.hint
    made = headstart.export(alone, "onnx-int8", check=shapes)
    assert "Half of the images" in made.notes[0]
    guard.check(made.path.read_bytes())


def test_a_model_in_int8_needs_no_images_to_become_one(model: Path, shapes: Path, tmp_path: Path) -> None:
    """None is spent on ranges: all of a folder are proved on."""
    alone = Path(shutil.copy(model, tmp_path / "alone.onnx"))
    made = headstart.export(alone, "onnx-int8", check=shapes)
    assert made.proof is not None
    assert (made.proof.images, made.notes) == (36 + 3, ())
    assert headstart.export(alone, "onnx-int8", overwrite=True).proof is not None


def test_options_that_do_not_fit_are_refused(model: Path) -> None:
    with pytest.raises(OptionError, match="checks itself"):
        headstart.export(model, "html", check=".")
    with pytest.raises(OptionError, match="The bound is 2"):
        headstart.export(model, "onnx", bound=2)


@pytest.mark.slow
def test_the_command_says_what_was_proved(model: Path, tmp_path: Path) -> None:
    done = headstart_cli("export", model, "--to", "ort", "--out", tmp_path / "shapes.ort")
    assert "Tested on" in done.out + done.err
    assert "95 % interval" in done.out + done.err
    record: Any = headstart_cli("export", model, "--to", "ort", "--out", tmp_path / "2.ort", "--json").json
    assert record["proof"]["same_class"] == record["proof"]["images"]
    assert record["proof"]["difference"] <= record["proof"]["bound"] == 0.001
    assert record["bytes"] == (tmp_path / "2.ort").stat().st_size


@pytest.mark.slow
def test_large_images_are_not_held_at_once(model: Path, tmp_path: Path) -> None:
    """Of formats that cannot be decoded at a reduced scale: 30 times 12 MB."""
    Image.new("RGB", (2000, 2000), "red").save(tmp_path / "0.png")
    for number in range(1, 30):
        shutil.copy(tmp_path / "0.png", tmp_path / f"{number}.png")
    classifier = Classifier.load(model)
    tracemalloc.start()
    try:
        sample = sample_of(classifier, tmp_path / "elsewhere.onnx", tmp_path, learns=True)
        assert [one.shape for one in sample.images] == [(2000, 2000, 3)] * 15
        assert len(sample.learnt) == 15
        assert tracemalloc.get_traced_memory()[1] < 5 * 12e6
    finally:
        tracemalloc.stop()
