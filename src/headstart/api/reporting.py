"""Reports: the page of a run drawn again, and the page of a comparison."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.core.arguments import A_RUNTIME, must_be, must_be_path
from headstart.core.errors import InputError, SourceError, StorageError
from headstart.core.files import durable_write, make_folder, refuse_unwritable_file
from headstart.core.runtime import Runtime
from headstart.core.tables import resolve
from headstart.core.text import quoted
from headstart.data import readers
from headstart.runs.folder import ANALYSIS_FILE, REPORT_FILE
from headstart.targets import CLASSES, TARGETS, TargetSpec

if TYPE_CHECKING:
    from headstart.api.run import Run
    from headstart.report.analysed import Common

# A run of 100,000 images and 1,000 classes has about 1 MB.
MAX_ANALYSIS_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Drawn:
    """A redrawn report.

    Attributes:
        path: The page.
        images: Images that it shows or names.
        missing: Those of them whose pictures were not found.
    """

    path: Path
    images: int
    missing: int


def draw_report(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    runtime: Runtime | None = None,
) -> Drawn:
    """Draw the report of a run again from its stored data, with the pictures that can still be found.

    Args:
        folder: The run folder.
        source: Where the images are now; None for where they were.
        out: The page to write; None for ``report.html`` in the run folder.
        runtime: Its cache is asked for pictures first.

    Raises:
        StorageError: The run has kept nothing to draw from, or the page cannot be written.
        SourceError: There is no such source.

    Examples:
        >>> headstart.draw_report("runs/photos").path  # doctest: +SKIP
        PosixPath('runs/photos/report.html')
    """
    from jinja2 import TemplateError

    from headstart.report.pictures import find

    must_be_path("folder", folder)
    if out is not None:
        must_be_path("out", out)
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    path, runtime = Path(folder), runtime or Runtime()
    analysis, task = _read(path)
    target = Path(out) if out is not None else path / REPORT_FILE
    refuse_unwritable_file(target)
    try:
        columns = readers.Columns.of(dict(analysis.columns))
        if source is not None:
            storage = readers.read(source, columns).storage
        else:
            try:
                storage = readers.read(analysis.source_path, columns).storage
            except InputError:  # it is gone; the cache may hold its pictures
                storage = None
        pictures = find(analysis, storage, runtime.cache)
        page = resolve(task.page)(analysis, pictures, run=str(path))
    except SourceError:
        raise
    except (TemplateError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    make_folder(target.parent)
    durable_write(target, page)
    images = len(analysis.images)
    return Drawn(target, images, images - len(pictures))


def _read(folder: Path) -> tuple[Common, TargetSpec]:
    """The data behind the report of a run, and the row of its task.

    Raises:
        StorageError: There is none, or it is damaged, or a newer Headstart wrote it.
    """
    from headstart.report.analysed import SCHEMA

    path = folder / ANALYSIS_FILE
    try:
        with path.open("rb") as file:
            content = file.read(MAX_ANALYSIS_BYTES + 1)
    except OSError as error:
        if not folder.is_dir():
            raise StorageError(
                f"There is no run folder {quoted(str(folder))}.", "Name the folder that train wrote."
            ) from error
        what = "holds no" if isinstance(error, FileNotFoundError) else "has an unreadable"
        raise StorageError(
            f"{quoted(str(folder))} {what} {ANALYSIS_FILE}, from which a report is drawn.",
            "Runs from before there were reports and runs with --no-report have none: train again, "
            f"with --recipe {quoted(str(folder / 'recipe.toml'))} and --overwrite.",
        ) from error
    if len(content) > MAX_ANALYSIS_BYTES:
        raise _damaged(folder, f"it has more than {MAX_ANALYSIS_BYTES:,} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, "it is not JSON") from error
    if not isinstance(document, dict) or type(document.get("schema")) is not int:
        raise _damaged(folder, "it is not an analysis")
    if document["schema"] > SCHEMA:
        raise StorageError(
            f"{quoted(str(path))} was written by a newer Headstart.", "Upgrade: pip install --upgrade headstart"
        )
    task = TARGETS.get(str(document.get("task", CLASSES)))
    if task is None or not task.analysed:
        raise _damaged(folder, f"it is of the task {document['task']!r:.50}")
    kind: type[Common] = resolve(task.analysed)
    try:
        return kind.from_json(document), task
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, str(error)) from error


def _damaged(folder: Path, reason: str) -> StorageError:
    return StorageError(
        f"{quoted(str(folder / ANALYSIS_FILE))} is damaged ({reason[:200]}).",
        "Train again with the recipe of the run: its model and its numbers are in files of their own.",
    )


def comparison_page(comparison: Mapping[str, Any], runs: Mapping[str, Run], *, runtime: Runtime | None = None) -> str:
    """The page of a comparison: the verdict, the table, the pairs, and the images on which the candidates disagree.

    Args:
        comparison: ``rows``, ``pairs`` and ``verdict``, as ``compare --json`` prints them.
        runs: What was compared, by the names that the rows carry.
        runtime: Its cache is asked for pictures.
    """
    from headstart.report.comparison_page import comparison_page as draw

    return draw(comparison, {name: run.fitted for name, run in runs.items()}, (runtime or Runtime()).cache)
