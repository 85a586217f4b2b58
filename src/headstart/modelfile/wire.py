"""Look into a model file without parsing it: a protobuf message takes up to forty times its bytes in memory.

What is read here is the outermost structure alone, so that a large file that is not ours costs nothing, and so that
no more than `MAX_STRUCTURE_BYTES` of messages are parsed of any file.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from headstart.core.errors import ModelError
from headstart.core.text import quoted
from headstart.modelfile.location import NOT_OURS

# The key of the one metadata entry.
KEY = "headstart"
MAX_MODEL_BYTES = 2**31 - 1  # protobuf's own limit
MAX_METADATA_BYTES = 64 * 2**20
MAX_STRUCTURE_BYTES = 4 * 2**20  # all but metadata and weights; lite0 has 0.2 MiB
MAX_FIELDS = 200_000  # that are looked at: a file of nothing but empty fields would take minutes

# Field numbers of onnx.proto.
_MODEL = {1: "ir_version", 2: "producer_name", 7: "graph", 8: "opset_import", 14: "metadata_props"}
_GRAPH = {1: "node", 2: "name", 5: "initializer", 11: "input", 12: "output"}
_RAW_DATA = 9
_LENGTH_DELIMITED = 2

Content = bytes | mmap.mmap


def read_model(path: Path) -> bytes:
    """Read a model file, after a look at its outermost fields.

    Raises:
        ModelError: There is no such file, or it is no model of Headstart.
    """
    name = quoted(str(path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{name} is not a regular file.", NOT_OURS)  # opening a pipe would wait for a writer
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not 0 < size <= MAX_MODEL_BYTES:
                raise ModelError(f"{name} is {'empty' if not size else 'larger than 2 GiB'}.", NOT_OURS)
            # A large file that is not ours is refused without being read: pages that are skipped stay on the disk.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                metadata_text(view, name)
                return view[:]
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file {name}.", "Train one: headstart train FOLDER") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        raise ModelError(f"{name} cannot be read: {reason}.") from error


def metadata_text(content: Content, name: str) -> str:
    """The one metadata entry of a model file, found without reading the model.

    Raises:
        ModelError: The file is no ONNX file, or has no such entry, or several.
    """
    entries: list[tuple[int, int]] = []
    try:
        budget = iter(range(MAX_FIELDS))
        for field, start, end in _fields(content, 0, len(content), budget):
            if _MODEL.get(field) == "metadata_props":
                entries.append((start, end))
        if len(entries) == 1 and entries[0][1] - entries[0][0] > MAX_METADATA_BYTES:
            start, end = entries[0]
            raise ModelError(f"{name} has a metadata entry of {end - start:,} bytes; refused.", NOT_OURS)
        values = [
            (field, content[begin:stop])
            for start, end in entries[:1]
            for field, begin, stop in _fields(content, start, end, budget)
        ]
    except (ValueError, IndexError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{name} is not a valid ONNX file.", NOT_OURS) from error
    if len(entries) > 1:
        raise ModelError(f"{name} has several metadata entries; a model of Headstart has one.", NOT_OURS)
    if [field for field, _ in values] != [1, 2] or values[0][1] != KEY.encode():
        raise ModelError(f"{name} is not a model of Headstart: it has no metadata entry '{KEY}'.", NOT_OURS)
    try:
        return values[1][1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{name} has metadata that is not UTF-8.", NOT_OURS) from error


def check_structure(content: bytes, name: str) -> None:
    """Refuse a file that holds fields which Headstart never writes, or that would swell when it is parsed.

    Raises:
        ModelError: It is refused.
    """
    structure = len(content)
    try:
        budget = iter(range(MAX_FIELDS))
        for part, start, end in _fields(content, 0, len(content), budget):
            if part not in _MODEL:
                raise ModelError(f"{name} holds functions or other parts that Headstart never writes; refused.")
            if _MODEL[part] == "metadata_props":
                structure -= end - start
            if _MODEL[part] == "graph":
                structure -= _weight_bytes(content, start, end, budget, name)
    except (ValueError, IndexError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{name} is not a valid ONNX file.", NOT_OURS) from error
    if structure > MAX_STRUCTURE_BYTES:
        raise ModelError(f"{name} has {structure:,} bytes besides its weights; refused.", NOT_OURS)


def _weight_bytes(content: bytes, at: int, end: int, budget: Iterator[int], name: str) -> int:
    total = 0
    for part, start, stop in _fields(content, at, end, budget):
        if part not in _GRAPH:
            raise ModelError(f"{name} holds sparse data or other parts that Headstart never writes; refused.")
        if _GRAPH[part] == "initializer":
            for field, begin, close in _fields(content, start, stop, budget):
                total += close - begin if field == _RAW_DATA else 0
    return total


def _fields(content: Content, at: int, end: int, budget: Iterator[int]) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a protobuf message."""
    while at < end:
        if next(budget, None) is None:
            raise ValueError("more fields than any model has")
        key, at = _varint(content, at)
        kind = key & 7
        start = at
        if kind == _LENGTH_DELIMITED:
            length, start = _varint(content, at)
            at = start + length
        elif kind == 0:
            _, at = _varint(content, at)
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not a protobuf message")
        if at > end:
            raise ValueError("a field ends outside its message")
        yield key >> 3, start, at


def _varint(content: Content, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("not a protobuf message")
