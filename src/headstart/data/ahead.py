"""Images that are far away are fetched before they are asked for, so that no processor waits for the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from headstart.data.storage import Lasting, Storage

AT_ONCE = 16  # requests under way, and files in memory that nobody has asked for yet, at least


class Ahead(Lasting):
    """A storage whose files are asked for in a known order, each of them once.

    Args:
        storage: Where they are.
        paths: In the order in which they will be asked for; threads that take turns may change it a little.
        executor: What fetches.
        at_once: How many are fetched, or wait to be asked for.
    """

    def __init__(self, storage: Storage, paths: Sequence[str], executor: ThreadPoolExecutor, at_once: int) -> None:
        self._storage, self._left, self._executor = storage, iter(paths), executor
        self._fetched: dict[str, Future[bytes]] = {}
        self._early = set[str]()  # asked for before they were fetched
        self._lock = threading.Lock()
        for _ in range(at_once):
            self._next()

    def _arguments(self) -> tuple[object, ...]:
        return (id(self),)  # what is under way belongs to this process

    def _next(self) -> None:
        path = next((path for path in self._left if path not in self._early), None)
        if path is not None:
            self._fetched[path] = self._executor.submit(self._storage.read, path)

    def read(self, path: str) -> bytes:
        """All bytes of one file; see `headstart.data.storage.Storage`."""
        with self._lock:
            fetched = self._fetched.pop(path, None)
            if fetched is None:
                self._early.add(path)
            else:
                self._next()
        return self._storage.read(path) if fetched is None else fetched.result()

    def local(self, path: str) -> str | None:
        """See `headstart.data.storage.Storage`."""
        return self._storage.local(path)

    def reopened(self) -> Storage:
        """See `headstart.data.storage.Storage`."""
        return self._storage.reopened()


@contextmanager
def ahead(storage: Storage, paths: Sequence[str], threads: int) -> Iterator[Storage]:
    """A storage that fetches some files before they are asked for, where they are far away; else the storage itself.

    Args:
        storage: Where they are.
        paths: In the order in which they will be asked for.
        threads: How many ask at once.
    """
    if not storage.far:
        yield storage
        return
    at_once = max(AT_ONCE, 2 * threads)  # or one that asks would be ahead of what fetches
    with ThreadPoolExecutor(at_once, thread_name_prefix="headstart-fetch") as executor:
        try:
            yield Ahead(storage, paths, executor, at_once)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
