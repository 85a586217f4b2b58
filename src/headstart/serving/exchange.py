"""Messages between the server and a worker process.

What a worker sends is never unpickled: it reads untrusted files, and if its decoder were compromised, the server
would still read nothing but numbers and text from it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import ImageError, ModelError
from headstart.prediction.answers import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        mapped: Return the class activation map too, if the model has one.
    """

    key: str
    content: bytes
    shape: tuple[int, int, int] | None = None
    mapped: bool = False


@dataclass(frozen=True, eq=False)
class Mapped(Result):
    """A result with the class activation map of its most probable class.

    Attributes:
        grid: float32 (h, w); see `headstart.prediction.activation_map`.
        size: Height and width of the image, in pixels, as the network got it.
    """

    grid: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Verify:
    """Run the golden images of a model."""

    key: str


Message = Load | Image | Verify

_DONE, _RESULT, _IMAGE_ERROR, _MODEL_ERROR = b"D", b"R", b"I", b"M"
# Number of classes, distance; of a map its height and width, and those of the image: 0 where there is none.
_HEAD = struct.Struct("<IdIIII")


def of_result(result: Result) -> bytes:
    """A result, as a worker sends it."""
    distance = math.nan if result.distance is None else result.distance
    grid, size = (result.grid, result.size) if isinstance(result, Mapped) else (np.zeros((0, 0)), (0, 0))
    head = _HEAD.pack(len(result.probabilities), distance, *grid.shape, *size)
    floats = np.concatenate([result.probabilities, result.embedding, grid.ravel()]).astype("<f4")
    return _RESULT + head + floats.tobytes()


def of_error(error: ImageError | ModelError) -> bytes:
    """An error, as a worker sends it."""
    kind = _IMAGE_ERROR if isinstance(error, ImageError) else _MODEL_ERROR
    return kind + str(error).encode("utf-8", "backslashreplace")


DONE = _DONE
TAKEN = b"T"  # sent before the work: what ends the worker from here on may be the message's fault
SKIPPED = _DONE  # sent in place of both for a message that the server has taken back
_NUMBER = struct.Struct("<Q")


def skip(number: int) -> bytes:
    """A number of a message that the worker need not begin with: the first that it was sent has 1."""
    return _NUMBER.pack(number)


def skipped(content: bytes) -> int:
    """The number in what `skip` gave."""
    number: int = _NUMBER.unpack(content)[0]
    return number


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
    classes, number, rows, columns, height, width = _HEAD.unpack_from(rest)
    floats = np.frombuffer(rest, "<f4", offset=_HEAD.size)
    distance = None if math.isnan(number) else number
    end = len(floats) - rows * columns
    probabilities, embedding, grid = floats[:classes], floats[classes:end], floats[end:]
    if not rows:
        return Result(probabilities, embedding, distance)
    return Mapped(probabilities, embedding, distance, grid=grid.reshape(rows, columns), size=(height, width))
