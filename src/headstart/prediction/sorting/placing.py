"""Placing one file: nothing is overwritten, and no file is lost if the process is killed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from headstart.core.digest import digest_bytes
from headstart.core.errors import ImageError, StorageError
from headstart.core.files import sync_folder
from headstart.core.text import quoted
from headstart.data.readers.layout import is_litter
from headstart.data.storage import read_file

By = Literal["copy", "link", "move"]
WAYS: tuple[By, ...] = ("copy", "link", "move")
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
_MAX_TWINS = 10_000
_MAX_NAME = 255  # bytes, on most file systems


def free_names(folder: Path, name: str, tried: int) -> Iterator[Path]:
    """Places for a file of this name: its own, then with a number; without those that were tried before."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122  of names that Path would change
    for number in range(tried + 1, tried + _MAX_TWINS):
        end = f" ({number}){suffix}"
        while stem and len(os.fsencode(stem + end)) > _MAX_NAME:
            stem = stem[:-1]
        yield folder / (name if number == 1 else stem + end)


def place(source: Path, target: Path, by: By) -> None:
    """Copy, link or move a file.

    Raises:
        FileExistsError: Something is at the target.
        OSError: It cannot be done; the file is where it was.
    """
    if by == "link":
        # A symbolic link works across disks, and takes no space; it is absolute, so that the folder may be moved.
        target.symlink_to(os.path.abspath(source))  # noqa: PTH100  lexical: links are the user's own
    elif by == "move":
        _move(source, target)
    else:
        _copy(source, target)


def is_placed(source: Path, target: Path, by: By) -> bool:
    """Whether a target is what `place` makes of a source."""
    if by == "link":
        with contextlib.suppress(OSError):
            return os.readlink(target) == os.path.abspath(source)  # noqa: PTH100, PTH115
        return False
    return not target.is_symlink() and content_digest(target) == content_digest(source) is not None


def is_same_file(source: Path, target: Path) -> bool:
    """Whether both are names (hard links) of one file, which has at least two: a folder can be seen in two places."""
    try:
        found = os.lstat(source)
        return found.st_nlink > 1 and not target.is_symlink() and os.path.samestat(found, os.lstat(target))
    except OSError:
        return False


def is_seen_twice(source: Path, target: Path) -> bool:
    """Whether both are the one name of one file, in a folder that is seen in two places: it has no other copy."""
    try:
        found = os.lstat(source)
        return found.st_nlink == 1 and os.path.samestat(found, target.stat())
    except OSError:
        return False


def content_digest(path: Path) -> str | None:
    """SHA-256 of a file, hexadecimal; None where it cannot be read."""
    try:
        return digest_bytes(read_file(os.fspath(path)))
    except ImageError:
        return None


def _move(source: Path, target: Path) -> None:
    """The file has its new name before it loses the old one."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(source, target)  # another disk, or a file system without links
        sync_folder(target.parent)  # the old disk may forget the name before the new one knows its own
    source.unlink()


def _copy(source: Path, target: Path) -> None:
    """The copy gets its name when it is whole and on the disk."""
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        shutil.copystat(source, temporary)  # last: the copy of a read-only file is read-only
        try:
            os.link(temporary, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Without links nothing replaces nothing in one step: the name is taken first.
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_below(folder: Path, given: str) -> None:
    """Say that the folder that is sorted into lies in one that is predicted: its images would be predicted again.

    Raises:
        StorageError: It does.
    """
    if not os.path.isdir(given) or not _is_inside(folder, given):  # noqa: PTH112
        return
    below = Path(os.path.relpath(os.path.realpath(folder), os.path.realpath(given)))
    if not any(is_litter(part) for part in below.parts):  # hidden folders are not searched
        raise StorageError(
            f"{quoted(str(folder))} is inside {quoted(given)}, whose images are to be sorted.",
            "Sort into a folder next to it.",
        )


def refuse_inside(path: str, folder: Path) -> None:
    """Say that an image already lies in the folder that is sorted into.

    Raises:
        StorageError: It does.
    """
    if _is_inside(path, folder):
        raise StorageError(
            f"{quoted(path)} is inside {quoted(str(folder))}, the folder to sort into.",
            "Sort into a folder that contains none of them.",
        )


def _is_inside(path: str | Path, folder: str | Path) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(folder).rstrip(os.sep) + os.sep)
