"""Where a command writes, where nobody says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def default_folder(source: str, taken: Callable[[Path], bool], *, suffix: str = "", overwrite: bool = False) -> Path:
    """``runs/NAME``, or the first of ``runs/NAME-2``, ``runs/NAME-3``, ... that is not taken.

    Args:
        source: Gives the name.
        taken: Whether something is in a folder already.
        suffix: Put after the name.
        overwrite: What is there is to be replaced: always ``runs/NAME``.
    """
    path = Path(source).resolve()
    first = Path("runs") / f"{(path.name if path.is_dir() else path.stem) or 'run'}{suffix}"
    folder, number = first, 1
    while not overwrite and taken(folder):
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder
