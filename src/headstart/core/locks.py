"""Locks on open files: the system's own, which end with the process however that ends."""

from __future__ import annotations

import errno
import os

_HELD = {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK)}
# On Windows a lock is on bytes, which nobody else can read then: one that files of lines hardly ever have. Its C
# runtime knows no place beyond 2 GB.
_BYTE = 2**31 - 2


def lock(descriptor: int) -> bool | None:
    """Lock a file for this process; the lock ends when the file is closed.

    Args:
        descriptor: The file, open for writing; a folder may be open for reading, where folders can be opened. On
            Windows its position is changed.

    Returns:
        True where it is locked, False where another process holds it; None where the file system has no locks, as some
        network disks.
    """
    try:
        import fcntl
    except ImportError:
        return _lock_bytes(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _lock_bytes(descriptor: int) -> bool | None:
    import msvcrt

    os.lseek(descriptor, _BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # of Windows alone
    except OSError as error:
        return False if error.errno in _HELD else None
    return True
