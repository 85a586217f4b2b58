"""The program `headstart`: commands, signals, exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import typer

from headstart import __version__
from headstart.cli import (
    backbones,
    cache,
    check,
    compare,
    demo,
    evaluate,
    explain,
    messages,
    predict,
    recipes,
    report,
    signals,
    streams,
    train,
    verify,
)

app = typer.Typer(
    name="headstart",
    help="From a folder of labelled photos to one model file that can be trusted and shipped.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train.train)
app.command()(check.check)
app.command()(compare.compare)
app.command()(recipes.recipes)
app.command()(predict.predict)
app.command()(explain.explain)
app.command()(evaluate.evaluate)
app.command()(verify.verify)
app.command()(report.report)
app.command()(demo.demo)
app.command()(backbones.backbones)
app.add_typer(cache.app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"headstart {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """From a folder of labelled photos to one model file that can be trusted and shipped."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 our fault, 2 bad usage or input, 3 some images unread, 130 interrupted."""
    signals.install()
    for stream in ("stdout", "stderr"):  # None where the caller has closed it
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  for as long as we run
    if isinstance(sys.stdout, io.TextIOWrapper):  # names in any script, on a terminal of any encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with streams.own_words_only():
        try:
            code = run(arguments)
            sys.stdout.flush()
        except (signals.Stopped, OSError) as error:  # while an error was told, or at the very end
            code = messages.tell(error, as_json=False)
        signals.leave(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Every error has been told when this returns."""
    try:
        code = app(args=list(arguments), prog_name="headstart", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  the one place where every error is put into words
        return messages.tell(error, as_json="--json" in arguments)
    return code if isinstance(code, int) else 0
