"""Standard output holds JSON that every reader takes, where it is asked for; standard error our own words alone.

What C libraries write (libtiff, by the hundred lines) goes nowhere.
"""

from __future__ import annotations

import codecs
import faulthandler
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from headstart.core.text import json_text

_STDERR = 2
# For debugging a crash inside a library: its last messages are then let through.
SHOW_ALL = "HEADSTART_SHOW_LIBRARY_MESSAGES"

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
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


def as_json(document: object, *, indent: int | None = 2) -> str:
    r"""A JSON document for standard output: where that is not UTF-8, all but ASCII is escaped, as JSON does it.

    Python would escape what the encoding lacks in its own way (``\xe9``), which is no JSON, and readers of JSON take
    other encodings for UTF-8. The document is the same to them.
    """
    text = json_text(document, indent=indent)
    encoding = getattr(sys.stdout, "encoding", None)  # None where it is caught in memory
    if encoding is None or codecs.lookup(encoding).name == "utf-8":
        return text
    return _NOT_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text)


def _number(stream: io.TextIOWrapper) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
