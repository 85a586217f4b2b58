"""The classifier: every kind of input gives the same answer, bad ones are refused by name, imports stay cheap."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart import Classifier, ImageError, InputError
from headstart.core.runtime import Runtime
from headstart.modelfile import session
from headstart.prediction import classifier as module
from headstart.prediction.answers import Result
from helpers import draw


@pytest.fixture(scope="module")
def classifier(model: Path) -> Classifier:
    return headstart.load(model)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return draw("stripes", 300)


@pytest.fixture
def path(picture: Image.Image, tmp_path: Path) -> Path:
    picture.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


# --- inputs --------------------------------------------------------------------------------------------------------


def test_kinds_of_one_image_agree(classifier: Classifier, picture: Image.Image, path: Path) -> None:
    pixels = np.asarray(picture)
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    kinds: dict[str, Any] = {
        "str": str(path),
        "Path": path,
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "memoryview": memoryview(path.read_bytes()),
        "PIL": picture,
        "PIL, lazy": Image.open(path),
        "PIL, RGBA": picture.convert("RGBA"),
        "(H, W, 3)": pixels,
        "(H, W, 4)": opaque,
        "strided": np.repeat(pixels, 2, axis=1)[:, ::2],
        "Fortran order": np.asfortranarray(pixels),
        "read-only": np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape),
    }
    expected, embedding = classifier.predict_proba(picture), classifier.embed(picture)
    assert expected.shape == (3,)
    assert embedding.shape == (1280,)
    assert expected.dtype == embedding.dtype == np.float32
    assert expected.sum() == pytest.approx(1, abs=1e-6)
    for name, image in kinds.items():
        np.testing.assert_array_equal(classifier.predict_proba(image), expected, err_msg=name)
        np.testing.assert_array_equal(classifier.embed(image), embedding, err_msg=name)
        prediction = classifier.predict(image)
        assert isinstance(prediction, headstart.Prediction), name
        assert prediction.label == "stripes", name
        assert prediction.probability == float(expected.max()), name
    many = classifier.predict_proba(list(kinds.values()))
    assert many.shape == (len(kinds), 3)
    assert (many == expected).all()
    assert len(classifier.predict(tuple(kinds.values()))) == len(kinds)


def test_grey_agrees_with_its_colours(classifier: Classifier) -> None:
    grey = np.asarray(draw("disc", 5).convert("L"))
    expected = classifier.predict_proba(np.dstack([grey] * 3))
    np.testing.assert_array_equal(classifier.predict_proba(grey), expected)
    np.testing.assert_array_equal(classifier.predict_proba(Image.fromarray(grey)), expected)


def test_alpha_is_laid_on_white(classifier: Classifier, picture: Image.Image) -> None:
    clear = picture.copy()
    clear.putalpha(0)
    white = np.full((*picture.size[::-1], 3), 255, np.uint8)
    np.testing.assert_array_equal(classifier.predict_proba(np.asarray(clear)), classifier.predict_proba(white))


def test_orientation_is_applied_once(classifier: Classifier, picture: Image.Image) -> None:
    """A file, and the PIL image that was opened from it, stand upright: as the same picture that needs no turn."""
    turned, exif, buffer = picture.rotate(90, expand=True), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(buffer, "PNG", exif=exif)
    expected = classifier.predict_proba(picture)
    np.testing.assert_array_equal(classifier.predict_proba(buffer.getvalue()), expected)
    np.testing.assert_array_equal(classifier.predict_proba(Image.open(buffer)), expected)


def test_stacked_pixels_are_several_images(classifier: Classifier) -> None:
    images = np.stack([np.asarray(draw(label, 7)) for label in ("disc", "noise", "stripes")])
    assert [one.label for one in classifier.predict(images)] == ["disc", "noise", "stripes"]  # type: ignore[call-overload]
    np.testing.assert_array_equal(classifier.predict_proba(images), classifier.predict_proba(list(images)))
    assert classifier.embed(images).shape == (3, 1280)
    assert classifier.predict_proba(images[:1]).shape == (1, 3)
    assert classifier.predict_proba([images[0]]).shape == (1, 3)


def test_inputs_are_not_changed(classifier: Classifier, picture: Image.Image) -> None:
    pixels = np.asarray(picture).copy()
    before, images = pixels.copy(), [pixels, picture.convert("RGBA")]
    classifier.predict(images)
    np.testing.assert_array_equal(pixels, before)
    assert images[1].mode == "RGBA"  # type: ignore[union-attr]
    assert len(images) == 2


@pytest.mark.slow
def test_one_lazy_image_many_times(classifier: Classifier, path: Path) -> None:
    """Pillow loads a file when its pixels are first wanted, and two threads must not do so at once."""
    expected = classifier.predict_proba(path)
    for _ in range(20):
        lazy = Image.open(path)
        assert (classifier.predict_proba([lazy] * 8) == expected).all()


def closed_file() -> io.BytesIO:
    file = io.BytesIO(b"bytes")
    file.close()
    return file


BAD: dict[str, tuple[Any, str]] = {
    "floats": (np.zeros((8, 8, 3)), "float64 (8, 8, 3); expected uint8"),
    "float32": (np.zeros((8, 8, 3), np.float32), "float32"),
    "int64": (np.zeros((8, 8, 3), np.int64), "int64"),
    "uint16": (np.zeros((8, 8), np.uint16), "uint16"),
    "bool": (np.zeros((8, 8), bool), "bool"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), "(3, 8, 8)"),
    "two channels": (np.zeros((8, 8, 2), np.uint8), "(8, 8, 2)"),
    "flat": (np.zeros(8, np.uint8), "(8,)"),
    "number": (np.array(1, np.uint8), "()"),
    "no pixels": (np.zeros((0, 8, 3), np.uint8), "(0, 8, 3)"),
    "stack of floats": (np.zeros((2, 8, 8, 3)), "float64 (8, 8, 3)"),
    "None": (None, "NoneType"),
    "int": (5, "int"),
    "dict": ({}, "dict"),
    "set": ({"a.jpg"}, "set"),
    "generator of numbers": ((x for x in (5, 6)), "Image 0: A value of type int"),
    "empty generator": ((x for x in ()), "An empty list"),
    "closed file": (closed_file(), "closed"),
    "text file": (io.StringIO("text"), "does not return bytes"),
    "empty list": ([], "An empty list"),
    "empty tuple": ((), "An empty list"),
    "empty stack": (np.zeros((0, 8, 8, 3), np.uint8), "An empty list"),
    "nested list": ([[np.zeros((8, 8, 3), np.uint8)]], "list"),
    "list with a float array": ([np.zeros((8, 8), np.uint8), np.zeros((8, 8))], "Image 1: An array of float64"),
}


@pytest.mark.parametrize(("value", "words"), BAD.values(), ids=BAD.keys())
def test_values_that_are_no_image(classifier: Classifier, value: Any, words: str) -> None:
    for call in (classifier.predict, classifier.predict_proba, classifier.embed):
        with pytest.raises(InputError) as caught:
            call(value)
        assert not isinstance(caught.value, ImageError)
        assert isinstance(value, Iterator) or words in str(caught.value)


def test_float_pixels_get_advice(classifier: Classifier) -> None:
    with pytest.raises(InputError, match="Do not resize or normalise"):
        classifier.predict(np.zeros((224, 224, 3), np.float32))  # type: ignore[arg-type]


def test_unreadable_images_are_named(classifier: Classifier, path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("This is no picture at all.\n" * 20)
    half = tmp_path / "half.png"
    half.write_bytes(path.read_bytes()[:-200])
    for bad, words in (
        (tmp_path / "none.png", "none.png': file not found"),
        (tmp_path, "a folder, not a file"),
        (text, "text.jpg': looks like text"),
        (half, "half.png'"),
        ("a\0b", "NUL"),
    ):
        for images in (bad, [path, bad], (str(bad), path)):
            with pytest.raises(ImageError) as caught:
                classifier.predict(images)  # type: ignore[call-overload]
            assert words in str(caught.value)
    with pytest.raises(ImageError, match=r"Image 1: empty file"):
        classifier.predict([path, b"", b"x"])
    with pytest.raises(ImageError, match=r"Image 0: "):
        classifier.predict(b"no picture")


def test_limit_on_megapixels_is_the_recipes(shapes: Path, tmp_path: Path) -> None:
    from headstart.settings.recipe import Recipe

    run = headstart.train(shapes, Recipe(max_megapixels=1))
    Image.new("RGB", (1200, 1000)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match="limit of 1 megapixel"):
        run.classifier.predict(tmp_path / "large.png")


# --- answers -------------------------------------------------------------------------------------------------------


def test_top(classifier: Classifier, picture: Image.Image) -> None:
    probabilities = classifier.predict_proba(picture)
    for top, count in ((1, 1), (2, 2), (3, 3), (5, 3)):
        prediction = classifier.predict(picture, top=top)
        assert len(prediction.top) == count
        assert prediction.top[0] == (prediction.label, prediction.probability)
        values = [value for _, value in prediction.top]
        assert values == sorted(values, reverse=True)
        for label, value in prediction.top:
            assert value == float(probabilities[classifier.classes.index(label)])
    assert prediction.familiar is (prediction.distance <= classifier.metadata.familiarity.threshold)
    assert prediction.labels is None


def test_ties_go_to_the_first_class(classifier: Classifier) -> None:
    probabilities = np.array([0.25, 0.375, 0.375], np.float32)
    prediction = classifier.prediction(Result(probabilities, np.zeros(1280, np.float32)))
    assert [label for label, _ in prediction.top] == ["noise", "stripes", "disc"]


def test_values_that_are_not_finite_are_no_answer(
    classifier: Classifier, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [np.array([np.nan, 0, 0], np.float32), np.zeros(1280, np.float32), np.zeros(1, np.float32)]
    monkeypatch.setattr(session.LazySession, "run", lambda self, image, outputs=None: bad)
    with pytest.raises(ImageError, match="not finite"):
        classifier.predict(picture)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_neighbours_and_threads_do_not_matter(
    classifier: Classifier, model: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Alone, in any list, in any order, with any number of threads: the same bits."""
    images = [draw(label, seed, size) for seed, (label, size) in enumerate(
        zip(("disc", "noise", "stripes") * 4, ((40, 40), (300, 100), (64, 200), (17, 900)) * 3, strict=True)
    )]  # fmt: skip
    alone = np.stack([classifier.predict_proba(image) for image in images])
    embeddings = np.stack([classifier.embed(image) for image in images])
    monkeypatch.setattr(module, "Runtime", lambda cache: Runtime(cache=cache, workers=workers))
    order = np.random.default_rng(workers).permutation(len(images))
    shuffled = [images[i] for i in order]
    np.testing.assert_array_equal(headstart.load(model).predict_proba(shuffled), alone[order])
    np.testing.assert_array_equal(headstart.load(model).embed(shuffled), embeddings[order])


