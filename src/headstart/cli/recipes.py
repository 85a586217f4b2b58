"""`headstart recipes`: the recipes that `train --recipe` takes."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Print the settings of this one, or of a file.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """List the recipes of published tutorials, or print one."""
    from headstart import recipes as table
    from headstart.cli.output import Output

    output = Output(as_json=json, quiet=quiet)
    if name is not None:
        output.answer(table.text(name).rstrip("\n"))
        output.document({**dataclasses.asdict(table.about(name)), "settings": table.load(name)})
        return DONE
    known = [table.about(one) for one in table.names()]
    for one in known:  # no table: a source is longer than a column
        output.say(f"{one.name}\n  {one.title}\n  {one.source}\n")
    output.say("Next:  headstart recipes NAME, or headstart train PHOTOS --recipe NAME")
    output.document({"recipes": [dataclasses.asdict(one) for one in known]})
    return DONE
