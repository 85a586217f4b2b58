"""Files that are never half-written, and folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from headstart.core.errors import StorageError
from headstart.core.locks import lock
from headstart.core.text import quoted

_ATTEMPTS = 50
_RACES = {errno.ENOENT, errno.EEXIST}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")  # which a URL leaves in a path; C: is none
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{12}\.tmp", re.DOTALL)


def durable_write(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash at any moment leaves its old or its new whole content.

    The content goes to a temporary file of random name in the same folder, is flushed to the disk, and then
    takes the place of `path` in one step; the folder is flushed too.

    Raises:
        StorageError: The disk is full, or the folder cannot be written. The content of `path` is whole.
    """
    durable_write_all({path: content})


def durable_write_all(contents: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together: all are on the disk before the first takes its place, in their order.

    So a full disk leaves all of them as they were, and only a crash between two replacements can mix old and new.

    Raises:
        StorageError: As for `durable_write`.
    """
    staged = {path: path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp") for path in contents}
    path = Path()
    try:
        try:
            for path, content in contents.items():
                _write(staged[path], content.encode("utf-8") if isinstance(content, str) else content)
            for path, temporary in staged.items():
                temporary.replace(path)
            for folder in {path.parent for path in contents}:
                sync_folder(folder)
        except BaseException:
            for temporary in staged.values():
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise storage_error(error, path) from error


@contextlib.contextmanager
def durable_file(path: Path) -> Iterator[Path]:
    """The same for a file that is too large for memory, or is written by another library.

    Yields:
        A path in the same folder to write to; what is there when the block ends takes the place of `path`.

    Raises:
        StorageError: As for `durable_write`.
    """
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise storage_error(error, path) from error


def leftovers(folder: Path) -> list[Path]:
    """The temporary files in a folder: those of `durable_write`, in a process that runs or was killed.

    Raises:
        OSError: The folder cannot be read.
    """
    return [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name)]


def make_folder(path: Path) -> None:
    """Create a folder and its parents.

    Raises:
        StorageError: It cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


def refuse_unwritable(folder: Path) -> None:
    """Say that a folder cannot be made or written to, before the work that it is for.

    That is known to the system alone (permissions, read-only disks, `/proc`, names that are too long), so that it is
    tried, with a file of no name; nothing of the attempt is left.

    Raises:
        StorageError: It cannot be written, or it is in object storage.
    """
    try:
        _refuse_url(folder)
        path = folder.absolute()
    except FileNotFoundError as error:
        raise working_folder_gone() from error
    for attempt in range(_ATTEMPTS):
        try:
            return _try_to_write(path)
        except OSError as error:
            # Another process may have taken back just now what it tried in the same way.
            if isinstance(error, StorageError) or attempt + 1 == _ATTEMPTS or error.errno not in _RACES:
                raise error if isinstance(error, StorageError) else storage_error(error, folder) from error
    return None


def _refuse_url(folder: Path) -> None:
    """Say that results are not written to a URL; otherwise a folder named ``s3:`` would be made for it.

    It has become a path by then, of which one slash is left, and may be absolute.
    """
    named = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    if named.parts and _SCHEME.fullmatch(named.parts[0]) and not Path(named.parts[0]).exists():
        url = f"{named.parts[0]}//{'/'.join(named.parts[1:])}"
        raise StorageError(
            f"{quoted(url)} is a URL: results are written to a disk.",
            "Name a folder on a disk, for a cluster on one that all machines share, and copy it when it is done.",
        )


def _try_to_write(folder: Path) -> None:
    there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if not there.is_dir():
        where = "" if there == folder else f", and {quoted(str(folder))} would lie below it"
        raise StorageError(f"{quoted(str(there))} is a file or a broken link{where}.", "Choose another folder.")
    missing = [one for one in (folder, *folder.parents) if len(one.parts) > len(there.parts)]
    made: list[Path] = []
    try:
        for one in reversed(missing):
            one.mkdir()
            made.insert(0, one)
        probe = folder / f".probe.{secrets.token_hex(6)}.tmp"
        _write(probe, b"")
        probe.unlink()
    finally:
        for one in made:
            with contextlib.suppress(OSError):
                one.rmdir()


def refuse_unwritable_file(path: Path) -> None:
    """The same for a file, which may be there already.

    Raises:
        StorageError: It cannot be written, or it is a folder.
    """
    with contextlib.suppress(FileNotFoundError):  # of the working folder
        _refuse_url(path)
    if os.path.isdir(path):  # noqa: PTH112  a Path has an error of its own for names that are too long
        raise StorageError(f"{quoted(str(path))} is a folder; expected the name of a file.", "Name a file in it.")
    refuse_unwritable(path.parent)


def working_folder_gone() -> StorageError:
    """The error for relative paths where there is nothing to which they are relative."""
    return StorageError("The working folder has been deleted or moved.", "Change to a folder that exists: cd FOLDER")


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for writing; the lock is the kernel's (`flock`) and ends with the process.

    What a killed process left half-written in the folder is removed.

    Raises:
        StorageError: Another process holds the folder, or it cannot be read.
    """
    if os.name == "nt":  # a folder cannot be opened there; single files are still replaced whole
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise storage_error(error, folder) from error
    try:
        locked = lock(descriptor)
        if locked is False:
            raise StorageError(
                f"Another process is writing to {quoted(str(folder))}.",
                "Wait for it to finish, or choose another folder with --out.",
            )
        if locked:
            with contextlib.suppress(OSError):
                for temporary in leftovers(folder):
                    temporary.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def storage_error(error: OSError, path: Path) -> StorageError:
    """The error that says in words why a file could not be written."""
    where = quoted(str(path))
    if error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
        return StorageError(
            f"The disk is full: {where} could not be written.",
            "No file was left half-written. Free some space, or choose another folder, and run the same command again.",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StorageError(f"No permission to write {where}.", "Choose a folder that you may write to.")
    reason = error.strerror or type(error).__name__
    return StorageError(f"{where} could not be written: {reason}.", "Choose another folder, or fix the cause.")


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
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
