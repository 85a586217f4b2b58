"""The folder of a finished run: its files, how they are put in place, and what is never replaced."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from headstart.core import marks
from headstart.core.errors import StorageError
from headstart.core.files import durable_write_all
from headstart.core.tables import resolve
from headstart.core.text import csv_cell, json_text, listed, quoted
from headstart.partition.roles import Role
from headstart.runs import resumption
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.targets import TARGETS

RECIPE_FILE = "recipe.toml"  # the first to be put in place
SPLITS_FILE = "splits.csv"
PREDICTIONS_FILE = "predictions.csv"
METRICS_FILE = "metrics.json"
REPORT_FILE, ANALYSIS_FILE = "report.html", "analysis.json"
WEIGHTS_FILE = "weights.safetensors"
# What runs of trained networks have, and others have not; and what a run without a report has not.
OPTIONAL_FILES = {WEIGHTS_FILE, "history.csv", "curves.png", "lr.png", REPORT_FILE, ANALYSIS_FILE}


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
    if (folder / marks.MODEL_FILE).exists():
        raise StorageError(
            f"{quoted(str(folder))} already holds a run.",
            "Choose another folder (--out), or replace it (--overwrite, overwrite=True).",
        )
    # A run that was killed while it was put in place has its recipe; other files of these names are somebody's own.
    names = (SPLITS_FILE, PREDICTIONS_FILE, METRICS_FILE, REPORT_FILE, ANALYSIS_FILE)
    own = [name for name in names if (folder / name).exists()]
    if own and not (folder / RECIPE_FILE).exists():
        raise StorageError(
            f"{quoted(str(folder))} already holds {listed(own)}, which a run would replace.",
            "Choose another folder (--out), or replace them (--overwrite, overwrite=True).",
        )


def write(
    folder: Path, fitted: Fitted, recipe: Recipe, metrics: Mapping[str, object], report: Mapping[str, str]
) -> None:
    """Put a run in place, in a folder that is there and held.

    Args:
        folder: The run folder.
        fitted: The result of the strategy.
        recipe: What it followed.
        metrics: The content of ``metrics.json``.
        report: The files of the report, by name; none where there is none.

    Raises:
        StorageError: It cannot be written.
    """
    contents: dict[str, str | bytes] = {
        RECIPE_FILE: recipe.to_toml(),
        SPLITS_FILE: splits_csv(fitted),
        PREDICTIONS_FILE: predictions_csv(fitted),
        METRICS_FILE: json_text(metrics) + "\n",
        **report,
        **fitted.files,
        **{name: draw() for name, draw in fitted.pictures.items()},
        marks.MODEL_FILE: fitted.model,  # the last
    }
    durable_write_all({folder / name: content for name, content in contents.items()})
    # Files of a run that was replaced: its network must not be mistaken for that of this one.
    for name in OPTIONAL_FILES - contents.keys():
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)
    if fitted.folder != folder:
        shutil.rmtree(folder / resumption.LOGS, ignore_errors=True)
    resumption.remove(folder)


def splits_csv(fitted: Fitted) -> str:
    """A manifest that gives the same run again; the folds of a cross-validation are drawn again."""
    partition = fitted.partition
    roles = zip(fitted.data.table.rows, partition.roles.tolist(), partition.folds.tolist(), strict=True)
    several = TARGETS[fitted.data.targets.task].thresholds
    return _csv(marks.SPLITS_OF_LABELS_HEADER if several else marks.SPLITS_HEADER, (
        (csv_cell(row.path), csv_cell(row.label or ""), Role(role).word, csv_cell(row.group or ""),
         fold + 1 if partition.cross_validated and fold >= 0 else "")
        for row, role, fold in roles
    ))  # fmt: skip


def predictions_csv(fitted: Fitted) -> str:
    """What was predicted for each held-out image."""
    return _csv(*resolve(TARGETS[fitted.data.targets.task].predictions)(fitted))


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
