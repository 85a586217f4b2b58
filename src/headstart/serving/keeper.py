"""The thread of one worker process in the server: starts it, gives it jobs, replaces it."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from headstart.core.errors import ImageError, ModelError
from headstart.serving import exchange, worker
from headstart.serving.jobs import BusyError, Job, Jobs

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from headstart.prediction.answers import Result
    from headstart.serving.models import Served

_START_SECONDS = 60  # to import and load, on a busy machine
_PULSE_SECONDS = 0.25  # how soon a worker that dies in between is noticed
_PAUSE_SECONDS = 1.0  # before a worker that cannot be started is tried again


class _GoneError(Exception):
    """A worker was lost before it began with a message, which can go to another worker."""


class Keeper(threading.Thread):
    """The thread of one worker.

    Args:
        jobs: Where jobs come from.
        number: Of the worker.
        seconds: How long an image may take.
        keys: The keys of the models that are served now.
    """

    def __init__(self, jobs: Jobs, number: int, seconds: float, keys: Callable[[], frozenset[str]]) -> None:
        super().__init__(name=f"headstart-worker-{number}", daemon=True)
        self.ready = False
        self.lost = 0
        self._jobs = jobs
        self._seconds = seconds
        self._keys = keys
        self._stopping = False
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._skips: Connection | None = None  # numbers of messages that the worker need not begin with
        self._loaded: set[str] = set()
        self._number = 0  # of the message sent last
        self._ahead: Job | None = None  # the next job, in the worker's pipe already
        self._lock = threading.Lock()
        self._due: float | None = None  # until when the worker has time, as of `time.monotonic`
        self._late = False

    def run(self) -> None:
        """Give the worker one job after the other."""
        while not self._stopping:
            if self._process is None and not self._start():
                time.sleep(_PAUSE_SECONDS)
            elif self._ahead is not None:
                self._do_ahead(self._ahead)
            elif job := self._jobs.next(_PULSE_SECONDS):
                if job.begins():
                    self._do(job)
            elif self._process is not None and not self._process.is_alive():
                self._lose()
        self.end()

    def stop(self) -> None:
        """Begin no further job."""
        self._stopping = True

    def end(self) -> None:
        """Kill the worker."""
        self.ready = False
        process = self._process
        if process is not None:
            process.kill()
            process.join(5)
        with self._lock:  # nobody else is writing to it
            for pipe in (self._pipe, self._skips):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def end_if_late(self) -> None:
        """End a worker whose time is over; then the pipe is closed, and the keeper waits no longer at either end."""
        with self._lock:
            if self._due is not None and self._process is not None and time.monotonic() > self._due:
                self._late, self._due = True, None
                self._process.kill()

    def skip(self) -> None:
        """Have the worker leave out the job that was sent ahead, if it has not begun with it."""
        with self._lock, contextlib.suppress(OSError):  # it may have ended
            if self._skips is not None:
                self._skips.send_bytes(exchange.skip(self._number))

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
            with contextlib.ExitStack() as pipes:
                ours, theirs = map(pipes.enter_context, context.Pipe())
                read, write = map(pipes.enter_context, context.Pipe(duplex=False))
                process = context.Process(target=worker.main, args=(theirs, read), name=self.name, daemon=True)
                process.start()
                pipes.pop_all()
        except OSError:  # as many files are open as the system allows; no memory, no processes
            return False
        theirs.close()
        read.close()
        self._process, self._pipe, self._skips, self._loaded, self._number = process, ours, write, set(), 0
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
        """Give the worker up, and what was sent ahead to it back; its exit code."""
        process = self._process
        self.end()
        self._process = self._pipe = self._skips = self._ahead = None
        self.lost += 1
        if job := self._jobs.begin(self):
            self._jobs.put_back(job)
        return process.exitcode if process is not None else None

    def _do_ahead(self, job: Job) -> None:
        """Take the result of the job that was sent ahead, which may have been taken back in the meantime."""
        self._ahead = None
        if self._jobs.begin(self) is not None and job.begins():
            self._do(job, sent=True)
            return
        with contextlib.suppress(_GoneError, ImageError, ModelError):
            self._ask(job.message, self._seconds, sent=True)  # the worker answers, be it only that it did not begin

    def _do(self, job: Job, *, sent: bool = False) -> None:
        try:
            result = self._result(job, sent=sent)
        except Exception as error:  # noqa: BLE001  the thread must live, and whoever asked must hear of it
            job.settle(error)
        else:
            job.settle(result)

    def _result(self, job: Job, *, sent: bool) -> Result | None:
        for _ in range(2):
            if not sent and not self._is_there():
                break
            with contextlib.suppress(_GoneError):
                if sent:
                    sent = False
                    return self._ask(job.message, self._seconds, sent=True)
                self._load(job.model)
                if isinstance(job.message, exchange.Verify):
                    return self._ask_of_model(job.message)
                return self._ask(job.message, self._seconds)
        raise BusyError

    def _is_there(self) -> bool:
        """Whether there is a worker, after replacing one that died between jobs, which is not the fault of this job."""
        if self._process is not None and self._process.is_alive():
            return True
        if self._process is not None:
            self._lose()
        return self._start()

    def _load(self, model: Served) -> None:
        if model.key not in self._loaded:
            keep = self._keys()
            self._ask_of_model(exchange.Load(model.key, model.classifier.content, model.max_megapixels, keep))
            self._loaded = (self._loaded & keep) | {model.key}

    def _ask_of_model(self, message: exchange.Load | exchange.Verify) -> Result | None:
        """Have the worker load or verify a model; a failure here is not the fault of the waiting image."""
        try:
            return self._ask(message, max(self._seconds, _START_SECONDS))
        except ImageError as error:
            raise ModelError(f"No worker could load it: {error}.") from error

    def _ask(self, message: exchange.Message, seconds: float, *, sent: bool = False) -> Result | None:
        """Send the worker a message, if it was not sent ahead; and replace the worker if it dies or hangs.

        Raises:
            ImageError: The image cannot be read, or the worker was lost while reading it.
            ModelError: The model is refused.
            _GoneError: The worker was lost before it began with the message.
        """
        pipe, taken = self._pipe, False
        if pipe is None:
            raise _GoneError
        try:
            # No wait has a limit of its own: a message may be larger than what the pipe holds, and a worker that
            # stops in the middle of one, or of its answer, is as late as one that says nothing.
            with self._in_time(seconds):
                if not sent:
                    self._number += 1
                    pipe.send(message)
                while (answer := pipe.recv_bytes()) == exchange.TAKEN:
                    taken = True
                    if isinstance(message, exchange.Image):
                        self._send_ahead(pipe)
        except (EOFError, OSError) as error:
            late, code = self._late, self._lose()
            if late:
                raise ImageError(f"takes more than {seconds:g} seconds to read") from error
            if not taken:
                raise _GoneError from error
            raise ImageError(f"the process that read it ended unexpectedly (exit code {code})") from error
        return exchange.read(answer)

    def _send_ahead(self, pipe: Connection) -> None:
        """Send the next image while the worker is at one, so that it never waits for this process to be woken.

        Only between images: the worker loads and drops models in between, and what is ahead needs one that is there.
        """
        self._number += 1
        self._ahead = self._jobs.send_ahead(self, self._suits)
        if self._ahead is None:
            self._number -= 1
            return
        with contextlib.suppress(OSError):  # the worker has ended: what it answered before is still to be read
            pipe.send(self._ahead.message)

    def _suits(self, job: Job) -> bool:
        return isinstance(job.message, exchange.Image) and job.model.key in self._loaded
