"""The pool of workers, each of which takes one image at a time; and what becomes of files that cannot be used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

from headstart.core.errors import ImageError, InputError, SourceError
from headstart.core.options import Runtime
from headstart.core.text import counted, quoted
from headstart.data.table import ImageTable

S = TypeVar("S")
T = TypeVar("T")
# Images in flight for each worker: enough that no worker waits, few enough that memory stays flat.
AHEAD = 4


def each(count: int, work: Callable[[int], T], runtime: Runtime, stage: str) -> Iterator[tuple[int, T | ImageError]]:
    """Call `work` with 0..count-1 in the pool of workers, and give the results in this order.

    An `ImageError` is a result; any other error, and an interruption, ends the pool at once.
    """
    results = in_order(range(count), work, runtime.workers)
    with runtime.progress.stage(stage, count) as advance, closing(results):
        for index, result in enumerate(results):
            yield index, result
            advance(1)


def in_order(items: Iterable[S], work: Callable[[S], T], workers: int) -> Generator[T | ImageError]:
    """Call `work` with each item in a pool of workers, and give the results in the order of the items.

    Items are taken in this thread, a few ahead of the results that are given: memory is flat however many there are,
    and what is done is given before the next one is waited for. Errors are as of `each`.
    """

    def guarded(item: S) -> T | ImageError:
        try:
            return work(item)
        except ImageError as error:
            _let_go(error)
            return error

    with _pool(workers) as pool:
        waiting: deque[Future[T | ImageError]] = deque()
        for item in items:
            waiting.append(pool.submit(guarded, item))
            while waiting and (len(waiting) >= AHEAD * workers or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def refuse_skipped(table: ImageTable, runtime: Runtime) -> None:
    """With `--strict`, a file that cannot be used is an error.

    Raises:
        SourceError: There is one.
    """
    if runtime.strict and (unusable := table.unusable):
        first = unusable[0]
        raise SourceError(
            f"{counted(len(unusable), 'file')} cannot be used; the first is {quoted(first.path)}: {first.reason}.",
            "Fix or remove it, or run without --strict to skip and count such files.",
        )


def no_image(table: ImageTable) -> InputError:
    """The error for a source of which no image can be read."""
    first = table.skipped[0]
    return SourceError(
        f"None of the {counted(len(table.skipped), 'file')} in {quoted(table.source)} can be used; "
        f"the first is {quoted(first.path)}: {first.reason}."
    )


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="headstart")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _let_go(error: BaseException) -> None:
    """Part an error from where it was raised: there the pixels of an image lie, until Python looks for garbage."""
    parts: list[BaseException | None] = [error]
    while parts:
        if (part := parts.pop()) is not None and part.__traceback__ is not None:
            part.__traceback__ = None
            parts += [part.__cause__, part.__context__]
