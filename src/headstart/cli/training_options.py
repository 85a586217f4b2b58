"""The options of `headstart train` that are settings of its recipe, made from its fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from headstart.cli import panels
from headstart.settings import describe
from headstart.settings.recipe import SETTINGS, Recipe
from headstart.settings.setting import TRAINING, choices, hints_of, kinds

# Enough that fresh crops would add little, and few enough to keep: 8 x 1,280 float32 values are 41 kB an image.
FAST_VIEWS = 8
_UNITS = {"s": 1, "m": 60, "h": 3600}


def _rate(text: str) -> float | str:
    """A number where it is one; what else it may be, the recipe says."""
    try:
        return float(text)
    except ValueError:
        return text


def _count(text: str) -> int | str:
    """A whole number where it is one; what else it may be, the recipe says."""
    try:
        return int(text)
    except ValueError:
        return text


def _seconds(text: str) -> float:
    """Seconds of a time such as ``90s``, ``10m``, ``1.5h``; a bare number counts seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        return float(number) * _UNITS[unit]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time; expected one such as 90s, 10m or 1h.") from None


RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="NAME|FILE", help="Settings to begin with; see `headstart recipes`.",
        rich_help_panel=panels.FIRST,
    ),
]  # fmt: skip
Fast = Annotated[
    bool,
    typer.Option(
        "--fast", help=f"Cache the outputs of the frozen part for {FAST_VIEWS} views of each image.",
        rich_help_panel=TRAINING,
    ),
]  # fmt: skip
RECIPE: dict[str, tuple[Any, Any]] = {"recipe": (RecipeName, None), "fast": (Fast, False)}


def of_settings(names: Iterable[str] = SETTINGS) -> dict[str, tuple[Any, Any]]:
    """Options that are settings of the recipe, as `panels.takes` takes them; None leaves a setting to the recipe.

    Args:
        names: Fields of the recipe.
    """
    hints = hints_of(Recipe)
    return {name: (_option(name, SETTINGS[name].kind(hints[name])), None) for name in names}


def _option(name: str, hint: Any) -> Any:
    """The option of a setting. Choices and ranges are checked by the recipe, whose errors name the nearest one."""
    one, parts, known = SETTINGS[name], kinds(hint), choices(hint)
    facts: dict[str, Any] = {
        "help": f"{one.help}{_default(name)}", "rich_help_panel": panels.FIRST if one.first else one.group,
    }  # fmt: skip
    if bool in parts:
        return Annotated[bool | None, typer.Option(f"--{name}/--no-{name}".replace("_", "-"), **facts)]
    if one.metavar or known:
        facts["metavar"] = one.metavar or "|".join(known)
    if one.metavar == "TIME":
        return Annotated[float | None, typer.Option(parser=_seconds, **facts)]
    number = next((kind for kind in (int, float) if kind in parts), None)
    if number is not None and not known:
        return Annotated[number | None, typer.Option(**facts)]
    if number is not None:  # or a name
        facts["parser"] = _count if number is int else _rate
    return Annotated[str | None, typer.Option(**facts)]


def _default(name: str) -> str:
    """The default, as help shows it."""
    words = describe.default(name)
    return f" [default: {words}]" if words else ""


def chosen(parameters: Mapping[str, Any]) -> dict[str, object]:
    """The settings that were given as options.

    Args:
        parameters: All parameters of the command, by name.
    """
    found = {name: parameters[name] for name in SETTINGS if parameters.get(name) is not None}
    return ({"measure_by": "folds"} if "folds" in found else {}) | found


def make_recipe(name: str | None, options: Mapping[str, Any], *, fast: bool) -> Recipe:
    """The recipe of a training: an option counts before the recipe's file, and that before the strategy's default.

    Args:
        name: What `headstart.recipes.load` takes; None for no file.
        options: What `chosen` gave.
        fast: Keep the outputs of the frozen part.

    Raises:
        OptionError: There is no such recipe, or its settings do not go together.
    """
    from headstart import recipes
    from headstart.core.errors import OptionError

    settings = {**(recipes.load(name) if name else {}), **options}
    recipe = Recipe.from_dict(settings)
    if not fast:
        return recipe
    if recipe.unfreeze == "all" and ("unfreeze" in settings or not recipe.spec.partly):
        raise OptionError(
            "--fast caches the outputs of the frozen part, but with unfreeze = all nothing is frozen.",
            "Choose --unfreeze last, or leave --fast out.",
        )
    if recipe.unfreeze is None:
        raise OptionError("A linear probe caches its embeddings anyway.", "Leave --fast out.")
    return Recipe.from_dict({**settings, **fast_views(options)})


def fast_views(options: Mapping[str, Any]) -> dict[str, int]:
    """The setting that --fast stands for.

    Raises:
        OptionError: --views 0 was given too.
    """
    from headstart.core.errors import OptionError

    if options.get("views") == 0:
        raise OptionError("--fast caches outputs, and --views 0 caches none.", "Leave one of them out.")
    return {"views": options.get("views", FAST_VIEWS)}
