"""Files behind URLs: object storage (``s3://``), and all else that the package fsspec knows; nothing goes to the disk.

Faults of the network are tried again. What one object alone cannot give is that image's error; a storage that no longer
answers ends the run, which can be gone on with: its images are not taken for unreadable ones.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from headstart.core.errors import ExtraError, HeadstartError, ImageError, OfflineError, SourceError
from headstart.core.extras import require
from headstart.core.text import quoted
from headstart.data.storage import BUFFER_BYTES, MAX_FILE_BYTES, Lasting, too_large

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]  # of Python 3.12

T = TypeVar("T")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://")
WAITS_SECONDS = (0.5, 2.0)  # before a second and a third try; each try of S3 is five requests within a second
_NO_KEYS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}
# For S3, fsspec's own tries are enough; those of botocore inside each of them would make them twenty-five, and 40 s.
# One request an object: to divide an object into several, it would ask for the size of each first.
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "retries": {"total_max_attempts": 1},
            "connect_timeout": 10,
            "read_timeout": 30,
            "max_pool_connections": 64,
        },
        "max_concurrency": 1,
    }
}
_KEYS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or FSSPEC_S3_ANON=true for a public bucket; on a "
    "cluster, on each of its machines."
)


def is_url(source: object) -> bool:
    """Whether a source is a URL, and not a path."""
    return isinstance(source, str) and _URL.match(source) is not None


def protocol_of(url: str) -> str:
    """Of a URL: ``s3``."""
    return "s3" if url.startswith("s3a://") else re.split("::|://", url)[0].lower()


class UrlStorage(Lasting):
    """Files below a URL. Any number of threads may read at once.

    Args:
        root: The URL that paths are relative to.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def _arguments(self) -> tuple[object, ...]:
        return (self.root,)

    @cached_property
    def _system(self) -> tuple[Any, str]:
        """The filesystem of fsspec, and what it calls the root."""
        fsspec, protocol = require("fsspec", "scale", "Reading URLs"), protocol_of(self.root)
        try:
            found: tuple[Any, str] = fsspec.url_to_fs(self.root, use_listings_cache=False, **_OPTIONS.get(protocol, {}))
        except ImportError as error:
            package = error.name or str(error)
            raise ExtraError(
                f"{protocol}:// needs a package that is not installed: {str(error)[:200]}.",
                "Install it: pip install 'headstart[scale]'" if protocol == "s3" else f"Install it, such as {package}.",
            ) from error
        except ValueError as error:
            raise SourceError(
                f"{quoted(self.root)} cannot be read: {str(error)[:200]}.",
                "Give a path, or a URL that fsspec knows, such as s3://BUCKET/PREFIX.",
            ) from error
        return found

    def _path(self, path: str) -> str:
        root = self._system[1]
        return f"{root}/{path}" if path else root

    def read(self, path: str) -> bytes:
        """All bytes of one file; see `headstart.data.storage.Storage`.

        Raises:
            ImageError: It cannot be read.
            OfflineError: The storage no longer answers, or no longer lets us in.
        """
        content: bytes = self._of_one(path, lambda system, name: system.cat_file(name))
        if len(content) > MAX_FILE_BYTES:
            raise ImageError(too_large(len(content)))
        return content

    def part(self, path: str, begin: int, count: int) -> bytes:
        """Some bytes of one file, in one request; see `headstart.data.storage.Storage`.

        Raises:
            ImageError: As for `read`.
            OfflineError: As for `read`.
        """
        found: bytes = self._of_one(path, lambda system, name: system.cat_file(name, start=begin, end=begin + count))
        return found

    def opened(self, path: str, buffer_bytes: int = BUFFER_BYTES) -> BinaryIO:
        """See `headstart.data.storage.Storage`."""
        size = self._of_one(path, lambda system, name: system.info(name))["size"]
        parts = _Parts(self, path, int(size))
        return cast("BinaryIO", io.BufferedReader(parts, buffer_bytes) if buffer_bytes else parts)

    @property
    def far(self) -> bool:
        """See `headstart.data.storage.Storage`."""
        return True

    def is_file(self) -> bool:
        """Whether the root itself is a file.

        Raises:
            SourceError: There is nothing, or it may not be read.
            OfflineError: The storage does not answer.
        """
        return bool(self._of_all(lambda system, name: system.info(name))["type"] == "file")

    def listed(self) -> Iterator[tuple[str, int]]:
        """All files below the root, with their sizes in bytes; a folder at a time, so that memory is flat.

        Raises:
            SourceError: As for `is_file`.
            OfflineError: As for `is_file`.
        """
        todo = [""]
        while todo:
            folder = todo.pop()
            below = self._path(folder)
            cut = len(self._path("")) + 1
            for entry in self._of_all(partial(_entries, below)):
                name = entry["name"].rstrip("/")[cut:]
                if name in {folder, ""}:  # the object that stands for the folder itself
                    continue
                if entry["type"] == "directory":
                    todo.append(name)
                else:
                    yield name, int(entry["size"] or 0)

    def ready(self) -> None:
        """Look whether this process reaches the storage.

        Raises:
            SourceError: As for `is_file`.
            OfflineError: As for `is_file`.
        """
        self.is_file()

    def _of_one(self, path: str, ask: Callable[[Any, str], Any]) -> Any:
        """What one file gives, after several tries."""
        system, name = self._system[0], self._path(path)
        try:
            return _tried(lambda: ask(system, name))
        except FileNotFoundError as error:
            raise ImageError("file not found") from error
        except HeadstartError:
            raise
        except Exception as error:  # the backends of fsspec share no other base
            reason = _words(error)
            try:
                self.ready()
            except SourceError as other:
                raise OfflineError(other.message, other.hint) from error
            if isinstance(error, PermissionError):
                raise ImageError("no permission to read") from error
            raise ImageError(f"not given by the storage in {len(WAITS_SECONDS) + 1} tries: {reason}") from error

    def _of_all(self, ask: Callable[[Any, str], Any]) -> Any:
        """What the root gives, after several tries."""
        system, name = self._system
        try:
            return _tried(lambda: ask(system, name))
        except FileNotFoundError as error:
            raise SourceError(
                f"There is nothing at {quoted(self.root)}{'' if _words(error) in self.root else ': ' + _words(error)}.",
                "Check the bucket, the prefix, and the endpoint (AWS_ENDPOINT_URL)." if _is_s3(self.root) else "",
            ) from error
        except Exception as error:  # see above
            if type(error).__name__ in _NO_KEYS:
                raise SourceError(f"{quoted(self.root)}: no credentials found.", _KEYS) from error
            if isinstance(error, PermissionError):
                raise SourceError(
                    f"{quoted(self.root)}: the storage does not let these credentials in: {_words(error)}.",
                    _KEYS if _is_s3(self.root) else "",
                ) from error
            raise OfflineError(
                f"{quoted(self.root)} does not answer: {_words(error)}.",
                "Look at the network and at the endpoint, and run the same again: what was written is kept.",
            ) from error


class _Parts(io.RawIOBase):
    """A file that is read in parts, each by a request of its own."""

    def __init__(self, storage: UrlStorage, path: str, size: int) -> None:
        self._storage, self._file, self._size, self._place = storage, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        count = min(len(view), self._size - self._place)
        if count <= 0:
            return 0
        content = self._storage.part(self._file, self._place, count)
        view[: len(content)] = content
        self._place += len(content)
        return len(content)


def _tried(ask: Callable[[], T]) -> T:
    """Ask, and again where it is the network's fault."""
    for wait in (*WAITS_SECONDS, None):
        try:
            return ask()
        except (FileNotFoundError, PermissionError, HeadstartError):
            raise
        except Exception as error:
            if wait is None or type(error).__name__ in _NO_KEYS:
                raise
            time.sleep(wait)
    raise AssertionError  # the last try ends it either way


def _entries(folder: str, system: Any, _: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = system.ls(folder, detail=True)
    return found


def _is_s3(url: str) -> bool:
    return protocol_of(url) == "s3"


def _words(error: Exception) -> str:
    """Of the message of another package, one line."""
    return " ".join((str(error) or type(error).__name__).split())[:200].rstrip(".")
