"""Where a network is trained: the device, mixed precision, processes, and trackers, by accelerate."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import ProjectConfiguration

from headstart.core.errors import DeviceError, ExtraError
from headstart.core.extras import require
from headstart.core.runtime import Runtime
from headstart.core.text import quoted
from headstart.settings.recipe import Recipe

TRACKER_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


@contextlib.contextmanager
def accelerator(recipe: Recipe, runtime: Runtime) -> Iterator[Accelerator]:
    """Set up accelerate for one training, and leave the process as it was.

    Raises:
        DeviceError: The device is not there, or cannot compute in the precision that was asked for.
        ExtraError: The tracker is not installed.
    """
    cuda, tracker = check(recipe, runtime)
    mps = torch.backends.mps.is_available()
    launched = PartialState._shared_state != {}
    states = random.getstate(), np.random.get_state()
    number = torch.cuda.current_device() if cuda else None
    if cuda and ":" in runtime.device:
        torch.cuda.set_device(runtime.device)
    try:
        yield Accelerator(
            # Else each of several processes would take itself for the only one where there is no GPU.
            cpu=runtime.device == "cpu" or (runtime.device == "auto" and not cuda and not mps),
            mixed_precision=precision(recipe, cuda=cuda),
            log_with=None if tracker == "none" else tracker,
            project_config=ProjectConfiguration(project_dir=str(runtime.folder or "."), logging_dir=_logs(runtime)),
        )
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if number is not None:
            torch.cuda.set_device(number)
        if not launched and not torch.distributed.is_initialized():
            # accelerate keeps the device and the precision for the whole process, and the next training may want others
            for state in (AcceleratorState, GradientState):
                state._reset_state()
            PartialState._reset_state()


def check(recipe: Recipe, runtime: Runtime) -> tuple[bool, str]:
    """Whether a training runs on CUDA, and its tracker; to be asked before any work is done.

    Raises:
        DeviceError: See `accelerator`.
        ExtraError: The tracker is not installed.
    """
    check_device(runtime.device)
    cuda = torch.cuda.is_available() and runtime.device not in {"cpu", "mps"}
    precision(recipe, cuda=cuda)
    tracker = runtime.tracker if runtime.folder else "none"
    if tracker != "none":
        try:
            require(TRACKER_PACKAGES[tracker], "torch", f"The tracker {tracker}")
        except ExtraError as error:  # the extra brings one of them
            error.hint = f"Install it: pip install {TRACKER_PACKAGES[tracker]}. Or choose another --tracker, or none."
            raise
    return cuda, tracker


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        DeviceError: This machine has none of it.
    """
    kind, _, number = device.partition(":")
    missing = ""
    if kind == "cuda" and not torch.cuda.is_available():
        missing = "PyTorch finds no CUDA device"
    elif kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        missing = f"PyTorch finds {torch.cuda.device_count()} CUDA devices, counted from 0"
    elif kind == "mps" and not torch.backends.mps.is_available():
        missing = "PyTorch finds no Apple GPU"
    if missing:
        raise DeviceError(
            f"The device {quoted(device)} was asked for, but {missing}.",
            "Choose --device cpu, or --device auto, which takes a GPU where there is one.",
        )


def default_device() -> str:
    """What ``auto`` stands for: ``cuda`` where there is one, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def precision(recipe: Recipe, *, cuda: bool) -> str:
    """The mixed precision of a training, as accelerate calls it: ``no``, ``bf16`` or ``fp16``.

    Raises:
        DeviceError: fp16 without a GPU.
    """
    if recipe.amp == "auto":
        if not cuda:
            return "no"
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if recipe.amp == "fp16" and not cuda:
        raise DeviceError("Training in fp16 needs a CUDA device.", "Choose --amp auto, bf16 or no.")
    return recipe.amp


def _logs(runtime: Runtime) -> str:
    return str(runtime.folder / "logs") if runtime.folder else "."
