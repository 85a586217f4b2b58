"""Compare strategies, backbones or recipes on the same images."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from headstart import targets
from headstart.api.compared import Comparison, folders_of, refuse_comparison
from headstart.api.reading import table_of
from headstart.api.run import Run
from headstart.api.training import train
from headstart.core.arguments import A_RUNTIME, must_be, must_be_flags, must_be_names, must_be_path
from headstart.core.errors import ExtraError, HeadstartError, StorageError
from headstart.core.files import refuse_unwritable
from headstart.core.runtime import Runtime
from headstart.core.text import printable
from headstart.data.readers import Source
from headstart.data.table import ImageTable
from headstart.evaluation.verdict import Verdict
from headstart.runs import resumption
from headstart.strategies import candidates
from headstart.strategies import compare as comparing
from headstart.strategies.candidates import Plan
from headstart.strategies.choices import advice
from headstart.strategies.compare import Row


def compare(
    images: ImageTable | Source,
    *,
    strategies: Sequence[str] | None = None,
    backbones: Sequence[str] | None = None,
    recipes: Sequence[str] | None = None,
    settings: Mapping[str, object] | None = None,
    folder: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    runtime: Runtime | None = None,
) -> Comparison:
    """Train several candidates, measure them on the same images, and say which one the evidence supports.

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

    Examples:
        >>> headstart.compare("photos/", strategies=["probe", "finetune"]).verdict.sentence  # doctest: +SKIP
        'Use probe: it is the cheapest ...'
    """
    _must_be_names(strategies, backbones, recipes)
    must_be("settings", settings, Mapping | None, "a mapping, such as {'epochs': 5}")
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    must_be_flags(overwrite=overwrite)
    if folder is not None:
        must_be_path("folder", folder)
    plans = candidates.plan(strategies, backbones, recipes, settings or {})
    runtime = runtime or Runtime()
    path = None if folder is None else Path(folder)
    if path is not None:
        refuse_unwritable(path)
        if not overwrite:
            refuse_comparison(path)
    table = table_of(images)
    targets.read(table)
    rows, runs = _train_all(plans, table, path, runtime, overwrite=overwrite)
    if not runs:
        raise next(row.problem for row in rows if row.problem)
    comparison = _judged(comparing.timed(rows), runs, _notes(plans, rows, runs), path)
    if path is not None:
        comparison.save(path, overwrite=True, runtime=runtime)
    return comparison


def _judged(rows: Sequence[Row], runs: Mapping[str, Run], notes: tuple[str, ...], path: Path | None) -> Comparison:
    """What the candidates that were trained come to."""
    judged = comparing.judge_rows([row for row in rows if row.fitted])
    known = next((run for run in runs.values() if advice.embeds_as_lite0(run.recipe)), next(iter(runs.values())))
    rule_of_thumb = advice.of_run(known.fitted, known.recipe)
    verdict = _verdict(judged.verdict, rows)
    return Comparison(tuple(rows), runs, judged.pairs, verdict, judged.images, rule_of_thumb, notes, path)


def _must_be_names(
    strategies: Sequence[str] | None, backbones: Sequence[str] | None, recipes: Sequence[str] | None
) -> None:
    for name, value, example in (
        ("strategies", strategies, ["probe", "finetune"]),
        ("backbones", backbones, ["lite0", "torchvision:resnet18"]),
        ("recipes", recipes, ["tutorial-finetune"]),
    ):
        if value is not None:
            must_be_names(name, value, str(example))


def _train_all(
    plans: Sequence[Plan], table: ImageTable, path: Path | None, runtime: Runtime, *, overwrite: bool
) -> tuple[list[Row], dict[str, Run]]:
    """The outcome of each candidate; runs are saved as soon as they are finished."""
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
            rows.append(Row(one.name, one.recipe, problem=error, task=table.task))
            continue
        runs[one.name] = run
        rows.append(Row(one.name, run.recipe, run.fitted, time.perf_counter() - begun, task=table.task))
        if path is not None:
            run.save(path / folders[one.name], overwrite=overwrite, runtime=runtime)
    return rows, runs


def _train(one: Plan, table: ImageTable, folder: Path | None, runtime: Runtime, *, overwrite: bool) -> Run:
    """One run; with a folder, an interrupted training can be resumed."""
    if one.recipe is None:
        raise one.problem or HeadstartError(f"{one.name} has no recipe.")
    own = folder if one.recipe.spec.resumes else None
    if folder and overwrite:
        resumption.remove(folder)
    return train(table, one.recipe, runtime=dataclasses.replace(runtime, folder=own))


def _verdict(verdict: Verdict, rows: Sequence[Row]) -> Verdict:
    """The verdict, extended by the candidates that could not be trained."""
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
