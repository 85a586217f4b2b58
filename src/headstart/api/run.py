"""A finished training, and the folder it is saved in."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from headstart.api import reporting
from headstart.checks.findings import count_kinds
from headstart.core import marks
from headstart.core.arguments import A_RUNTIME, must_be, must_be_flags, must_be_path
from headstart.core.errors import StorageError
from headstart.core.files import durable_write_all, folder_lock, make_folder
from headstart.core.options import Runtime, default_cache
from headstart.core.text import csv_cell, json_text, listed, portable, printable, quoted
from headstart.data.table import Skipped
from headstart.evaluation import Evaluation
from headstart.partition.roles import Role
from headstart.prediction.classifier import Classifier
from headstart.runs import resumption
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.safetensors"
REPORT_FILES = (reporting.REPORT_FILE, reporting.ANALYSIS_FILE)
# What runs of trained networks have, and others have not; and what a run without a report has not.
OPTIONAL_FILES = {WEIGHTS_FILE, "history.csv", "curves.png", "lr.png", *REPORT_FILES}
RECIPE_FILE = "recipe.toml"  # the first to be put in place


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        fitted: What the strategy gave.
        recipe: All choices that it followed from.
        seconds: Time of each stage, and in all.
    """

    fitted: Fitted
    recipe: Recipe
    seconds: dict[str, float]

    def __repr__(self) -> str:
        low, high = self.evaluation.accuracy_interval
        return (
            f"Run({printable(self.recipe.strategy)}: accuracy {self.evaluation.accuracy:.3f} ({low:.3f} to {high:.3f}) "
            f"on {self.evaluation.n:,} images, {self.evaluation.split}; {self.fitted.table!r})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: numbers, and the surest mistakes with their pictures."""
        from headstart.report.notebook import run_html

        low, high = self.evaluation.accuracy_interval
        heading = (
            f"{self.recipe.strategy} on {self.recipe.backbone}: accuracy {100 * self.evaluation.accuracy:.1f} % "
            f"({100 * low:.1f} to {100 * high:.1f} %)"
        )
        return run_html(self.fitted, heading, default_cache())

    @cached_property
    def classifier(self) -> Classifier:
        """The trained classifier: the very bytes that `save` writes."""
        return Classifier(self.fitted.model)

    @property
    def evaluation(self) -> Evaluation:
        """Numbers on held-out images."""
        return self.fitted.evaluation

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Files that were found and not used, with reasons."""
        return self.fitted.table.skipped

    def as_dict(self) -> dict[str, Any]:
        """The run as JSON values: the content of ``metrics.json``."""
        fitted = self.fitted
        return {
            "strategy": self.recipe.strategy,
            "backbone": self.recipe.backbone,
            "classes": [portable(label) for label in fitted.classes],
            "counts": {
                "images": len(fitted.table),
                "skipped": len(self.skipped),
                "ignored": fitted.table.ignored,
                **{part: {portable(k): n for k, n in by_class.items()} for part, by_class in fitted.counts.items()},
            },
            "evaluation": self.evaluation.as_dict(),
            "evaluation_without_leaks": fitted.without_leaks.as_dict() if fitted.without_leaks else None,
            "check": {
                "counts": count_kinds(fitted.findings),
                "findings": [finding.as_dict() for finding in fitted.findings],
            },
            "details": fitted.details,
            "seconds": {stage: round(time, 3) for stage, time in self.seconds.items()},
            "skipped": [skip.as_dict() for skip in self.skipped],
            "notes": [portable(note) for note in fitted.notes],
        }

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        report: bool = True,
        runtime: Runtime | None = None,
    ) -> Path:
        """Write the run folder. Each file is replaced whole, after all of them are on the disk, and the model last.

        Args:
            folder: Where to; it is created.
            overwrite: Replace the run that is there.
            report: Write ``report.html`` too, and the data behind it. Where it cannot be made, the run is saved
                without, and says so in its notes.
            runtime: Its cache is asked for the pictures of the report.

        Returns:
            The folder.

        Raises:
            StorageError: There is a run already, another process is writing one, or it cannot be written.
        """
        must_be_path("folder", folder)
        must_be_flags(overwrite=overwrite, report=report)
        must_be("runtime", runtime, Runtime | None, A_RUNTIME)
        path = Path(folder)
        overwrite = overwrite or path == self.fitted.folder  # its own, which was looked at before the training
        refuse_existing(path, overwrite=overwrite)
        made, problem = self._report(path, runtime or Runtime()) if report else ({}, "")
        make_folder(path)
        with folder_lock(path):
            refuse_existing(path, overwrite=overwrite)
            metrics = {"run": portable(str(path)), **self.as_dict()}
            if problem:
                metrics["notes"] = [*metrics["notes"], problem]
            contents: dict[str, str | bytes] = {
                RECIPE_FILE: self.recipe.to_toml(),
                "splits.csv": self._splits_csv(),
                "predictions.csv": self._predictions_csv(),
                "metrics.json": json_text(metrics) + "\n",
                **made,
                **self.fitted.files,
                MODEL_FILE: self.fitted.model,
            }
            durable_write_all({path / name: content for name, content in contents.items()})
            self._remove_others(path, {*self.fitted.files, *made})
            resumption.remove(path)
        return path

    def _report(self, folder: Path, runtime: Runtime) -> tuple[dict[str, str], str]:
        """The report's files, and a note where they could not be made: no run is lost by what is written of it."""
        try:
            return reporting.files(self, folder, runtime), ""
        except Exception as error:  # noqa: BLE001  whatever it is, the training was not in vain
            problem = f"The report could not be made ({type(error).__name__}: {printable(str(error))[:300]})."
            runtime.progress.line(f"Note: {problem}")
            return {}, problem

    def _remove_others(self, folder: Path, written: set[str]) -> None:
        """Delete what a run that was replaced has left: its network must not be taken for that of this one."""
        for name in OPTIONAL_FILES - written:
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        if self.fitted.folder != folder:
            shutil.rmtree(folder / resumption.LOGS, ignore_errors=True)

    def _splits_csv(self) -> str:
        """A manifest that gives the same run again; the folds of a cross-validation are drawn anew, and the same."""
        partition = self.fitted.partition
        roles = zip(self.fitted.table.rows, partition.roles.tolist(), partition.folds.tolist(), strict=True)
        return _csv(marks.SPLITS_HEADER, [
            (csv_cell(row.path), csv_cell(row.label or ""), Role(role).word, csv_cell(row.group or ""),
             fold + 1 if partition.cross_validated and fold >= 0 else "")
            for row, role, fold in roles
        ])  # fmt: skip

    def _predictions_csv(self) -> str:
        fitted, classes = self.fitted, self.fitted.classes
        place = {label: i for i, label in enumerate(classes)}
        names, lines = fitted.partition.names(), []
        for row, probabilities in zip(fitted.held_out.rows, fitted.held_out.probabilities, strict=True):
            image, best = fitted.table.rows[row], int(probabilities.argmax())
            label = image.label or ""
            lines.append((
                csv_cell(image.path), names[row], csv_cell(label), csv_cell(classes[best]),
                "yes" if classes[best] == label else "no",
                f"{probabilities[best]:.6f}", f"{probabilities[place[label]]:.6f}",
            ))  # fmt: skip
        return _csv(marks.PREDICTIONS_HEADER, lines)


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Keep a run from being replaced by accident.

    Raises:
        StorageError: The folder holds a run, or a file of the user's that a run would replace, and `overwrite` is
            off; or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{quoted(str(folder))} is a file; a run needs a folder.", "Choose another --out.")
    if overwrite:
        return
    if resumption.exists(folder):
        raise resumption.in_the_way(folder)
    if (folder / MODEL_FILE).exists():
        raise StorageError(
            f"{quoted(str(folder))} already holds a run.",
            "Choose another folder (--out), or replace it (--overwrite, overwrite=True).",
        )
    # A run that was killed while it was put in place has its recipe; other files of these names are somebody's own.
    own = [
        name for name in ("splits.csv", "predictions.csv", "metrics.json", *REPORT_FILES) if (folder / name).exists()
    ]
    if own and not (folder / RECIPE_FILE).exists():
        raise StorageError(
            f"{quoted(str(folder))} already holds {listed(own)}, which a run would replace.",
            "Choose another folder (--out), or replace them (--overwrite, overwrite=True).",
        )


def _csv(header: Sequence[str], rows: Any) -> str:
    import csv
    import io

    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
