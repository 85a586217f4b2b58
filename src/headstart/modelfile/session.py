"""ONNX Runtime sessions as Headstart uses them: from bytes, on the CPU, one thread each."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.errors import ImageError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def import_silently() -> ModuleType:
    """Import ONNX Runtime without the telemetry that its builds from 1.31 on begin at import, unless it was asked for.

    They would keep a device number in the user's cache folder and queue events for its maker.
    """
    with _IMPORT:
        asked = os.environ.get(_TELEMETRY)
        os.environ[_TELEMETRY] = asked or "1"
        try:
            return importlib.import_module("onnxruntime")
        finally:
            if asked is None:
                del os.environ[_TELEMETRY]


_IMPORT = threading.Lock()
_TELEMETRY = "ORT_DISABLE_TELEMETRY"


class Session:
    """One model in memory; `run` may be called from several threads at once.

    Batching buys nothing on a CPU, and threads inside one run wait for each other: each worker runs single images
    on one thread of its own instead.

    Args:
        model: The ONNX file.

    Raises:
        ModelError: ONNX Runtime refuses it.
    """

    def __init__(self, model: bytes) -> None:
        onnxruntime = import_silently()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; they come as exceptions
        options.enable_cpu_mem_arena = False  # an arena keeps the memory of the largest image ever seen
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        # The runtime's exceptions share no base but Exception and RuntimeError.
        except Exception as error:
            raise ModelError(f"ONNX Runtime refuses the model: {str(error)[:300]}") from error
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, image: NDArray[np.uint8], outputs: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        """Run one image.

        Args:
            image: uint8 (H, W, 3).
            outputs: Names of what is wanted; None for all. What is not asked for is not copied.

        Returns:
            One array for each of them, without the batch dimension.

        Raises:
            ImageError: The runtime failed on this image, for example for lack of memory.
        """
        try:
            results: list[Any] = self._session.run(outputs, {"image": image[None]})
        except Exception as error:
            raise ImageError(f"the model failed on it: {str(error)[:200]}") from error
        return [result[0] for result in results]


class LazySession:
    """A session that is made on first use, once, whichever thread comes first.

    A run that finds everything in the cache needs none, and a model is looked at more often than it is run.

    Args:
        model: The ONNX file.
    """

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._session: Session | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return LazySession, (self._model,)  # another process, or a copy, makes its own

    def run(self, image: NDArray[np.uint8], outputs: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        """Run one image; see `Session.run`.

        Raises:
            ModelError: ONNX Runtime refuses the model.
            ImageError: The runtime failed on this image.
        """
        return self._loaded().run(image, outputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the model's outputs.

        Raises:
            ModelError: ONNX Runtime refuses the model.
        """
        return self._loaded().outputs

    def _loaded(self) -> Session:
        with self._lock:
            if self._session is None:
                self._session = Session(self._model)
        return self._session