def test_any_thread_may_use_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads at a fresh classifier: one session, and the answers of one thread."""
    made = []
    plain = session.Session.__init__

    def counting(self: session.Session, content: bytes) -> None:
        made.append(content)
        plain(self, content)

    monkeypatch.setattr(session.Session, "__init__", counting)
    images = [draw(label, 20) for label in ("disc", "noise", "stripes", "disc")]
    fresh = headstart.load(model)
    assert not made  # looking at a model does not start the runtime
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: fresh.predict_proba(images), range(8)))
    assert len(made) == 1
    for result in results:
        np.testing.assert_array_equal(result, results[0])


# --- imports -------------------------------------------------------------------------------------------------------


def fresh(code: str, *arguments: str | Path) -> Any:
    """What a fresh process prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_serving_needs_no_training_packages(model: Path, shapes: Path) -> None:
    loaded = fresh(
        """
        import json, sys
        import headstart
        classifier = headstart.load(sys.argv[1])
        before = sorted(sys.modules)
        assert classifier.predict(sys.argv[2]).label == "disc"
        classifier.predict_proba([sys.argv[2]] * 3), classifier.embed(sys.argv[2]), classifier.verify()
        print(json.dumps([before, sorted(sys.modules)]))
        """,
        model,
        shapes / "disc" / "000.png",
    )
    before, after = ({name.partition(".")[0] for name in names} for names in loaded)
    assert not after & {"torch", "torchvision", "sklearn", "scipy", "pandas", "matplotlib", "timm", "typer", "rich"}
    assert "onnxruntime" in after
    assert "onnxruntime" not in before


