"""Classifiers, runs and tables in other processes: pickled, copied, compared."""

from __future__ import annotations

import copy
import gzip
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart as hs
from headstart.core import errors
from headstart.core.equality import same
from headstart.data.inputs import expand
from helpers import draw, write_images


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


COPIES: dict[str, Callable[[Any], Any]] = {"pickle": pickled, "deepcopy": copy.deepcopy}


def _folder(shapes: Path, tmp_path: Path) -> Path:
    return shapes


def _zip(shapes: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for file in sorted(shapes.rglob("*.png")):
            archive.write(file, f"inner/{file.relative_to(shapes)}")  # seen from a folder inside it
    return tmp_path / "shapes.zip"


def _tar(shapes: Path, tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / "shapes.tar.gz", "w:gz") as archive:
        archive.add(shapes, ".")
    return tmp_path / "shapes.tar.gz"


def _list(shapes: Path, tmp_path: Path) -> Path:
    lines = [f"{file},{file.parent.name}\n" for file in sorted(shapes.rglob("*.png"))]
    (shapes.parent / "list.csv").write_text("path,label\n" + "".join(lines))
    return shapes.parent / "list.csv"


def _idx(shapes: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "idx"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
    images = struct.pack(">HBBIII", 0, 8, 3, *pixels.shape) + pixels.tobytes()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 12) + bytes(range(3)) * 4)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress((folder / "train-labels-idx1-ubyte").read_bytes())
    )
    return folder


def _parquet(shapes: Path, tmp_path: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    files = sorted(shapes.rglob("*.png"))
    table = pyarrow.table({"image": [one.read_bytes() for one in files], "label": [one.parent.name for one in files]})
    parquet.write_table(table, tmp_path / "shapes.parquet")
    return tmp_path / "shapes.parquet"


SOURCES = (_folder, _zip, _tar, _list, _idx, _parquet)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__.strip("_"))
def test_tables(make: Callable[[Path, Path], Path], way: str, shapes: Path, tmp_path: Path) -> None:
    source = make(shapes, tmp_path)
    table = hs.read(source)
    contents = [table.storage.read(row.path) for row in table.rows]
    again = COPIES[way](table)
    assert again is not table
    assert again == table == hs.read(source)
    assert hash(again) == hash(table)
    assert [again.storage.read(row.path) for row in again.rows] == contents
    assert repr(again) == repr(table)
    assert again == COPIES[way](again)  # also after it was read from
    # what is not the same: other rows, and the same rows of another place
    assert replace(table, rows=table.rows[1:]) != table
    assert replace(table, storage=hs.read(write_images(tmp_path / "other", {"a": 3, "b": 3})).storage) != table
    assert replace(table, notes=("a note",)) == table


