"""The result of a comparison, and the folder that it is saved in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.api.reporting import comparison_page
from headstart.api.run import Run
from headstart.core.arguments import A_RUNTIME, must_be, must_be_flags, must_be_path
from headstart.core.errors import StorageError
from headstart.core.files import durable_write, make_folder
from headstart.core.runtime import Runtime, default_cache
from headstart.core.text import json_text, portable, printable, quoted
from headstart.data.table import Skipped
from headstart.evaluation.comparison import Pair
from headstart.evaluation.verdict import Verdict
from headstart.runs.folder import REPORT_FILE
from headstart.strategies.choices.advice import RuleOfThumb
from headstart.strategies.compare import Row

COMPARISON_FILE = "comparison.json"


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        rows: All candidates, including those that failed.
        runs: The candidates that did not fail, by name.
        pairs: The test of each pair of runs, which it names by their positions in `runs`.
        verdict: Which candidate to use, and why.
        images: The images that they were measured on, in words.
        rule_of_thumb: What people would try before they measure; see `headstart.strategies.choices.advice`.
        notes: Remarks for the user.
        saved: The folder in which the runs have been saved; None if they have not.
    """

    rows: tuple[Row, ...]
    runs: Mapping[str, Run]
    pairs: tuple[Pair, ...]
    verdict: Verdict
    images: str
    rule_of_thumb: RuleOfThumb
    notes: tuple[str, ...]
    saved: Path | None = None

    def __repr__(self) -> str:
        return f"Comparison({', '.join(map(printable, self.runs))}: {printable(self.verdict.sentence)})"

    def _repr_html_(self) -> str:
        """Shown in a notebook: the verdict, the table, and the images on which the candidates disagree."""
        from headstart.report.notebook import comparison_html

        sentences = [self.verdict.sentence, f"Measured on {self.images}", *self.notes]
        return comparison_html(
            self.as_dict(), {name: run.fitted for name, run in self.runs.items()}, sentences, default_cache()
        )

    @property
    def best(self) -> Run:
        """The run that the verdict names."""
        return self.runs[self.chosen]

    @property
    def chosen(self) -> str:
        """Its name."""
        return list(self.runs)[self.verdict.chosen]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Files that were found and not used, with reasons."""
        return self.best.skipped

    def as_dict(self) -> dict[str, object]:
        """The comparison as JSON values: the content of ``comparison.json``."""
        names = [portable(name) for name in self.runs]
        return {
            "rows": [row.as_dict() for row in self.rows],
            "measure": self.rows[0].comparing.measure,
            "pairs": [pair.as_dict(names) for pair in self.pairs],
            "verdict": portable(self.verdict.sentence),
            "chosen": portable(self.chosen),
            "images": self.images,
            "rule_of_thumb": self.rule_of_thumb.as_dict(),
            "notes": [portable(note) for note in self.notes],
            "skipped": [skip.as_dict() for skip in self.skipped],
        }  # fmt: skip

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False, runtime: Runtime | None = None) -> Path:
        """Write ``comparison.json``, ``report.html``, and each run in a folder of its own.

        Runs that `compare` has saved there already are left as they are.

        Args:
            folder: Where to; it is created.
            overwrite: Replace what is there.
            runtime: Its cache is asked for the pictures of the report.

        Raises:
            StorageError: There is a comparison already, or it cannot be written.
        """
        must_be_path("folder", folder)
        must_be_flags(overwrite=overwrite)
        must_be("runtime", runtime, Runtime | None, A_RUNTIME)
        path = Path(folder)
        if not overwrite:
            refuse_comparison(path)
        folders = folders_of(list(self.runs))
        if path != self.saved:
            for name, run in self.runs.items():
                run.save(path / folders[name], overwrite=overwrite, runtime=runtime)
        make_folder(path)
        page, problem = self._page(runtime or Runtime())
        if page:
            durable_write(path / REPORT_FILE, page)
        rows = [{**row.as_dict(), "run": folders.get(row.name)} for row in self.rows]
        notes = [portable(note) for note in (*self.notes, *([problem] if problem else ()))]
        record = {**self.as_dict(), "rows": rows, "notes": notes}
        durable_write(path / COMPARISON_FILE, json_text(record) + "\n")  # last: it says that all is there
        return path

    def _page(self, runtime: Runtime) -> tuple[str, str]:
        """The report page, or a page with the reason why there is none: a failed report must not lose the trainings."""
        shown = {**self.as_dict(), "rows": [row.as_dict() for row in self.rows if not row.problem]}
        try:
            return comparison_page(shown, self.runs, runtime=runtime), ""
        except Exception as error:  # noqa: BLE001  whatever it is
            problem = f"The report could not be made ({type(error).__name__}: {printable(str(error))[:300]})."
            runtime.progress.line(f"Note: {problem}")
            return "", problem


def refuse_comparison(folder: Path) -> None:
    """Refuse to overwrite a folder by accident.

    Raises:
        StorageError: It is not empty, or is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{quoted(str(folder))} is a file; a comparison needs a folder.", "Choose another --out.")
    if folder.is_dir() and any(folder.iterdir()):
        held = "a comparison" if (folder / COMPARISON_FILE).exists() else "something"
        raise StorageError(
            f"{quoted(str(folder))} already holds {held}.",
            "Choose another folder (--out), or replace it (--overwrite, overwrite=True).",
        )


def folders_of(names: Sequence[str]) -> dict[str, str]:
    """The folder name of each run: ``probe torchvision:resnet18`` is in ``probe-torchvision-resnet18``."""
    folders: dict[str, str] = {}
    for name in names:
        folder = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
        while folder.lower() in {one.lower() for one in folders.values()}:
            folder += "-2"
        folders[name] = folder
    return folders
