"""What `headstart train` prints of a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.cli import clock
from headstart.core.marks import MODEL_FILE
from headstart.core.text import counted, quoted
from headstart.data.table import CLASS, NOUNS

if TYPE_CHECKING:
    from headstart.api import Run
    from headstart.cli.output import Output
    from headstart.runs.details import Training


def show_run(output: Output, run: Run, folder: Path, source: str, told: Sequence[str]) -> None:
    """Print a run: images, time, numbers, notes, files, and what to do next.

    Args:
        output: Where it is printed.
        run: What was trained and saved.
        folder: Its folder.
        source: What it was trained on, as it was given.
        told: Notes that have been printed already.
    """
    from headstart.cli.show import show_evaluation

    fitted = run.fitted
    images, found = counted(len(fitted.data.table), "image"), fitted.data.targets
    sizes = ", ".join(f"{number:,} {part}" for part, number in fitted.partition.sizes().items())
    output.say(f"{images} of {counted(len(found.names), *NOUNS.get(found.task, CLASS))} in {quoted(source)}: {sizes}")
    for line in work_lines(run, clock.seconds()):
        output.say(line)
    output.say()
    if fitted.partition.cross_validated:
        folds = len(fitted.partition.rounds())
        where = f"images, each predicted by a model that was not trained on it ({folds}-fold cross-validation),"
    else:
        where = f"{run.evaluation.split} images"
    show_evaluation(output, run.evaluation, where, fitted.without_leaks, task=fitted.data.targets.task)
    output.notes(note for note in fitted.notes if note not in told)
    if (choices := fitted.details.choices) and choices.backbone and (price := choices.backbone.price):
        output.notes([price])
    output.skipped(run.skipped)
    model = folder / MODEL_FILE
    output.say(f"\nModel: {model} ({model.stat().st_size / 1e6:.1f} MB), preprocessing included")
    if (folder / "report.html").exists():
        output.say(f"Report: {folder / 'report.html'}")
    output.say(f"Next:  headstart predict {shlex.quote(str(model))} PHOTO")


def work_lines(run: Run, total_seconds: float) -> list[str]:
    """What was done and how long it took, in one or two lines; steps that a strategy did not do are left out.

    Args:
        run: What was trained and saved.
        total_seconds: Of the whole process so far.
    """
    details, seconds = run.fitted.details, run.seconds
    parts = []
    if (of := details.embedding) and "embed" in seconds:
        parts.append(f"Embedded {of.embedded:,} ({of.from_cache:,} from the cache) in {seconds['embed']:.1f} s")
    if "fit" in seconds:
        parts.append(f"fitted in {seconds['fit']:.1f} s")
    total = f"{total_seconds:.1f} s in all"
    if details.training is None:
        return [", ".join([*parts, total])]
    lines = [*([", ".join(parts)] if parts else []), f"{_training(run, details.training)}; {total}"]
    return [*lines, *_best(run, details.training)]


def _best(run: Run, training: Training) -> list[str]:
    """Which epoch was kept, and what chose it; nothing if a custom loop did not say."""
    from headstart.partition.roles import Role

    best = [one for one in training.history if one.epoch == training.best_epoch]
    if not best or run.fitted.choosing is None:
        return []
    rows = run.fitted.choosing.rows
    role = Role(run.fitted.partition.roles[rows[0]]).word
    accuracy = f"accuracy {100 * best[0].validation_accuracy:.1f} % on {counted(len(rows), f'{role} image')}"
    if not training.best_epoch:
        return [f"No epoch was better than the starting point: {accuracy}, which chose between them."]
    return [f"Epoch {training.best_epoch} was best: {accuracy}, which chose it; its weights were loaded."]


def _training(run: Run, training: Training) -> str:
    """How a network was trained."""
    seconds = run.seconds
    words = f"Trained {counted(training.epochs, 'epoch')}"
    words += f" in {seconds['train']:.1f} s" if "train" in seconds else ""
    words += f" on {training.device} ({training.images_per_second:,.0f} images/s)"
    if run.recipe.lr == "auto":
        words += f" at learning rate {training.lr:.2g}"
    words += f", best: {f'epoch {training.best_epoch}' if training.best_epoch else 'the starting point'}"
    if training.stopped == "patience":
        words += f", stopped after {counted(run.recipe.patience, 'epoch')} without improvement"
    if "folds" in seconds:
        words += f"; one network per fold in {seconds['folds']:.1f} s"
    return words
