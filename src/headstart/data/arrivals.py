"""Files that arrive in a folder, each as soon as it is whole; by the package watchfiles of the extra `watch`."""

from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from headstart.core.errors import SourceError
from headstart.core.extras import require
from headstart.core.text import quoted
from headstart.data.readers.layout import is_litter
from headstart.data.readers.walk import walk

PATIENCE_SECONDS = 10.0  # that a file which cannot be read is given, since its writer may only pause
_POLL_MS = 100
_REMEMBERED = 10_000  # files of which it is known that they have been given
_ADDED, _DELETED = 1, 3  # of watchfiles.Change
_REPLACED = "\ufffd"  # what watchfiles gives of a name that is not UTF-8


class State(NamedTuple):
    """What changes while a file is written."""

    size: int
    modified_ns: int


@dataclass
class _Waiting:
    state: State
    since: float
    seconds: float
    last: bool = False


class Arrivals:
    """Files that have been seen and are not given yet, because they may still be written.

    Args:
        settle_seconds: For how long a file stays as it is, until it counts as whole.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._waiting: dict[str, _Waiting] = {}
        self._given = OrderedDict[str, State]()
        self._old: dict[str, State] = {}

    def leave_out(self, path: str) -> None:
        """A file that is there already: it counts once its content changes, and not its rights alone."""
        if (state := state_of(path)) is not None:
            self._old[path] = state

    def see(self, path: str, now: float) -> None:
        """Something has happened to a file, or is said to have.

        Args:
            path: The file.
            now: The time, in seconds.
        """
        state = state_of(path)
        if state is None:
            self._waiting.pop(path, None)
            self._old.pop(path, None)
        elif state not in (self._given.get(path), self._old.get(path)) and not self._waits(path, state):
            self._waiting[path] = _Waiting(state, now, self._settle_seconds)

    def _waits(self, path: str, state: State) -> bool:
        return path in self._waiting and self._waiting[path].state == state

    def again(self, path: str, now: float) -> None:
        """A file that was given could not be read: it is given once more, after it has changed or after a while."""
        self._given.pop(path, None)
        if (state := state_of(path)) is None:
            self._waiting.pop(path, None)
        else:
            self._waiting[path] = _Waiting(state, now, max(PATIENCE_SECONDS, self._settle_seconds), last=True)

    def due(self, now: float) -> list[tuple[str, bool]]:
        """The files that are whole, with whether each has been waited for as long as may be; they are given once."""
        found = []
        for path, waiting in list(self._waiting.items()):
            state = state_of(path)
            if state is None:
                del self._waiting[path]
            elif state != waiting.state:
                self._waiting[path] = _Waiting(state, now, self._settle_seconds)
            elif now - waiting.since >= waiting.seconds:
                del self._waiting[path]
                self._given[path] = state
                self._given.move_to_end(path)
                if len(self._given) > _REMEMBERED:
                    self._given.popitem(last=False)
                found.append((path, waiting.last))
        return found


def state_of(path: str) -> State | None:
    """The state of a regular file; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return State(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def refuse_missing(folder: Path) -> None:
    """Say that there is no such folder.

    Raises:
        SourceError: There is none.
    """
    if not folder.is_dir():
        raise SourceError(f"There is no folder {quoted(str(folder))}.", "Make it first, or check the path.")


def watched(folder: Path, arrivals: Arrivals, *, existing: bool) -> Generator[list[str]]:
    """Watch a folder and all below it, and tell the arrivals what happens there; hidden files are passed over.

    Args:
        folder: The folder.
        arrivals: Is told.
        existing: The files that are there already count as arrivals.

    Yields:
        Names that cannot be watched, since they are not UTF-8; mostly none. The first comes when the folder is being
        watched, and then one at least every tenth of a second.

    Raises:
        SourceError: There is no such folder, its name is not UTF-8, or it is gone.
        ExtraError: watchfiles is not installed.
    """
    watchfiles = require("watchfiles", "watch", "Watching a folder")
    refuse_missing(folder)
    root = os.path.abspath(folder)  # noqa: PTH100  lexical: links are the user's own
    try:
        root.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            f"The name of the folder {quoted(root)} is not UTF-8, and such folders cannot be watched.", "Rename it."
        ) from error
    if not existing:
        for file in walk(folder).files:
            arrivals.leave_out(os.path.join(folder, file))  # noqa: PTH118
    ready = False
    for changes in watchfiles.watch(
        root, watch_filter=None, debounce=2 * _POLL_MS, step=_POLL_MS // 2, rust_timeout=_POLL_MS, yield_on_timeout=True
    ):
        if not os.path.isdir(root):  # noqa: PTH112
            raise SourceError(f"The folder {quoted(str(folder))} is gone.", "Make it again, and watch it anew.")
        now = time.monotonic()
        if not ready:  # what came while the watch was set up has been told by nobody
            for file in walk(folder).files:
                arrivals.see(os.path.join(folder, file), now)  # noqa: PTH118
            ready = True
        unwatchable = []
        for change, path in sorted(changes, key=lambda one: one[1]):
            relative = os.path.relpath(path, root)
            if any(is_litter(part) for part in Path(relative).parts):
                continue
            if _REPLACED in relative and change != _DELETED and not os.path.exists(path):  # noqa: PTH110
                unwatchable.append(relative)
            for file in _files(folder, relative, came=change == _ADDED):
                arrivals.see(file, now)
        yield unwatchable


def _files(folder: Path, relative: str, *, came: bool) -> Iterator[str]:
    """What a change is about: a file, or all files of a folder that has come with them."""
    path = os.path.join(folder, relative)  # noqa: PTH118
    if os.path.isdir(path):  # noqa: PTH112
        if not came:  # its own rights or times, and nothing in it
            return
        try:
            yield from (os.path.join(path, file) for file in walk(Path(path)).files)  # noqa: PTH118
        except SourceError:  # it has gone again
            return
    else:
        yield path
