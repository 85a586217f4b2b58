"""The one output sink: for people, as JSON, or quiet."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from headstart.cli.streams import as_json
from headstart.core.progress import Advance, Progress, Silent
from headstart.core.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from headstart.data.table import Skipped

MAX_SKIPPED_SHOWN = 10
_GAP = 3  # characters between two columns of a table


class Output:
    """Where results and words go.

    Results go to standard output: text for people, or one JSON document. Notes and progress go to standard error.

    Args:
        as_json: One JSON document on standard output, nothing else.
        quiet: No words and no progress; errors are still printed.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def say(self, text: str = "") -> None:
        """A line for people."""
        if not self.quiet:
            print(_clean(text), file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def note(self, text: str) -> None:
        """A line that people should read, beside the result."""
        if not self.quiet:
            print(_clean(f"Note: {text}"), file=sys.stderr, flush=True)

    def notes(self, notes: Iterable[str]) -> None:
        """Notes, a line each."""
        for note in notes:
            self.note(note)

    def document(self, record: Mapping[str, object]) -> None:
        """The JSON document, where one was asked for."""
        if self.as_json:
            print(as_json(record), flush=True)

    def answer(self, text: str) -> None:
        """The one line that a command was called for: on standard output even where it is quiet."""
        if not self.as_json:
            print(_clean(text), flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """A table for people; the columns in `right` are aligned to the right."""
        if self.as_json:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for number, name in enumerate(header):
            justify: Literal["left", "right"] = "right" if number in right else "left"
            table.add_column(Text(printable(name)), justify=justify, overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))  # Text: names are never read as markup
        _console(highlight=False, emoji=False).print(table)

    def wide_table(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int], second: int
    ) -> None:
        """A table for people, or two where it is wider than the terminal.

        Args:
            header: The headings.
            rows: The cells of each row.
            right: Columns that are aligned to the right.
            second: Column that the second table begins with, after the first column, which both have.
        """
        from rich.cells import cell_len

        columns = range(len(header))
        widths = (max(cell_len(printable(row[i])) for row in (header, *rows)) for i in columns)
        if self.as_json or sum(widths) + _GAP * (len(header) - 1) <= _console().width:
            self.table(header, rows, right=right)
            return
        for number, part in enumerate(([*columns[:second]], [0, *columns[second:]])):
            if number:
                self.say()
            cells = [[row[i] for i in part] for row in rows]
            self.table([header[i] for i in part], cells, right=[part.index(i) for i in right if i in part])

    def skipped(self, skipped: Sequence[Skipped]) -> None:
        """The files that were not used, with reasons."""
        if not skipped:
            return
        self.note(f"{len(skipped):,} {'file was' if len(skipped) == 1 else 'files were'} not used:")
        if self.quiet:
            return
        for skip in skipped[:MAX_SKIPPED_SHOWN]:
            print(f"  {printable(skip.path)}: {printable(skip.reason)}", file=sys.stderr)
        if len(skipped) > MAX_SKIPPED_SHOWN:
            print(f"  and {len(skipped) - MAX_SKIPPED_SHOWN:,} more (--json lists all)", file=sys.stderr)

    def progress(self) -> Progress:
        """Bars on a terminal; elsewhere the lines alone that stay."""
        if self.quiet:
            return Silent()
        return Bars() if sys.stderr.isatty() else Lines()


class Lines(Silent):
    """No bars: for a log file or a notebook."""

    def line(self, text: str) -> None:
        """See `headstart.core.progress.Progress`."""
        print(_clean(text), file=sys.stderr, flush=True)


class Bars(Lines):
    """Progress bars with rate and remaining time, which vanish when their stage is done."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """See `headstart.core.progress.Progress`."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(show_speed=True),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[text]}"),
        )  # fmt: skip
        # Without redirection: what is printed meanwhile is a result, and belongs on standard output.
        console = _console(stderr=True)
        with RichProgress(
            *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as bars:
            task = bars.add_task(name, total=total, rate="", text="")

            def advance(steps: int, text: str = "") -> None:
                bars.advance(task, steps)
                speed = bars.tasks[0].speed
                bars.update(task, rate=f"{speed:.0f}/s" if speed and speed >= 1 else "", text=text)

            yield advance


def _console(*, stderr: bool = False, highlight: bool = True, emoji: bool = True) -> Console:
    """A console as wide as the terminal, whatever COLUMNS is where it is no width: nothing would be printed to 0."""
    from rich.console import Console

    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS" or _is_width(value)}
    return Console(stderr=stderr, highlight=highlight, emoji=emoji, _environ=environment)


def _is_width(value: str) -> bool:
    return value.isdecimal() and int(value) > 0


def _clean(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
