"""Which engine embeds: ONNX Runtime on the CPU, or PyTorch on a GPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from headstart.backbones.embedder import Embedder
from headstart.core.errors import DeviceError
from headstart.core.extras import require
from headstart.core.runtime import Runtime
from headstart.core.tables import resolve
from headstart.core.text import quoted
from headstart.features.extract import Engine
from headstart.settings.recipe import Recipe


def find_engine(recipe: Recipe, embedder: Embedder, runtime: Runtime) -> Engine | None:
    """The engine of `headstart.training.engine` where a GPU embeds, or None for ONNX Runtime.

    With the device ``auto`` a GPU is taken where PyTorch is installed and the backbone computes in float32.

    Raises:
        DeviceError: A GPU was asked for, and there is none, or the backbone is one for the CPU.
        ExtraError: A GPU was asked for, and PyTorch is not installed.
    """
    asked = runtime.device.startswith("cuda")
    if runtime.device == "cpu":
        return None
    if runtime.device == "mps":
        raise DeviceError("Embedding runs on the CPU or on CUDA, not on an Apple GPU.", "Choose --device cpu or auto.")
    if recipe.precision == "int8" or not recipe.backbone_spec.gpu:
        if asked:
            raise DeviceError(
                f"The device {quoted(runtime.device)} was asked for, but {quoted(recipe.backbone)} in "
                f"{recipe.precision} runs on the CPU.",
                "Choose --precision float32, or leave --device out.",
            )
        return None
    if not asked and not (_has_nvidia() and importlib.util.find_spec("torch")):
        return None
    require("torch", "torch", "Embedding on a GPU")
    engine: Engine | None = resolve("headstart.training.engine:find")(recipe, embedder.preprocess, runtime.device)
    return engine


def _has_nvidia() -> bool:
    """Whether the system has the driver's device; PyTorch, which would know better, takes seconds to import."""
    return Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia/version").exists()
