"""The feature cache: embeddings by what was embedded and by what embedded it, in one SQLite file.

An entry is found by content alone, so renamed, moved and copied images are hits. Each carries a checksum over its
key and its vector; one that does not match is dropped and computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_NAME = "embeddings-1.sqlite"  # the number is the schema's version: another schema is another file
FLUSH_SECONDS = 1.0
WAIT_SECONDS = 20.0  # for another process that is writing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS embeddings (
    embedder BLOB NOT NULL, image BLOB NOT NULL, checksum BLOB NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (embedder, image)
)
"""


class FeatureCache:
    """Embeddings of one embedder. Use it as a context manager; any thread may call it.

    Nothing that goes wrong with the cache stops the work: what happened is said once in `notes`.

    Args:
        folder: The cache folder; None keeps nothing.
        embedder: Digest of the embedder, hexadecimal.
        width: Size D of its embeddings.
    """

    def __init__(self, folder: Path | None, embedder: str, width: int) -> None:
        self.notes: list[str] = []
        self._path = folder / FILE_NAME if folder else None
        self._embedder = bytes.fromhex(embedder)
        self._width = width
        self._lock = threading.Lock()
        self._pending: dict[bytes, bytes] = {}
        self._flushed = time.monotonic()
        self._connection: sqlite3.Connection | None = None
        self._rebuilt = False

    def __enter__(self) -> FeatureCache:
        if self._path is not None:
            with self._guarded():
                self._connection = _open(self._path)
        return self

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
            if len(vector) == 4 * self._width and checksum == self._checksum(image, vector):
                return np.frombuffer(vector, "<f4").astype(np.float32)
            self._note("A damaged entry of the feature cache was dropped and computed again.")
        return None

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
        with self._guarded():
            if self._connection is not None and rows:
                with self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", rows)
        self._pending.clear()
        self._flushed = time.monotonic()

    def _checksum(self, image: bytes, vector: bytes) -> bytes:
        return hashlib.blake2b(self._embedder + image + vector, digest_size=16).digest()

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn any failure of the cache into work without it; a damaged file is set aside and begun anew once."""
        try:
            yield
        except sqlite3.OperationalError as error:  # locked for too long, full disk, read-only, no such folder
            self._give_up(f"The feature cache cannot be used ({error}); working without it.")
        except sqlite3.DatabaseError as error:
            self._close()
            if self._path is None or self._rebuilt:
                self._give_up(f"The feature cache cannot be used ({error}); working without it.")
                return
            self._rebuilt = True
            self._note(f"The feature cache was damaged ({error}); it was deleted and is built again.")
            try:
                delete(self._path.parent)
                self._connection = _open(self._path)
            except (sqlite3.Error, OSError) as again:
                self._give_up(f"The feature cache cannot be built again ({again}); working without it.")
        except OSError as error:
            self._give_up(f"The feature cache cannot be used ({error}); working without it.")

    def _give_up(self, note: str) -> None:
        self._note(note)
        self._close()
        self._pending.clear()

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def size(folder: Path) -> dict[str, int]:
    """What the cache folder holds: ``{"images", "embedders", "bytes"}``."""
    path = folder / FILE_NAME
    images = 0
    if path.is_file():
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_open(path)) as connection:
            (images,) = connection.execute("SELECT count(*) FROM embeddings").fetchone()
    models = list((folder / "embedders").glob("*.onnx"))
    files = [file for file in (path, *models) if file.is_file()]
    return {"images": images, "embedders": len(models), "bytes": sum(file.stat().st_size for file in files)}


def delete(folder: Path) -> None:
    """Delete the embeddings, with what SQLite keeps beside them."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        (folder / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)


def clear(folder: Path, told: Callable[[Path], None] = lambda path: None) -> None:
    """Delete all that Headstart keeps in its cache folder, and nothing else.

    Raises:
        OSError: A file cannot be deleted.
    """
    delete(folder)
    for model in (folder / "embedders").glob("*.onnx"):
        model.unlink(missing_ok=True)
        told(model)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The rollback journal (SQLite's default) survives kill -9 and needs no shared memory, unlike the WAL.
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False)
    try:
        connection.execute(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection
