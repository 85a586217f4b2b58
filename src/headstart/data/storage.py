"""Where the bytes of images come from: a folder or a zip file. Reading is bounded, and opens regular files only."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeVar, cast

from headstart.core.errors import ImageError, SourceError
from headstart.core.files import storage_error
from headstart.core.text import quoted

T = TypeVar("T")
# No camera writes larger files; it bounds the memory of one worker.
MAX_FILE_BYTES = 256 * 2**20
# A zip entry that expands more than this, beyond a size that solid-colour images reach, is a bomb.
MAX_ZIP_RATIO = 200
ZIP_RATIO_FREE_BYTES = 8 * 2**20


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


class Lasting:
    """What a storage is: equal to those of the same class and arguments, and pickled as these.

    What is open, locked or kept in memory stays behind, and is made again where the first image is read.
    """

    def _arguments(self) -> tuple[Any, ...]:
        """What its class is called with, paths absolute: another process may have another working folder."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._arguments() == self._arguments()

    def __hash__(self) -> int:
        return hash((type(self), self._arguments()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments()


class Below(Lasting):
    """A storage seen from a folder inside it.

    Args:
        storage: The whole.
        prefix: Path of the folder, with a ``/`` at its end.
    """

    def __init__(self, storage: Storage, prefix: str) -> None:
        self._storage = storage
        self._prefix = prefix

    def _arguments(self) -> tuple[Any, ...]:
        return self._storage, self._prefix

    def read(self, path: str) -> bytes:
        """All bytes of one file; see `Storage`."""
        return self._storage.read(self._prefix + path)

    def local(self, path: str) -> str | None:
        """See `Storage`."""
        return self._storage.local(self._prefix + path)

    def reopened(self) -> Below:
        """See `Storage`."""
        return Below(self._storage.reopened(), self._prefix)


class FolderStorage(Lasting):
    """Files below a folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = os.fspath(root)

    def _arguments(self) -> tuple[Any, ...]:
        return (os.path.abspath(self.root),)  # noqa: PTH100  lexical: links are the user's own

    def read(self, path: str) -> bytes:
        """All bytes of one file; see `Storage`."""
        return read_file(self.local(path))

    def local(self, path: str) -> str:
        """See `Storage`."""
        return os.path.join(self.root, path)  # noqa: PTH118  a Path costs more than the read

    def reopened(self) -> FolderStorage:
        """See `Storage`."""
        return self


class _Zip(NamedTuple):
    """A zip file that is open."""

    file: zipfile.ZipFile
    entries: list[zipfile.ZipInfo]
    by_path: dict[str, zipfile.ZipInfo]

    @classmethod
    def open(cls, archive: str | Path) -> _Zip:
        name = quoted(os.fspath(archive))
        try:
            file = zipfile.ZipFile(archive)
        # The directory of a hostile file also ends in struct.error, and in ValueError for names and offsets.
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError) as error:
            raise SourceError(
                f"{name} is not a readable zip file: {str(error)[:200]}.", "Download or pack it again."
            ) from error
        except OSError as error:
            raise SourceError(f"{name} cannot be read: {_reason(error)}.") from error
        entries = file.infolist()
        return cls(file, entries, {entry.filename: entry for entry in reversed(entries)})


class ZipStorage(Lasting):
    """Files inside a zip file, read in place: nothing is extracted. It is opened when it is first looked at."""

    def __init__(self, archive: str | Path) -> None:
        self._archive = archive
        self._zip: _Zip | None = None
        self._opening = threading.Lock()  # zipfile counts its open entries without one

    def _arguments(self) -> tuple[Any, ...]:
        return (os.path.abspath(self._archive),)  # noqa: PTH100

    def _opened(self) -> _Zip:
        with self._opening:
            if self._zip is None:
                self._zip = _Zip.open(self._archive)
            return self._zip

    @property
    def entries(self) -> list[zipfile.ZipInfo]:
        """All that is in it, in its order.

        Raises:
            SourceError: It is not a zip file, or its directory is damaged.
        """
        return self._opened().entries

    def local(self, path: str) -> None:
        """See `Storage`."""

    def reopened(self) -> ZipStorage:
        """See `Storage`."""
        return ZipStorage(self._archive)

    def close(self) -> None:
        """Close the file; it is closed with the object too."""
        if self._zip is not None:
            self._zip.file.close()

    def read(self, path: str) -> bytes:
        """All bytes of one entry; see `Storage`."""
        archive = _for_image(self._opened)
        entry = archive.by_path.get(path)
        if entry is None:
            raise ImageError("not in the zip file")
        if entry.file_size > MAX_FILE_BYTES:
            raise ImageError(_too_large(entry.file_size))
        try:
            with self._opening:
                file = archive.file.open(entry)
            try:
                data = file.read(entry.file_size + 1)
            finally:
                with self._opening:
                    file.close()
        except (
            zipfile.BadZipFile,
            zlib.error,
            struct.error,
            EOFError,
            OSError,
            RuntimeError,
            NotImplementedError,
            ValueError,
            OverflowError,
        ) as error:
            raise ImageError(f"damaged in the zip file: {str(error)[:200] or type(error).__name__}") from error
        if len(data) != entry.file_size:
            raise ImageError(f"the zip file promises {entry.file_size:,} bytes and holds {len(data):,}")
        return data


class _Tar(NamedTuple):
    """A tar file that is open and not packed."""

    file: IO[bytes]
    entries: list[tarfile.TarInfo]
    by_path: dict[str, tarfile.TarInfo]

    @classmethod
    def open(cls, archive: str | Path, owner: object) -> _Tar:
        name = quoted(os.fspath(archive))
        try:
            file = _plain_tar(Path(archive))
            weakref.finalize(owner, file.close)
            entries = tarfile.TarFile(fileobj=file).getmembers()
        except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, OverflowError) as error:
            raise SourceError(
                f"{name} is not a readable tar file: {str(error)[:200]}.", "Download or pack it again."
            ) from error
        except OSError as error:
            raise SourceError(f"{name} cannot be read: {_reason(error)}.") from error
        return cls(file, entries, {entry.name.removeprefix("./"): entry for entry in reversed(entries)})


class TarStorage(Lasting):
    """Files inside a tar file, read in place; it is opened when it is first looked at.

    A packed one is unpacked as a whole, into a file that has no name.
    """

    def __init__(self, archive: str | Path) -> None:
        self._archive = archive
        self._tar: _Tar | None = None
        self._reading = threading.Lock()

    def _arguments(self) -> tuple[Any, ...]:
        return (os.path.abspath(self._archive),)  # noqa: PTH100

    def _opened(self) -> _Tar:
        with self._reading:
            if self._tar is None:
                self._tar = _Tar.open(self._archive, self)
            return self._tar

    @property
    def entries(self) -> list[tarfile.TarInfo]:
        """All that is in it, in its order.

        Raises:
            SourceError: It is not a tar file, or damaged.
            StorageError: There is no room to unpack it.
        """
        return self._opened().entries

    def read(self, path: str) -> bytes:
        """All bytes of one entry; see `Storage`."""
        archive = _for_image(self._opened)
        entry = archive.by_path.get(path)
        if entry is None or not entry.isreg():
            raise ImageError("not in the tar file")
        if entry.size > MAX_FILE_BYTES:
            raise ImageError(_too_large(entry.size))
        try:
            with self._reading:
                archive.file.seek(entry.offset_data)
                data = archive.file.read(entry.size)
        except (OSError, ValueError) as error:
            raise ImageError(f"damaged in the tar file: {error}") from error
        if len(data) != entry.size:
            raise ImageError(f"the tar file promises {entry.size:,} bytes and holds {len(data):,}")
        return data

    def local(self, path: str) -> None:
        """See `Storage`."""

    def reopened(self) -> TarStorage:
        """See `Storage`."""
        return TarStorage(self._archive)


def _for_image(opened: Callable[[], T]) -> T:
    """The open archive; that it is gone or damaged meanwhile is the image's error."""
    try:
        return opened()
    except SourceError as error:
        raise ImageError(error.message.rstrip(".")) from error


# By their first bytes.
_PACKED: dict[bytes, Callable[[Path], IO[bytes]]] = {
    b"\x1f\x8b": lambda path: cast("IO[bytes]", gzip.GzipFile(path)),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


def _plain_tar(path: Path) -> IO[bytes]:
    """The tar file, or what is packed in it."""
    file = path.open("rb")
    start = file.read(8)
    file.seek(0)
    opener = next((opener for mark, opener in _PACKED.items() if start.startswith(mark)), None)
    if opener is None:
        return file
    limit = max(ZIP_RATIO_FREE_BYTES, MAX_ZIP_RATIO * path.stat().st_size)
    with file, opener(path) as packed:
        plain = tempfile.TemporaryFile()  # noqa: SIM115  for as long as the storage
        try:
            while piece := packed.read(2**20):
                limit -= len(piece)
                if limit < 0:
                    raise ValueError(f"it expands more than {MAX_ZIP_RATIO} times")
                try:
                    plain.write(piece)
                except OSError as error:
                    raise storage_error(error, Path(tempfile.gettempdir())) from error
            plain.seek(0)
        except BaseException:
            plain.close()
            raise
    return plain


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
        raise ImageError(_reason(error)) from error
    except ValueError as error:  # a NUL in the path
        if isinstance(error, ImageError):
            raise
        raise ImageError("the path holds a NUL character") from error


def _check_file(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError(_too_large(status.st_size))


def _reason(error: OSError) -> str:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return "file not found"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "no permission to read"
    if error.errno == errno.EISDIR:
        return "a folder, not a file"
    return f"cannot be read: {error.strerror or type(error).__name__}"


def _too_large(size: int) -> str:
    return f"{size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}"
