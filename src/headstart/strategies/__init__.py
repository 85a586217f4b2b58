"""How to learn. A strategy takes an image table and a recipe, and gives a `Fitted`; a new one is a file and a row."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from headstart.core.errors import OptionError
from headstart.core.text import listed, nearest, quoted

if TYPE_CHECKING:
    from headstart.runs.result import Fitted

    Strategy = Callable[..., Fitted]  # (ImageTable, Recipe, Runtime, Origin), and perhaps own=Own

STRATEGIES = {
    "probe": "headstart.strategies.probe:fit",
    "finetune": "headstart.training.finetune:fit",
    "scratch": "headstart.training.finetune:fit",
    "auto": "headstart.strategies.auto:fit",
}


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
    module, function = STRATEGIES[name].split(":")
    strategy: Strategy = getattr(importlib.import_module(module), function)
    return strategy
