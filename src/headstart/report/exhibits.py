"""The images of a report as an analysis gathers them, each once; and what the data check found, with its images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from headstart.checks import Finding
from headstart.core.text import portable
from headstart.report.analysed_images import Exhibit, KindOfFinding, Neighbour, Picture, ShownFinding
from headstart.runs.result import Fitted

FINDINGS_OF_A_KIND = 6
PATHS_OF_A_FINDING = 4
Kind = TypeVar("Kind", bound=Picture)


class Exhibits(Generic[Kind]):
    """The images that are shown, each once.

    Args:
        fitted: The result of the strategy.
        describe: What else is to be told of a row of the table: its label, and what was predicted.

    Attributes:
        shown: What is known of each image, in the order in which they were asked for.
    """

    def __init__(self, fitted: Fitted, describe: Callable[[int, Picture], Kind]) -> None:
        self.shown: list[Kind] = []
        self._fitted, self._describe = fitted, describe
        self._parts = fitted.partition.names()
        self._places: dict[int, int] = {}
        self._rows: dict[str, int] | None = None

    def place(self, row: int) -> int:
        """Where a row of the table is in the list; it is added to it."""
        if row not in self._places:
            self._places[row] = len(self.shown)
            data = self._fitted.data
            image = Picture(path=data.table.rows[row].path, sha256=data.digests[row], part=self._parts[row])
            self.shown.append(self._describe(row, image))
        return self._places[row]

    def with_evidence(
        self, rows: Sequence[int], evidence: Mapping[int, list[tuple[int, float]]]
    ) -> tuple[Exhibit, ...]:
        """Images, each with the most similar training images."""
        return tuple(
            Exhibit(
                self.place(row),
                tuple(Neighbour(self.place(other), round(similarity, 3)) for other, similarity in evidence[row]),
            )
            for row in rows
        )

    def findings(self, found: Iterable[Finding]) -> tuple[KindOfFinding, ...]:
        """What the data check found, of each kind the first few with their images; empty where there was none."""
        by_kind: dict[str, list[Finding]] = {}
        for one in found:
            by_kind.setdefault(one.kind, []).append(one)
        return tuple(
            KindOfFinding(kind, len(of_kind), tuple(self._finding(one) for one in of_kind[:FINDINGS_OF_A_KIND]))
            for kind, of_kind in by_kind.items()
        )

    def _finding(self, finding: Finding) -> ShownFinding:
        """A finding with its images; paths that are no row of the table stay paths."""
        if self._rows is None:
            self._rows = {portable(row.path): number for number, row in enumerate(self._fitted.data.table.rows)}
        paths = [portable(path) for path in finding.paths[:PATHS_OF_A_FINDING]]
        gone = tuple(path for path in paths if path not in self._rows)
        return ShownFinding(
            finding.message, gone, tuple(self.place(self._rows[path]) for path in paths if path in self._rows)
        )
