"""Arguments of public functions: a value of a wrong kind is refused in words, before any work is done with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from types import UnionType
from typing import Any

from headstart.core.errors import InputError, OptionError
from headstart.core.text import printable

_SHOWN = 60  # characters of a value in an error
# What is expected, as `must_be` says it.
A_RECIPE, A_RUNTIME = "a headstart.Recipe", "a headstart.Runtime"
A_CLASSIFIER = ("a headstart.Classifier", "Load the model file first: headstart.load('runs/NAME/model.onnx').")


def refused(
    name: str, value: object, expected: str, hint: str = "", error: type[InputError] = OptionError
) -> InputError:
    """The error for a value of a wrong kind.

    Args:
        name: What the argument is called.
        value: What was given.
        expected: What was expected, as the end of a sentence.
        hint: The next thing to do.
        error: The class of the error.
    """
    return error(f"{name} is {described(value)}; expected {expected}.", hint)


def described(value: object) -> str:
    """A value for an error: its kind, and what it is where that is short."""
    if value is None:
        return "None"
    kind = type(value).__name__
    plain = isinstance(value, str | bytes | bool | int | float)
    return f"{printable(repr(value)[:_SHOWN])} ({kind})" if plain else f"of type {kind}"


def must_be(
    name: str,
    value: object,
    kinds: type | UnionType,
    expected: str,
    hint: str = "",
    error: type[InputError] = OptionError,
) -> None:
    """Refuse a value that is of none of these kinds; the arguments are those of `refused`."""
    if not isinstance(value, kinds):
        raise refused(name, value, expected, hint, error)


def must_be_path(name: str, value: object, error: type[InputError] = OptionError) -> None:
    """Refuse what names no file or folder."""
    if not (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)) and not isinstance(value, str):
        raise refused(name, value, "a path", error=error)


def must_be_flags(**flags: object) -> None:
    """Refuse what is neither true nor false."""
    for name, value in flags.items():
        must_be(name, value, bool, "True or False")


def must_be_count(name: str, value: object) -> None:
    """Refuse what is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise refused(name, value, "a whole number of at least 1")


def must_be_share(name: str, value: object) -> None:
    """Refuse what is not a number above 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < 1:
        raise refused(name, value, "a number above 0 and below 1, such as 0.9")


def must_be_names(name: str, value: object, example: str) -> None:
    """Refuse what is not a list of names; a single string would be read as a list of its letters."""
    if isinstance(value, str) or not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise refused(name, value, f"a list of names, such as {example}")
    names: Any = value
    for number, one in enumerate(names):
        must_be(f"{name}[{number}]", one, str, "a name")
