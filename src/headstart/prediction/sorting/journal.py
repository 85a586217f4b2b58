"""The undo file: what was put where, a line each, written before it is done; of a move, another line after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from headstart.core.errors import StorageError
from headstart.core.text import quoted
from headstart.prediction.sorting.placing import WAYS, By

UNDO_FILE = ".headstart-undo.jsonl"  # hidden, so that no list of images is seen in it


@dataclass(frozen=True, kw_only=True)
class Step:
    """One file that is placed.

    Attributes:
        by: How.
        source: Where it was, absolute.
        target: Where it is put, relative to the folder.
        digest: SHA-256 of it, hexadecimal.
    """

    by: By
    source: str
    target: str
    digest: str

    def line(self) -> str:
        """The line of the undo file. Bytes that are not UTF-8 stay what they are, as JSON spells half characters."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Moved:
    """A move is complete: its file has lost its old name. What is found there from then on is another file.

    Attributes:
        moved: The target of its step.
    """

    moved: str

    def line(self) -> str:
        """The line of the undo file."""
        return json.dumps(asdict(self))


def entries_in(folder: Path, lines: Iterator[str]) -> Iterator[Step | Moved]:
    """The lines of an undo file.

    Raises:
        StorageError: A line is none.
    """
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            entry = Moved(**found) if "moved" in found else Step(**found)
            sound = all(isinstance(one, str) for one in asdict(entry).values())
        except (ValueError, TypeError, RecursionError):
            sound = False
        # A target elsewhere is none that was written: nothing outside of the folder is ever deleted.
        if not sound or (isinstance(entry, Step) and not _is_sound(entry)):
            raise StorageError(
                f"Line {number} of {quoted(str(folder / UNDO_FILE))} was not written by predict --sort-into.",
                "Nothing was changed. Correct the file, or put the images back by hand.",
            )
        yield entry


def _is_sound(step: Step) -> bool:
    return step.by in WAYS and not Path(step.target).is_absolute() and ".." not in Path(step.target).parts
