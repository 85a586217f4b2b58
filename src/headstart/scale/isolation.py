"""Which item of a shard ends the process that works on it: found by bisection, a try at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, Self


class Divisible(Protocol):
    """A shard, as `headstart.features.sharded.work.Job`."""

    references: tuple[Any, ...]

    def between(self, begin: int, end: int) -> Self:
        """A part of it, to be tried."""
        ...

    def condemned(self, reasons: dict[int, str]) -> Self:
        """The same without looking at some of its items, by their numbers, for these reasons."""
        ...


@dataclass
class Isolation:
    """The search in one shard.

    Attributes:
        job: The shard, of which a process died.
        ranges: Parts that are still to be tried, as begin and end.
        running: Number of tries that run.
        reasons: Items that are found, by their number.
    """

    job: Divisible
    ranges: list[tuple[int, int]] = field(default_factory=list)
    running: int = 0
    reasons: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._divide(0, len(self.job.references))

    def taken(self) -> tuple[int, int]:
        """The next part to try."""
        self.running += 1
        return self.ranges.pop()

    def told(self, begin: int, end: int, died: str | None) -> None:
        """Take note of a try.

        Args:
            begin: Of the part.
            end: Of the part.
            died: Why the process ended; None where it did not.
        """
        self.running -= 1
        if died is None:
            return
        if end - begin == 1:
            self.reasons[begin] = died
        else:
            self._divide(begin, end)

    @property
    def over(self) -> bool:
        """Whether all parts were tried."""
        return not self.ranges and not self.running

    def _divide(self, begin: int, end: int) -> None:
        middle = (begin + end) // 2
        self.ranges += [part for part in ((middle, end), (begin, middle)) if part[1] > part[0]]
