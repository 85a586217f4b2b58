"""Checkpoints: the whole state of a training after an epoch, in a folder that appears at once and whole.

accelerate writes weights, optimiser and random states into a folder that nobody looks at; it is flushed to the disk,
and then gets its name. What is ours goes beside them as JSON and safetensors: accelerate would read it back as a
pickle that may hold code.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from headstart.core.errors import ModelError
from headstart.core.files import make_folder, storage_error, sync_folder
from headstart.core.runtime import CHECKPOINTS
from headstart.core.text import counted, quoted
from headstart.runs.details import Epoch

_NAME = re.compile(r"epoch-(\d{6})")
_STATE, _BEST, _AVERAGE, _FILES = "state.json", "best.safetensors", "average.safetensors", "files.json"
# Where PyTorch fails to write beside less free space than this, that is why.
NEARLY_FULL_BYTES = 2**20
Weights = dict[str, torch.Tensor]


@dataclass
class Position:
    """Where a training stands after an epoch.

    Attributes:
        epoch: Epochs that are done.
        lr: Learning rate of the head.
        retry: How often training began again.
        before: Epochs that were done before it began again; 0 where it did not.
        history: The results of each epoch.
        best_epoch: The best epoch so far; 0 is the start.
        best_value: Its validation accuracy or loss; None before the first.
        worse: Epochs since then.
        seconds: Time that the epochs took.
        start_losses: Loss of each validation image at the start, in nats, where they choose by calibrated loss.
    """

    epoch: int = 0
    lr: float = 0.0
    retry: int = 0
    before: int = 0
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None
    worse: int = 0
    seconds: float = 0.0
    start_losses: list[float] = field(default_factory=list)


def save(accelerator: Accelerator, run: Path, position: Position, best: Weights, average: Weights | None) -> None:
    """Write a checkpoint, and delete the ones before it. Every process must call it.

    Raises:
        StorageError: The disk is full; the checkpoint before is whole.
    """
    folder = run / CHECKPOINTS
    make_folder(folder)
    final = folder / f"epoch-{position.epoch:06}"
    staged = folder / f".{final.name}.tmp"
    try:
        if accelerator.is_main_process:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir()
        accelerator.wait_for_everyone()
        accelerator.save_state(str(staged))
        if accelerator.is_main_process:
            (staged / _STATE).write_text(json.dumps(asdict(position)), "utf-8")
            save_file(best, staged / _BEST)
            if average is not None:
                save_file(average, staged / _AVERAGE)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (staged / _FILES).write_text(json.dumps(_digests(staged)), "utf-8")
            for path in staged.iterdir():
                _sync(path)
            sync_folder(staged)
            shutil.rmtree(final, ignore_errors=True)  # of a training that was resumed before it
            staged.rename(final)
            sync_folder(folder)
            for _, older in found(run)[:-1]:
                shutil.rmtree(older, ignore_errors=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        found_error = error if isinstance(error, OSError) else _disk_error(error, folder)
        if accelerator.is_main_process:
            shutil.rmtree(staged, ignore_errors=True)
        if found_error is None:
            raise
        raise storage_error(found_error, final) from error
    accelerator.wait_for_everyone()


def found(run: Path) -> list[tuple[int, Path]]:
    """The whole checkpoints of a run folder, by epoch."""
    folder = run / CHECKPOINTS
    if not folder.is_dir():
        return []
    named = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in named)


def load(accelerator: Accelerator, run: Path) -> tuple[Position, Weights, Weights | None] | None:
    """Bring models, optimisers and random states to the last checkpoint.

    Returns:
        The position, the best weights, and the averaged weights; None where no epoch was finished.

    Raises:
        ModelError: The checkpoint is damaged, or was written by another number of processes.
    """
    whole = found(run)
    if not whole:
        return None
    folder = whole[-1][1]
    try:
        # Before anything is loaded: accelerate goes on in silence where it cannot read the random states.
        if json.loads((folder / _FILES).read_text("utf-8")) != _digests(folder):
            raise ValueError("a file has changed since it was written, or is missing")
        if (count := len(list(folder.glob("random_states_*.pkl")))) != accelerator.num_processes:
            raise ValueError(f"it is of {counted(count, 'process', 'processes')}, not {accelerator.num_processes}")
        state = json.loads((folder / _STATE).read_text("utf-8"))
        position = Position(**{**state, "history": [Epoch(**one) for one in state["history"]]})
        accelerator.load_state(str(folder))
        best = load_file(folder / _BEST)
        average = load_file(folder / _AVERAGE) if (folder / _AVERAGE).exists() else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The checkpoint {quoted(str(folder))} cannot be resumed: {str(error)[:200]}.",
            "Start again with --overwrite; or, after a change of the number of processes, with as many as before.",
        ) from error
    return position, best, average


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file but the one that lists them."""
    found_files = sorted(path for path in folder.iterdir() if path.name != _FILES)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found_files}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_error(error: Exception, folder: Path) -> OSError | None:
    """Safetensors wraps the system's errors, with the number in the text; PyTorch drops them, and only gives up."""
    if match := re.search(r"os error (\d+)", str(error)):
        return OSError(int(match[1]), os.strerror(int(match[1])))
    if "inline_container" in str(error) or "PytorchStreamWriter" in str(error):
        full = shutil.disk_usage(folder).free < NEARLY_FULL_BYTES
        return OSError(errno.ENOSPC if full else errno.EIO, os.strerror(errno.ENOSPC if full else errno.EIO))
    return OSError(0, str(error)[:200]) if isinstance(error, SafetensorError) else None
