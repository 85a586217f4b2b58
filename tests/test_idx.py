"""IDX files, as MNIST comes: the same images as PNG files give, train and t10k as splits, damaged files in words."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.core.errors import SourceError
from headstart.data.decode import decode

RNG = np.random.default_rng(0)
DIGITS = RNG.integers(0, 256, (12, 7, 5), np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 3


def idx(array: np.ndarray) -> bytes:
    """An array of unsigned bytes as the format's page describes it."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(
    folder: Path, part: str, images: np.ndarray = DIGITS, labels: np.ndarray = LABELS, *, packed: bool = True
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
        content = idx(array)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inside", [".", "MNIST/raw"])
def test_mnist_is_read_with_its_splits(tmp_path: Path, packed: bool, inside: str) -> None:
    write(tmp_path / inside, "train", packed=packed)
    write(tmp_path / inside, "t10k", DIGITS[:4], LABELS[:4], packed=packed)
    table = headstart.read(tmp_path)
    assert [(row.label, row.split) for row in table.rows] == [
        *((str(label), "test") for label in LABELS[:4]), *((str(label), "train") for label in LABELS),
    ]  # fmt: skip
    assert not table.skipped
    assert table.notes[-1].startswith("Read as IDX files, of 16 images:")
    for row, expected in zip(table.rows, [*DIGITS[:4], *DIGITS], strict=True):
        pixels = decode(table.storage.read(row.path)).pixels
        assert np.array_equal(pixels, np.repeat(expected[:, :, None], 3, 2))
    assert table.storage.reopened().read(table.rows[0].path) == table.storage.read(table.rows[0].path)


def test_a_single_pair_has_no_split_and_other_names_are_known(tmp_path: Path) -> None:
    write(tmp_path, "train")
    assert headstart.read(tmp_path).splits == ()
    emnist = tmp_path / "emnist"
    for part in ("train", "test"):
        write(emnist, f"emnist-letters-{part}")
    assert headstart.read(emnist).splits == ("train", "test")
    kaggle = tmp_path / "kaggle"
    write(kaggle, "train", packed=False)
    for path in list(kaggle.iterdir()):
        path.rename(kaggle / path.name.replace("-idx", ".idx"))
    assert len(headstart.read(kaggle)) == 12


def test_packed_and_unpacked_beside_each_other(tmp_path: Path) -> None:
    for packed in (False, True):
        write(tmp_path, "train", packed=packed)
    table = headstart.read(tmp_path)
    assert len(table) == 12
    assert not table.unusable


@pytest.mark.slow
def test_it_trains_as_the_folder_does(tmp_path: Path) -> None:
    labels = (LABELS == 1).astype(np.uint8)
    write(tmp_path / "idx", "train", np.where(labels[:, None, None] == 1, DIGITS, DIGITS // 8), labels)
    table = headstart.read(tmp_path / "idx")
    for row in table.rows:
        path = tmp_path / "files" / f"{row.label}/{row.path.rpartition('/')[2]}.pgm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(table.storage.read(row.path))
    one, other = headstart.train(table), headstart.train(tmp_path / "files")
    assert (one.evaluation.n, one.evaluation.accuracy) == (other.evaluation.n, other.evaluation.accuracy)
    # Rows come in another order, and so do the sums.
    assert one.evaluation.as_dict()["log_loss"] == pytest.approx(other.evaluation.as_dict()["log_loss"], rel=1e-6)
    assert one.fitted.data.targets.names == ("0", "1")


def test_in_a_zip_file(tmp_path: Path) -> None:
    write(tmp_path / "in", "train")
    with zipfile.ZipFile(tmp_path / "mnist.zip", "w") as file:
        for path in (tmp_path / "in").iterdir():
            file.write(path, path.name)
    zipped, plain = headstart.read(tmp_path / "mnist.zip"), headstart.read(tmp_path / "in")
    assert zipped.rows == plain.rows
    assert zipped.storage.read(zipped.rows[3].path) == plain.storage.read(plain.rows[3].path)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (idx(DIGITS)[:-1], "holds fewer"),
        (idx(DIGITS) + b"x", "holds more"),
        (idx(DIGITS)[:9], "truncated"),
        (b"", "truncated"),
        (b"PK\x03\x04" * 9, "not an IDX file"),
        (struct.pack(">HBB3I", 0, 13, 3, 1, 1, 1), "not an IDX file"),  # floats
        (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**15, 2**15), "more than the limit"),
        (idx(DIGITS[:5]), "as many labels as images"),
        (idx(LABELS), "Expected (N, H, W)"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files(tmp_path: Path, images: bytes, words: str, packed: bool) -> None:
    write(tmp_path, "train", packed=packed)
    path = next(tmp_path.glob("*images*"))
    path.write_bytes(gzip.compress(images) if packed else images)
    with pytest.raises(SourceError) as caught:
        headstart.read(tmp_path)
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.slow
def test_a_packed_file_that_is_cut_short_or_expands_without_an_end(tmp_path: Path) -> None:
    write(tmp_path, "train")
    path = next(tmp_path.glob("*images*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(SourceError, match="damaged"):
        headstart.read(tmp_path)
    path.write_bytes(gzip.compress(idx(DIGITS) + bytes(400 * 2**20), 1))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="holds more"):
            headstart.read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_splits_that_the_names_do_not_tell(tmp_path: Path) -> None:
    for part in ("one", "two"):
        write(tmp_path, part)
    with pytest.raises(SourceError, match="do not say their split"):
        headstart.read(tmp_path)
