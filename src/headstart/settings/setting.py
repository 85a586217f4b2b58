"""A setting: what a field of the recipe says about itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Group = Literal["Source", "Model", "Training the network", "Measuring", "Running"]
MODEL: Group = "Model"
TRAINING: Group = "Training the network"
MEASURING: Group = "Measuring"
RUNNING: Group = "Running"
SOURCE: Group = "Source"
GROUPS: tuple[Group, ...] = get_args(Group)  # in the order of `--help`
_KEY = "setting"
Class = TypeVar("Class")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What `--help`, the documentation and the check of a value know of a field of the recipe.

    Attributes:
        help: What it is, in one line.
        group: The panel of `--help` that it stands in.
        more: What else is worth knowing; for the documentation.
        range: Its least and its largest number.
        metavar: What stands for its value in `--help`; empty for its choices or its type.
        first: Whether most people need it: it stands in the first panel.
        usual: Its usual default in a training, from which rows of `STRATEGIES` may differ.
        choices: The table whose names are its values, where its type does not name them.
        trains: Whether it is for what is trained by gradients alone.
    """

    help: str
    group: Group
    more: str = ""
    range: tuple[float, float] | None = None
    metavar: str = ""
    first: bool = False
    usual: object = None
    choices: Mapping[str, object] | None = None
    trains: bool = False

    def kind(self, hint: Any) -> Any:
        """The type of its values.

        Args:
            hint: That of its field.
        """
        return Literal[tuple(self.choices)] if self.choices else hint

    @property
    def words(self) -> str:
        """All that is said of it, in sentences."""
        return f"{self.help} {self.more}".strip()


def setting(default: Any, group: Group, help: str, **facts: Any) -> Any:
    """A field of the recipe; the arguments are those of `Setting`.

    Args:
        default: Its default; None where that depends on the strategy.
        group: The panel of `--help` that it stands in.
        help: What it is, in one line.
        facts: All else.
    """
    return dataclasses.field(default=default, metadata={_KEY: Setting(help=help, group=group, **facts)})


def training(usual: Any, help: str, *, group: Group = TRAINING, **facts: Any) -> Any:
    """A field of the recipe for what is trained by gradients, whose default the rows of `STRATEGIES` may change."""
    return setting(None, group, help, usual=usual, trains=True, **facts)


def settings_of(recipe: Any) -> dict[str, Setting]:
    """The settings of the class of recipes, or of a recipe, by the names of its fields."""
    return {field.name: field.metadata[_KEY] for field in dataclasses.fields(recipe)}


def documented(recipe: type[Class]) -> type[Class]:
    """The class of recipes, with the words of its settings in its docstring."""
    if recipe.__doc__:  # there is none under python -OO
        lines = (f"        {name}: {one.words}\n" for name, one in settings_of(recipe).items())
        recipe.__doc__ += "\n    Attributes:\n" + "".join(lines)
    return recipe


@cache
def hints_of(recipe: type[Any]) -> Mapping[str, Any]:
    """The types of the fields of a class, by name; cached, since Python evaluates their text at each call."""
    return get_type_hints(recipe)


def choices(hint: Any) -> tuple[Any, ...]:
    """The values that a type names: those of its `Literal`."""
    return tuple(one for part in kinds(hint) if get_origin(part) is Literal for one in get_args(part))


def kinds(hint: Any) -> tuple[Any, ...]:
    """The parts of a type hint: a type, a `Literal`, or a union of them."""
    return get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
