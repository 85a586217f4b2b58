"""The feature cache: embeddings by what was embedded and by what embedded it, in one SQLite file.

An entry is found by content alone, so renamed, moved and copied images are hits. Each carries a checksum over its
key and its vector; one that does not match is dropped and computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from headstart.core.files import leftovers
from headstart.data.traits import Traits

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_NAME = "embeddings-1.sqlite"  # the number is the schema's version: another schema is another file
_DROPPED = "A damaged entry of the feature cache was dropped and computed again."
FLUSH_SECONDS = 1.0
WAIT_SECONDS = 20.0  # for another process that is writing

# Failures that are no damage to the file: it is left alone.
_OUTSIDE = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip
_EMBEDDER = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.(onnx|json)")  # an exported one has a record beside it

_SCHEMA = """
CREATE TABLE IF NOT EXISTS embeddings (
    embedder BLOB NOT NULL, image BLOB NOT NULL, checksum BLOB NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (embedder, image)
);
CREATE TABLE IF NOT EXISTS traits (
    version BLOB NOT NULL, image BLOB NOT NULL, checksum BLOB NOT NULL, traits BLOB NOT NULL, thumbnail BLOB NOT NULL,
    PRIMARY KEY (version, image)
)
"""


class FeatureCache:
    """Embeddings of one embedder. Use it as a context manager; any thread may call it.

    Nothing that goes wrong with the cache stops the work: what happened is said once in `notes`. A pickled one reads
    what is there, where its folder can be reached, and changes nothing: one process writes.

    Args:
        folder: The cache folder; None keeps nothing.
        embedder: Digest of the embedder, hexadecimal.
        width: Size D of its embeddings.
        measured: Digest of what decides the traits of an image, hexadecimal.
    """

    def __init__(self, folder: Path | None, embedder: str, width: int, measured: str = "") -> None:
        self.notes: list[str] = []
        self._path = folder / FILE_NAME if folder else None
        self._embedder = bytes.fromhex(embedder)
        self._width = width
        self._measured = bytes.fromhex(measured)
        self._lock = threading.Lock()
        self._pending: dict[bytes, bytes] = {}
        self._pending_traits: dict[bytes, tuple[bytes, bytes]] = {}
        self._flushed = time.monotonic()
        self._connection: sqlite3.Connection | None = None
        self._rebuilt = False

    def __reduce__(self) -> tuple[object, ...]:
        folder = self._path.parent if self._path else None
        return _reader, (folder, self._embedder.hex(), self._width, self._measured.hex())

    def __enter__(self) -> FeatureCache:
        if self._path is not None:
            with self._guarded():
                self._connection = _open(self._path)
        return self

    def open_to_read(self) -> None:
        """Open what is there, without making, mending or deleting anything."""
        self._rebuilt = True  # what is damaged is left to the process that writes
        if self._path is not None:
            with self._guarded():
                self._connection = _connect(self._path, "rw")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._flush()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def get(self, image: bytes) -> NDArray[np.float32] | None:
        """The embedding, float32 (D,), of an image by its SHA-256; None where there is no sound one."""
        with self._lock, self._guarded():
            if self._connection is None:
                return None
            row = self._connection.execute(
                "SELECT checksum, vector FROM embeddings WHERE embedder = ? AND image = ?",
                (self._embedder, image),
            ).fetchone()
            if row is None:
                return None
            checksum, vector = row
            # A damaged row may hold a value of any type.
            sound = isinstance(vector, bytes) and len(vector) == 4 * self._width
            if sound and checksum == self._checksum(image, vector):
                return np.frombuffer(vector, "<f4").astype(np.float32)
            self._note(_DROPPED)
        return None

    def traits(self, image: bytes) -> tuple[Traits, bytes] | None:
        """The traits and the thumbnail (a JPEG file) of an image by its SHA-256; None where there are no sound ones."""
        with self._lock, self._guarded():
            if self._connection is None:
                return None
            row = self._connection.execute(
                "SELECT checksum, traits, thumbnail FROM traits WHERE version = ? AND image = ?",
                (self._measured, image),
            ).fetchone()
            if row is None:
                return None
            checksum, record, thumbnail = row
            if isinstance(record, bytes) and isinstance(thumbnail, bytes):
                with contextlib.suppress(ValueError):
                    if checksum == self._checksum_of_traits(image, record, thumbnail):
                        return Traits.from_bytes(record), thumbnail
            self._note(_DROPPED)
        return None

    def put_traits(self, image: bytes, traits: Traits, thumbnail: bytes) -> None:
        """Keep traits and a thumbnail; see `put`."""
        with self._lock:
            self._pending_traits[image] = traits.to_bytes(), thumbnail
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._flush()

    def put(self, image: bytes, embedding: NDArray[np.float32]) -> None:
        """Keep an embedding; it is written within about a second, and at the end."""
        with self._lock:
            self._pending[image] = embedding.astype("<f4").tobytes()
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._flush()

    def _flush(self) -> None:
        rows = [
            (self._embedder, image, self._checksum(image, vector), vector) for image, vector in self._pending.items()
        ]
        measured = [
            (self._measured, image, self._checksum_of_traits(image, *found), *found)
            for image, found in self._pending_traits.items()
        ]
        with self._guarded():
            if self._connection is not None and (rows or measured):
                with self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", rows)
                    self._connection.executemany("INSERT OR REPLACE INTO traits VALUES (?, ?, ?, ?, ?)", measured)
        self._pending.clear()
        self._pending_traits.clear()
        self._flushed = time.monotonic()

    def _checksum(self, image: bytes, vector: bytes) -> bytes:
        return hashlib.blake2b(self._embedder + image + vector, digest_size=16).digest()

    def _checksum_of_traits(self, image: bytes, record: bytes, thumbnail: bytes) -> bytes:
        return hashlib.blake2b(self._measured + image + record + thumbnail, digest_size=16).digest()

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn any failure of the cache into work without it; a damaged file is replaced by a new one, once."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            self._close()
            if self._path is None or self._rebuilt or getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE:
                self._give_up(f"The feature cache cannot be used ({error}); working without it.")
                return
            self._rebuilt = True
            self._note(f"The feature cache was damaged ({error}); it was deleted and is rebuilt.")
            try:
                delete(self._path.parent)
                self._connection = _open(self._path)
            except (sqlite3.Error, OSError) as again:
                self._give_up(f"The feature cache cannot be rebuilt ({again}); working without it.")
        except OSError as error:
            self._give_up(f"The feature cache cannot be used ({error}); working without it.")

    def _give_up(self, note: str) -> None:
        self._note(note)
        self._close()
        self._pending.clear()
        self._pending_traits.clear()

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def _reader(folder: Path | None, embedder: str, width: int, measured: str) -> FeatureCache:
    """A cache for another process, which reads."""
    cache = FeatureCache(folder, embedder, width, measured)
    cache.open_to_read()
    return cache


def size(folder: Path) -> dict[str, int]:
    """What the cache folder holds: ``{"images", "embedders", "bytes"}``."""
    images = 0
    # A file that is missing or damaged is left as it is.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(folder / FILE_NAME, "rw")) as connection:
        (images,) = connection.execute("SELECT count(*) FROM embeddings").fetchone()
    models = _embedders(folder)
    held = sum(_size_bytes(file) for file in (folder / FILE_NAME, *models))
    return {"images": images, "embedders": sum(model.suffix == ".onnx" for model in models), "bytes": held}


def delete(folder: Path) -> None:
    """Delete the embeddings, with what SQLite keeps beside them."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (folder / f"{FILE_NAME}{suffix}").unlink()


def clear(folder: Path) -> None:
    """Delete all that Headstart keeps in its cache folder, and nothing else.

    Raises:
        OSError: A file cannot be deleted.
    """
    delete(folder)
    for model in _embedders(folder):
        model.unlink(missing_ok=True)


def _embedders(folder: Path) -> list[Path]:
    """The kept embedders, and what killed processes left of some."""
    try:
        files = list((folder / "embedders").iterdir())
        return [file for file in files if _EMBEDDER.fullmatch(file.name)] + leftovers(folder / "embedders")
    except OSError:
        return []


def _size_bytes(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _connect(path: Path, mode: Literal["rw", "rwc"]) -> sqlite3.Connection:
    # The rollback journal (SQLite's default) survives kill -9 and needs no shared memory, unlike the WAL.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=WAIT_SECONDS, check_same_thread=False
    )
    connection.text_factory = bytes  # a damaged row may hold text that is none
    return connection


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = _connect(path, "rwc")
    try:
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection
