"""A training of several processes on a Ray cluster: Ray Train places them, and begins them again where one is lost.

Each process does what one of ``torchrun`` does, and writes checkpoints to the run folder, which all machines reach.
Ray's own checkpoints are not used: those of the run folder go on to the bit, and `headstart train --resume` reads them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from headstart.core.errors import StorageError, TrainingError
from headstart.core.text import counted, quoted
from headstart.scale.cluster import connect, refuse_unfit

LOST = 3  # how often processes that were lost are begun again
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Share:
    """What each process does; it must be picklable.

    Attributes:
        work: Called in each with what follows and whether processes were lost before, so that it has to go on; its exit
            code.
        asked: What it is called with.
        folder: The run folder, which all machines reach; an absolute path.
        here: The folder that each process works in, which all machines reach too; an absolute path.
        gpu: Whether each process has a GPU.
        done: Exit codes that mean that all is well.
    """

    work: Callable[[Mapping[str, Any], bool], int]
    asked: Mapping[str, Any]
    folder: Path
    here: Path
    gpu: bool = False
    done: tuple[int, ...] = (0,)


class Board:
    """An actor: what the processes print, and how they end."""

    def __init__(self, done: tuple[int, ...]) -> None:
        self._done = done
        self._lines: list[tuple[str, str]] = []
        self._begun: dict[int, int] = {}
        self._codes: dict[int, int] = {}
        self._words: dict[int, str] = {}

    def begin(self, rank: int) -> int | None:
        """A process begins; how often it has before, or None where all has ended."""
        if self.code() is not None:
            return None
        self._begun[rank] = self._begun.get(rank, -1) + 1
        self._words[rank] = ""
        return self._begun[rank]

    def write(self, rank: int, stream: str, text: str) -> None:
        """Keep what a process prints: of all but the first only what went to standard error, for its last words."""
        if rank == 0:
            self._lines.append((stream, text))
        elif stream == "err":
            self._words[rank] += text

    def end(self, rank: int, code: int) -> None:
        """A process ends."""
        self._codes[rank] = code
        if rank and code not in self._done and self._codes.get(0) is None:
            self._lines.append(("err", self._words.get(rank, "")))

    def code(self) -> int | None:
        """The exit code of all: that of the first process, or of any that failed; None as long as they work."""
        failed = [code for _, code in sorted(self._codes.items()) if code not in self._done]
        return failed[0] if failed else self._codes.get(0)

    def read(self, beginning: int) -> tuple[list[tuple[str, str]], int]:
        """What was printed since, and how often processes were lost."""
        return self._lines[beginning:], self._begun.get(0, 0)


def train_together(share: Share, processes: int, address: str | None, out: TextIO, err: TextIO) -> int:
    """Train in several processes of a cluster; the exit code of the work.

    Args:
        share: What each does.
        processes: How many; the result does not depend on it, but for rounding.
        address: Of a running cluster, ``auto``, or None to begin one on this machine.
        out: Where what the first process prints goes.
        err: Where its notes and progress go.

    Raises:
        OptionError: There is no cluster, or a node cannot run the work.
        ExtraError: Ray is not installed.
        TrainingError: Processes were lost too often.
    """
    ray, begun = connect(address, processes)
    try:
        refuse_unfit(ray, Reaches(share.folder.parent, share.here))
        kind = "GPU" if share.gpu else "CPU"
        if (there := int(ray.cluster_resources().get(kind, 0))) < processes:  # it may be one that grows
            err.write(f"Note: The cluster has {counted(there, kind)}, and must first grow to {processes}.\n")
        board = _on_this_machine(ray, Board).remote(share.done)  # which outlives what is lost
        # Ray prints what it sees of the cluster, to standard output, where a document may be awaited.
        with contextlib.redirect_stdout(err), _shown(ray, board, out, err):
            lost = _fit(share, processes, board)
        code: int | None = ray.get(board.code.remote())
    finally:
        if begun:
            ray.shutdown()
    if code is None:
        raise TrainingError(
            f"Processes of the training were lost {LOST + 1} times: {lost}",
            f"Look at the cluster (ray status), then resume: headstart train --resume {share.folder} --on ray",
        )
    return code


@dataclass(frozen=True)
class Reaches:
    """Asked of each node: whether the run folder can be written from there, and the current folder is there."""

    folder: Path
    here: Path

    def ready(self) -> None:
        """Raises StorageError where it is not so."""
        from headstart.core.files import refuse_unwritable

        if not self.here.is_dir():
            machine = quoted(socket.gethostname())
            raise StorageError(
                f"The machine {machine} does not have the current folder, {quoted(str(self.here))}.",
                "Call the command in a folder on storage that all machines share, by the same path.",
            )
        # A name of its own: of one that all nodes try at once, a folder could be left.
        refuse_unwritable(self.folder / f"run-{secrets.token_hex(4)}")


def _on_this_machine(ray: Any, actor: type) -> Any:
    """An actor beside the process that asks."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(actor).options(scheduling_strategy=here)


