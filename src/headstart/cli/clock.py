"""How long the program has been running, from when the system started it: with the start of Python and imports."""

from __future__ import annotations

import os
import time
from pathlib import Path

# Python and the packages of the command line are there in a fraction of a second; who imports us later than this, a
# notebook or a test, did not start for us.
_STARTS_WITHIN = 10.0

_imported = time.monotonic()


class _Command:
    """The one that runs, and when it began; 0 before the first."""

    began = 0.0


def begin() -> None:
    """A command begins: the first one of a process at the process's own start, any other now."""
    now = time.monotonic()
    start = now - _age()
    _Command.began = start if not _Command.began and 0 <= _imported - start <= _STARTS_WITHIN else now


def seconds() -> float:
    """Since the command began."""
    return time.monotonic() - _Command.began


def _age() -> float:
    """Seconds since the system started this process, to a hundredth; if unknown, since we were imported."""
    try:
        fields = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):  # no Linux
        return time.monotonic() - _imported
