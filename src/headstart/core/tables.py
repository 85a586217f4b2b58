"""The literal tables of the package. A row names its function as ``"module:name"``, so that a list imports nothing."""

from __future__ import annotations

import importlib
from typing import Any


def resolve(where: str) -> Any:
    """What a row names, imported now.

    Args:
        where: ``"package.module:name"``, of this package.
    """
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)
