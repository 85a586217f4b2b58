"""A finished training, and the folder it is saved in."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from headstart.checks.findings import count_kinds
from headstart.core.arguments import A_RUNTIME, must_be, must_be_flags, must_be_path
from headstart.core.files import folder_lock, make_folder
from headstart.core.markup import paragraph
from headstart.core.runtime import Runtime, default_cache
from headstart.core.tables import resolve
from headstart.core.text import portable, printable
from headstart.data.table import Skipped
from headstart.evaluation import Evaluation
from headstart.prediction.classifier import Classifier
from headstart.runs import folder as runs
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.targets import TARGETS


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        fitted: The result of the strategy.
        recipe: All choices that it followed from.
        seconds: Time of each stage, and in all.
    """

    fitted: Fitted
    recipe: Recipe
    seconds: dict[str, float]

    def __repr__(self) -> str:
        return (
            f"Run({printable(self.recipe.strategy)}: {self.evaluation.headline} on {self.evaluation.n:,} images, "
            f"{self.evaluation.split}; {self.fitted.data.table!r})"
        )

    def _repr_html_(self) -> str:
        """Shown in a notebook: the metrics, and the most confident mistakes with their pictures."""
        show = TARGETS[self.fitted.data.targets.task].notebook
        if not show:
            return paragraph(repr(self), strong=True)
        heading = f"{self.recipe.strategy} on {self.recipe.backbone}: {self.evaluation.headline}"
        html: str = resolve(show)(self.fitted, heading, default_cache())
        return html

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
        return self.fitted.data.table.skipped

    def as_dict(self) -> dict[str, object]:
        """The run as JSON values: the content of ``metrics.json``."""
        fitted = self.fitted
        return {
            "strategy": self.recipe.strategy,
            "backbone": self.recipe.backbone,
            "classes": [portable(label) for label in fitted.data.targets.names],
            "counts": fitted.counted(),
            "evaluation": self.evaluation.as_dict(),
            "evaluation_without_leaks": fitted.without_leaks.as_dict() if fitted.without_leaks else None,
            "check": {
                "counts": count_kinds(fitted.findings, fitted.data.table.task),
                "findings": [finding.as_dict() for finding in fitted.findings],
            }
            if fitted.checked
            else None,
            "details": fitted.details.as_dict(),
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
        runs.refuse_existing(path, overwrite=overwrite)
        made, problem = self._report(path, runtime or Runtime()) if report else ({}, "")
        make_folder(path)
        with folder_lock(path):
            runs.refuse_existing(path, overwrite=overwrite)
            noted = self._with_note(problem) if problem else self
            metrics = {"run": portable(str(path)), **noted.as_dict()}
            runs.write(path, self.fitted, self.recipe, metrics, made)
        return path

    def _with_note(self, note: str) -> Run:
        return replace(self, fitted=replace(self.fitted, notes=(*self.fitted.notes, note)))

    def _report(self, folder: Path, runtime: Runtime) -> tuple[dict[str, str], str]:
        """The report's files, and a note where they could not be made: no run is lost by what is written of it."""
        task = self.fitted.data.targets.task
        if not TARGETS[task].analyse:
            return {}, f"There is no report of the task {task}."
        if self.fitted.data.features is None:
            return {}, f"There is no report of {len(self.fitted.data):,} images whose embeddings are not in memory."
        try:
            from headstart.report.report_files import files

            return files(self.fitted, self.recipe, self.seconds, folder=folder, runtime=runtime), ""
        except Exception as error:  # noqa: BLE001  whatever it is, the training was not in vain
            problem = f"The report could not be made ({type(error).__name__}: {printable(str(error))[:300]})."
            runtime.progress.line(f"Note: {problem}")
            return {}, problem
