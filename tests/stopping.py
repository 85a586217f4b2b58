"""The program, which is killed at an epoch's end, in the middle of the next checkpoint, or is held up in an epoch."""

from __future__ import annotations

import ctypes
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import forked

CLONE_NEWNS = 0x20000  # of sched.h


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def whole(arguments: Sequence[str]) -> NoReturn:
    """The program as it is."""
    from headstart.cli.main import main

    main(arguments)


def killed_at(calls: str, number: int, arguments: Sequence[str], said: Path, **env: str) -> int | None:
    """The exit code of the program, which strace kills at one of some system calls; what it said is in a file."""
    import pytest  # not in the program's own process

    process = forked.start(followed, arguments, err=said, **env)
    inject = f"inject={calls}:signal=KILL:when={number}"
    follow = ["strace", "-f", "-qq", "-p", str(process.pid), "-o", os.devnull, "-e", f"trace={calls}", "-e", inject]
    try:
        done = subprocess.run(follow, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 1 and "ptrace" in done.stderr.lower():
            pytest.skip("strace may not trace here")
        process.join(30)
    finally:
        process.kill()
    return process.exitcode


def followed(arguments: Sequence[str]) -> None:
    """It begins as soon as strace follows it."""
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        time.sleep(0.01)
    whole(arguments)


def saving(number: int, out: Path, kept: Path) -> None:
    """A kept run is saved, which is killed at one of the calls that flush, replace and remove files."""
    left = itertools.count(number - 1, -1)

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def killing(*arguments: Any, **named: Any) -> Any:
            if next(left) == 0:
                kill()
            return call(*arguments, **named)

        return killing

    run = pickle.loads(kept.read_bytes())
    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, wrapped(getattr(os, name)))
    run.save(out, overwrite=True)


def after(epoch: int, arguments: Sequence[str]) -> None:
    """It is killed as soon as the checkpoint of an epoch is written."""
    from headstart.training import checkpoint

    plain = checkpoint.save

    def save(accelerator: Any, run: Any, position: Any, *values: Any) -> None:
        plain(accelerator, run, position, *values)
        if position.epoch == epoch:
            kill()

    checkpoint.save = save
    whole(arguments)


def inside(epoch: int, arguments: Sequence[str]) -> None:
    """It is killed in the middle of the checkpoint of an epoch."""
    from headstart.training import checkpoint

    plain = checkpoint._digests

    def digests(folder: Path) -> Any:
        if folder.name == f".epoch-{epoch:06}.tmp":
            kill()
        return plain(folder)

    checkpoint._digests = digests
    whole(arguments)


def removing(arguments: Sequence[str]) -> None:
    """It is killed while the checkpoints of a finished run go."""
    from headstart.runs import resumption

    def rmtree(path: Path, **named: Any) -> None:
        next(path.iterdir()).unlink()
        kill()

    resumption.shutil = SimpleNamespace(rmtree=rmtree)
    whole(arguments)


def held(epoch: int, mark: Connection, arguments: Sequence[str]) -> None:
    """It says so in the second batch of an epoch, and waits there."""
    from headstart.training.mixing import Mixing

    plain = Mixing.__call__

    def marking(self: Mixing, batch: Any, number_of_epoch: int, number: int) -> Any:
        if (number_of_epoch, number) == (epoch, 1):
            mark.send("there")
            time.sleep(30)
        return plain(self, batch, number_of_epoch, number)

    Mixing.__call__ = marking
    whole(arguments)


def on_full_disk(disk: Path, kilobytes: int, arguments: Sequence[str], copy: Path) -> None:
    """On a disk of this size that nobody else sees; then once more on a larger one, from which the run is copied."""
    ctypes.CDLL(None).unshare(CLONE_NEWNS)
    for mount in (
        ["--make-rprivate", "/"], ["-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(disk)]
    ):  # fmt: skip
        subprocess.run(["mount", *mount], check=True)
    run = disk / "run"
    print("code", _code_of([*arguments, "--out", str(run)]), *disk.rglob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=100M", str(disk)], check=True)
    begun = (run / "checkpoints").exists()
    again = ["train", "--resume", str(run)] if begun else [*arguments, "--out", str(run)]
    print("code", _code_of([*again, "--quiet"]))
    shutil.copytree(run, copy)


def _code_of(arguments: Sequence[str]) -> int:
    """The exit code of the program in a child of this process."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        whole(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
