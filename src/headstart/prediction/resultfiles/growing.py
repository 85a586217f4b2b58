"""A file of predictions that grows: what it holds stays when the work is interrupted, and is gone on with."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.appending import GrowingFile
from headstart.core.errors import StorageError
from headstart.core.files import make_folder, refuse_unwritable_file
from headstart.core.tables import resolve
from headstart.core.text import json_text, portable, quoted
from headstart.data.table import ImageTable
from headstart.prediction.record import Wanted, record_of
from headstart.prediction.resultfiles import FORMS
from headstart.prediction.resultfiles.lines import Lines, columns
from headstart.prediction.resultfiles.made import Made, beside

if TYPE_CHECKING:
    from headstart.core.errors import ImageError
    from headstart.prediction.answers import Prediction


class PredictionFile:
    """A file of predictions; use it as a context manager, within which it is locked and grows.

    Args:
        path: The file.
        made: What it is made with.
        wanted: What is asked of each prediction.

    Attributes:
        growing: The file of lines: the file itself, or a hidden one until that is made.
        before: How many images it held before, by their paths.
        unread: How many images in it could not be read.
        added: How many images were added.
    """

    def __init__(self, path: Path, made: Made, wanted: Wanted) -> None:
        self.path, self._made, self.wanted = path, made, wanted
        self._spec = FORMS[made.format]
        self._lines: Lines = resolve(self._spec.lines)(columns(wanted))
        self.growing = path.with_name(f".{path.name}.part") if self._spec.finish else path
        self._stack = contextlib.ExitStack()
        self._again = set[str]()
        self.before = Counter[str]()
        self.unread = self.added = 0

    @property
    def format(self) -> str:
        """A name of `FORMS`."""
        return self._made.format

    def prepare(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse what cannot be written or gone on with, before the work; nothing is changed.

        Args:
            resume: Go on with what is there.
            overwrite: Replace what is there.

        Raises:
            StorageError: Something is there and neither is asked for; or it was made with something else.
            ExtraError: The form needs a package that is missing.
        """
        if self._spec.ready:
            resolve(self._spec.ready)()
        refuse_unwritable_file(self.path)
        there = [one for one in {self.path, self.growing} if os.path.lexists(one)]
        self._resumes = resume and bool(there)
        if self._resumes:
            self._made.refuse_other(self.path)
        elif there and not overwrite:
            raise StorageError(
                f"{quoted(str(self.path))} {'already exists' if self.path in there else 'is already being written'}.",
                "Continue it (--resume), replace it (--overwrite), or choose another one with --out.",
            )

    def __enter__(self) -> PredictionFile:
        make_folder(self.path.parent)
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(GrowingFile(self.growing))
            if not self._resumes:
                self._file.clear()
                if self.growing != self.path:
                    self.path.unlink(missing_ok=True)  # first: nothing old may stand under the new record
                self._made.write(self.path)
            elif self._spec.restore and self.path.exists():
                self._restore()
            if self._lines.header is not None and not self._file.size:
                self._file.append(self._lines.header)
            self._count()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        finished = error[0] is None and bool(self._spec.finish)
        with self._stack:
            if finished:
                resolve(self._spec.finish)(self._file.lines(), self.path, columns(self.wanted))
                if os.name != "nt":  # in the lock, so that nobody goes on with it
                    self.growing.unlink()
        if finished and os.name == "nt":  # where no open file can be deleted
            self.growing.unlink()

    def left(self, table: ImageTable, again: Callable[[str], bool] | None = None) -> ImageTable:
        """The images of a table that are not in the file yet, the file itself and what belongs to it apart.

        Args:
            table: All images.
            again: Whether an image in the file is to be predicted once more; it gets no second line.
        """
        held = self.before.copy()
        own = {os.path.abspath(one) for one in (self.path, self.growing, beside(self.path))}  # noqa: PTH100

        def is_held(path: str) -> bool:
            held[portable(path)] -= 1
            return held[portable(path)] >= 0

        def is_own(path: str) -> bool:
            return os.path.abspath(path) in own  # noqa: PTH100

        skipped = tuple(one for one in table.skipped if not is_own(one.path) and not is_held(one.path))
        rows = []
        for row in table.rows:
            if is_own(row.path):
                continue
            if is_held(row.path):
                if again is None or not again(row.path):
                    continue
                self._again.add(row.path)
            rows.append(row)
        return replace(table, skipped=skipped, rows=tuple(rows))

    def adding(
        self, predictions: Iterator[tuple[str, Prediction | ImageError]]
    ) -> Iterator[tuple[str, Prediction | ImageError]]:
        """Write each prediction as it comes, but for those that are in the file already, and hand it on.

        Raises:
            StorageError: It cannot be written; what was written before stays.
        """
        for path, result in predictions:
            if path not in self._again:
                self._file.append(self._lines.line(path, record_of(path, result, self.wanted)))
                self.added += 1
                self.unread += isinstance(result, Exception)
            yield path, result

    def _restore(self) -> None:
        """Get back the records of the finished file that the lines lack: all, or those after an interruption."""
        there = Counter(held.path for line in self._file.lines() if (held := self._lines.held(line)))
        for record in resolve(self._spec.restore)(self.path):
            if there[record["path"]]:
                there[record["path"]] -= 1
            else:
                self._file.append(json_text(record, indent=None))

    def _count(self) -> None:
        lines = self._file.lines()
        number = 1
        if self._lines.header is not None:
            number = 2
            if (first := next(lines)) != self._lines.header:
                self._refuse(1, first)
        for line in lines:
            if (held := self._lines.held(line)) is None:
                self._refuse(number, line)
            else:
                self.before[held.path] += 1
                self.unread += held.unread
            number += 1

    def _refuse(self, number: int, line: str) -> None:
        raise StorageError(
            f"Line {number} of {quoted(str(self.growing))} was not written by predict: {quoted(line[:60])}.",
            "Correct it, or start over with --overwrite.",
        )
