"""Which values a setting takes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, Literal, get_origin

from headstart.core.arguments import must_be
from headstart.core.errors import OptionError
from headstart.core.text import listed, nearest, quoted
from headstart.settings.setting import choices, hints_of, kinds, settings_of


def refuse_unknown(recipe: Any, values: Mapping[str, object]) -> None:
    """Refuse values by names that are no fields of the class of recipes.

    Raises:
        OptionError: Which name, and the one that was probably meant.
    """
    must_be("values", values, Mapping, "a mapping, such as {'epochs': 5}")
    known = [field.name for field in dataclasses.fields(recipe)]
    for key in values:
        must_be("A key of the recipe", key, str, "a name")
        if key not in known:
            raise OptionError(
                f"The recipe has an unknown key {quoted(key)}.",
                f"{nearest(key, known)}Known keys: {listed(known, len(known))}.",
            )


def checked(recipe: Any) -> dict[str, float]:
    """Refuse values that are of another type than their fields, none of the choices, or outside the range.

    Returns:
        The whole numbers of fields that take any number, as these, so that equal recipes are equal as JSON and TOML.

    Raises:
        OptionError: What was given, and what is expected.
    """
    hints, settings, numbers = hints_of(recipe.__class__), settings_of(recipe), {}
    for field in dataclasses.fields(recipe):
        name, value = field.name, getattr(recipe, field.name)
        hint = settings[name].kind(hints[name])
        if value is None and field.default is None:
            continue  # it does not apply to the strategy
        check_value(name, value, hint)
        if is_a(value, int) and float in kinds(hint):
            numbers[name] = float(value)
    for name, one in settings.items():
        value = numbers.get(name, getattr(recipe, name))
        if one.range and isinstance(value, int | float) and not one.range[0] <= value <= one.range[1]:
            raise OptionError(f"{name} = {value} is outside its range, {one.range[0]} to {one.range[1]}.")
    return numbers


def check_value(name: str, value: object, hint: Any) -> None:
    """Refuse a value that is not of its field's type, or none of its choices.

    Raises:
        OptionError: What was given, and what is expected.
    """
    known = choices(hint)
    types = [part for part in kinds(hint) if get_origin(part) is not Literal]
    if isinstance(value, str) and not _is_utf8(value):
        raise OptionError(f"{name} = {quoted(value)} is not valid text (UTF-8).", "Give the file another name.")
    if value in known or any(is_a(value, kind) for kind in types):
        return
    if types:
        wanted = " or ".join([*(kind.__name__ for kind in types), *map(repr, known)])
        raise OptionError(f"{name} must be {wanted}, not {type(value).__name__} {value!r:.50}.")
    raise OptionError(
        f"{name} = {quoted(str(value))} does not exist.",
        f"{nearest(str(value), known)}Choose one of {listed(known)}.",
    )


def is_a(value: object, kind: type) -> bool:
    """Whether a value is of a kind: a flag is no number, and a whole number is a number."""
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def _is_utf8(text: str) -> bool:
    """Whether a file can hold it: Python has halves of characters where a path's bytes are no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
