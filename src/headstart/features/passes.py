"""The one loop over images: results in the order of the images, with progress; and what becomes of unusable files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Generic, TypeVar

from headstart.core.errors import ImageError, SourceError
from headstart.core.runtime import Runtime
from headstart.core.text import counted, quoted
from headstart.core.work import Work
from headstart.data.table import ImageTable, Row, Skipped

S = TypeVar("S")
T = TypeVar("T")


def each(
    work: Work[S, T], items: Sequence[S], runtime: Runtime, stage: str, done: Callable[[T], None] | None = None
) -> Generator[tuple[int, T | ImageError]]:
    """Do a unit of work on each item in the runtime's pool, and give the results in order, each with its number.

    An `ImageError` is a result; any other error, and an interruption, ends the pool at once. What has begun is
    finished all the same, and `done` is called with it: see `headstart.core.work.Pool`.
    """
    results = runtime.pool.run(work, items, done)
    with runtime.progress.stage(stage, len(items)) as advance, closing(results):
        for index, result in enumerate(results):
            yield index, result
            advance(1)


class Pass(Generic[T]):
    """One pass over the images of a table: iterated over, it gives what the work made of each image that can be used.

    Those that cannot be used are skipped and counted; `table` gives the images that are left. Whoever stops iterating,
    also by an error, stops the pass: what has begun is finished before the next `with` around it ends.

    Args:
        table: The images.
        work: What is done to each.
        runtime: Pool, progress, strictness.
        stage: What progress calls it.
        done: See `each`.

    Examples:
        >>> images = Pass(table, work, Runtime(), "Reading")  # doctest: +SKIP
        >>> results = [result for _, result in images]
        >>> kept = images.table()
    """

    def __init__(
        self,
        table: ImageTable,
        work: Work[Row, T],
        runtime: Runtime,
        stage: str,
        done: Callable[[T], None] | None = None,
    ) -> None:
        self._given = table
        self._runtime = runtime
        results = each(work, table.rows, runtime, stage, done)
        self._results = results  # in two steps, or mypy takes an error for a result of the work
        self._keep: list[int] = []
        self._skipped: list[Skipped] = []

    def __iter__(self) -> Iterator[tuple[Row, T]]:
        with closing(self._results):
            for index, result in self._results:
                row = self._given.rows[index]
                if isinstance(result, ImageError):
                    self._skipped.append(Skipped(row.path, result.message))
                else:
                    self._keep.append(index)
                    yield row, result

    def table(self) -> ImageTable:
        """The images that could be used, once all were looked at.

        Raises:
            SourceError: There is none; or one was skipped, and the runtime is strict.
        """
        kept = self._given.select(self._keep, self._skipped)
        refuse_skipped(kept, self._runtime)
        if not self._keep:
            first = kept.skipped[0]
            raise SourceError(
                f"None of the {counted(len(kept.skipped), 'file')} in {quoted(kept.source)} can be used; "
                f"the first is {quoted(first.path)}: {first.reason}."
            )
        return kept


def in_turn(
    work: Work[Row, T], table: ImageTable, runtime: Runtime, stage: str
) -> Iterator[tuple[Row, T | ImageError]]:
    """Do a unit of work on each image of a table; what cannot be read is a result too, as soon as it is met.

    Raises:
        SourceError: There is such an image, and the runtime is strict.
    """
    for index, result in each(work, table.rows, runtime, stage):
        row = table.rows[index]
        if runtime.strict and isinstance(result, ImageError):
            raise SourceError(f"{quoted(row.path)}: {result.message}.", "Run without --strict to skip such files.")
        yield row, result


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
