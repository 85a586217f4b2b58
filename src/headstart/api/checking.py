"""Check the images of a source before training on them, and show the findings as a page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

from headstart.api.reading import embeddings_in, read
from headstart.checks import CheckReport, Finding, run, summary
from headstart.core.arguments import A_RECIPE, A_RUNTIME, must_be
from headstart.core.errors import OptionError
from headstart.core.runtime import Runtime
from headstart.core.text import counted, portable, quoted
from headstart.data.readers import Source
from headstart.data.table import ImageTable
from headstart.features.dataset import Dataset
from headstart.features.passes import refuse_skipped
from headstart.features.sharded.folder import ShardFolder
from headstart.features.sharded.images import Absent, read_images
from headstart.features.thumbnails import Thumbnails
from headstart.partition.duplicates import MANY_IMAGES
from headstart.partition.refusal import refusal
from headstart.settings.recipe import FULL_RANGE, Recipe
from headstart.strategies.embed import embed
from headstart.strategies.sharded import preprocess_of

# What a page shows of each kind, so that it stays below 5 MB: the worst findings, and the first images of each.
MAX_FINDINGS = 24
MAX_PICTURES = 6
AS_EMBEDDED = "The images were checked as they were when they were embedded; what changed since was not seen."
NO_INPUT_SIZE = (
    "Images that are too small for the network were not looked for: a model file computed these embeddings, and its "
    "input size is not in the folder."
)


def check(
    images: ImageTable | Source,
    *,
    decisions: str | os.PathLike[str] | None = None,
    recipe: Recipe | None = None,
    runtime: Runtime | None = None,
) -> CheckReport:
    """Check the images for problems; nothing is changed.

    Args:
        images: An image table, or a source of one; or a folder of embeddings, which `headstart embed SOURCE --out DIR`
            writes: then nothing is embedded, and the images themselves are not read.
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
    if (folder := embeddings_in(images)) is not None:
        if decisions is not None:
            raise OptionError(
                "Decisions are about images, and this is a folder of their embeddings.",
                "Check the images themselves with them.",
            )
        return _check_embeddings(folder, recipe, runtime)
    table = images if isinstance(images, ImageTable) else read(images, decisions=decisions)
    refuse_skipped(table, runtime)
    data, embedder, _ = embed(table, recipe, runtime)
    report = run(
        data, input_px=embedder.preprocess.size_px, white_level=embedder.preprocess.white_level,
        refusal=str(refusal(table, data, recipe) or ""),
    )  # fmt: skip
    return dataclasses.replace(report, notes=(*report.notes, *data.notes))


def _check_embeddings(folder: ShardFolder, recipe: Recipe, runtime: Runtime) -> CheckReport:
    """Check the images of a folder of embeddings by what it knows of them."""
    preprocess = preprocess_of(folder, recipe, runtime)
    images = read_images(folder, traits=True)
    refuse_skipped(images.table, runtime)
    notes = [AS_EMBEDDED]
    if preprocess is None:
        notes.append(NO_INPUT_SIZE)
    if isinstance(images.table.storage, Absent):
        notes.append(
            f"The images are not at {quoted(folder.description.source)} any more: a page has only pictures that the "
            "cache holds."
        )
    directions = None
    if len(images.stored) > MANY_IMAGES:
        data, directions = images.without_embeddings(), images.stored.compressed(runtime.workers)
        why = refusal(images.table, Dataset(images.table, images.digests, ()), recipe)
    else:
        data = images.in_memory(runtime.workers)
        why = refusal(images.table, data, recipe)
    report = run(
        data, input_px=preprocess.size_px if preprocess else 0, directions=directions, workers=runtime.workers,
        white_level=preprocess.white_level if preprocess else FULL_RANGE, refusal=str(why or ""),
    )  # fmt: skip
    return dataclasses.replace(report, notes=(*report.notes, *notes))


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
    shown = {kind: report.of(kind)[:MAX_FINDINGS] for kind in report.checks}
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
        summary=summary(report.findings, report.table.task),
        named=counted(len(report.table.classes), *report.table.nouns),
        counts=report.counts,
        groups=groups,
        clear=[spec.many for kind, spec in report.checks.items() if not report.of(kind)],
        notes=[portable(note) for note in report.notes],
    )


def _group(
    report: CheckReport, kind: str, findings: Iterable[Finding], pictures: dict[str, bytes]
) -> dict[str, object]:
    from headstart.report.render import data_uri

    labels = {row.path: report.table.said(row) for row in report.table.rows}
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
        "id": kind, "heading": report.checks[kind].heading, "count": everything, "findings": records,
        "more": everything - len(records),
    }  # fmt: skip
