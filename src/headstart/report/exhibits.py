"""The images that a report shows, each once; and what the data check found, with its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headstart.core.text import portable
from headstart.runs.result import Fitted

FINDINGS_OF_A_KIND = 6
PATHS_OF_A_FINDING = 4


class Exhibits:
    """The images that are shown, each once.

    Args:
        fitted: The result of the strategy.
        describe: What else is to be told of a row of the table: its label, and what was predicted.

    Attributes:
        records: JSON values of each image, in the order in which they were asked for.
    """

    def __init__(self, fitted: Fitted, describe: Callable[[int], dict[str, Any]]) -> None:
        self.records: list[dict[str, Any]] = []
        self._fitted, self._describe = fitted, describe
        self._parts = fitted.partition.names()
        self._places: dict[int, int] = {}
        self._rows: dict[str, int] | None = None

    def of_path(self, path: str) -> int | None:
        """Where the image of a path, as JSON shows it, is in the list; None where it is no row of the table."""
        if self._rows is None:
            self._rows = {portable(row.path): place for place, row in enumerate(self._fitted.data.table.rows)}
        row = self._rows.get(path)
        return None if row is None else self.place(row)

    def place(self, row: int) -> int:
        """Where a row of the table is in the list; it is added to it."""
        if row not in self._places:
            self._places[row] = len(self.records)
            record = {
                "path": self._fitted.data.table.rows[row].path,
                "sha256": self._fitted.data.digests[row],
                "part": self._parts[row],
                **self._describe(row),
            }
            self.records.append(record)
        return self._places[row]

    def with_evidence(
        self, rows: Sequence[int], evidence: Mapping[int, list[tuple[int, float]]]
    ) -> list[dict[str, Any]]:
        """Images, each with the most similar training images."""
        return [
            {
                "image": self.place(row),
                "neighbours": [
                    {"image": self.place(other), "similarity": round(similarity, 3)}
                    for other, similarity in evidence[row]
                ],
            }
            for row in rows
        ]


def findings(check: Any, pictures: Exhibits) -> list[dict[str, Any]]:
    """What the data check found, of each kind the first few with their pictures; empty where there was none."""
    found = check.get("findings", []) if isinstance(check, Mapping) else check or []
    by_kind: dict[str, list[Any]] = {}
    for one in found:
        by_kind.setdefault(str(one.get("kind", "")), []).append(one)
    return [
        {
            "kind": kind,
            "count": len(of_kind),
            "shown": [
                {
                    "message": str(one.get("message", "")),
                    "paths": [path for path, place in placed if place is None],
                    "images": [place for _, place in placed if place is not None],
                }
                for one in of_kind[:FINDINGS_OF_A_KIND]
                for placed in [[(path, pictures.of_path(path)) for path in _paths(one)[:PATHS_OF_A_FINDING]]]
            ],
        }
        for kind, of_kind in by_kind.items()
    ]


def _paths(finding: Mapping[str, Any]) -> list[str]:
    paths = finding.get("paths") or ([finding["path"]] if finding.get("path") else [])
    return [portable(str(path)) for path in paths]
