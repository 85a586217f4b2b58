"""`headstart report`: draw the report of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE
from headstart.core.text import counted

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that train wrote.")]
Source = Annotated[
    str | None, typer.Option("--source", metavar="SOURCE", help="Where the images are now; default: where they were.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Page to write; default: RUN/report.html.")
]


def report(
    run: Run,
    source: Source = None,
    out: Out = None,
    no_cache: options.NoCache = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Draw the report of a run again.

    With the pictures that can still be found.
    """
    from headstart import api
    from headstart.cli.output import Output

    output = Output(as_json=json, quiet=quiet)
    runtime = options.runtime(output, workers=None, strict=False, cached=not no_cache)
    drawn = api.draw_report(run, source, out=out, runtime=runtime)
    output.say(f"Report: {drawn.path}")
    if drawn.missing:
        output.note(
            f"{counted(drawn.missing, 'picture')} of {drawn.images:,} could not be found: the images were moved, "
            "changed or deleted. If they are elsewhere, name their folder with --source."
        )
    output.document({"report": str(drawn.path), "images": drawn.images, "missing": drawn.missing})
    return DONE