def _fit(share: Share, processes: int, board: Any) -> str:
    """Have Ray Train run the processes; why it gave up, or nothing."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    notes = share.folder.parent / f".{share.folder.name}.ray"  # Ray Train's own, which nobody needs
    try:
        TorchTrainer(
            _process,
            train_loop_config={"share": share, "board": board},
            torch_config=TorchConfig(backend="nccl" if share.gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=processes, use_gpu=share.gpu),
            run_config=RunConfig(
                name="headstart", storage_path=str(notes), failure_config=FailureConfig(max_failures=LOST)
            ),
        ).fit()
    except TrainingFailedError as error:  # or all is well: the board knows whether the work has ended
        return " ".join(str(error).split())[:400]
    finally:
        shutil.rmtree(notes, ignore_errors=True)
    return ""


def _process(config: dict[str, Any]) -> None:
    """One process: a share of every batch."""
    import ray
    import ray.train

    share, board = config["share"], config["board"]
    rank = ray.train.get_context().get_world_rank()
    before = ray.get(board.begin.remote(rank))
    if before is None:
        return
    logging.disable(logging.WARNING)  # Ray sends all that is logged or printed to standard error as well
    streams = [_Lines(ray, board, rank, kind) for kind in ("out", "err")]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        code = share.work(share.asked, before > 0)
    for stream in streams:
        stream.close()
    ray.get(board.end.remote(rank, code))
    if code not in share.done:
        raise RuntimeError(f"process {rank} ended with {code}")  # so that Ray ends the others, which wait for it


class _Lines(io.TextIOBase):
    """A stream that sends whole lines to the board."""

    def __init__(self, ray: Any, board: Any, rank: int, kind: str) -> None:
        self._ray, self._board, self._rank, self._kind = ray, board, rank, kind
        self._text = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            self._text += text
            whole, newline, self._text = self._text.rpartition("\n")
            if newline:
                self._send(whole + newline)
        return len(text)

    def close(self) -> None:
        if not self.closed and self._text:
            self._send(self._text)
        super().close()

    def _send(self, text: str) -> None:
        self._ray.get(self._board.write.remote(self._rank, self._kind, text))


@contextlib.contextmanager
def _shown(ray: Any, board: Any, out: TextIO, err: TextIO) -> Any:
    """Show what the first process prints while the context lasts."""
    ended = threading.Event()
    shown, lost = 0, 0

    def show() -> None:
        nonlocal shown, lost
        lines, lost_now = ray.get(board.read.remote(shown))
        if lost_now > lost:
            err.write("Note: A process of the training was lost; all go on from the last checkpoint.\n")
        lost = lost_now
        for kind, text in lines:
            stream = out if kind == "out" else err
            stream.write(text)
            stream.flush()
        shown += len(lines)

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            show()

    watcher = threading.Thread(target=watch, name="headstart-board", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join(5)
    show()
