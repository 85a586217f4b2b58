"""How long work reports on itself. The core knows the protocol only; the command line draws the bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """What a stage reports to while it runs."""

    def __call__(self, steps: int, text: str = "") -> None:
        """Report the number of steps done since the last call, and a few words on how it goes."""
        ...


class Progress(Protocol):
    """Something that can show the progress of a stage."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Begin a stage of `total` steps."""
        ...

    def line(self, text: str) -> None:
        """Show a line that stays, such as the numbers of an epoch."""
        ...


class Within:
    """Shows the progress of a part of the work, under the name of that part.

    Args:
        progress: Where it is shown.
        name: Of the part: ``fold 2 of 5``.
    """

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Begin a stage of it."""
        return self._progress.stage(f"{name}, {self._name}", total)

    def line(self, text: str) -> None:
        """Show a line on it."""
        self._progress.line(f"{self._name[:1].upper()}{self._name[1:]}: {text}")


class Silent:
    """Shows nothing: the default of the Python interface."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Do nothing with the steps."""
        yield lambda steps, text="": None

    def line(self, text: str) -> None:
        """Do nothing with the line."""
