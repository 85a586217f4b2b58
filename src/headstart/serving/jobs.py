"""Images on their way to a worker: the queue, and what is with a busy worker already. Thread-safe."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from headstart.serving import exchange

if TYPE_CHECKING:
    from headstart.prediction.answers import Result
    from headstart.serving.models import Served


class BusyError(Exception):
    """There is no room in the queue, or an image has waited too long in it."""


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

    def begins(self) -> bool:
        """Whether it is to be done still. One that has waited too long ends here."""
        if self.done.cancelled():
            return False  # whoever asked has gone
        if time.monotonic() > self.until:
            self.settle(BusyError())
        return not self.done.done()

    def settle(self, value: Result | BaseException | None) -> None:
        """Give whoever asked the result or the error; nothing where there is one already, or nobody waits."""
        with contextlib.suppress(InvalidStateError):
            if isinstance(value, BaseException):
                value.__traceback__ = None
                self.done.set_exception(value)
            else:
                self.done.set_result(value)


class Holder(Protocol):
    """Has a busy worker, to which a job was sent ahead."""

    def skip(self) -> None:
        """Tell the worker that the job is done elsewhere, or is no longer wanted."""


class Jobs:
    """Jobs that no worker is at yet: each waits in the queue, or is sent ahead to a worker that is at another one.

    A worker that is sent its next job ahead need not wait until this process has been woken and has answered the last
    one. No job waits behind a slow one, though, while there is a free worker: that worker takes it over.

    Args:
        most: How many may wait in the queue.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._queue = deque[Job]()
        self._ahead: dict[Holder, Job] = {}
        self._change = threading.Condition()
        self._free = 0  # threads that wait for a job
        self._closed = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def room(self) -> int:
        """Number of jobs that would be accepted now."""
        return self._most - len(self._queue)

    def add(self, jobs: Sequence[Job]) -> None:
        """Queue jobs: all of them or none.

        Raises:
            BusyError: The queue has no room for them.
        """
        with self._change:
            if len(jobs) > self.room or self._closed:
                raise BusyError
            self._queue.extend(jobs)
            self._change.notify(len(jobs))

    def put_back(self, job: Job) -> None:
        """Queue a job again, before all others: the worker that it was sent to was lost before it began."""
        with self._change:
            if not self._closed:
                self._queue.appendleft(job)
                self._change.notify()
                return
        job.settle(BusyError())

    def next(self, seconds: float) -> Job | None:
        """The next job of the queue, else one that was sent ahead to another worker; None if there is none in time."""
        with self._change:
            if job := self._take():
                return job
            self._free += 1
            try:
                self._change.wait(seconds)
            finally:
                self._free -= 1
            return self._take()

    def send_ahead(self, holder: Holder, suits: Callable[[Job], bool]) -> Job | None:
        """The next job, for a worker that is busy; None if there is none that suits it, or another worker is free."""
        with self._change:
            if self._free or not self._queue or not suits(self._queue[0]):
                return None
            job = self._ahead[holder] = self._queue.popleft()
            return job

    def begin(self, holder: Holder) -> Job | None:
        """The job that was sent ahead, whose turn it is now; None if it was taken back in the meantime."""
        with self._change:
            return self._ahead.pop(holder, None)

    def refuse_late(self) -> None:
        """End the jobs that have waited too long, in the queue or behind another one."""
        now = time.monotonic()
        with self._change:
            late = [self._take_back(holder) for holder, job in list(self._ahead.items()) if now > job.until]
            while self._queue and now > self._queue[0].until:
                late.append(self._queue.popleft())
        for job in late:
            job.settle(BusyError())

    def close(self) -> None:
        """End all jobs, and accept none."""
        with self._change:
            self._closed = True
            left = [*self._queue, *self._ahead.values()]
            self._queue.clear()
            self._ahead.clear()
            self._change.notify_all()
        for job in left:
            job.settle(BusyError())

    def _take(self) -> Job | None:
        if self._queue:
            return self._queue.popleft()
        return self._take_back(next(iter(self._ahead))) if self._ahead else None

    def _take_back(self, holder: Holder) -> Job:
        job = self._ahead.pop(holder)
        holder.skip()
        return job
