"""What a classifier takes: one image or several, in any common form; and what is wrong with other values."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.errors import ImageError, InputError
from headstart.core.text import quoted
from headstart.data.decode import decode, from_pil
from headstart.data.storage import MAX_FILE_BYTES, read_file

if TYPE_CHECKING:
    from typing import BinaryIO

    from numpy.typing import NDArray
    from PIL.Image import Image

    from headstart.preprocess.spec import Preprocess

    # A path, the bytes of an image file, an open one, a PIL image, or uint8 pixels (H, W), (H, W, 1), (H, W, 3) or
    # (H, W, 4), also those of a torch tensor on the CPU.
    ImageLike = str | os.PathLike[str] | bytes | BinaryIO | Image | NDArray[np.uint8]

# An image that was opened and not loaded yet reads its file, which two threads must not do at once.
_LOADING = threading.Lock()
# The place of an open file belongs to whoever opened it: two threads must not move it at once.
_READING = threading.Lock()
_CHANNELS = {1, 3, 4}


def several(images: object) -> Iterable[object] | None:
    """The images one by one, where several were given, else None.

    Several are a list or another iterable that has an order, pixels (N, H, W, C), and an array or Series of paths.

    Raises:
        InputError: The value says that it is an array, and gives none.
    """
    from PIL.Image import Image

    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image) or is_file(images):
        return None
    if is_array(images):
        array = as_array(images)
        if array.ndim == 1 and array.dtype.kind in "OUT":
            return list(array.tolist())
        return array if array.ndim == 4 else None
    return images if isinstance(images, Iterable) and not isinstance(images, Mapping | Set) else None


def is_file(value: object) -> bool:
    """Whether it is an open file."""
    return callable(getattr(value, "read", None)) and not is_array(value)


def is_array(value: object) -> bool:
    """Whether it is an array of NumPy, or something that gives one: a tensor, a Series."""
    return hasattr(value, "__array__") and not isinstance(value, type)


def as_array(value: object) -> NDArray[Any]:
    """The array that a value gives.

    Raises:
        InputError: It gives none, as a tensor on a GPU or one with a gradient.
    """
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"A value of type {type(value).__name__} cannot be converted to an array: {str(error)[:200]}",
            "For a tensor, give image.detach().cpu().",
        ) from error


def content(file: Any) -> bytes:
    """All bytes of an open file, which is left at the place where it was; one that cannot go back is read on.

    Raises:
        ImageError: It cannot be read, or it has more bytes than a file may.
        InputError: It was opened as text, or is closed.
    """
    try:
        with _READING:
            if getattr(file, "seekable", lambda: False)():
                place = file.tell()
                file.seek(0)
                try:
                    data = file.read(MAX_FILE_BYTES + 1)
                finally:
                    file.seek(place)
            else:
                data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise _not_binary(file) from error
        raise ImageError(f"cannot be read: {error.strerror or type(error).__name__}") from error
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise InputError(
            f"A file that cannot be read: {reason}.", "Keep it open until its prediction has been returned."
        ) from error
    if not isinstance(data, bytes):
        raise _not_binary(file)
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"more than the limit of {MAX_FILE_BYTES:,} bytes")
    return data


def _not_binary(file: object) -> InputError:
    return InputError(f"A {type(file).__name__} that does not return bytes.", "Open the file with open(path, 'rb').")


def channels_last(value: object) -> NDArray[np.uint8]:
    """The pixels of an array: uint8 (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        InputError: It has another type or shape; the hint holds the line that converts it, where there is one.
    """
    array = as_array(value)
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if array.dtype != np.uint8 or not shaped or not array.size:
        tensor = hasattr(value, "permute")
        raise InputError(
            f"An array of {array.dtype} {array.shape}; expected uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            "with values 0 to 255 in RGB order.",
            f"{_conversion(array, tensor=tensor)}Do not resize or normalise: the model does that itself.",
        )
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _conversion(array: NDArray[Any], *, tensor: bool) -> str:
    """The line that makes such pixels of an array, as the beginning of a hint; empty where nothing is certain."""
    last = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    first = array.ndim == 3 and array.shape[0] in _CHANNELS
    if not array.size or not (last or first):
        return ""
    line = "image" if last else "image.permute(1, 2, 0)" if tensor else "image.transpose(1, 2, 0)"
    whole = ".byte()" if tensor else ".astype('uint8')"
    low, high = (float(array.min()), float(array.max())) if array.dtype.kind in "bfiu" else (-1.0, -1.0)
    if array.dtype.kind == "b":
        line = f"{line}{whole} * 255"
    elif array.dtype.kind == "f":
        if not (low >= 0 and high <= 255):  # normalised, or not finite
            return ""
        line = f"({line} * 255).round(){whole}" if high <= 1 else f"{line}.round(){whole}"
    elif array.dtype != np.uint8:
        if low < 0 or high > 65535:
            return ""
        line = f"{line}{whole}" if high <= 255 else f"({line} / 257).round(){whole}"  # 65535 is white
    return f"Give `{line}`. "


def pixels(image: object, preprocess: Preprocess, max_megapixels: int) -> NDArray[np.uint8]:
    """The pixels of one image, uint8 (H, W, 3), upright.

    Args:
        image: Of any kind that a classifier takes.
        preprocess: Says how many pixels are enough, and which value is white.
        max_megapixels: Images of more are refused.

    Raises:
        ImageError: It cannot be read.
        InputError: The value is of no such kind.
    """
    if isinstance(image, str | os.PathLike):
        image = read_file(os.fspath(image))
    elif is_file(image):
        image = content(image)
    white_level = preprocess.white_level
    if isinstance(image, bytes | bytearray | memoryview):
        found = decode(
            bytes(image), max_megapixels=max_megapixels, enough_px=preprocess.enough_px, white_level=white_level
        )
        return found.pixels
    from PIL import Image

    if isinstance(image, Image.Image):
        with _LOADING:
            return from_pil(image, max_megapixels=max_megapixels, white_level=white_level)
    if is_array(image):
        return from_pil(Image.fromarray(np.ascontiguousarray(channels_last(image))))
    raise InputError(
        f"A value of type {type(image).__name__}; expected a path, bytes, an open file, a PIL image or a uint8 array."
    )


@contextmanager
def naming(image: object, index: int, *, of_several: bool) -> Iterator[None]:
    """Say in an error which image it is about: by its number, from 0, where there are several, and by its file."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{_name(image, index, of_several=of_several)}: {error.message}.", error.hint) from error
    except InputError as error:
        if not of_several or type(error) is not InputError:
            raise
        raise InputError(f"{_name(image, index, of_several=True)}: {error.message}", error.hint) from error


def _name(image: object, index: int, *, of_several: bool) -> str:
    path = getattr(image, "name", None) if is_file(image) else image
    file = quoted(os.fspath(path)) if isinstance(path, str | os.PathLike) else ""
    number = f"Image {index}"
    return f"{number}, {file}" if file and of_several else file or number
