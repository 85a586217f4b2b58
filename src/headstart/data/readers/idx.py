"""Read IDX files, in which MNIST, Fashion-MNIST and others come: `train-images-idx3-ubyte.gz` and its labels."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headstart.core.errors import ImageError, SourceError
from headstart.core.text import counted, listed, quoted
from headstart.data.readers import Columns
from headstart.data.readers.layout import Tree
from headstart.data.storage import Lasting, Storage
from headstart.data.table import ImageTable, Row, Skipped, Split

# train-images-idx3-ubyte.gz, t10k-images.idx3-ubyte, emnist-letters-test-images-idx3-ubyte.gz
_IMAGES = re.compile(r"(?P<before>.*?)images(?P<mark>[-.]idx)3(?P<after>-ubyte(?:\.gz)?)", re.IGNORECASE)
_SPLITS: tuple[tuple[str, Split], ...] = (("train", "train"), ("valid", "val"), ("t10k", "test"), ("test", "test"))
_UNSIGNED_BYTES = 0x08
_MAX_BYTES = 4 * 2**30  # unpacked; they are held in memory


@dataclass(frozen=True)
class Pair:
    """A file of images and that of their labels.

    Attributes:
        images: Path of the images.
        labels: Path of the labels.
        split: What the name says they are; None where it does not.
    """

    images: str
    labels: str
    split: Split | None


class IdxStorage(Lasting):
    """The images of IDX files, as PGM files. The IDX files are unpacked when the first image is read, and kept.

    Args:
        storage: Where the IDX files come from.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._arrays: dict[str, tuple[tuple[int, ...], memoryview]] = {}

    def _arguments(self) -> tuple[Storage]:
        return (self._storage,)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the array in a file: (N, H, W) of images, (N,) of labels.

        Raises:
            SourceError: It is no IDX file of unsigned bytes, or not whole.
        """
        return self._array(name)[0]

    def bytes_of(self, name: str) -> memoryview:
        """All values of a file, one byte each; errors as of `shape`."""
        return self._array(name)[1]

    def read(self, path: str) -> bytes:
        """All bytes of one image; see `Storage`."""
        name, _, number = path.rpartition("/")
        try:
            (_, height, width), values = self._array(name)
        except SourceError as error:
            raise ImageError(error.message) from error
        begin = int(number) * height * width
        return b"P5 %d %d 255\n" % (width, height) + values[begin : begin + height * width]

    def reopened(self) -> IdxStorage:
        """See `Storage`."""
        return IdxStorage(self._storage.reopened())

    def _array(self, name: str) -> tuple[tuple[int, ...], memoryview]:
        if name not in self._arrays:
            try:
                content = self._storage.read(name)
            except ImageError as error:
                raise SourceError(f"{quoted(name)}: {error.message}.") from error
            self._arrays[name] = _unpacked(content, name)
        return self._arrays[name]


def find(tree: Tree, storage: Storage, source: str, columns: Columns) -> ImageTable | None:
    """The images of the IDX files of a tree; None where there are none.

    Args:
        tree: All files.
        storage: Where their content comes from.
        source: What the user pointed at.
        columns: What he said of it; there is no choice in IDX files.

    Raises:
        SourceError: As for `read`.
    """
    found = pairs(tree.files)
    return read(found, tree, storage, source) if found else None


def pairs(files: Sequence[str]) -> list[Pair]:
    """The files of images that have one of labels beside them, in order of their names."""
    there = set(files)
    found = []
    for path in sorted(files):
        folder, name = path[: path.rfind("/") + 1], path[path.rfind("/") + 1 :]
        if (match := _IMAGES.fullmatch(name)) is None:
            continue
        labels = f"{folder}{match['before']}labels{match['mark']}1{match['after']}"
        unpacked = {one.removesuffix(".gz") for one in (path, labels)} & there  # torchvision keeps both
        if labels in there and (len(unpacked) < 2 or not name.lower().endswith(".gz")):
            before = match["before"].lower()
            found.append(Pair(path, labels, next((split for word, split in _SPLITS if word in before), None)))
    return found


def read(found: Sequence[Pair], tree: Tree, storage: Storage, source: str) -> ImageTable:
    """The images of IDX files; the classes are called by their numbers.

    Args:
        found: What `pairs` found, at least one.
        tree: All files.
        storage: Where their content comes from.
        source: What the user pointed at.

    Raises:
        SourceError: A file is damaged, or there are not as many labels as images.
    """
    unpacked = IdxStorage(storage)
    splits = {pair.split for pair in found}
    named = None not in splits and len(splits) == len(found) > 1
    if len(found) > 1 and not named:
        raise SourceError(
            f"{quoted(source)} holds IDX files whose names do not say their split: "
            f"{listed(pair.images for pair in found)}.",
            "Keep one of train, one of valid and one of t10k or test.",
        )
    rows: list[Row] = []
    for pair in found:
        images, labels = unpacked.shape(pair.images), unpacked.shape(pair.labels)
        if len(images) != 3 or len(labels) != 1 or images[0] != labels[0]:
            raise SourceError(
                f"{quoted(pair.images)} is of shape {images} and {quoted(pair.labels)} of {labels}.",
                "Expected (N, H, W) and (N,): as many labels as images.",
            )
        split = pair.split if named else None
        rows += [
            Row(f"{pair.images}/{number:06}", str(label), split)
            for number, label in enumerate(unpacked.bytes_of(pair.labels))
        ]
    used = {path for pair in found for path in (pair.images, pair.labels)}
    others = [
        Skipped(path, "also here unpacked", decided=True)
        if path.removesuffix(".gz") in used
        else Skipped(path, "not one of the IDX files that were read")
        for path in tree.files
        if path not in used
    ]
    note = f"Read as IDX files, of {counted(len(rows), 'image')}: {listed(pair.images for pair in found)}."
    return ImageTable(source, unpacked, tuple(rows), (*tree.skipped, *others), tree.ignored, (*tree.notes, note))


def _unpacked(content: bytes, name: str) -> tuple[tuple[int, ...], memoryview]:
    """Shape and values of an IDX file, see yann.lecun.com/exdb/mnist."""
    pieces = _pieces(content, name) if name.lower().endswith(".gz") else iter((content,))
    data = bytearray()
    expected = None
    for piece in pieces:
        data += piece
        if expected is None and len(data) >= 4:
            _, kind, dimensions = struct.unpack(">HBB", data[:4])
            if data[:2] != b"\0\0" or kind != _UNSIGNED_BYTES or not 1 <= dimensions <= 3:
                raise SourceError(f"{quoted(name)} is not an IDX file of unsigned bytes.", "Download it again.")
            expected = 4 + 4 * dimensions
        if expected is not None and len(data) >= expected:
            break
    if expected is None or len(data) < expected:
        raise SourceError(f"{quoted(name)} is truncated: its header is incomplete.", "Download it again.")
    shape = struct.unpack(f">{data[3]}I", data[4:expected])
    size = 1
    for side in shape:
        size *= side
    if size > _MAX_BYTES:
        raise SourceError(f"{quoted(name)} holds {size:,} bytes, more than the limit of {_MAX_BYTES:,}.")
    for piece in pieces:
        data += piece
        if len(data) > expected + size:
            break
    if len(data) != expected + size:
        raise SourceError(
            f"{quoted(name)} declares {size:,} values and holds {'more' if len(data) > expected + size else 'fewer'}.",
            "Download it again.",
        )
    return shape, memoryview(bytes(data))[expected:]


def _pieces(content: bytes, name: str) -> Iterator[bytes]:
    """The content of a gzip file in pieces, so that what expands without an end is noticed."""
    import gzip

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while piece := file.read(2**20):
                yield piece
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{quoted(name)} is damaged: {error}.", "Download it again.") from error
