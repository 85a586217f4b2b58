"""Request and response bodies of inference in the Open Inference Protocol, version 2.

Both are JSON, after which the data of some tensors may follow in binary form (the protocol's binary extension): the
header `Inference-Header-Content-Length` tells where the JSON ends.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.text import counted, json_text, listed, portable, quoted
from headstart.serving.problems import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH_HEADER = "Inference-Header-Content-Length"
PIXELS, FILE = "image", "file"  # the inputs, of which a request gives one
# The event loop parses it, and answers nothing meanwhile: 4 MB take 40 ms.
MAX_JSON_BYTES = 4_000_000
_LENGTH = struct.Struct("<I")  # before each element of BYTES


@dataclass(frozen=True)
class Wanted:
    """A requested output.

    Attributes:
        name: Which.
        binary: Whether its data comes after the JSON.
    """

    name: str
    binary: bool


@dataclass(frozen=True)
class Inference:
    """An inference request.

    Attributes:
        images: Files, or pixels with their shape.
        shape: (H, W, 3) of each where they are pixels; None of files.
        outputs: The requested outputs.
        id: Identifier given by the client; empty if there is none.
    """

    images: list[bytes]
    shape: tuple[int, int, int] | None
    outputs: list[Wanted]
    id: str = ""


@dataclass(frozen=True)
class Tensor:
    """An output.

    Attributes:
        name: Which.
        values: float32 (N, ...), or the text of each image.
    """

    name: str
    values: NDArray[np.float32] | Sequence[str]
    shape: list[int] = field(init=False)

    def __post_init__(self) -> None:
        shape = self.values.shape if isinstance(self.values, np.ndarray) else [len(self.values)]
        object.__setattr__(self, "shape", list(shape))

    @property
    def datatype(self) -> str:
        """The type of its elements, in the protocol's terms."""
        return "FP32" if isinstance(self.values, np.ndarray) else "BYTES"

    def binary(self) -> bytes:
        """Its data in binary form, as it follows the JSON."""
        if isinstance(self.values, np.ndarray):
            return self.values.astype("<f4").tobytes()
        texts = [portable(text).encode() for text in self.values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)

    def listed(self) -> list[object]:
        """Its data as JSON values."""
        if isinstance(self.values, np.ndarray):
            return [float(f"{value:.9g}") for value in self.values.ravel()]
        return [portable(text) for text in self.values]


def read(body: bytes, length: str | None, outputs: Sequence[str], most: int) -> Inference:
    """Read a request.

    Args:
        body: All of it.
        length: The header `LENGTH_HEADER`; None where there is none.
        outputs: Names of the existing outputs.
        most: Most images in a request.

    Raises:
        Problem: It does not follow the protocol.
    """
    document, rest = _document(body, length)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Problem(400, f"Expected 'inputs' with one tensor, {quoted(PIXELS)} or {quoted(FILE)}.")
    images, shape = _images(inputs[0], rest, most)
    identity = document.get("id", "")
    if not isinstance(identity, str):
        raise Problem(400, "'id' is not a string.")
    return Inference(images, shape, _outputs(document, outputs), identity)


