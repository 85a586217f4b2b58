"""Single values of a model's metadata, which are untrusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from headstart.core.errors import ModelError

MAX_DIGITS = 18


def integer(text: str) -> int:
    """A whole number of JSON, of no more digits than 64 bits hold."""
    if len(text) > MAX_DIGITS:
        raise ValueError("a number of too many digits")
    return int(text)


def number(text: str) -> float:
    """A number of JSON that is finite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def text_of(value: object) -> str:
    """A text; empty for what is none."""
    return value if isinstance(value, str) else ""


def mapping(record: Mapping[str, object], key: str) -> dict[str, Any]:
    """A JSON object inside another."""
    value = record.get(key)
    if not isinstance(value, dict):
        raise ModelError(f"The model's metadata has no valid {key}.")
    return value


def positive(value: object, name: str) -> float:
    """A number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ModelError(f"The model's metadata has no valid {name}.")
    return float(value)
