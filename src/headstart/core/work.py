"""The interface between what is done to each image and where it is done.

A unit of work is a value: a callable that can be pickled, with all that it needs in its fields, and that gives the same
for the same item in whatever process. A pool runs it over many items. Nothing above knows which pool that is: threads
of this process (`Threads`), or other processes, here or on other machines. Work never writes to what others read: what
it gives is kept, in the feature cache say, by the process that asked for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from headstart.core.errors import ImageError

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
# Images in flight for each worker: enough that no worker waits, few enough that memory stays flat.
AHEAD = 4


class Work(Protocol[S_contra, T_co]):
    """What is done to one item; picklable, and called from several threads at once.

    Raises:
        ImageError: There is no result for this item; the message is the reason. The others go on.
    """

    def __call__(self, item: S_contra, /) -> T_co:
        """The result for one item."""
        ...


class Pool(Protocol):
    """Runs units of work."""

    def run(
        self, work: Work[S, T], items: Iterable[S], done: Callable[[T], None] | None = None
    ) -> Generator[T | ImageError]:
        """Do the work on each item, and give the results in the order of the items.

        An `ImageError` is a result; any other error ends the run, and so does closing the generator: what has not
        begun by then never runs. Items are taken few ahead of the results, so that memory is flat however many there
        are, and what is done is given before the next item is waited for.

        Args:
            work: What is done.
            items: What it is done to; taken in the thread that iterates.
            done: Called in this process, by any thread, with each result as soon as it is there: also with those that
                are not given any more, since the run was interrupted meanwhile.
        """
        ...


@dataclass(frozen=True)
class Threads:
    """Threads of this process, see `Pool`: decoding, ONNX Runtime and NumPy run beside each other in them.

    Attributes:
        workers: How many.
    """

    workers: int

    def run(
        self, work: Work[S, T], items: Iterable[S], done: Callable[[T], None] | None = None
    ) -> Generator[T | ImageError]:
        """Do the work on each item; see `Pool.run`."""

        def guarded(item: S) -> T | ImageError:
            try:
                result = work(item)
            except ImageError as error:
                _let_go(error)
                return error
            if done is not None:
                done(result)
            return result

        with _executor(self.workers) as executor:
            waiting: deque[Future[T | ImageError]] = deque()
            for item in items:
                waiting.append(executor.submit(guarded, item))
                while waiting and (len(waiting) >= AHEAD * self.workers or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


@contextmanager
def _executor(workers: int) -> Iterator[ThreadPoolExecutor]:
    executor = ThreadPoolExecutor(max(1, workers), thread_name_prefix="headstart")
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _let_go(error: BaseException) -> None:
    """Part an error from where it was raised: there the pixels of an image lie, until Python looks for garbage."""
    parts: list[BaseException | None] = [error]
    while parts:
        if (part := parts.pop()) is not None and part.__traceback__ is not None:
            part.__traceback__ = None
            parts += [part.__cause__, part.__context__]
