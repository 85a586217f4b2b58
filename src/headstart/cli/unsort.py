"""`headstart unsort`: undo what `predict --sort-into` has done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE, SOME_SKIPPED


def unsort(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder given to predict --sort-into.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Undo predict --sort-into.

    Moves images back, and deletes copies and links.
    """
    from headstart.cli.output import Output
    from headstart.core.text import counted
    from headstart.prediction.sorting.undo import undo

    output = Output(as_json=json, quiet=quiet)
    undone = undo(folder)
    output.say(f"Undone: {counted(undone.images, 'image')}.")
    output.skipped(undone.kept)
    output.document({"undone": undone.images, "kept": [skip.as_dict() for skip in undone.kept]})
    return SOME_SKIPPED if undone.kept else DONE
