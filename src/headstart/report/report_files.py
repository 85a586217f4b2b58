"""The files of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.runtime import Runtime
from headstart.core.tables import resolve
from headstart.runs.folder import ANALYSIS_FILE, REPORT_FILE
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from headstart.report.analysed import Common


def files(
    fitted: Fitted, recipe: Recipe, seconds: Mapping[str, float], *, folder: Path, runtime: Runtime
) -> dict[str, str]:
    """The page and the data of a run, by the names of their files.

    Args:
        fitted: The result of the strategy.
        recipe: What it followed.
        seconds: Time of each stage.
        folder: Its run folder, which the page names in its commands.
        runtime: Cache and progress.
    """
    from headstart.report.pictures import find

    task = TARGETS[fitted.data.targets.task]
    analyse, page_of = resolve(task.analyse), resolve(task.page)
    with runtime.progress.stage("Reporting", 3) as advance:
        analysis: Common = analyse(fitted, recipe, seconds)
        advance(1)
        pictures = find(analysis, fitted.data.table.storage, runtime.cache)
        advance(1)
        page = page_of(analysis, pictures, run=str(folder))
        advance(1)
    return {REPORT_FILE: page, ANALYSIS_FILE: analysis.to_json()}
