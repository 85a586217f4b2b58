"""Compare strategies, backbones or recipes on the same images."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart import targets
from headstart.api.reading import table_of
from headstart.api.reporting import comparison_page
from headstart.api.run import Run
from headstart.api.training import train
from headstart.core.arguments import A_RUNTIME, must_be, must_be_flags, must_be_names, must_be_path
from headstart.core.errors import ExtraError, HeadstartError, StorageError
from headstart.core.files import durable_write, make_folder, refuse_unwritable
from headstart.core.options import Runtime, default_cache
from headstart.core.text import json_text, portable, printable, quoted
from headstart.data.readers import Source
from headstart.data.table import ImageTable, Skipped
from headstart.evaluation.comparison import Pair
from headstart.evaluation.verdict import Verdict
from headstart.runs import resumption
from headstart.runs.folder import REPORT_FILE
from headstart.strategies import compare as comparing
from headstart.strategies.choices import advice
from headstart.strategies.compare import Plan, Row

COMPARISON_FILE = "comparison.json"


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what it comes to.

    Attributes:
        rows: All that were asked for, those that failed too.
        runs: Those that did not, by name.
        pairs: Each pair of them, by their places in `runs`.
        verdict: What to use, and why.
        images: What they were measured on, in words.
        rule_of_thumb: What people would try before they measure; see `headstart.strategies.choices.advice`.
        notes: Sentences that a person should read.
        saved: The folder that the runs were saved in already; None where they were not.
    """

    rows: tuple[Row, ...]
    runs: Mapping[str, Run]
    pairs: tuple[Pair, ...]
    verdict: Verdict
    images: str
    rule_of_thumb: dict[str, Any]
    notes: tuple[str, ...]
    saved: Path | None = None

    def __repr__(self) -> str:
        return f"Comparison({', '.join(map(printable, self.runs))}: {printable(self.verdict.sentence)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, the table, and the images that decide between them."""
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

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON values: the content of ``comparison.json``."""
        names = [portable(name) for name in self.runs]
        return {
            "rows": [row.as_dict() for row in self.rows],
            "pairs": [
                {
                    "a": names[pair.first], "b": names[pair.second], "n": pair.n, "test": pair.test,
                    "only_a": pair.only_first, "only_b": pair.only_second, "p_value": pair.p_value,
                    "p_corrected": pair.p_corrected, "resolved": pair.resolved, "difference": pair.difference,
                    "difference_interval": list(pair.difference_interval), "more_images": pair.more_images,
                    "log_loss_difference": pair.log_loss_difference,
                    "log_loss_difference_interval": list(pair.log_loss_difference_interval),
                }
                for pair in self.pairs
            ],
            "verdict": portable(self.verdict.sentence),
            "chosen": portable(self.chosen),
            "images": self.images,
            "rule_of_thumb": self.rule_of_thumb,
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
        record = self.as_dict()
        page, problem = self._page(record, runtime or Runtime())
        if page:
            durable_write(path / REPORT_FILE, page)
        else:
            record["notes"].append(problem)
        for row, name in zip(record["rows"], (row.name for row in self.rows), strict=True):
            row["run"] = folders.get(name)
        durable_write(path / COMPARISON_FILE, json_text(record) + "\n")  # last: it says that all is there
        return path

    def _page(self, record: Mapping[str, Any], runtime: Runtime) -> tuple[str, str]:
        """The page, or why there is none: what was trained is not lost by what is written of it."""
        shown = {**record, "rows": [row for row in record["rows"] if not row["error"]]}
        try:
            return comparison_page(shown, self.runs, runtime=runtime), ""
        except Exception as error:  # noqa: BLE001  whatever it is
            problem = f"The report could not be made ({type(error).__name__}: {printable(str(error))[:300]})."
            runtime.progress.line(f"Note: {problem}")
            return "", problem


def compare(
    images: ImageTable | Source,
    *,
    strategies: Sequence[str] | None = None,
    backbones: Sequence[str] | None = None,
    recipes: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    runtime: Runtime | None = None,
) -> Comparison:
    """Train several, measure them on the same images, and say which one the evidence supports.

    All have the same held-out images; with ``settings={"measure_by": "folds"}`` the same folds. What fails becomes a
    row that says why.

    Args:
        images: An image table, or a source of one.
        strategies: ``probe``, ``finetune``, ``scratch``: all three by default; with `backbones` the probe alone.
        backbones: Each strategy is tried on each of them.
        recipes: Names or files of recipes, which are compared too.
        settings: Fields of the recipe for all of them, such as ``{"epochs": 5}``.
        folder: Where each run is saved as soon as it is finished, so that an interruption costs only the one that is
            being trained; at the end `Comparison.save` writes there too. None saves nothing.
        overwrite: Replace what is in the folder.
        runtime: Cache, workers, progress, device.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: There is no such strategy or recipe, or only one was named.
        HeadstartError: All of them failed; the first one's error.
        StorageError: The folder holds a comparison already, or cannot be written.

    Example:
        >>> headstart.compare("photos/", strategies=["probe", "finetune"]).verdict.sentence  # doctest: +SKIP
        'Use probe: it is the cheapest ...'
    """
    for name, value, example in (
        ("strategies", strategies, ["probe", "finetune"]),
        ("backbones", backbones, ["lite0", "torchvision:resnet18"]),
        ("recipes", recipes, ["tutorial-finetune"]),
    ):
        if value is not None:
            must_be_names(name, value, str(example))
    must_be("settings", settings, Mapping | None, "a mapping, such as {'epochs': 5}")
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    must_be_flags(overwrite=overwrite)
    if folder is not None:
        must_be_path("folder", folder)
    plans = comparing.plan(strategies, backbones, recipes, settings or {})
    runtime = runtime or Runtime()
    path = None if folder is None else Path(folder)
    if path is not None:
        refuse_unwritable(path)
        if not overwrite:
            refuse_comparison(path)
    table = table_of(images)
    targets.read(table)
    folders = folders_of([one.name for one in plans])
    rows: list[Row] = []
    runs: dict[str, Run] = {}
    for number, one in enumerate(plans, 1):
        runtime.progress.line(f"{number} of {len(plans)}: {printable(one.name)}")
        begun = time.perf_counter()
        try:
            run = _train(one, table, path and path / folders[one.name], runtime, overwrite=overwrite)
        except StorageError:  # the disk is full: the others would fail too
            raise
        except HeadstartError as error:
            runtime.progress.line(f"{printable(one.name)} failed: {printable(error.message)}")
            rows.append(Row(one.name, one.recipe, problem=error))
            continue
        runs[one.name] = run
        rows.append(Row(one.name, run.recipe, run.fitted, time.perf_counter() - begun))
        if path is not None:
            run.save(path / folders[one.name], overwrite=overwrite, runtime=runtime)
    if not runs:
        raise next(row.problem for row in rows if row.problem)
    rows = comparing.timed(rows)
    judged = comparing.judge_rows([row for row in rows if row.fitted])
    known = next((run for run in runs.values() if advice.embeds_as_lite0(run.recipe)), next(iter(runs.values())))
    comparison = Comparison(
        tuple(rows), runs, judged.pairs, _verdict(judged.verdict, rows), judged.images,
        advice.of_run(known.fitted, known.recipe), _notes(plans, rows, runs), path,
    )  # fmt: skip
    if path is not None:
        comparison.save(path, overwrite=True, runtime=runtime)
    return comparison


def refuse_comparison(folder: Path) -> None:
    """Keep a folder from being overwritten by accident.

    Raises:
        StorageError: It holds something, or it is no folder.
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
    """A folder for each run: ``probe torchvision:resnet18`` is in ``probe-torchvision-resnet18``."""
    folders: dict[str, str] = {}
    for name in names:
        folder = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
        while folder.lower() in {one.lower() for one in folders.values()}:
            folder += "-2"
        folders[name] = folder
    return folders


