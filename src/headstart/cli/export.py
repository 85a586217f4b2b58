"""`headstart export`: a model in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE
from headstart.core.text import counted, portable, quoted
from headstart.prediction.exporters import EXPORTERS

_FORMS = "; ".join(f"{name}: {spec.help}" for name, spec in EXPORTERS.items())


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model.onnx of a run, or the run folder.")],
    to: Annotated[str, typer.Option(metavar="|".join(EXPORTERS), help=f"{_FORMS}.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File or folder to write; default: beside the model.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the page calls the model; default: the name of the run folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write a model in another form, such as a page that classifies in any browser, offline."""
    from headstart import api
    from headstart.cli.output import Output

    output = Output(as_json=json, quiet=quiet)
    made = api.export(model, to, out=out, name=name, overwrite=overwrite)
    size = f"{made.size / 1e6:.1f} MB"
    files = "" if made.files == (made.path,) else f" in {counted(len(made.files), 'file')}"
    output.say(f"Written: {quoted(str(made.path))} ({size}{files}). {EXPORTERS[made.format].next_step}")
    output.document({
        "format": made.format,
        "path": portable(str(made.path)),
        "files": [portable(str(file)) for file in made.files],
        "bytes": made.size,
    })  # fmt: skip
    return DONE
