"""Standard error holds our own words alone: what C libraries write (libtiff, by the hundred lines) goes nowhere."""

from __future__ import annotations

import faulthandler
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2
# For whoever hunts a crash inside a library: its last words are then let through.
SHOW_ALL = "HEADSTART_SHOW_LIBRARY_MESSAGES"

_descriptor = _STDERR


def descriptor() -> int:
    """The descriptor that our own words go to, for those who must write without Python's streams."""
    return _descriptor


@contextmanager
def own_words_only() -> Iterator[None]:
    """Give `sys.stderr` a descriptor of its own, and point the descriptor that C libraries know at nothing.

    Done once, before any thread decodes: to do it around each decoder would be a race between threads, and would
    swallow our own words meanwhile. Python's tracebacks, warnings and logs follow `sys.stderr`, and so does
    faulthandler where it is enabled. Processes that are started meanwhile inherit the silence.

    Nothing changes where `sys.stderr` is not the process's own (under pytest, in a notebook), or where the environment
    variable `HEADSTART_SHOW_LIBRARY_MESSAGES` is set.
    """
    global _descriptor
    stream = sys.stderr
    if os.environ.get(SHOW_ALL) or not isinstance(stream, io.TextIOWrapper) or _number(stream) != _STDERR:
        yield
        return
    stream.flush()
    own = os.dup(_STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with open(own, "w", buffering=1, encoding=stream.encoding, errors=stream.errors) as ours:  # noqa: PTH123
        os.dup2(nowhere, _STDERR)
        os.close(nowhere)
        sys.stderr, _descriptor = ours, own
        if faulthandler.is_enabled():
            faulthandler.enable(ours)
        try:
            yield
        finally:
            ours.flush()
            os.dup2(own, _STDERR)
            sys.stderr, _descriptor = stream, _STDERR
            if faulthandler.is_enabled():
                faulthandler.enable(stream)


def _number(stream: io.TextIOWrapper) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
