"""The pool of worker processes: a bounded queue, a deadline for each image, and a replacement for a lost worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from headstart.serving import exchange
from headstart.serving.jobs import BusyError, Job, Jobs
from headstart.serving.keeper import Keeper

if TYPE_CHECKING:
    from headstart.prediction.answers import Result
    from headstart.serving.models import Served

__all__ = ["BusyError", "Pool"]

_LATE_SECONDS = 0.1  # how soon a worker that is late is noticed


class Pool:
    """Worker processes, each with a thread here that gives it jobs. Thread-safe.

    Args:
        workers: How many.
        waiting: Most jobs in the queue.
        seconds: How long a job may wait, and how long it may then take.
        keys: The keys of the models that are served now.
    """

    def __init__(self, workers: int, waiting: int, seconds: float, keys: Callable[[], frozenset[str]]) -> None:
        self.size = workers
        self._seconds = seconds
        self._jobs = Jobs(waiting)
        self._keepers = [Keeper(self._jobs, number, seconds, keys) for number in range(workers)]
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._watch_the_clock, name="headstart-clock", daemon=True)
        for thread in (*self._keepers, self._clock):
            thread.start()

    @property
    def alive(self) -> int:
        """Workers that can take a job now."""
        return sum(keeper.ready for keeper in self._keepers)

    @property
    def restarts(self) -> int:
        """Workers that were lost and replaced."""
        return sum(keeper.lost for keeper in self._keepers)

    @property
    def waiting(self) -> int:
        """Number of jobs in the queue."""
        return len(self._jobs)

    @property
    def room(self) -> int:
        """Number of jobs that would be accepted now."""
        return self._jobs.room

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
        self._jobs.add(jobs)
        return [job.done for job in jobs]

    def close(self) -> None:
        """Stop the workers and their jobs."""
        for keeper in self._keepers:
            keeper.stop()
        self._jobs.close()
        for keeper in self._keepers:
            keeper.end()
        for keeper in self._keepers:
            keeper.join(5)
        self._ended.set()
        self._clock.join(5)

    def _watch_the_clock(self) -> None:
        while not self._ended.wait(_LATE_SECONDS):
            self._jobs.refuse_late()
            for keeper in self._keepers:
                keeper.end_if_late()
