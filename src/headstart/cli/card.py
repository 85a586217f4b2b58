"""`headstart card`: the model card, as a text to publish beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE
from headstart.core.text import portable, quoted


def card(
    model: options.Model,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, such as README.md; default: print it.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model on the card; default: the name of the run folder.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="ID", help="Licence that you publish the model under, such as apache-2.0.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Write a model card in Markdown.

    It has the metadata header that the Hugging Face Hub reads.
    """
    from headstart import api
    from headstart.cli.output import Output
    from headstart.core.errors import StorageError
    from headstart.core.files import durable_write, make_folder

    output = Output(as_json=json, quiet=quiet)
    text = api.card(model, name=name, licence=licence)
    if out is not None:
        if out.exists() and not overwrite:
            raise StorageError(
                f"{quoted(str(out))} already exists.", "Choose another file with --out, or replace it (--overwrite)."
            )
        make_folder(out.parent)
        durable_write(out, text)
        output.say(f"Wrote {quoted(str(out))}. Read it before you publish it.")
    elif not json:
        print(text, end="")
    output.document({"path": portable(str(out)) if out else None, "card": text})
    return DONE
