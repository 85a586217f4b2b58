"""Check the images of a source before training on them, and show the findings as a page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

from headstart.api.reading import read
from headstart.checks import CHECKS, CheckReport, Finding, run, summary
from headstart.core.arguments import A_RECIPE, A_RUNTIME, must_be
from headstart.core.errors import OptionError
from headstart.core.runtime import Runtime
from headstart.core.text import portable
from headstart.data.readers import Source
from headstart.data.table import ImageTable
from headstart.features.passes import refuse_skipped
from headstart.features.thumbnails import Thumbnails
from headstart.partition.refusal import refusal
from headstart.settings.recipe import FULL_RANGE, Recipe
from headstart.strategies.embed import embed

# What a page shows of each kind, so that it stays below 5 MB: the worst findings, and the first images of each.
MAX_FINDINGS = 24
MAX_PICTURES = 6


def check(
    images: ImageTable | Source,
    *,
    decisions: str | os.PathLike[str] | None = None,
    recipe: Recipe | None = None,
    runtime: Runtime | None = None,
) -> CheckReport:
    """Check the images for problems; nothing is changed.

    Args:
        images: An image table, or a source of one.
        decisions: A file of decisions on earlier findings, for a source.
        recipe: Names the backbone and how images are read; None for the defaults.
        runtime: Cache, workers, progress, strictness.

    Raises:
        SourceError: The source does not exist, no image can be read, or the decisions do not fit it.
        OptionError: Decisions were given beside a table; or the recipe leaves the backbone or the fit open.

    Examples:
        >>> headstart.check("photos/").counts["label"]  # doctest: +SKIP
        3
    """
    must_be("recipe", recipe, Recipe | None, A_RECIPE)
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    recipe, runtime = recipe or Recipe(), runtime or Runtime()
    if recipe.is_open:
        raise OptionError("The check uses a single backbone, and auto was asked for.", "Name a backbone.")
    if decisions is not None and isinstance(images, ImageTable):
        raise OptionError(
            "Decisions were given together with a table.",
            "Read the source with them: headstart.read(source, decisions=).",
        )
    table = images if isinstance(images, ImageTable) else read(images, decisions=decisions)
    refuse_skipped(table, runtime)
    data, embedder, _ = embed(table, recipe, runtime)
    report = run(
        data, input_px=embedder.preprocess.size_px, white_level=embedder.preprocess.white_level,
        refusal=str(refusal(table, data, recipe) or ""),
    )  # fmt: skip
    return dataclasses.replace(report, notes=(*report.notes, *data.notes))


def check_page(
    report: CheckReport,
    *,
    max_megapixels: int | None = None,
    white_level: int | None = None,
    runtime: Runtime | None = None,
) -> str:
    """The findings as one self-contained HTML page with small pictures.

    Args:
        report: What `check` gave.
        max_megapixels: See `Recipe`.
        white_level: As for `check`.
        runtime: Its cache holds the pictures; others are decoded.
    """
    from headstart.report.render import render

    runtime = runtime or Runtime()
    shown = {kind: report.of(kind)[:MAX_FINDINGS] for kind in CHECKS}
    wanted = {path for findings in shown.values() for one in findings for path in one.paths[:MAX_PICTURES]}
    rows = [number for number, row in enumerate(report.table.rows) if row.path in wanted]
    limit = max_megapixels or Recipe().max_megapixels
    white = white_level or FULL_RANGE
    with Thumbnails(report.table, report.digests, runtime.cache, limit, white_level=white) as thumbnails:
        pictures = {report.table.rows[row].path: jpeg for row, jpeg in thumbnails.all_small(rows).items()}
    groups = [_group(report, kind, findings, pictures) for kind, findings in shown.items() if findings]
    return render(
        "check.html.j2",
        source=portable(report.table.source),
        summary=summary(report.findings),
        counts=report.counts,
        groups=groups,
        clear=[CHECKS[kind].many for kind in CHECKS if not report.of(kind)],
        notes=[portable(note) for note in report.notes],
    )


def _group(
    report: CheckReport, kind: Any, findings: Iterable[Finding], pictures: dict[str, bytes]
) -> dict[str, object]:
    from headstart.report.render import data_uri

    labels = {row.path: row.label or "" for row in report.table.rows}
    everything = len(report.of(kind))
    records = [
        {
            "message": one.message,
            "pictures": [
                {"path": portable(path), "label": portable(labels.get(path, "")), "src": data_uri(pictures.get(path))}
                for path in one.paths[:MAX_PICTURES]
            ],
            "more": max(0, len(one.paths) - MAX_PICTURES),
        }
        for one in findings
    ]
    return {
        "id": kind, "heading": CHECKS[kind].heading, "count": everything, "findings": records,
        "more": everything - len(records),
    }  # fmt: skip
