"""Files that are never half-written, and folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from headstart.core.errors import StorageError
from headstart.core.text import quoted


def durable_write(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash at any moment leaves its old or its new whole content.

    The content goes to a temporary file of random name in the same folder, is flushed to the disk, and then
    takes the place of `path` in one step; the folder is flushed too.

    Raises:
        StorageError: The disk is full, or the folder cannot be written. `path` is as it was.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise storage_error(error, path) from error


def make_folder(path: Path) -> None:
    """Create a folder and its parents.

    Raises:
        StorageError: It cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for writing; the lock is the kernel's (`flock`) and ends with the process.

    Raises:
        StorageError: Another process holds the folder.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no flock; single files are still replaced whole
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                yield  # a file system without locks (some network disks)
                return
            raise StorageError(
                f"Another process is writing to {quoted(str(folder))}.",
                "Wait for it to finish, or choose another folder with --out.",
            ) from error
        yield
    finally:
        os.close(descriptor)


def storage_error(error: OSError, path: Path) -> StorageError:
    """The error that says in words why a file could not be written."""
    where = quoted(str(path))
    if error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
        return StorageError(
            f"The disk is full: {where} could not be written.",
            "Nothing was replaced. Free some space, or choose another folder, and run the same command again.",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StorageError(f"No permission to write {where}.", "Choose a folder that you may write to.")
    reason = error.strerror or type(error).__name__
    return StorageError(f"{where} could not be written: {reason}.", "Choose another folder, or mend the cause.")


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there; replace() is journalled by NTFS
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)
