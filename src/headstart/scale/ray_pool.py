"""A pool that runs units of work as Ray tasks: scheduling, placement and retries are Ray's.

A task that has lost its process or its node three times is searched for the item that ends processes: what an image
does to a decoder costs one row, not the run. Pixels never pass through Ray's object store, only references and
receipts do; the unit of work itself is put there once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from headstart.core.errors import HeadstartError, ImageError, TrainingError
from headstart.scale.cluster import connect, refuse_unfit
from headstart.scale.isolation import Divisible, Isolation

RETRIES = 2  # after the first try
ROUNDS = 3  # searches in one shard that may end with nothing found, as when nodes die meanwhile
AHEAD = 2  # tasks that wait in Ray for each that runs, so that no node waits for this process, and a cluster may grow
_WAIT_SECONDS = 5.0  # after which the size of the cluster is looked at again


@dataclass(frozen=True)
class RayPool:
    """Runs units of work on a Ray cluster; see `headstart.core.work.Pool`. One item is one task.

    Attributes:
        address: See `headstart.scale.cluster.connect`.
        workers: Tasks at once; None for as many as the cluster has CPUs.
    """

    address: str | None = None
    workers: int | None = None

    def run(
        self, work: Any, items: Iterable[Any], done: Callable[[Any], None] | None = None
    ) -> Generator[Any | ImageError]:
        """Do the work on each item; see `headstart.core.work.Pool.run`.

        Raises:
            OptionError: There is no such cluster, or a node of it cannot run the work.
            TrainingError: Processes die, whatever they work on.
        """
        ray, begun = connect(self.address, self.workers)
        try:
            refuse_unfit(ray, work)
            yield from _Run(ray, work, self.workers).results(iter(items), done)
        finally:
            if begun:
                ray.shutdown()


@dataclass
class _Task:
    """A task of Ray that runs, for an item by its number; with an isolation it is a try of a part of it."""

    number: int
    item: Any
    isolation: Isolation | None = None
    part: tuple[int, int] = (0, 0)


@dataclass
class _Run:
    """One run: what runs, what is searched, and what is done and not given yet."""

    ray: Any
    work: Any
    workers: int | None
    running: dict[Any, _Task] = field(default_factory=dict)
    searches: deque[tuple[int, Isolation]] = field(default_factory=deque)
    again: deque[_Task] = field(default_factory=deque)
    rounds: dict[int, int] = field(default_factory=dict)
    finished: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kept = self.ray.put(self.work)
        self.remote = self.ray.remote(num_cpus=1, max_retries=RETRIES)(_do)

    def results(self, items: Iterator[Any], done: Callable[[Any], None] | None) -> Generator[Any]:
        """The results in the order of the items."""
        numbered, given, left = enumerate(items), 0, True
        try:
            while True:
                left = self._fill(numbered) if left else self._fill(iter(()))
                while given in self.finished:
                    yield self.finished.pop(given)
                    given += 1
                if not self.running:
                    return
                ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=_WAIT_SECONDS)
                for reference in ready:
                    self._take(reference, done)
        finally:
            for reference in self.running:
                self.ray.cancel(reference, force=True)

    def _fill(self, numbered: Iterator[tuple[int, Any]]) -> bool:
        """Begin as many tasks as may run; whether items may be left."""
        room = self.workers or AHEAD * max(1, int(self.ray.cluster_resources().get("CPU", 1)))
        while len(self.running) < room:
            task = self._waiting() or next((_Task(*one) for one in numbered), None)
            if task is None:
                return False
            self._begin(task)
        return True

    def _waiting(self) -> _Task | None:
        """What must be done again, or the next try of a search."""
        if self.again:
            return self.again.popleft()
        for number, search in self.searches:
            if search.ranges:
                return _Task(number, search.job, search, search.taken())
        return None

    def _begin(self, task: _Task) -> None:
        begin, end = task.part
        item = task.item.between(begin, end) if task.isolation else task.item
        # Half a shard that dies is divided further at once; one image is only condemned after as many tries as a shard.
        retries = RETRIES if task.isolation is None or end - begin == 1 else 0
        kept = [self.kept]  # in a list, so that Ray does not fetch it for each task anew
        reference = self.remote.options(max_retries=retries).remote(kept, item, task.isolation is not None)
        self.running[reference] = task

    def _take(self, reference: Any, done: Callable[[Any], None] | None) -> None:
        task, errors = self.running.pop(reference), self.ray.exceptions
        try:
            result, died = self.ray.get(reference), None
        except errors.RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, HeadstartError):
                raise
            if not isinstance(cause, ImageError):
                raise cause from error
            result, died = cause, None
        except (
            errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.LocalRayletDiedError
        ) as error:  # fmt: skip
            result, died = None, _why(error, errors)
        if task.isolation is not None:
            task.isolation.told(*task.part, died)
            self._conclude(task.number, task.isolation)
        elif died is not None:
            self._search(task, died)
        else:
            self.finished[task.number] = result
            if done is not None and not isinstance(result, ImageError):
                done(result)

    def _search(self, task: _Task, died: str) -> None:
        self.rounds[task.number] = self.rounds.get(task.number, 0) + 1
        if self.rounds[task.number] > ROUNDS or not hasattr(task.item, "between"):
            raise TrainingError(
                f"Processes of the Ray cluster end, whatever they work on: {died}.",
                "What was written is kept. Look at the memory of the nodes and at Ray's logs, and run the same again.",
            )
        self.searches.append((task.number, Isolation(task.item)))

    def _conclude(self, number: int, search: Isolation) -> None:
        if not search.over:
            return
        self.searches = deque(one for one in self.searches if one[1] is not search)
        job: Divisible = search.job.condemned(search.reasons) if search.reasons else search.job
        self.again.append(_Task(number, job))


def _why(error: Exception, errors: Any) -> str:
    if isinstance(error, errors.OutOfMemoryError):
        return "the process that looked at it ran out of memory, each time that it was tried"
    return "the process that looked at it ended without a word, each time that it was tried"


_WORK: dict[
    str, Any
] = {}  # of this worker process: the unit of work, so that each of its tasks finds the session ready


def _do(kept: list[Any], item: Any, only_try: bool) -> Any:
    """What a worker does with an item."""
    import ray

    name = kept[0].hex()
    if name not in _WORK:
        _WORK.clear()
        _WORK[name] = ray.get(kept[0])
    if only_try:
        _WORK[name].attempt(item)
        return None
    return _WORK[name](item)
