"""How long work reports on itself. The core knows the protocol only; the command line draws the bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Something that can show the progress of a stage."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Begin a stage of `total` steps; call the result with the number of steps done since the last call."""
        ...


class Silent:
    """Shows nothing: the default of the Python interface."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Do nothing with the steps."""
        yield lambda steps: None
