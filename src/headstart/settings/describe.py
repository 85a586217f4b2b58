"""The settings in words: their defaults, and the table of the documentation."""

from __future__ import annotations

from functools import cache

from headstart.settings.recipe import SETTINGS, Recipe
from headstart.settings.setting import GROUPS, choices, hints_of, kinds
from headstart.settings.strategies import names

_HEADER = ("| setting | what it is | values | default |", "|---|---|---|---|")


_INTRODUCTION = """# Settings
All settings of a recipe: in a TOML file for `headstart train --recipe FILE`, as options of `headstart train`
(`--batch-size` for `batch_size`; `--flip` or `--no-flip` for yes or no), and as fields of `headstart.Recipe`. Those
under "Training the network" are for strategies that train a network, and for heads that are trained by gradients; where
the strategies' defaults differ, each is named. `scripts/list_settings.py` writes this page.

"""


@cache
def _of_each() -> dict[str, Recipe]:
    """The defaults of each strategy that trains a network."""
    return {name: Recipe(strategy=name) for name in names("trains", "network")}


def default(name: str) -> str:
    """The default of a setting; for those of a training, that of each strategy where they differ; empty for none."""
    if not SETTINGS[name].trains:
        return _value(getattr(Recipe, name))
    found = {strategy: _value(getattr(recipe, name)) for strategy, recipe in _of_each().items()}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return ", ".join(f"{value} ({strategy})" for strategy, value in found.items())


def values(name: str) -> str:
    """What a setting may be: its choices, its type and its range."""
    one, hint = SETTINGS[name], hints_of(Recipe)[name]
    if one.choices:
        return ", ".join(one.choices)
    low, high = one.range or (None, None)
    of_type = {bool: "yes or no", str: "text", int: "whole number", float: "number"}
    words = [of_type[part] + (f" from {low:,} to {high:,}" if one.range else "") for part in kinds(hint)
             if part in of_type]  # fmt: skip
    return ", ".join([*words, *choices(hint)])


def table() -> str:
    """All settings as Markdown, a table for each group."""
    parts = []
    for group in GROUPS:
        rows = [
            f"| `{name}` | {one.words} | {values(name)} | {default(name)} |"
            for name, one in SETTINGS.items() if one.group == group
        ]  # fmt: skip
        parts.append("\n".join([f"## {group}", *_HEADER, *rows]))
    return "\n\n".join(parts) + "\n"


def page() -> str:
    """The page of the documentation."""
    return _INTRODUCTION + table()


def _value(value: object) -> str:
    """A default for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
