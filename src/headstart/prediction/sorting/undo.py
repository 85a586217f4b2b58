"""Undo sorting: moved files go back, copies and links are deleted; files that have changed since are not touched."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from headstart.core.appending import GrowingFile
from headstart.core.errors import InputError
from headstart.core.files import durable_write, make_folder, storage_error
from headstart.core.text import quoted
from headstart.data.table import Skipped
from headstart.prediction.sorting.journal import UNDO_FILE, Moved, Step, entries_in
from headstart.prediction.sorting.placing import content_digest, is_placed, place


@dataclass(frozen=True)
class Undone:
    """The outcome of an undo.

    Attributes:
        images: How many are back, or gone where they were copies and links.
        kept: Those that stay where they are, with reasons.
    """

    images: int
    kept: tuple[Skipped, ...]


def undo(folder: Path) -> Undone:
    """Undo all that was sorted into a folder, the last first; it can be interrupted, and called again.

    The last copy of an image is never deleted, and no file is replaced. Folders that are empty then go too.

    Raises:
        InputError: Nothing was sorted into this folder.
        StorageError: A file cannot be put back; what is not undone is still in the undo file.
    """
    path = folder / UNDO_FILE
    if not path.is_file():
        raise InputError(
            f"{quoted(str(folder))} has no undo file ({UNDO_FILE}): nothing was sorted into it.",
            "Name the folder that was given to predict --sort-into.",
        )
    kept: list[tuple[Step, Skipped]] = []
    images = 0
    with GrowingFile(path) as file:
        entries = list(entries_in(folder, file.lines()))
        steps = [entry for entry in entries if isinstance(entry, Step)]
        for step in reversed(steps):
            target = folder / step.target
            if not os.path.lexists(target):
                if not os.path.lexists(step.source):
                    kept.append((step, Skipped(step.target, "neither here nor where it came from")))
                continue  # never done, or undone before
            try:
                reason = _undo(step, target)
            except OSError as error:
                raise storage_error(error, target) from error
            if reason:
                kept.append((step, Skipped(step.target, reason)))
            else:
                images += 1
    if kept:
        targets = {step.target for step, _ in kept}
        left = [one for one in entries if (one.moved if isinstance(one, Moved) else one.target) in targets]
        durable_write(path, "".join(f"{one.line()}\n" for one in left))
    else:
        path.unlink()
    for parent in {(folder / step.target).parent for step in steps}:
        with contextlib.suppress(OSError):  # something is in it
            parent.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
    return Undone(images, tuple(skip for _, skip in kept))


def _undo(step: Step, target: Path) -> str:
    """Undo one step; the reason if it cannot be undone, else an empty text."""
    source = Path(step.source)
    if step.by == "link":
        if not is_placed(source, target, "link"):
            return "no longer the link that was created"
        target.unlink()
        return ""
    if step.by == "copy" and content_digest(target) != step.digest:
        return "changed since it was copied"
    if os.path.lexists(source):
        if os.path.realpath(source) == os.path.realpath(target):
            return f"the original is now a link to it, {quoted(step.source)}"
        # Of a move too, where it was interrupted between the new name and the old one.
        if (digest := content_digest(target)) is None or content_digest(source) != digest:
            return f"the original has changed, {quoted(step.source)}"
        target.unlink()
        return ""
    if step.by == "copy":
        return f"the original is gone, {quoted(step.source)}"
    make_folder(source.parent)
    place(target, source, "move")
    return ""