def test_importing_changes_nothing_and_is_cheap() -> None:
    report = fresh(
        """
        import json, locale, logging, os, random, signal, sys, threading, time, warnings
        import numpy
        def state():
            return [
                sorted(os.environ.items()), warnings.filters[:], logging.root.level, len(logging.root.handlers),
                sorted(logging.root.manager.loggerDict), [str(signal.getsignal(s)) for s in (2, 15)],
                threading.active_count(), random.getstate(), numpy.random.get_state()[1].tolist(),
                numpy.geterr(), os.getcwd(), sys.path[:], locale.setlocale(locale.LC_ALL), sys.excepthook,
            ]
        before, modules = state(), set(sys.modules)
        start = time.perf_counter()
        import headstart
        seconds = time.perf_counter() - start
        new = sorted(set(sys.modules) - modules)
        same = [a == b for a, b in zip(before, state())]
        for name in headstart.__all__:
            getattr(headstart, name)
        same_after_all = [a == b for a, b in zip(before, state())]
        print(json.dumps([seconds, new, same, same_after_all]))
        """
    )
    seconds, new, same, same_after_all = report
    assert seconds < 0.1
    assert new == ["__future__", "headstart"]
    assert all(same), same
    assert all(same_after_all[:4] + same_after_all[5:]), same_after_all


def test_all_is_exactly_what_is_public() -> None:
    """The list, the lazy table and the twin for type checkers name the same things, and each resolves."""
    source = Path(headstart.__file__).read_text()
    twin = set()
    for block in ast.parse(source).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for statement in block.body:
                assert isinstance(statement, ast.ImportFrom)
                for alias in statement.names:
                    twin.add(alias.name)
                    assert headstart._PUBLIC[alias.name] == statement.module
    assert twin == set(headstart._PUBLIC)
    assert set(headstart.__all__) == twin | {"__version__"}
    assert len(headstart.__all__) == len(set(headstart.__all__))
    assert dir(headstart) == sorted(headstart.__all__)
    for name in headstart.__all__:
        value = getattr(headstart, name)
        assert name == "__version__" or value.__name__ == name
        assert name == "__version__" or value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        headstart.trian  # noqa: B018
    namespace: dict[str, Any] = {}
    exec("from headstart import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(headstart.__all__)


def test_errors_are_builtins_too() -> None:
    for name, base in {
        "InputError": ValueError, "OptionError": ValueError, "SourceError": ValueError, "ImageError": ValueError,
        "ModelError": ValueError, "StorageError": OSError, "OfflineError": OSError,
    }.items():  # fmt: skip
        error = getattr(headstart, name)
        assert issubclass(error, base)
        assert issubclass(error, headstart.HeadstartError)
        assert str(error("What was found.", "What to do.")) == "What was found. What to do."
