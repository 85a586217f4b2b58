"""`headstart push`: a model and its card into a repository of the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE
from headstart.core.text import portable, quoted


def push(
    model: options.Model,
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="The repository; it is made if need be.")],
    name: Annotated[
        str | None, typer.Option(help="What the card calls the model; default: the name of the run folder.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="ID", help="Licence that you publish the model under, such as apache-2.0.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a private repository.")] = False,
    branch: Annotated[str, typer.Option(help="Branch to write to; it is made if need be.")] = "main",
    message: Annotated[str | None, typer.Option("--message", "-m", help="Message of the commit.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files in the branch; their history stays.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be uploaded, and ask no server.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Upload a model and its card to the Hugging Face Hub.

    In one commit: model.onnx, the card (README.md) and labels.json.
    """
    from headstart import api
    from headstart.cli.output import Output

    output = Output(as_json=json, quiet=quiet)
    made = api.push(
        model, repository, name=name, licence=licence, private=private, branch=branch, message=message,
        overwrite=overwrite, dry_run=dry_run,
    )  # fmt: skip
    files = ", ".join(f"{file} ({_size(size)})" for file, size in made.files.items())
    where = f"{made.url}, branch {quoted(made.branch)}"
    if made.commit is None:
        output.say(f"Would upload {files} to {where}. Read the card before: headstart card {quoted(model)}")
    else:
        new = ", which was created" if made.created else ""
        output.say(f"Uploaded {files} to {where}{new}. Commit {made.commit[:10]}.")
    output.document({
        "repository": made.repository,
        "url": made.url,
        "branch": made.branch,
        "files": {portable(file): size for file, size in made.files.items()},
        "created": made.created,
        "commit": made.commit,
    })  # fmt: skip
    return DONE


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:,} bytes"
