"""Read a tensor file of legacy PyTorch without PyTorch, and without running code from it.

The format is a sequence of pickles, then the raw storages (torch.serialization, before the zip format of 1.6).
The unpickler knows four names; anything else that the file asks for is refused.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from headstart.core.errors import ModelError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_tensors(data: bytes) -> dict[str, NDArray[Any]]:
    """Tensors by name, in the order of the file.

    Args:
        data: The whole file; its digest must have been checked.

    Raises:
        ModelError: It is no such file, or asks for anything but tensors in an OrderedDict.
    """
    file = io.BytesIO(data)
    try:
        if _load(file) != _MAGIC or _load(file) != _PROTOCOL:
            raise ModelError("The weights are not in PyTorch's legacy tensor format.")
        _load(file)  # byte order and type sizes of the machine that wrote it
        tensors, keys = _load(file), _load(file)
        storages = {key: dtype for (_, dtype, key), *_ in tensors.values()}
        arrays: dict[str, NDArray[Any]] = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            dtype = _DTYPES[storages[key]]
            arrays[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
        return {name: _tensor(arrays, *parts) for name, parts in tensors.items()}
    except ModelError:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        OverflowError,
        MemoryError,
    ) as error:
        raise ModelError(f"The weights cannot be read: {error}.") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Parts
        if module == "torch" and name in _DTYPES:
            return name
        raise ModelError(f"The weights ask for {module}.{name}, which is not a tensor; refused.")

    def persistent_load(self, pid: Any) -> tuple[str, str, str]:
        kind, dtype, key, _device, _count, _view = pid
        return kind, dtype, key


class _Parts(tuple):  # type: ignore[type-arg]
    """What a tensor is made of: its storage, offset, shape and strides."""

    __slots__ = ()

    def __new__(cls, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Parts:
        return super().__new__(cls, (storage, offset, shape, strides))


def _load(file: io.BytesIO) -> Any:
    return _Unpickler(file).load()  # the restricted one, above


def _tensor(
    arrays: dict[str, NDArray[Any]], storage: tuple[str, str, str], offset: int, shape: Any, strides: Any
) -> NDArray[Any]:
    flat = arrays[storage[2]][offset:]
    needed = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if needed > flat.size or min((*shape, *strides), default=1) < 0:
        raise ModelError("The weights hold a tensor that extends beyond its storage; refused.")
    return as_strided(flat, shape, [stride * flat.itemsize for stride in strides]).copy()
