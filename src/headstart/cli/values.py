"""Values that need no converting are left alone: typer would import pydantic for them, which takes 0.1 seconds.

Anything else, a number that is given or a value that is missing, is typer's to convert or to refuse.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


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


class Group(_Plain, TyperGroup):
    """The program, whose own options come before the command."""


class _Process:
    """In place of a parameter's own `process_value`."""

    def __init__(self, parameter: Any) -> None:
        self._parameter, self._convert = parameter, parameter.process_value
        self._one = parameter.nargs == 1 and not parameter.multiple
        parsed = parameter.type_descriptor.parameter_info.parser is not None
        self._kind = None if parsed else parameter.type_descriptor.annotation

    def __call__(self, context: Any, value: Any) -> Any:
        parameter = self._parameter
        if self._one:
            as_it_is = value is parameter.default and not (value is None and parameter.required)
            if not as_it_is and not (self._kind is str and type(value) is str):
                return self._convert(context, value)
        elif self._kind == list[str] and value and all(type(one) is str for one in value):
            value = list(value)
        else:
            return self._convert(context, value)
        return parameter.callback(context, parameter, value) if parameter.callback else value
