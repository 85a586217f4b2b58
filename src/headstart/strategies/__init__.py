"""How to learn. A strategy takes an image table and a recipe, and gives a `Fitted`; a new one is a file and a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headstart.core.errors import OptionError
from headstart.core.tables import resolve
from headstart.core.text import listed, nearest, quoted
from headstart.settings.strategies import STRATEGIES

if TYPE_CHECKING:
    from headstart.runs.result import Fitted

    Strategy = Callable[..., Fitted]  # (ImageTable, Recipe, Runtime, Origin), and perhaps own=Own


def find(name: str) -> Strategy:
    """The function of a strategy.

    Raises:
        OptionError: There is no strategy of this name.
    """
    if name not in STRATEGIES:
        raise OptionError(
            f"There is no strategy {quoted(name)}.",
            f"{nearest(name, STRATEGIES)}Known: {listed(STRATEGIES)}.",
        )
    strategy: Strategy = resolve(STRATEGIES[name].fit)
    return strategy
