"""Evaluations as JSON values."""

from __future__ import annotations

from typing import Any


def plain(value: object) -> Any:
    """The same with lists in the place of tuples."""
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value
