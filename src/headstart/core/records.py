"""Records as JSON values and back: a document that was stored is read into the fields of frozen dataclasses.

What the types of the fields say is checked: a damaged document is refused, with the place of the first value that is
not what it should be. Keys that no field has are passed over: a newer version may have written them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")
_LEFT_OUT = "left out where None"
MAYBE = {_LEFT_OUT: True}  # the metadata of a field that has no key in the document where it is None


def as_json(value: object) -> Any:
    """A record as JSON values: an object with a key for each field, or what its own ``as_dict`` gives.

    Args:
        value: A dataclass; or a mapping, list, tuple of such; anything else stays as it is.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if own := getattr(value, "as_dict", None):
            return own()
        fields = [(one, getattr(value, one.name)) for one in dataclasses.fields(value)]
        return {
            one.name.removesuffix("_"): as_json(held)  # `class_` is the key class
            for one, held in fields if held is not None or _LEFT_OUT not in one.metadata
        }  # fmt: skip
    if isinstance(value, Mapping):
        return {key: as_json(held) for key, held in value.items()}
    if isinstance(value, tuple | list):
        return [as_json(held) for held in value]
    return value


def from_json(kind: type[Record], value: object, where: str) -> Record:
    """Read a record from JSON values.

    Args:
        kind: The dataclass.
        value: What the document holds.
        where: What to call it in an error.

    Raises:
        ValueError: A key is missing, or a value is of another type; it says where.
    """
    found: Record = _read(kind, value, where)
    return found


def _read(hint: Any, value: Any, where: str) -> Any:
    """A value of one type hint."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return _any_of(inner, value, where)
    if origin is tuple:
        return _items(inner, value, where)
    if origin in {Mapping, dict}:
        if not isinstance(value, dict):
            raise _not("an object", value, where)
        return {key: _read(inner[1], held, f"{where}.{key}") for key, held in value.items()}
    if origin is Literal:
        if value not in inner:
            raise _not(" or ".join(map(repr, inner)), value, where)
        return value
    if dataclasses.is_dataclass(hint):
        return _fields(hint, value, where)
    if hint is NoneType and value is None:
        return None
    if hint is float and type(value) is int:
        return float(value)
    if hint is not object and (type(value) is not hint):
        raise _not("a number" if hint in {int, float} else hint.__name__, value, where)
    return value


def _fields(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _not("an object", value, where)
    hints, given = _hints(kind), {}
    for one in dataclasses.fields(kind):
        key = one.name.removesuffix("_")
        if key in value:
            given[one.name] = _read(hints[one.name], value[key], f"{where}.{key}")
        elif one.default is dataclasses.MISSING:
            raise ValueError(f"{where}.{key} is missing")
    return kind(**given)


def _items(inner: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _not("a list", value, where)
    hints = inner
    if len(inner) == 2 and inner[1] is Ellipsis:
        hints = inner[:1] * len(value)
    elif len(value) != len(inner):
        raise _not(f"a list of {len(inner)}", value, where)
    return tuple(_read(hint, held, f"{where}[{n}]") for n, (hint, held) in enumerate(zip(hints, value, strict=True)))


def _any_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    """The first of several types that a value is of; what is wrong with the first, where it is of none."""
    if value is None and NoneType in hints:
        return None
    problems = []
    for hint in hints:
        if hint is not NoneType:
            try:
                return _read(hint, value, where)
            except ValueError as error:
                problems.append(error)
    raise problems[0]


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    """The types of the fields, by name; cached, since Python evaluates their text at each call."""
    return get_type_hints(kind)


def _not(wanted: str, value: object, where: str) -> ValueError:
    return ValueError(f"{where} is {value!r:.40}; expected {wanted}")
