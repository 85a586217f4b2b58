"""What `predict` takes from Python: open files, tensors, Series, streams of any length; advice on what it refuses."""

from __future__ import annotations

import io
import re
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart import Classifier, ImageError, InputError, OptionError
from helpers import draw


@pytest.fixture(scope="module")
def classifier(model: Path) -> Classifier:
    return headstart.load(model)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of three kinds in turn; no two are the same."""
    folder = tmp_path_factory.mktemp("files")
    found = []
    for number in range(24):
        found.append(folder / f"{number:02}.png")
        draw(("disc", "noise", "stripes")[number % 3], 500 + number).save(found[-1])
    return found


class Tensor:
    """Behaves as a torch tensor: it gives an array, and is none."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._values

    def permute(self, *axes: int) -> Tensor:
        return Tensor(self._values.transpose(axes))

    def __iter__(self) -> Iterator[Tensor]:
        return (Tensor(row) for row in self._values)


class OnGpu(Tensor):
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy.")


class Series(Tensor):
    """Behaves as a Series of paths, whose index is not 0, 1, 2."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__(np.array(values, object))


class Pipe(io.RawIOBase):
    """A file that cannot go back."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._content.readinto(buffer)


def test_open_files_are_read_whole_and_left_where_they_were(classifier: Classifier, files: list[Path]) -> None:
    expected = classifier.predict_proba(files[0])
    memory = io.BytesIO()
    draw("disc", 500).save(memory, "PNG")  # stands at its end
    end = memory.tell()
    with files[0].open("rb") as file, files[0].open("rb", buffering=0) as raw:
        file.seek(7)
        for image in (memory, file, raw, io.BufferedReader(Pipe(files[0].read_bytes()))):
            np.testing.assert_array_equal(classifier.predict_proba(image), expected)
        assert (memory.tell(), file.tell(), raw.tell()) == (end, 7, 0)
        assert (classifier.predict_proba([file] * 20) == expected).all()
        assert isinstance(classifier.predict(memory), headstart.Prediction)
    with files[0].open(encoding="latin-1") as text, pytest.raises(InputError, match="'rb'"):
        classifier.predict(text)  # type: ignore[call-overload]
    with files[0].open() as text, pytest.raises(InputError, match="'rb'"):  # not UTF-8
        classifier.predict(text)  # type: ignore[call-overload]
    with pytest.raises(ImageError, match="empty file"):
        classifier.predict(io.BytesIO())


def test_one_channel_is_grey(classifier: Classifier) -> None:
    grey = np.asarray(draw("disc", 5).convert("L"))
    expected = classifier.predict_proba(grey)
    np.testing.assert_array_equal(classifier.predict_proba(grey[:, :, None]), expected)
    assert (classifier.predict_proba(np.stack([grey[:, :, None]] * 2)) == expected).all()


def test_tensors_are_their_arrays(classifier: Classifier) -> None:
    pixels = np.asarray(draw("stripes", 9))
    expected = classifier.predict_proba(pixels)
    np.testing.assert_array_equal(classifier.predict_proba(Tensor(pixels)), expected)  # type: ignore[arg-type]
    assert (classifier.predict_proba(Tensor(np.stack([pixels] * 3))) == expected).all()  # type: ignore[arg-type]
    assert (classifier.predict_proba([Tensor(pixels)] * 2) == expected).all()  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"detach\(\)\.cpu\(\)"):
        classifier.predict(OnGpu(pixels))  # type: ignore[call-overload]


def test_real_tensors(classifier: Classifier) -> None:
    torch = pytest.importorskip("torch")
    pixels = np.asarray(draw("stripes", 9)).copy()
    expected = classifier.predict_proba(pixels)
    tensor = torch.from_numpy(pixels)
    np.testing.assert_array_equal(classifier.predict_proba(tensor), expected)
    assert classifier.predict_proba(torch.stack([tensor] * 3)).shape == (3, 3)
    for image in (tensor.permute(2, 0, 1), (tensor / 255).permute(2, 0, 1), tensor / 255, tensor.int()):
        np.testing.assert_array_equal(classifier.predict_proba(_converted(classifier, image)), expected)
    with pytest.raises(InputError, match=r"detach\(\)\.cpu\(\)"):
        classifier.predict((tensor / 255).requires_grad_())


