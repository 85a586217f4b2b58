"""Packages that are not in the lean install."""

from __future__ import annotations

import importlib
from types import ModuleType

from headstart.core.errors import ExtraError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an extra.

    Args:
        module: Its name, such as ``torch``.
        extra: The extra that installs it.
        purpose: What needs it, as the beginning of a sentence: "Fine-tuning".

    Raises:
        ExtraError: It is not installed.
    """
    package = module.split(".", maxsplit=1)[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ExtraError(
            f"{purpose} needs the package {package}, which is not installed.",
            f"Install it: pip install 'headstart[{extra}]'",
        ) from error
