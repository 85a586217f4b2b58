"""Where the bytes of images come from: a folder, an archive, a URL. Reading is bounded; of files, only regular ones."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from headstart.core.errors import ImageError

# No camera writes larger files; it bounds the memory of one worker.
MAX_FILE_BYTES = 256 * 2**20
BUFFER_BYTES = 2**20  # of a file that is read in parts over a network


class Storage(Protocol):
    """Where the bytes of images come from. `read` may be called from several threads at once."""

    def read(self, path: str) -> bytes:
        """All bytes of one file.

        Raises:
            ImageError: It cannot be read; the message is the reason.
        """
        ...

    def local(self, path: str) -> str | None:
        """Where on the disk the file lies; None where it is inside another one."""
        ...

    def reopened(self) -> Storage:
        """The same for another process, which must not share an open file."""
        ...

    def opened(self, path: str, buffer_bytes: int = BUFFER_BYTES) -> BinaryIO:
        """One file to be read in parts, also where it is larger than an image may be: an archive, a table.

        Args:
            path: The file.
            buffer_bytes: How much is fetched at once where each request has its price; 0 for what is asked for.

        Raises:
            ImageError: It cannot be opened.
        """
        ...

    def part(self, path: str, begin: int, count: int) -> bytes:
        """Some bytes of one file; fewer where it ends.

        Raises:
            ImageError: It cannot be read.
        """
        ...

    @property
    def far(self) -> bool:
        """Whether reading waits for a network."""
        ...

    def ready(self) -> None:
        """Look whether this process reaches what is far away.

        Raises:
            SourceError: It is not there, or may not be read.
            OfflineError: It does not answer.
        """
        ...


class Lasting:
    """What a storage is: equal to those of the same class and arguments, and pickled as these.

    What is open, locked or kept in memory stays behind, and is made again where the first image is read.
    """

    def _arguments(self) -> tuple[object, ...]:
        """What its class is called with, paths absolute: another process may have another working folder."""
        raise NotImplementedError

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        raise NotImplementedError

    def local(self, path: str) -> str | None:
        """See `Storage`; files are inside another one."""
        return None

    def reopened(self) -> Storage:
        """See `Storage`; the same where nothing is open."""
        return self

    @property
    def far(self) -> bool:
        """See `Storage`."""
        return False

    def ready(self) -> None:
        """See `Storage`; what is on a disk is looked at when it is read."""

    def opened(self, path: str, buffer_bytes: int = BUFFER_BYTES) -> BinaryIO:
        """See `Storage`; of the bytes in memory where there is no better way."""
        return io.BytesIO(self.read(path))

    def part(self, path: str, begin: int, count: int) -> bytes:
        """See `Storage`."""
        try:
            with self.opened(path) as file:
                file.seek(begin)
                return file.read(count)
        except OSError as error:
            raise ImageError(reason(error)) from error

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._arguments() == self._arguments()

    def __hash__(self) -> int:
        return hash((type(self), self._arguments()))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._arguments()


class Within(Lasting):
    """A storage whose files are those of another one, or parts of these.

    Args:
        storage: The other one, the first of the arguments.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @property
    def far(self) -> bool:
        """See `Storage`."""
        return self._storage.far

    def ready(self) -> None:
        """See `Storage`."""
        self._storage.ready()

    def reopened(self) -> Storage:
        """See `Storage`."""
        again: Callable[..., Storage] = type(self)
        return again(self._storage.reopened(), *self._arguments()[1:])


class Below(Within):
    """A storage seen from a folder inside it.

    Args:
        storage: The whole.
        prefix: Path of the folder, with a ``/`` at its end.
    """

    def __init__(self, storage: Storage, prefix: str) -> None:
        super().__init__(storage)
        self._prefix = prefix

    def _arguments(self) -> tuple[object, ...]:
        return self._storage, self._prefix

    def read(self, path: str) -> bytes:
        """All bytes of one file; see `Storage`."""
        return self._storage.read(self._prefix + path)

    def local(self, path: str) -> str | None:
        """See `Storage`."""
        return self._storage.local(self._prefix + path)

    def opened(self, path: str, buffer_bytes: int = BUFFER_BYTES) -> BinaryIO:
        """See `Storage`."""
        return self._storage.opened(self._prefix + path, buffer_bytes)

    def part(self, path: str, begin: int, count: int) -> bytes:
        """See `Storage`."""
        return self._storage.part(self._prefix + path, begin, count)


class FolderStorage(Lasting):
    """Files below a folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = os.fspath(root)

    def _arguments(self) -> tuple[object, ...]:
        return (os.path.abspath(self.root),)  # noqa: PTH100  lexical: links are the user's own

    def read(self, path: str) -> bytes:
        """All bytes of one file; see `Storage`."""
        return read_file(self.local(path))

    def local(self, path: str) -> str:
        """See `Storage`."""
        return os.path.join(self.root, path)  # noqa: PTH118  a Path costs more than the read

    def opened(self, path: str, buffer_bytes: int = BUFFER_BYTES) -> BinaryIO:
        """See `Storage`."""
        try:
            local = self.local(path)
            _check_file(os.stat(local), limit=None)  # noqa: PTH116
            return open(local, "rb")  # noqa: PTH123  for whoever asked
        except OSError as error:
            raise ImageError(reason(error)) from error


def read_file(path: str) -> bytes:
    """All bytes of a regular file; pipes, sockets and devices are never read.

    Raises:
        ImageError: It cannot be read; the message is the reason.
    """
    try:
        # Looking first: to open a pipe or a device is to act on it. O_NONBLOCK: opening a pipe that takes the
        # file's place after the look must not wait for a writer.
        _check_file(os.stat(path))  # noqa: PTH116  a Path costs more than the look
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_file(status)
            data = file.read(status.st_size + 1)
        if len(data) > status.st_size:
            raise ImageError("still growing, or larger than its folder says")
        return data
    except OSError as error:
        raise ImageError(reason(error)) from error
    except ValueError as error:  # a NUL in the path
        if isinstance(error, ImageError):
            raise
        raise ImageError("the path holds a NUL character") from error


def _check_file(status: os.stat_result, limit: int | None = MAX_FILE_BYTES) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a regular file")
    if limit is not None and status.st_size > limit:
        raise ImageError(too_large(status.st_size))


def reason(error: OSError) -> str:
    """Why a file cannot be read, in words."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return "file not found"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "no permission to read"
    if error.errno == errno.EISDIR:
        return "a folder, not a file"
    return f"cannot be read: {error.strerror or type(error).__name__}"


def too_large(size: int) -> str:
    """The reason for a file of more than `MAX_FILE_BYTES`."""
    return f"{size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}"
