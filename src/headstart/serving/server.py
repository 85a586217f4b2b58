"""The server: a socket, the worker pool and uvicorn, until a signal stops it."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from headstart.core.errors import OptionError, StorageError
from headstart.core.runtime import default_workers
from headstart.core.text import quoted
from headstart.serving.application import application
from headstart.serving.counters import Metrics
from headstart.serving.desk import Desk
from headstart.serving.exchange import Verify
from headstart.serving.limits import Limits
from headstart.serving.models import Models, Served
from headstart.serving.policy import Policy
from headstart.serving.pool import Pool
from headstart.serving.protocol import Protocol, protocol_of
from headstart.serving.training_images import TrainingImages
from headstart.serving.turns import Door, Turns
from headstart.serving.watched import Watcher

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_KEEP_ALIVE_SECONDS = 15
_BACKLOG = 2048
_START_SECONDS = 120
_OPEN_FILES = 65_536
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # those that the system has


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server listens, and with how many workers.

    Attributes:
        host: Address or name.
        port: 0 for any that is free.
        workers: Worker processes.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = field(default_factory=default_workers)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the server looks up while it runs: a folder whose models it serves, and their training images.

    Attributes:
        folder: The folder of run folders; None to watch none.
        max_megapixels: Images of more are refused; None for the limit that each model was trained with.
        note: Called with a message about what has happened.
        training_images: Whether to show the training images most similar to an image.
    """

    folder: Path | None = None
    max_megapixels: int | None = None
    note: Callable[[str], None] = lambda _: None
    training_images: bool = False


def run_server(
    models: Sequence[Served],
    place: Place,
    limits: Limits,
    policy: Policy,
    watched: Watched,
    started: Callable[[str, Models], None],
) -> None:
    """Serve models until a signal arrives, and then complete the requests that have begun.

    Args:
        models: What to serve.
        place: Where.
        limits: What a request may use.
        policy: Who may ask.
        watched: Where more models come from.
        started: Called with the address and the models once requests are accepted.

    Raises:
        OptionError: The address is invalid, or another program listens on it.
        ModelError: A model cannot be run here, or does not reproduce the results of the machine that trained it.
        SourceError: There is no such folder to watch.
        StorageError: No worker process can be started.
    """
    with contextlib.closing(_listen(place)) as listener, contextlib.ExitStack() as ends:
        table = Models(models)
        pool = Pool(place.workers, limits.waiting, limits.seconds, table.keys)
        ends.callback(pool.close)
        warm_up(pool, table.all())
        shown = TrainingImages(watched.note) if watched.training_images else None
        if shown is not None:
            ends.callback(shown.close)
            for model in table.all():
                shown.find(model)
        if watched.folder is not None:

            def prove(model: Served) -> None:
                warm_up(pool, [model])
                if shown is not None:
                    shown.find(model)

            watcher = Watcher(watched.folder, table, prove, watched.max_megapixels, watched.note)
            ends.callback(watcher.end)
            watcher.look()
            watcher.start()
        app = application(Desk(table, pool, limits, Metrics(), shown), policy)
        _open_many_files()
        address, port = place.host, listener.getsockname()[1]
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
        turns = Turns()
        _Server(_config(app, limits, turns), turns, lambda: started(url, table)).run([listener])


def warm_up(pool: Pool, models: Sequence[Served]) -> None:
    """Have the workers load models, and verify that they reproduce the results of the machine that trained them.

    Raises:
        ModelError: One does not, or cannot be run.
        BusyError: The queue has no room for the verification.
        StorageError: No worker can be started.
    """
    end = time.monotonic() + _START_SECONDS
    while pool.alive < pool.size:
        if time.monotonic() > end:
            raise StorageError("The worker processes cannot be started.", "Try fewer --workers.")
        time.sleep(0.02)
    for model in models:
        proofs = max(1, min(pool.size, pool.room))  # more often than not, one for each worker
        for done in pool.submit(model, [Verify(model.key)] * proofs):
            done.result()


def _listen(place: Place) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise OptionError(
            f"The server cannot listen on {quoted(place.host)}, port {place.port}: {error.strerror or error}.",
            "Choose another --host or --port; --port 0 takes any free one.",
        ) from error
    listener.set_inheritable(False)
    return listener


def _config(app: ASGIApp, limits: Limits, turns: Turns) -> uvicorn.Config:
    for name in ("uvicorn", "python_multipart"):  # a line for each garbled request would fill the disk
        logging.getLogger(name).setLevel(logging.ERROR)
    return uvicorn.Config(
        app, http=protocol_of(limits.request_seconds, turns), ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        backlog=_BACKLOG, timeout_graceful_shutdown=limits.request_seconds,
    )  # fmt: skip


class _Server(uvicorn.Server):
    """uvicorn behind our doors. Exits normally on a signal instead of raising it, and reports when it has started."""

    def __init__(self, config: uvicorn.Config, turns: Turns, started: Callable[[], None]) -> None:
        super().__init__(config)
        self.servers = []  # of asyncio
        self._doors: list[Door] = []
        self._turns = turns
        self._told = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            for listener in sockets or ():
                listener.listen(_BACKLOG)
                self._doors.append(Door(listener, self._protocol, self._turns))
            self.started = True
        except NotImplementedError:  # the event loop of Windows cannot watch sockets
            await super().startup(sockets)
        self._told()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for door in self._doors:
            door.close()
        await self._turns.all_begun()  # what has come is answered
        for door in self._doors:
            await door.wait_closed()
        await self._turns.all_begun()
        await super().shutdown(sockets)

    def _protocol(self) -> Protocol:
        kind = self.config.http_protocol_class
        assert issubclass(kind, Protocol)
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            numbers.remove(signal.SIGHUP)  # `nohup` started us: a closed terminal is to be ignored
        before = {number: signal.signal(number, self._asked) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # the second time
        self.should_exit = True


def _open_many_files() -> None:
    """Allow as many connections as the system permits: the usual limit, 1,024, is for programs that use `select`."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
