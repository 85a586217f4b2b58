"""Processes that begin with PyTorch imported: children of multiprocessing's fork server, which spares four seconds.

They are processes of their own all the same, in a session of their own, as if a shell had started them: with their own
streams, signals and exit code.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import exporting

# All that a training imports. No module that starts a thread: the server forks.
IMPORTED = [
    "torch", "timm", "torchvision", "accelerate", "safetensors.torch", "matplotlib.figure", "onnxscript",
    "torch.onnx._internal.exporter._compat", "onnxscript.function_libs.torch_lib.ops", "headstart.cli.train",
    "headstart.training.finetune", "headstart.api.training", "headstart.report.run_page", "typer.core", "hastened",
]  # fmt: skip
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # a fork has none of the threads that its parent has


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with mock.patch.dict(os.environ, {**ONE_THREAD, "PYTHONPATH": paths}):  # it imports of the tests, too
        forkserver.ensure_running()
    return context


def start(
    function: Callable[..., None], *arguments: Any, out: Path | None = None, err: Path | None = None, **env: str
) -> ForkServerProcess:
    """Call a function in a process of its own, whose streams are files; without one they are thrown away."""
    streams = [str(path or os.devnull) for path in (out, err)]
    process = _context().Process(target=_begin, args=(function, arguments, streams, os.environ | ONE_THREAD | env))
    process.start()
    return process


def _begin(function: Callable[..., None], arguments: tuple[Any, ...], streams: list[str], env: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(streams, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    exporting.install()
    function(*arguments)
