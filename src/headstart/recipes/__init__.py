"""Recipes that follow published tutorials, a TOML file each. A new one is a file and a name here.

A file has the keys of `headstart.settings.recipe.Recipe`, and a table ``[about]`` with ``title`` and ``source``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from headstart.core.errors import OptionError
from headstart.core.text import listed, nearest, quoted
from headstart.settings import toml

_NAMES = ("tutorial-finetune", "tutorial-feature-extraction", "resnet50-mlp", "pokemon-transfer", "pokemon-scratch")
_SUFFIX = ".toml"


@dataclass(frozen=True)
class About:
    """Where a recipe comes from.

    Attributes:
        name: What `load` takes.
        title: What it does, in a few words.
        source: The document that it follows.
    """

    name: str
    title: str
    source: str


def names() -> tuple[str, ...]:
    """The names of all recipes that come with Headstart."""
    return _NAMES


def about(name: str) -> About:
    """Where a recipe comes from; empty words where a user's own file does not say.

    Raises:
        OptionError: As for `load`.
    """
    words = _about(toml.parse(text(name)))
    return About(name, str(words.get("title", "")), str(words.get("source", "")))


def load(name: str) -> dict[str, object]:
    """The settings of a recipe, as `Recipe.from_dict` takes them; those that the file leaves out are left out.

    Args:
        name: One of `names`, or the path of a TOML file: one's own, or the ``recipe.toml`` of a run.

    Raises:
        OptionError: There is no such recipe, or its file is no TOML.
    """
    values = toml.parse(text(name))
    return {key: value for key, value in values.items() if key != "about" or value != _about(values)}


def text(name: str) -> str:
    """A recipe's file, with the comments that explain it.

    Raises:
        OptionError: There is no such recipe.
    """
    if name in _NAMES:
        return resources.files(__name__).joinpath(name + _SUFFIX).read_text("utf-8")
    path = Path(name)
    if path.suffix != _SUFFIX:
        own = path / "recipe.toml"
        advice = f"For that of a run, name its file: {quoted(str(own))}. " if own.is_file() else nearest(name, _NAMES)
        raise OptionError(
            f"There is no recipe {quoted(name)}.",
            f"{advice}Choose one of {listed(_NAMES)}, or name a file that ends in {_SUFFIX}.",
        )
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise OptionError(f"The recipe {quoted(name)} is not UTF-8 text.") from error
    except OSError as error:
        raise OptionError(
            f"The recipe {quoted(name)} cannot be read: {error.strerror or type(error).__name__}."
        ) from error


def _about(values: dict[str, object]) -> dict[str, object]:
    words = values.get("about")
    return words if isinstance(words, dict) else {}
