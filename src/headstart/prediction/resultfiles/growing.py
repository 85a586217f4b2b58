"""A file of predictions that grows: what it holds stays when the work is interrupted, and is gone on with."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.appending import GrowingFile
from headstart.core.errors import StorageError
from headstart.core.files import refuse_unwritable_file
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
        before: How many images it held before, by their paths.
        unread: How many images in it could not be read.
        added: How many images were added.
    """

    def __init__(self, path: Path, made: Made, wanted: Wanted) -> None:
        self.path, self._made, self.wanted = path, made, wanted
        self._spec = FORMS[made.format]
        self._lines: Lines = resolve(self._spec.lines)(columns(wanted))
        self._growing = path.with_name(f".{path.name}.part") if self._spec.finish else path
        self._stack = contextlib.ExitStack()
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
        there = [one for one in {self.path, self._growing} if os.path.lexists(one)]
        self._resumes = resume and bool(there)
        if self._resumes:
            self._made.refuse_other(self.path)
        elif there and not overwrite:
            raise StorageError(
                f"{quoted(str(self.path))} {'is there already' if self.path in there else 'is begun already'}.",
                "Go on with it (--resume), replace it (--overwrite), or choose another one with --out.",
            )

    def __enter__(self) -> PredictionFile:
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(GrowingFile(self._growing))
            if not self._resumes:
                self._file.clear()
                self._made.write(self.path)
                if self._growing != self.path:
                    self.path.unlink(missing_ok=True)
            elif self._spec.restore and self.path.exists() and not self._file.size:
                for record in resolve(self._spec.restore)(self.path):
                    self._file.append(json_text(record, indent=None))
            if self._lines.header is not None and not self._file.size:
                self._file.append(self._lines.header)
            self._count()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            if error[0] is None and self._spec.finish:
                resolve(self._spec.finish)(self._file.lines(), self.path)
                self._growing.unlink()

    def left(self, table: ImageTable) -> ImageTable:
        """The images of a table that are not in the file yet, the file itself and what belongs to it apart."""
        held = self.before.copy()
        own = {os.path.abspath(one) for one in (self.path, self._growing, beside(self.path))}  # noqa: PTH100

        def is_new(path: str) -> bool:
            key = portable(path)
            if held[key]:
                held[key] -= 1
                return False
            return os.path.abspath(path) not in own  # noqa: PTH100

        skipped = tuple(one for one in table.skipped if is_new(one.path))
        rows = tuple(row for row in table.rows if is_new(row.path))
        return replace(table, skipped=skipped, rows=rows)

    def adding(
        self, predictions: Iterator[tuple[str, Prediction | ImageError]]
    ) -> Iterator[tuple[str, Prediction | ImageError]]:
        """Write each prediction as it comes, and hand it on.

        Raises:
            StorageError: It cannot be written; what was written before stays.
        """
        for path, result in predictions:
            self._file.append(self._lines.line(path, record_of(path, result, self.wanted)))
            self.added += 1
            self.unread += isinstance(result, Exception)
            yield path, result

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
            f"Line {number} of {quoted(str(self._growing))} is none that predict has written: {quoted(line[:60])}.",
            "Mend it, or begin anew with --overwrite.",
        )
