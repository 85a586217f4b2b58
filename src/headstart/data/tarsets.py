"""Images inside tar files that are read in place, wherever they lie: a directory is made once, and then each is a part.

As archives have no directory, all their headers are read; what is small between them is streamed through.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from headstart.core.errors import HeadstartError, ImageError, SourceError
from headstart.core.text import quoted
from headstart.data.readers.layout import MAX_DEPTH
from headstart.data.storage import MAX_FILE_BYTES, Storage, Within, too_large

_SMALL_BYTES = 2**20
_STREAM_BYTES = 8 * 2**20  # of an archive at once while its headers are read


@dataclass(frozen=True)
class Place:
    """Where a file lies in an archive, in bytes."""

    begin: int
    count: int


class TarSet(Within):
    """The files inside several tar files: ``train-00000.tar/cats/1.jpg``.

    Args:
        storage: Where the archives are.
        directory: What lies where, as of `packed`; it travels with the storage, so that no worker reads the headers.
    """

    def __init__(self, storage: Storage, directory: bytes) -> None:
        super().__init__(storage)
        self._directory = directory

    def _arguments(self) -> tuple[object, ...]:
        return self._storage, self._directory

    @cached_property
    def _places(self) -> dict[str, tuple[str, Place]]:
        found = {}
        for archive in filter(None, zlib.decompress(self._directory).decode("utf-8", "surrogateescape").split("\0\0")):
            name, *rows = archive.split("\0")
            for row in rows:
                begin, count, member = row.split(" ", 2)
                found[f"{name}/{member}"] = (name, Place(int(begin), int(count)))
        return found

    def read(self, path: str) -> bytes:
        """All bytes of one file; see `headstart.data.storage.Storage`."""
        where = self._places.get(path)
        if where is None:
            raise ImageError("not in the tar file")
        archive, place = where
        if place.count > MAX_FILE_BYTES:
            raise ImageError(too_large(place.count))
        content = self._storage.part(archive, place.begin, place.count) if place.count else b""
        if len(content) != place.count:
            raise ImageError(f"the tar file declares {place.count:,} bytes and holds {len(content):,}")
        return content


def packed(archives: dict[str, dict[str, Place]]) -> bytes:
    """A directory of archives, small enough to be sent to each process: about ten bytes a file."""
    texts = [
        "\0".join([name, *(f"{place.begin} {place.count} {member}" for member, place in members.items())])
        for name, members in archives.items()
    ]
    return zlib.compress("\0\0".join(texts).encode("utf-8", "surrogateescape"))


def members(
    storage: Storage, name: str, wanted: Callable[[str], bool] = lambda path: False
) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """What is in an archive, in its order, read as a stream.

    Args:
        storage: Where it is.
        name: Its path there.
        wanted: Whether the content of a file is given too, where it is at most a mebibyte.

    Raises:
        SourceError: It is no tar file, it is packed, or it is damaged.
    """
    try:
        with storage.opened(name, _STREAM_BYTES) as opened, tarfile.TarFile(fileobj=opened) as archive:
            while (entry := archive.next()) is not None:
                small = entry.isreg() and entry.size <= _SMALL_BYTES and wanted(entry.name)
                content = archive.extractfile(entry) if small else None
                yield entry, None if content is None else content.read()
                archive.members.clear()  # type: ignore[attr-defined]  # which holds all until the end
    except ImageError as error:
        raise SourceError(f"{quoted(name)}: {error.message}.") from error
    except HeadstartError:
        raise
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise SourceError(
            f"{quoted(name)} is not a readable tar file: {str(error)[:200]}.",
            "It is read in place, and so must not be packed (.tar.gz): pack it again as .tar.",
        ) from error


def refusal(entry: tarfile.TarInfo) -> str:
    """Why an entry cannot be used; empty where it can."""
    if entry.name.startswith("/") or ".." in entry.name.split("/"):
        return "its path leaves the tar file"
    if entry.name.count("/") > MAX_DEPTH:
        return f"more than {MAX_DEPTH} folders deep"
    if entry.issym() or entry.islnk():
        return "a link inside the tar file"
    if not (entry.isdir() or entry.isreg()):
        return "not a regular file (a pipe, socket or device)"
    if entry.size > MAX_FILE_BYTES:
        return f"{entry.size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}"
    return ""
