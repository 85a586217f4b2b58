"""The pool of worker processes: a bounded queue, a deadline for each image, and a replacement for a lost worker."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headstart.core.errors import ImageError, ModelError
from headstart.serving import exchange, worker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from headstart.prediction.answers import Result
    from headstart.serving.models import Served

_START_SECONDS = 60  # to import and load, on a busy machine
_PULSE_SECONDS = 0.25  # how soon a worker that dies in between is noticed
_PAUSE_SECONDS = 1.0  # before a worker that cannot be started is tried again
_LATE_SECONDS = 0.1  # how soon a worker that is late is noticed


class BusyError(Exception):
    """There is no room in the queue, or an image has waited too long in it."""


class _GoneError(Exception):
    """A worker was lost before it received a message, which can go to another worker."""


@dataclass(eq=False)
class Job:
    """A message for any worker that has loaded the model.

    Attributes:
        model: The model.
        message: What to do with it.
        until: Deadline to begin, in the time of `time.monotonic`.
        done: Its result.
    """

    model: Served
    message: exchange.Image | exchange.Verify
    until: float
    done: Future[Result | None] = field(default_factory=Future)


class Pool:
    """Worker processes, each with a thread here that gives it one job at a time. Thread-safe.

    Args:
        workers: How many.
        waiting: Most jobs in the queue.
        seconds: How long a job may wait, and how long it may then take.
        keys: The keys of the models that are served now.
    """

    def __init__(self, workers: int, waiting: int, seconds: float, keys: Callable[[], frozenset[str]]) -> None:
        self.size = workers
        self.restarts = 0
        self._most_waiting = waiting
        self._seconds = seconds
        self._keys = keys
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._keepers = [_Keeper(self, number) for number in range(workers)]
        self._closing = False
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._watch_the_clock, name="headstart-clock", daemon=True)
        for thread in (*self._keepers, self._clock):
            thread.start()

    @property
    def alive(self) -> int:
        """Workers that can take a job now."""
        return sum(keeper.ready for keeper in self._keepers)

    @property
    def waiting(self) -> int:
        """Number of jobs that no worker has taken yet."""
        return self._waiting

    @property
    def room(self) -> int:
        """Number of jobs that would be accepted now."""
        return self._most_waiting - self._waiting

    @property
    def full(self) -> bool:
        """Whether no job would be accepted."""
        return self.room <= 0

    def submit(self, model: Served, tasks: Sequence[exchange.Image | exchange.Verify]) -> list[Future[Result | None]]:
        """Queue a job for each image: for all of them or for none.

        Raises:
            BusyError: The queue has no room for them.
        """
        until = time.monotonic() + self._seconds
        jobs = [Job(model, task, until) for task in tasks]
        with self._lock:
            if self._waiting + len(jobs) > self._most_waiting or self._closing:
                raise BusyError
            self._waiting += len(jobs)
        for job in jobs:
            self._queue.put(job)
        return [job.done for job in jobs]

    def close(self) -> None:
        """Stop the workers and their jobs."""
        self._closing = True
        for _ in self._keepers:
            self._queue.put(None)
        for keeper in self._keepers:
            keeper.end()
        for keeper in self._keepers:
            keeper.join(5)
        self._ended.set()
        self._clock.join(5)

    def _watch_the_clock(self) -> None:
        while not self._ended.wait(_LATE_SECONDS):
            for keeper in self._keepers:
                keeper.end_if_late()

    def _next(self) -> Job | None:
        """The next job, or None at the end.

        Raises:
            queue.Empty: There is none at the moment.
        """
        job = self._queue.get(timeout=_PULSE_SECONDS)
        if job is not None:
            with self._lock:
                self._waiting -= 1
        return job


class _Keeper(threading.Thread):
    """The thread of one worker: starts it, gives it jobs, replaces it."""

    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__(name=f"headstart-worker-{number}", daemon=True)
        self.ready = False
        self._pool = pool
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._loaded: set[str] = set()
        self._lock = threading.Lock()
        self._due: float | None = None  # until when the worker has time, as of `time.monotonic`
        self._late = False

    def run(self) -> None:
        while not self._pool._closing:
            if self._process is None and not self._start():
                time.sleep(_PAUSE_SECONDS)
                continue
            try:
                job = self._pool._next()
            except queue.Empty:
                if self._process is not None and not self._process.is_alive():
                    self._lose()
                continue
            if job is None:
                break
            self._do(job)
        self.end()

    def end(self) -> None:
        """Kill the worker."""
        self.ready = False
        process, pipe = self._process, self._pipe
        if process is not None:
            process.kill()
            process.join(5)
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()

    def end_if_late(self) -> None:
        """End a worker whose time is over; then the pipe is closed, and the keeper waits no longer at either end."""
        with self._lock:
            if self._due is not None and self._process is not None and time.monotonic() > self._due:
                self._late, self._due = True, None
                self._process.kill()

    @contextlib.contextmanager
    def _in_time(self, seconds: float) -> Iterator[None]:
        """Within it, the worker is ended after so many seconds."""
        with self._lock:
            self._late, self._due = False, time.monotonic() + seconds
        try:
            yield
        finally:
            with self._lock:
                self._due = None

    def _start(self) -> bool:
        context = multiprocessing.get_context("spawn")  # fork would copy our threads' locks in any state
        try:
            ours, theirs = context.Pipe()
        except OSError:  # as many files are open as the system allows
            return False
        process = context.Process(target=worker.main, args=(theirs,), name=self.name, daemon=True)
        try:
            process.start()
        except OSError:  # no memory, no processes
            ours.close()
            return False
        finally:
            theirs.close()
        self._process, self._pipe, self._loaded = process, ours, set()
        self.ready = self._greets(ours)
        if not self.ready:
            self._lose()
        return self.ready

    @staticmethod
    def _greets(pipe: Connection) -> bool:
        try:
            return pipe.poll(_START_SECONDS) and pipe.recv_bytes() == exchange.DONE
        except (EOFError, OSError):
            return False

    def _lose(self) -> int | None:
        """Give the worker up; its exit code."""
        process = self._process
        self.end()
        self._process = self._pipe = None
        self._pool.restarts += 1
        return process.exitcode if process is not None else None

    def _do(self, job: Job) -> None:
        if not job.done.set_running_or_notify_cancel():
            return  # whoever asked has gone
        try:
            if time.monotonic() > job.until:
                raise BusyError
            result = self._result(job)
        except (ImageError, ModelError, BusyError) as error:
            _settle(job.done, error)
        except Exception as error:  # noqa: BLE001  the thread must live, and whoever asked must hear of it
            _settle(job.done, error)
        else:
            _settle(job.done, result)

    def _result(self, job: Job) -> Result | None:
        for _ in range(2):
            if not self._is_there():
                break
            with contextlib.suppress(_GoneError):
                self._load(job.model)
                if isinstance(job.message, exchange.Verify):
                    return self._ask_of_model(job.message)
                return self._ask(job.message, self._pool._seconds)
        raise BusyError

    def _is_there(self) -> bool:
        """Whether there is a worker, after replacing one that died between jobs, which is not the fault of this job."""
        if self._process is not None and self._process.is_alive():
            return True
        self._lose()
        return self._start()

    def _load(self, model: Served) -> None:
        if model.key not in self._loaded:
            keep = self._pool._keys()
            self._ask_of_model(exchange.Load(model.key, model.classifier.content, model.max_megapixels, keep))
            self._loaded = (self._loaded & keep) | {model.key}

    def _ask_of_model(self, message: exchange.Load | exchange.Verify) -> Result | None:
        """Have the worker load or verify a model; a failure here is not the fault of the waiting image."""
        try:
            return self._ask(message, max(self._pool._seconds, _START_SECONDS))
        except ImageError as error:
            raise ModelError(f"No worker could load it: {error}.") from error

    def _ask(self, message: exchange.Load | exchange.Image | exchange.Verify, seconds: float) -> Result | None:
        """Send the worker a message, and replace the worker if it dies or hangs.

        Raises:
            ImageError: The image cannot be read, or the worker was lost while reading it.
            ModelError: The model is refused.
            _GoneError: The worker was lost before it received the message.
        """
        pipe, taken = self._pipe, False
        if pipe is None:
            raise _GoneError
        try:
            # No wait has a limit of its own: a message may be larger than what the pipe holds, and a worker that
            # stops in the middle of one, or of its answer, is as late as one that says nothing.
            with self._in_time(seconds):
                pipe.send(message)
                while (answer := pipe.recv_bytes()) == exchange.TAKEN:
                    taken = True
        except (EOFError, OSError) as error:
            late, code = self._late, self._lose()
            if late:
                raise ImageError(f"takes more than {seconds:g} seconds to read") from error
            if not taken:
                raise _GoneError from error
            raise ImageError(f"the process that read it ended unexpectedly (exit code {code})") from error
        return exchange.read(answer)


def _settle(done: Future[Result | None], value: Result | BaseException | None) -> None:
    with contextlib.suppress(InvalidStateError):
        if isinstance(value, BaseException):
            value.__traceback__ = None
            done.set_exception(value)
        else:
            done.set_result(value)
