"""The literal tables of the package. A row names its function as ``"module:name"``, so that a list imports nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def resolve(where: str) -> Any:
    """What a row names, imported now.

    Args:
        where: ``"package.module:name"``, of this package.
    """
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def public(package: str, name: str, places: Mapping[str, str], namespace: dict[str, Any]) -> Any:
    """A public name of a package, for its `__getattr__`: imported when it is first used, and kept in the package.

    Args:
        package: Name of the package.
        name: The name that was looked up.
        places: The module that each public name comes from.
        namespace: `globals()` of the package.

    Raises:
        AttributeError: The package has no such public name.
    """
    if name not in places:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    namespace[name] = resolve(f"{places[name]}:{name}")
    return namespace[name]
