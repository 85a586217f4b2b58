"""The program `headstart`: commands, signals, exit codes."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from headstart import __version__
from headstart.cli import clock, messages, signals, streams
from headstart.cli.values import Command, Group
from headstart.core.tables import resolve


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """What `--help` says about a command, which is imported when it is called.

    Attributes:
        function: Its function, or the `typer.Typer` of a group, as ``module:name``.
        help: The first words of its own help.
    """

    function: str
    help: str


COMMANDS = {
    "train": CommandSpec(
        function="headstart.cli.train:train",
        help="Train a classifier and measure it on held-out images.",
    ),
    "check": CommandSpec(
        function="headstart.cli.check:check",
        help="Find duplicates, leaks, wrong labels and poor images.",
    ),
    "compare": CommandSpec(
        function="headstart.cli.compare:compare",
        help="Compare ways to train on the same splits.",
    ),
    "recipes": CommandSpec(
        function="headstart.cli.recipes:recipes",
        help="List the recipes of published tutorials, or print one.",
    ),
    "predict": CommandSpec(
        function="headstart.cli.predict:predict",
        help="Predict the class of each image.",
    ),
    "watch": CommandSpec(
        function="headstart.cli.watch:watch",
        help="Predict the class of each file that arrives in a folder.",
    ),
    "unsort": CommandSpec(
        function="headstart.cli.unsort:unsort",
        help="Undo predict --sort-into.",
    ),
    "explain": CommandSpec(
        function="headstart.cli.explain:explain",
        help="Show which regions of an image are evidence for a class.",
    ),
    "embed": CommandSpec(
        function="headstart.cli.embed:embed",
        help="Write the embeddings of images to a file or a folder.",
    ),
    "search": CommandSpec(
        function="headstart.cli.search:search",
        help="Find the images that are most similar to a given one.",
    ),
    "evaluate": CommandSpec(
        function="headstart.cli.evaluate:evaluate",
        help="Measure a model on labelled images.",
    ),
    "verify": CommandSpec(
        function="headstart.cli.verify:verify",
        help="Check that this machine reproduces a model's results.",
    ),
    "export": CommandSpec(
        function="headstart.cli.export:export",
        help="Convert a model to another format, such as a web page.",
    ),
    "card": CommandSpec(
        function="headstart.cli.card:card",
        help="Write a model card in Markdown.",
    ),
    "push": CommandSpec(
        function="headstart.cli.push:push",
        help="Upload a model and its card to the Hugging Face Hub.",
    ),
    "serve": CommandSpec(
        function="headstart.cli.serve:serve",
        help="Serve models over HTTP: REST API, web page, metrics.",
    ),
    "report": CommandSpec(
        function="headstart.cli.report:report",
        help="Draw the report of a run again.",
    ),
    "demo": CommandSpec(
        function="headstart.cli.demo:demo",
        help="Try Headstart on a small set of real images.",
    ),
    "backbones": CommandSpec(
        function="headstart.cli.backbones:backbones",
        help="List the pretrained networks, or show the layers of one.",
    ),
    "cache": CommandSpec(
        function="headstart.cli.cache:app",
        help="Show or clear the cache of embeddings.",
    ),
}
# Objects that are made before Python looks for garbage; its own 700 has it look 150 times while packages are imported.
GARBAGE_AFTER = 5_000


def _version(value: bool) -> None:
    if value:
        typer.echo(f"headstart {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """From a folder of labelled photos to one model file that can be trusted and shipped."""


def program(called: str | None) -> typer.Typer:
    """The program, with the one command that is called; of the others it knows the names and the first words."""
    app = typer.Typer(
        name="headstart",
        cls=Group,
        help="From a folder of labelled photos to one model file that can be trusted and shipped.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name, spec in COMMANDS.items():
        command = resolve(spec.function) if name == called else _not_called
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name, cls=Command, help=None if name == called else spec.help)(command)
    return app


def _not_called() -> None:
    """Stands for a command that is not imported."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 our fault, 2 bad usage or input, 3 some images unread, 130 interrupted."""
    signals.install()
    gc.set_threshold(GARBAGE_AFTER)
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
        except (signals.Stopped, OSError) as error:  # while an error was printed, or at the very end
            code = messages.tell(error, as_json=False)
        signals.leave(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Every error has been printed when this returns."""
    clock.begin()
    signals.set_hint(signals.HINT)  # that of a command before it, in one process, says nothing of this one
    called = next((one for one in arguments if not one.startswith("-")), None)  # the options before it take no values
    try:
        code = program(called)(args=list(arguments), prog_name="headstart", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  the one place where every error is put into words
        return messages.tell(error, as_json="--json" in arguments)
    return code if isinstance(code, int) else 0