@pytest.mark.slow
def test_series_of_paths(classifier: Classifier, files: list[Path]) -> None:
    expected = classifier.predict_proba(files)
    for paths in (Series([*files]), Series([str(file) for file in files]), np.array([str(file) for file in files])):
        np.testing.assert_array_equal(classifier.predict_proba(paths), expected)  # type: ignore[arg-type]
        assert classifier.predict(paths) == classifier.predict(files)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="Image 1: A value of type float"):  # pandas' missing value
        classifier.predict(Series([files[0], float("nan")]))  # type: ignore[call-overload]


def test_real_series(classifier: Classifier, files: list[Path]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"path": [str(file) for file in files]}, index=range(100, 100 + len(files)))
    expected = classifier.predict_proba(files)
    np.testing.assert_array_equal(classifier.predict_proba(frame["path"]), expected)
    np.testing.assert_array_equal(classifier.predict_proba(frame["path"].astype("category")), expected)
    np.testing.assert_array_equal(classifier.predict_proba(frame.set_index("path").index), expected)
    assert len(classifier.predict(frame["path"].iloc[:3])) == 3


def test_a_generator_is_a_list(classifier: Classifier, files: list[Path]) -> None:
    expected = classifier.predict(files)
    assert classifier.predict(file for file in files) == expected
    assert classifier.predict(map(str, files)) == expected
    assert classifier.predict(dict.fromkeys(files).keys() and iter(files)) == expected
    assert classifier.predict(files[0].parent.glob("00.png")) == expected[:1]
    assert classifier.embed(file for file in files[:2]).shape == (2, 1280)
    assert len(headstart.explain(classifier, (file for file in files[:2]))) == 2


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_a_stream_keeps_its_order(classifier: Classifier, files: list[Path], workers: int) -> None:
    expected = classifier.predict(files, top=2, coverage=0.9)
    found = classifier.predict_iter(iter(files), top=2, coverage=0.9, workers=workers)
    assert list(found) == expected
    assert list(classifier.predict_iter(files[:2])) == classifier.predict(files[:2])
    assert list(classifier.predict_iter(())) == []


def test_a_stream_is_taken_a_few_images_ahead(classifier: Classifier, files: list[Path]) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            yield files[taken % len(files)]
            taken += 1

    threads = threading.active_count()
    stream = classifier.predict_iter(endless(), workers=2)
    assert taken == 0  # nothing is done before something is asked for
    for number in range(50):
        next(stream)
        assert taken <= number + 1 + 8
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads


@pytest.mark.slow
def test_memory_does_not_grow_with_a_stream(classifier: Classifier) -> None:
    """80 images of 3 MB; a list of them would be 240 MB."""
    pixels = np.asarray(draw("noise", 3, (1000, 1000)))
    classifier.predict(pixels)
    tracemalloc.start()
    try:
        count = sum(1 for _ in classifier.predict_iter((pixels.copy() for _ in range(80)), workers=2))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 80
    assert peak < 100e6


@pytest.mark.slow
def test_what_a_generator_gives_may_change_at_once(classifier: Classifier, files: list[Path]) -> None:
    """A camera fills the same array again, and a file is closed when the next one is opened."""

    def frames() -> Iterator[np.ndarray]:
        frame = np.empty_like(np.asarray(Image.open(files[0])))
        for file in files:
            frame[:] = np.asarray(Image.open(file))
            yield frame
            frame[:] = 0

    def opened() -> Iterator[io.BufferedReader]:
        for path in files:
            with path.open("rb") as file:
                yield file

    def pictures() -> Iterator[Image.Image]:
        for path in files:
            with Image.open(path) as image:
                yield image

    def buffers() -> Iterator[memoryview]:
        buffer = bytearray(100_000)
        for path in files:
            content = path.read_bytes()
            buffer[: len(content)] = content
            yield memoryview(buffer)[: len(content)]
            buffer[:] = bytes(len(buffer))

    expected = classifier.predict(files)
    for source in (frames, opened, pictures, buffers):
        assert list(classifier.predict_iter(source(), workers=3)) == expected, source.__name__


