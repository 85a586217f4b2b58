"""Values that need no converting are left alone: typer would import pydantic for them, which takes 0.1 seconds.

Anything else, a number that is given or a value that is missing, is typer's to convert or to refuse.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from headstart.cli import panels


class _Plain:
    """Takes texts, and options that are not given, as they come."""

    def get_params(self, context: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(context)  # type: ignore[misc]
        for parameter in parameters:
            # Versions of typer that have no pydantic have no such descriptor.
            if hasattr(parameter, "type_descriptor") and "process_value" not in vars(parameter):
                parameter.process_value = _Process(parameter)
        return parameters


class Command(_Plain, TyperCommand):
    """A command of the program."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options in their panels."""
        panels.write(self, ctx, formatter)


class Group(_Plain, TyperGroup):
    """The program, whose own options come before the command."""


class _Process:
    """In place of a parameter's own `process_value`."""

    def __init__(self, parameter: Any) -> None:
        self._parameter, self._convert = parameter, parameter.process_value
        self._one = parameter.nargs == 1 and not parameter.multiple
        asked = parameter.type_descriptor.parameter_info
        self._kind = None if asked.parser else parameter.type_descriptor.annotation
        self._any_path = not (asked.exists or asked.resolve_path or asked.allow_dash or asked.writable)
        self._any_path &= asked.file_okay and asked.dir_okay

    def __call__(self, context: Any, value: Any) -> Any:
        parameter = self._parameter
        if self._one:
            as_it_is = value is parameter.default and not (value is None and parameter.required)
            if self._kind is Path and self._any_path and type(value) is str and _may_be_read(value):
                value = Path(value)
            elif not as_it_is and not (self._kind is str and type(value) is str):
                return self._convert(context, value)
        elif self._kind == list[str] and value and all(type(one) is str for one in value):
            value = list(value)
        else:
            return self._convert(context, value)
        return parameter.callback(context, parameter, value) if parameter.callback else value


def _may_be_read(path: str) -> bool:
    """Whether there is nothing, or something that can be read: typer refuses the rest."""
    return "\0" not in path and (not os.path.exists(path) or os.access(path, os.R_OK))  # noqa: PTH110  as it is spelled
