"""Messages between the server and a worker process.

What a worker sends is never unpickled: it reads untrusted files, and if its decoder were compromised, the server
would still read nothing but numbers and text from it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from headstart.core.errors import ImageError, ModelError
from headstart.prediction.answers import Result


@dataclass(frozen=True)
class Load:
    """Take a model.

    Attributes:
        key: Identifies the model in later messages.
        content: The model file.
        max_megapixels: See `headstart.prediction.classifier.Classifier`.
        keep: Keys of the models that are still served; the worker drops all others.
    """

    key: str
    content: bytes
    max_megapixels: int | None
    keep: frozenset[str]


@dataclass(frozen=True)
class Image:
    """Run a model on an image.

    Attributes:
        key: The model.
        content: An image file, or uint8 pixels if there is a shape.
        shape: (H, W, 3) of pixels; None for a file.
    """

    key: str
    content: bytes
    shape: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Verify:
    """Run the golden images of a model."""

    key: str


_DONE, _RESULT, _IMAGE_ERROR, _MODEL_ERROR = b"D", b"R", b"I", b"M"
_HEAD = struct.Struct("<Id")  # number of classes, distance


def of_result(result: Result) -> bytes:
    """A result, as a worker sends it."""
    distance = math.nan if result.distance is None else result.distance
    head = _HEAD.pack(len(result.probabilities), distance)
    floats = np.concatenate([result.probabilities, result.embedding]).astype("<f4")
    return _RESULT + head + floats.tobytes()


def of_error(error: ImageError | ModelError) -> bytes:
    """An error, as a worker sends it."""
    kind = _IMAGE_ERROR if isinstance(error, ImageError) else _MODEL_ERROR
    return kind + str(error).encode("utf-8", "backslashreplace")


DONE = _DONE
TAKEN = b"T"  # sent before the work: what ends the worker from here on may be the message's fault


def read(answer: bytes) -> Result | None:
    """The result that a worker has sent; None for messages without one.

    Raises:
        ImageError: The image cannot be read, or the model failed on it.
        ModelError: The model is refused, or does not reproduce the results of the machine that trained it.
    """
    kind, rest = answer[:1], answer[1:]
    if kind == _IMAGE_ERROR:
        raise ImageError(rest.decode("utf-8", "replace"))
    if kind == _MODEL_ERROR:
        raise ModelError(rest.decode("utf-8", "replace"))
    if kind == _DONE:
        return None
    classes, distance = _HEAD.unpack_from(rest)
    floats = np.frombuffer(rest, "<f4", offset=_HEAD.size)
    return Result(floats[:classes], floats[classes:], None if math.isnan(distance) else distance)