def write(tensors: Sequence[Tensor], wanted: Sequence[Wanted], head: Mapping[str, object]) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON if binary data follows.

    Args:
        tensors: All outputs.
        wanted: The requested outputs.
        head: What comes before them in the JSON.
    """
    known = {tensor.name: tensor for tensor in tensors}
    entries, parts = [], []
    for one in wanted:
        tensor = known[one.name]
        entry: dict[str, object] = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
        if one.binary:
            parts.append(tensor.binary())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = tensor.listed()
        entries.append(entry)
    text = json_text({**head, "outputs": entries}, indent=None).encode()
    return b"".join([text, *parts]), len(text) if parts else None


def _document(body: bytes, length: str | None) -> tuple[dict[str, object], bytes]:
    size = len(body)
    if length is not None:
        if not (length.isascii() and length.isdigit() and len(length) <= 20) or int(length) > len(body):
            raise Problem(400, f"{LENGTH_HEADER} is {quoted(length[:40])}; the body has {len(body):,} bytes.")
        size = int(length)
    if size > MAX_JSON_BYTES:
        raise Problem(
            413,
            f"The request has {size:,} bytes of JSON, more than {MAX_JSON_BYTES:,}.",
            "Send the data of tensors in binary form.",
        )
    try:
        document = json.loads(body[:size])
    except (ValueError, RecursionError) as error:
        raise Problem(400, "The request body is not JSON.", "See the Open Inference Protocol, version 2.") from error
    if not isinstance(document, dict):
        raise Problem(400, "The request body is not a JSON object.", "See the Open Inference Protocol, version 2.")
    return document, body[size:]


def _images(tensor: Mapping[str, object], rest: bytes, most: int) -> tuple[list[bytes], tuple[int, int, int] | None]:
    name, kind, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(shape, list) or not all(type(one) is int and 0 < one < 2**31 for one in shape):
        raise Problem(400, "'shape' is not a list of positive integers.")
    parameters = tensor.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None and size != len(rest):
        raise Problem(400, f"'binary_data_size' is {str(size)[:40]}; {len(rest):,} bytes follow the JSON.")
    if size is None and rest:
        raise Problem(400, f"{len(rest):,} bytes follow the JSON, and belong to no tensor.")
    data = rest if size is not None else tensor.get("data")
    # Before anything is cut into pieces: 60 MB of tiny elements would become gigabytes of objects.
    if shape and shape[0] > most:
        raise Problem(413, f"{counted(shape[0], 'image')}; expected 1 to {most:,}.")
    if (name, kind) == (FILE, "BYTES") and len(shape) in {1, 2} and shape[1:] in ([], [1]):
        images = _elements(rest, shape[0]) if size is not None else _texts(data)
        if len(images) != shape[0]:
            raise Problem(400, f"{counted(len(images), 'element')} in a tensor of the shape {shape}.")
        return images, None
    if (name, kind) == (PIXELS, "UINT8") and len(shape) == 4 and shape[3] == 3:
        return _pixels(data, shape), (shape[1], shape[2], 3)
    raise Problem(
        400,
        f"A tensor {quoted(str(name)[:100])} of {quoted(str(kind)[:20])} and the shape {str(shape)[:60]}; expected "
        f"{quoted(PIXELS)} of UINT8 and [N, H, W, 3], or {quoted(FILE)} of BYTES and [N].",
    )


def _pixels(data: object, shape: list[int]) -> list[bytes]:
    size = shape[1] * shape[2] * 3
    if isinstance(data, bytes):
        content = data
    else:
        try:
            # As objects first: of texts NumPy makes an array in which each takes the room of the longest.
            values = np.array(data, dtype=object)
            if set(map(type, values.ravel())) - {int}:
                raise ValueError
            values = values.astype(np.int64)
            if values.size and (values.min() < 0 or values.max() > 255):
                raise ValueError
        except (ValueError, OverflowError, RecursionError) as error:
            raise Problem(400, "'data' is not a list of integers from 0 to 255.") from error
        content = values.astype(np.uint8).tobytes()
    if len(content) != size * shape[0]:
        raise Problem(400, f"{len(content):,} values in a tensor of the shape {shape}.")
    return [content[at : at + size] for at in range(0, len(content), size)]


def _elements(rest: bytes, most: int) -> list[bytes]:
    """Elements of BYTES in binary form, each preceded by its length."""
    found: list[bytes] = []
    at = 0
    while at < len(rest):
        end = at + _LENGTH.size
        size = _LENGTH.unpack_from(rest, at)[0] if end <= len(rest) else 0
        if end + size > len(rest) or len(found) == most:
            raise Problem(400, "The binary data of a tensor does not fit its shape and lengths.")
        found.append(rest[end : end + size])
        at = end + size
    return found


def _texts(data: object) -> list[bytes]:
    if not isinstance(data, list):
        raise Problem(400, "The tensor has no data.")
    try:
        items = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in data]
        return [base64.b64decode(one, validate=True) for one in items]
    except (binascii.Error, TypeError, ValueError) as error:
        raise Problem(400, f"'data' of {quoted(FILE)} is not a list of image files in base64.") from error


def _outputs(document: Mapping[str, object], known: Sequence[str]) -> list[Wanted]:
    binary = _flag(document, "binary_data_output")
    asked = document.get("outputs") or [{"name": name} for name in known]
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise Problem(400, "'outputs' is not a list of objects.")
    wanted = []
    for one in asked:
        name = one.get("name")
        if name not in known:
            raise Problem(400, f"There is no output {quoted(str(name)[:100])}.", f"There are {listed(known)}.")
        wanted.append(Wanted(name, _flag(one, "binary_data", default=binary)))
    if len({one.name for one in wanted}) < len(wanted):
        raise Problem(400, "An output is requested twice.")
    return wanted


def _flag(document: Mapping[str, object], name: str, *, default: bool = False) -> bool:
    parameters = document.get("parameters") or {}
    value = parameters.get(name, default) if isinstance(parameters, dict) else None
    if not isinstance(value, bool):
        raise Problem(400, f"The parameter {quoted(name)} is neither true nor false.")
    return value