def test_errors_in_a_stream_are_named_by_their_number(classifier: Classifier, files: list[Path]) -> None:
    images: list[Any] = [files[0], b"", io.BytesIO(b"no picture"), files[1].parent / "none.png", files[2]]
    for given in (images, iter(images)):
        found = list(classifier.predict_iter(given, errors="yield"))
        assert [isinstance(one, ImageError) for one in found] == [False, True, True, True, False]
        assert [str(one).split(":")[0] for one in found[1:3]] == ["Image 1", "Image 2"]
        assert re.match(r"Image 3, '.*none\.png': file not found\.$", str(found[3]))
        assert [found[0], found[4]] == classifier.predict([files[0], files[2]])
    stream = classifier.predict_iter(images)
    assert next(stream) == classifier.predict(files[0])
    with pytest.raises(ImageError, match="Image 1: empty file"):
        next(stream)
    with pytest.raises(ImageError, match=r"Image 3, '.*none\.png': file not found"):
        classifier.predict([*files[:3], "none.png"])
    with pytest.raises(InputError, match="Image 2: A value of type int") as caught:
        list(classifier.predict_iter([*files[:2], 5], errors="yield"))  # type: ignore[list-item]
    assert not isinstance(caught.value, ImageError)
    with pytest.raises(ZeroDivisionError):  # an error of the generator is its own
        list(classifier.predict_iter(files[1 // 0] for _ in "a"))


def test_a_stream_is_of_several(classifier: Classifier, files: list[Path]) -> None:
    for image in (files[0], str(files[0]), b"bytes", np.zeros((8, 8, 3), np.uint8), 5, {}):
        with pytest.raises(InputError, match="expected several images"):
            classifier.predict_iter(image)  # type: ignore[call-overload]
    for bad in ({"errors": "ignore"}, {"errors": None}, {"workers": 0}, {"workers": "2"}, {"top": 0}, {"top": "3"}):
        with pytest.raises(OptionError, match=next(iter(bad))):
            classifier.predict_iter(files, **bad)  # type: ignore[call-overload]


def _converted(classifier: Classifier, image: Any) -> Any:
    """What the line makes of an array that the error on it shows."""
    with pytest.raises(InputError) as caught:
        classifier.predict(image)
    line = re.search(r"Give `(.*)`\.", caught.value.hint)
    assert line, caught.value
    return eval(line[1], {"image": image})


def test_the_line_that_converts_does(classifier: Classifier) -> None:
    pixels = np.asarray(draw("stripes", 9))
    expected = classifier.predict_proba(pixels)
    for image in (
        pixels / 255,
        (pixels / 255).astype(np.float32),
        pixels.astype(np.float64),
        pixels.astype(np.int64),
        pixels.astype(np.uint16) * 257,
        pixels.transpose(2, 0, 1),
        (pixels / 255).transpose(2, 0, 1).astype(np.float32),
        pixels.transpose(2, 0, 1).astype(np.int32),
    ):
        line = _converted(classifier, image)
        assert line.dtype == np.uint8
        np.testing.assert_array_equal(classifier.predict_proba(line), expected)
    mask = np.zeros((40, 40), bool)
    mask[10:20] = True
    assert (_converted(classifier, mask) == mask * 255).all()
    assert (_converted(classifier, mask[None].astype(np.float32))[:, :, 0] == mask * 255).all()
    for image in (pixels / 127.5 - 1, pixels.astype(np.float64) * np.nan, np.zeros((8, 8, 2), np.uint8), pixels * 1j):
        with pytest.raises(InputError) as caught:  # nothing is certain
            classifier.predict(image)
        assert caught.value.hint.startswith("Do not resize or normalise")
