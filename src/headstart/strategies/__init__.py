"""How to learn. A strategy takes an image table and a recipe, and gives a `Fitted`; a new one is a file and a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headstart.core.errors import OptionError
from headstart.core.extras import require
from headstart.core.tables import resolve
from headstart.core.text import listed, nearest, quoted
from headstart.settings.strategies import STRATEGIES

if TYPE_CHECKING:
    from headstart.runs.result import Fitted

    Strategy = Callable[..., Fitted]  # (ImageTable, Recipe, Runtime, Origin), and perhaps own=Own


def refuse_unknown(name: str) -> None:
    """Refuse a strategy that no row has.

    Raises:
        OptionError: There is no strategy of this name.
    """
    if name not in STRATEGIES:
        raise OptionError(
            f"There is no strategy {quoted(name)}.",
            f"{nearest(name, STRATEGIES)}Known: {listed(STRATEGIES)}.",
        )


def find(name: str) -> Strategy:
    """The function of a strategy, which is imported now.

    Raises:
        OptionError: There is no strategy of this name.
        ExtraError: It needs a package that is not installed.
    """
    refuse_unknown(name)
    if extra := STRATEGIES[name].extra:
        require(extra, extra, f"The strategy {name}")
    strategy: Strategy = resolve(STRATEGIES[name].fit)
    return strategy
