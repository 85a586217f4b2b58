"""How long work reports on itself. The core knows the protocol only; the command line draws the bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """What a stage is told while it runs."""

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


class Silent:
    """Shows nothing: the default of the Python interface."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Do nothing with the steps."""
        yield lambda steps, text="": None

    def line(self, text: str) -> None:
        """Do nothing with the line."""
