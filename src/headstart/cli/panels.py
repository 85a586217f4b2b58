"""Options of a command that are made from records, and the panels that `--help` shows them in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from headstart.settings.setting import GROUPS

Function = TypeVar("Function", bound=Callable[..., Any])
FIRST = "Most used"
MANIFEST = "Manifest"
# What stands in no panel comes last, with --help itself.
ACCESS, LIMITS = "Access", "Limits"  # of a server
PANELS = (FIRST, *GROUPS, MANIFEST, ACCESS, LIMITS)


def takes(*groups: Mapping[str, tuple[Any, Any]]) -> Callable[[Function], Function]:
    """Give a command options beside those of its own parameters; it finds their values among its keyword arguments.

    Args:
        groups: Annotated types and their defaults, by the names of the parameters.
    """

    def decorate(function: Function) -> Function:
        hints = get_type_hints(function, include_extras=True)
        own = [
            one.replace(annotation=hints[one.name])
            for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD
        ]  # fmt: skip
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for group in groups for name, (hint, default) in group.items()
        ]  # fmt: skip
        function.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        function.__annotations__ = {one.name: one.annotation for one in (*own, *added)}
        return function

    return decorate


def write(command: Any, context: Any, formatter: Any) -> None:
    """Write the options of a command, a section for each panel."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            argument = parameter.param_type_name == "argument"
            name = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or "Options"
            sections.setdefault(name, []).append(record)
    for name in sorted(sections, key=["Arguments", *PANELS, "Options"].index):
        with formatter.section(name):
            formatter.write_dl(sections[name])
