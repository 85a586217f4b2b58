"""Files inside zip and tar files, read in place."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple, TypeVar, cast

from headstart.core.errors import ImageError, SourceError
from headstart.core.files import storage_error
from headstart.core.text import quoted
from headstart.data.storage import MAX_FILE_BYTES, Lasting, reason, too_large

T = TypeVar("T")


# A zip entry that expands more than this, beyond a size that solid-colour images reach, is a bomb.
MAX_ZIP_RATIO = 200
ZIP_RATIO_FREE_BYTES = 8 * 2**20


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
                f"{name} is not a readable zip file: {str(error)[:200]}.", "Download it or pack it again."
            ) from error
        except OSError as error:
            raise SourceError(f"{name} cannot be read: {reason(error)}.") from error
        entries = file.infolist()
        return cls(file, entries, {entry.filename: entry for entry in reversed(entries)})


class ZipStorage(Lasting):
    """Files inside a zip file, read in place: nothing is extracted. It is opened when it is first looked at."""

    def __init__(self, archive: str | Path) -> None:
        self._archive = archive
        self._zip: _Zip | None = None
        self._opening = threading.Lock()  # zipfile counts its open entries without one

    def _arguments(self) -> tuple[object, ...]:
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
            raise ImageError(too_large(entry.file_size))
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
            raise ImageError(f"the zip file declares {entry.file_size:,} bytes and holds {len(data):,}")
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
                f"{name} is not a readable tar file: {str(error)[:200]}.", "Download it or pack it again."
            ) from error
        except OSError as error:
            raise SourceError(f"{name} cannot be read: {reason(error)}.") from error
        return cls(file, entries, {entry.name.removeprefix("./"): entry for entry in reversed(entries)})


class TarStorage(Lasting):
    """Files inside a tar file, read in place; it is opened when it is first looked at.

    A packed one is unpacked as a whole, into a file that has no name.
    """

    def __init__(self, archive: str | Path) -> None:
        self._archive = archive
        self._tar: _Tar | None = None
        self._reading = threading.Lock()

    def _arguments(self) -> tuple[object, ...]:
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
            raise ImageError(too_large(entry.size))
        try:
            with self._reading:
                archive.file.seek(entry.offset_data)
                data = archive.file.read(entry.size)
        except (OSError, ValueError) as error:
            raise ImageError(f"damaged in the tar file: {error}") from error
        if len(data) != entry.size:
            raise ImageError(f"the tar file declares {entry.size:,} bytes and holds {len(data):,}")
        return data

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


def is_packed(path: Path) -> bool:
    """Whether a tar file is packed, whatever its name says."""
    with path.open("rb") as file:
        return file.read(8).startswith(tuple(_PACKED))


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