def _train(one: Plan, table: ImageTable, folder: Path | None, runtime: Runtime, *, overwrite: bool) -> Run:
    """One run; with a folder its training can be gone on with where it was interrupted."""
    if one.recipe is None:
        raise one.problem or HeadstartError(f"{one.name} has no recipe.")
    own = folder if one.recipe.spec.resumes else None
    if folder and overwrite:
        resumption.remove(folder)
    return train(table, one.recipe, runtime=dataclasses.replace(runtime, folder=own))


def _verdict(verdict: Verdict, rows: Sequence[Row]) -> Verdict:
    """The verdict with what is missing of it."""
    failed = [row for row in rows if row.problem]
    sentence = verdict.sentence
    if len(rows) - len(failed) == 1:
        sentence = f"Only {sentence.removeprefix('Use ').rstrip('.')} could be trained: there is nothing to compare."
    elif failed:
        sentence += f" {' and '.join(row.name for row in failed)} could not be trained."
    return dataclasses.replace(verdict, sentence=sentence)


def _notes(plans: Sequence[Plan], rows: Sequence[Row], runs: Mapping[str, Run]) -> tuple[str, ...]:
    """What failed and why, in one sentence where it is the same reason; and what each run has to say."""
    notes = [note for one in plans for note in one.notes]
    failed: dict[str, list[str]] = {}
    for row in rows:
        if row.problem:
            reason = row.problem.hint if isinstance(row.problem, ExtraError) else str(row.problem)
            failed.setdefault(reason, []).append(row.name)
    notes += [f"{' and '.join(names)} could not be trained. {reason}" for reason, names in failed.items()]
    told = [run.fitted.notes for run in runs.values()]
    common = [note for note in told[0] if all(note in other for other in told)]
    notes += common
    notes += [f"{name}: {note}" for name, run in runs.items() for note in run.fitted.notes if note not in common]
    return tuple(notes)
