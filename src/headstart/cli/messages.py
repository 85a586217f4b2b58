"""From an error to words, the next step, and the exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

import typer

from headstart.cli import streams
from headstart.cli.signals import Stopped
from headstart.core.errors import (
    DeviceError,
    ExtraError,
    HeadstartError,
    InputError,
    OfflineError,
    StorageError,
    TrainingError,
)
from headstart.core.files import working_folder_gone
from headstart.core.text import printable

DONE, OUR_FAULT, BAD_INPUT, SOME_SKIPPED, INTERRUPTED = 0, 1, 2, 3, 130


# typer carries click's exceptions under a private name in some versions, and click itself in others.
_UsageError: Any = typer.BadParameter.__mro__[1]
_ClickException: Any = typer.BadParameter.__mro__[2]


def tell(error: BaseException, *, as_json: bool) -> int:
    """Say what happened on the standard error stream, and as JSON on standard output where that was asked for.

    Returns:
        The exit code.
    """
    error = _interruption(error) or error
    message, hint, code = _words(error)
    try:
        if code == OUR_FAULT and message and not isinstance(error, HeadstartError):
            traceback.print_exception(error)
        if message:
            print(f"Error: {_lines(message)}", file=sys.stderr)
        if hint:
            print(_lines(hint), file=sys.stderr)
        if as_json and code:
            print(streams.as_json({"error": message, "hint": hint}))
        if isinstance(error, Stopped):
            sys.stdout.flush()
    except OSError:
        if not isinstance(error, Stopped):
            raise
        _give_up(sys.stdout, sys.stderr)  # with the terminal there is nobody to tell
    return code


def _interruption(error: BaseException) -> Stopped | None:
    """The signal on the way out of which something else went wrong.

    With the terminal gone, what is still printed then fails. And a signal that comes while a thread begins to wait for
    others finds a lock that it has already let go of: Python raises a `RuntimeError` as it lets go of it again.
    """
    context = error.__context__
    while context is not None and not isinstance(error, HeadstartError):
        if isinstance(context, Stopped):
            return context
        context = context.__context__
    return None


def _words(error: BaseException) -> tuple[str, str, int]:
    if isinstance(error, InputError | StorageError | OfflineError | ExtraError | DeviceError | TrainingError):
        return error.message, error.hint, BAD_INPUT
    if isinstance(error, HeadstartError):
        return error.message, error.hint, OUR_FAULT
    if isinstance(error, _ClickException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "headstart"
        text = str(error.format_message())
        hint = f"See `{command} --help`." if isinstance(error, _UsageError) else ""
        if text.lstrip().startswith("Usage:"):  # no command at all: the help is the message
            print(text, file=sys.stderr)
            text, hint = "", ""
        return text, hint, BAD_INPUT
    if isinstance(error, Stopped):
        return str(error), error.hint, 128 + error.number
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "Interrupted.", Stopped.hint, INTERRUPTED
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        _give_up(sys.stdout)  # whoever read it has left
        return "", "", 128 + 13
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT} and error.filename is None:
        _give_up(sys.stdout)
        return "The output could not be written: the disk is full.", "Free some space, and run it again.", BAD_INPUT
    if isinstance(error, FileNotFoundError) and not _working_folder_exists():
        return _words(working_folder_gone())
    if isinstance(error, SystemExit):
        return "", "", error.code if isinstance(error.code, int) else BAD_INPUT
    if isinstance(error, MemoryError):
        return "There is not enough memory.", "Try fewer --workers, or a smaller --max-megapixels.", BAD_INPUT
    return (
        f"{type(error).__name__}: {error}",
        "This is a bug in Headstart: please report the lines above.",
        OUR_FAULT,
    )


def _working_folder_exists() -> bool:
    """Whether relative paths lead anywhere; in a folder that was deleted, each look for it ends in an error."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _give_up(*streams: TextIO) -> None:
    """Let what is still to be printed go nowhere, so that closing the stream does not raise at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
