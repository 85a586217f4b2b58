"""A file of lines that grows while work goes on, so that whatever ends the work leaves the lines that were written."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from headstart.core.errors import StorageError
from headstart.core.files import storage_error
from headstart.core.locks import lock
from headstart.core.text import quoted

SYNC_SECONDS = 1.0  # of work that a power cut may cost; a process that is killed loses none
_BLOCK = 2**16


class GrowingFile:
    """A file of lines that one process appends to; use it as a context manager.

    Each line is given to the system whole and at once. A last line without its end, which a crash may leave, is cut
    off when the file is opened; so is what a full disk takes of a line.

    Args:
        path: The file; made where it is missing.

    Raises:
        StorageError: It cannot be written, or another process writes to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._in_words():
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            self._lock()
            with self._in_words():
                self._end = _end_of_lines(self._descriptor)
                os.ftruncate(self._descriptor, self._end)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._synced = time.monotonic()

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._in_words():
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    def lines(self) -> Iterator[str]:
        """The lines that are in the file, without their ends; what is not UTF-8 is replaced."""
        with self._path.open("rb") as file:
            for line in file:
                yield line.removesuffix(b"\n").decode("utf-8", "replace")

    @property
    def size(self) -> int:
        """Bytes of its lines."""
        return self._end

    def clear(self) -> None:
        """Begin anew.

        Raises:
            StorageError: The file cannot be written.
        """
        with self._in_words():
            os.ftruncate(self._descriptor, 0)
        self._end = 0

    def append(self, line: str) -> None:
        """Write one line.

        Args:
            line: Without its end, and without another one inside.

        Raises:
            StorageError: The disk is full, or the file cannot be written; the lines before are whole.
        """
        content = line.encode("utf-8") + b"\n"
        with self._in_words():
            try:
                os.lseek(self._descriptor, self._end, os.SEEK_SET)
                written = 0
                while written < len(content):
                    written += os.write(self._descriptor, content[written:])
                self._end += len(content)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._end)
                raise
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()

    def _lock(self) -> None:
        if lock(self._descriptor) is False:
            raise StorageError(
                f"Another process is writing to {quoted(str(self._path))}.",
                "Wait for it to finish, or choose another file.",
            )

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise storage_error(error, self._path) from error


def _end_of_lines(descriptor: int) -> int:
    """Where the last whole line of a file ends."""
    end = os.fstat(descriptor).st_size
    while end:
        begin = max(0, end - _BLOCK)
        os.lseek(descriptor, begin, os.SEEK_SET)
        found = os.read(descriptor, end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