@pytest.mark.parametrize("make", [_folder, _zip, _tar], ids=lambda make: make.__name__.strip("_"))
def test_a_table_in_another_folder(
    make: Callable[[Path, Path], Path], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means the same where the working folder is another."""
    source = make(shapes, tmp_path)
    monkeypatch.chdir(source.parent)
    table = hs.read(source.name)
    assert table == hs.read(source)
    content, dumped = table.storage.read(table.rows[0].path), pickle.dumps(table)
    monkeypatch.chdir(os.sep)
    again = pickle.loads(dumped)
    assert again.storage.read(again.rows[0].path) == content
    assert again == hs.read(source)


@pytest.mark.parametrize("make", [_zip, _tar], ids=lambda make: make.__name__.strip("_"))
def test_an_archive_that_is_gone_is_the_images_error(
    make: Callable[[Path, Path], Path], shapes: Path, tmp_path: Path
) -> None:
    source = make(shapes, tmp_path)
    table = hs.read(source)
    source.rename(tmp_path / "moved")
    again = pickled(table)  # where it was trained, the images may not be
    assert again == table
    with pytest.raises(hs.ImageError, match="file not found"):
        again.storage.read(again.rows[0].path)
    source.write_bytes(b"something else")
    with pytest.raises(hs.ImageError, match=f"is not a readable {source.name.split('.')[1]} file"):
        pickled(table).storage.read(again.rows[0].path)
    (tmp_path / "moved").replace(source)
    assert again.storage.read(again.rows[0].path) == table.storage.read(table.rows[0].path)


def test_inputs_of_predict(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shapes)
    table = expand(["disc", "noise/000.png"])
    again = pickled(table)
    assert again == table
    assert again.storage.read("noise/000.png") == (shapes / "noise" / "000.png").read_bytes()


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("used", [False, True])
def test_classifiers(model: Path, way: str, used: bool) -> None:
    classifier = hs.load(model, max_megapixels=1)
    images = [draw(label, 60) for label in ("disc", "noise", "stripes")]
    if used:
        classifier.predict(images)
    again = COPIES[way](classifier)
    np.testing.assert_array_equal(again.predict_proba(images), classifier.predict_proba(images))
    assert again.predict(images, coverage=0.9) == classifier.predict(images, coverage=0.9)
    assert again.metadata == classifier.metadata
    assert again.verify().passed
    with pytest.raises(hs.ImageError, match="limit of 1 megapixel"):  # kept too
        again.predict(draw("disc", 1, (1200, 1200)))
    # the file travels once, and nothing of the session
    assert len(pickle.dumps(classifier)) < 1.2 * len(classifier.content)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("make", [_folder, _zip], ids=lambda make: make.__name__.strip("_"))
def test_runs(make: Callable[[Path, Path], Path], way: str, shapes: Path, tmp_path: Path) -> None:
    run = hs.train(make(shapes, tmp_path))
    image = draw("disc", 61)
    expected = run.classifier.predict(image)
    again = COPIES[way](run)
    assert again == run
    assert again.classifier.predict(image) == expected
    assert again.evaluation == run.evaluation
    folders = [one.save(tmp_path / name) for one, name in ((run, "first"), (again, "second"))]
    for name in ("model.onnx", "splits.csv", "predictions.csv", "recipe.toml"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert "data:image/jpeg" in (folders[1] / "report.html").read_text("utf-8")
    other = replace(run.fitted, data=replace(run.fitted.data, features=run.fitted.data.features + 1))
    assert replace(run, fitted=other) != run


def test_explanations_are_compared(model: Path) -> None:
    classifier = hs.load(model)
    one, two = hs.explain(classifier, [draw("disc", 62), draw("stripes", 62)])
    assert one == hs.explain(classifier, draw("disc", 62)) == pickled(one) == copy.deepcopy(one)
    assert one != two
    assert one != "disc"
    assert two in [one, two]
    assert [one, two].index(two) == 1
    assert replace(one, grid=one.grid * 2) != one
    assert replace(one, grid=one.grid[:1]) != one


def test_equality_of_arrays() -> None:
    nan = np.array([1, np.nan])
    assert same(nan, nan.copy())
    assert same({"a": [nan]}, {"a": [nan.copy()]})
    assert same((), ())
    for one, other in (
        (nan, nan.astype(np.float32)), (nan, nan[:1]), (nan, [1.0, np.nan]), ([nan], (nan,)), ([nan], [nan, nan]),
        ({"a": nan}, {"b": nan}), (np.array(["a"]), np.array(["b"])), (nan, None),
    ):  # fmt: skip
        assert not same(one, other)


def test_errors() -> None:
    """They come back from other processes with their hints."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.HeadstartError):
            again = pickled(kind("What was found.", "What to do."))
            assert type(again) is kind
            assert (again.message, again.hint, str(again)) == (
                "What was found.", "What to do.", "What was found. What to do.",
            )  # fmt: skip


_SHARED: list[Any] = []


def _start(classifier: hs.Classifier, table: hs.ImageTable) -> None:
    _SHARED[:] = [classifier, table]


def _work(index: int) -> tuple[int, hs.Prediction]:
    classifier, table = _SHARED
    return os.getpid(), classifier.predict(table.storage.read(table.rows[index].path))


def _train(table: hs.ImageTable) -> hs.Run:
    return hs.train(table, runtime=hs.Runtime(cache=None, workers=1))


@pytest.mark.slow
def test_other_processes(model: Path, shapes: Path, tmp_path: Path) -> None:
    classifier, table = hs.load(model), hs.read(_zip(shapes, tmp_path))
    expected = classifier.predict([table.storage.read(row.path) for row in table.rows])
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn, initializer=_start, initargs=(classifier, table)) as pool:
        found = list(pool.map(_work, range(len(table)), chunksize=4))
        run = pool.submit(_train, table).result()
    assert [prediction for _, prediction in found] == expected
    assert os.getpid() not in {process for process, _ in found}
    assert run.fitted.model == _train(table).fitted.model
    assert run.fitted.data.table == table
    assert run.classifier.predict(table.storage.read(table.rows[0].path)).label == table.rows[0].label


def test_a_pickle_of_another_program(model: Path, shapes: Path, tmp_path: Path) -> None:
    """A program that has imported nothing yet, in another folder."""
    classifier, table = hs.load(model), hs.read(_zip(shapes, tmp_path))
    (tmp_path / "pickle").write_bytes(pickle.dumps((classifier, table)))
    code = (
        "import pickle, sys\n"
        "classifier, table = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(classifier.predict(table.storage.read(table.rows[-1].path)).label, len(table))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "pickle")], capture_output=True, text=True,
                          check=True, cwd=os.sep)  # fmt: skip
    assert done.stdout.split() == [table.rows[-1].label, "36"]
