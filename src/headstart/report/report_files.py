"""The files of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.core.runtime import Runtime
from headstart.core.tables import resolve
from headstart.core.text import json_text
from headstart.runs.folder import ANALYSIS_FILE, REPORT_FILE
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.targets import TARGETS


def files(
    fitted: Fitted, recipe: Recipe, record: Mapping[str, Any], *, folder: Path, runtime: Runtime
) -> dict[str, str]:
    """The page and the data of a run, by the names of their files.

    Args:
        fitted: The result of the strategy.
        recipe: What it followed.
        record: The run as in ``metrics.json``.
        folder: Its run folder, which the page names in its commands.
        runtime: Cache and progress.
    """
    from headstart.report.pictures import find

    task = TARGETS[fitted.data.targets.task]
    analyse, page_of = resolve(task.analyse), resolve(task.page)
    with runtime.progress.stage("Reporting", 3) as advance:
        analysis = analyse(fitted, recipe, record)
        advance(1)
        pictures = find(analysis, fitted.data.table.storage, runtime.cache)
        advance(1)
        page = page_of(analysis, pictures, run=str(folder))
        advance(1)
    return {REPORT_FILE: page, ANALYSIS_FILE: json_text(analysis, indent=None) + "\n"}
