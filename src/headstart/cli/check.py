"""`headstart check`: problems with the images, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import options, panels
from headstart.cli.messages import DONE, SOME_SKIPPED

if TYPE_CHECKING:
    from headstart.checks import CheckReport
    from headstart.cli.output import Output

MAX_SHOWN = 5  # findings of each kind; the others are in the JSON


@panels.takes(options.COLUMNS, options.PROCESS)
def check(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Folder of class folders, split folders, manifest, zip, or folder of embeddings."
        ),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the findings as a page with pictures.")
    ] = None,
    fix_list: Annotated[
        Path | None,
        typer.Option("--fix-list", metavar="FILE", help="Write proposals (drop, relabel, keep) as CSV, to be edited."),
    ] = None,
    decisions: options.Decisions = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files of --html and --fix-list.")
    ] = False,
    backbone: options.Backbone = None,
    max_megapixels: options.MaxMegapixels = None,
    white_level: options.WhiteLevel = None,
    **given: Any,
) -> int:
    """Find duplicates, leaks, wrong labels and poor images.

    Also outliers, and shortcuts: classes that size, format or camera give away. Nothing is changed.
    """
    from headstart import api
    from headstart.checks import decisions as fixes
    from headstart.cli.output import Output
    from headstart.core.files import durable_write
    from headstart.settings.recipe import Recipe

    output = Output(as_json=given["json"], quiet=given["quiet"])
    for path in (html, fix_list):
        _refuse_existing(path, overwrite=overwrite)
    images = options.images(source, {**given, "decisions": decisions})
    runtime = options.runtime(output, workers=given["workers"], strict=given["strict"], cached=not given["no_cache"])
    chosen = {"backbone": backbone, "max_megapixels": max_megapixels, "white_level": white_level}
    recipe = Recipe.from_dict({name: value for name, value in chosen.items() if value is not None})
    report = api.check(images, recipe=recipe, runtime=runtime)
    _show(output, report)
    written = {}
    if html is not None:
        page = api.check_page(report, max_megapixels=max_megapixels, white_level=white_level, runtime=runtime)
        durable_write(html, page)
        written["html"] = html
        output.say(f"Page: {html}")
    if fix_list is not None:
        durable_write(fix_list, fixes.propose(report))
        written["fix_list"] = fix_list
        then = "headstart train SOURCE --decisions FILE"
        if isinstance(images, str):
            then += ", where SOURCE is that of the images"
        output.say(f"Proposals: {fix_list}. Look at each line and edit it, then: {then}")
    output.document({**report.as_dict(), **{name: str(path) for name, path in written.items()}})
    return SOME_SKIPPED if report.table.unusable else DONE


def _show(output: Output, report: CheckReport) -> None:
    from headstart.core.text import counted, quoted

    counts = report.counts
    output.say(
        f"{counted(counts['images'], 'image')} of {counted(counts['classes'], *report.table.nouns)} in "
        f"{quoted(report.table.source)}"
    )
    if not output.quiet:
        rows = [[spec.heading, f"{counts[kind]:,}"] for kind, spec in report.checks.items()]
        output.table(["Check", "Found"], rows, right=(1,))
    for kind, spec in report.checks.items():
        findings = report.of(kind)
        if not findings:
            continue
        output.say(f"\n{spec.heading} ({len(findings):,})")
        for finding in findings[:MAX_SHOWN]:
            output.say(f"  {finding.message}")
        if len(findings) > MAX_SHOWN:
            output.say(f"  and {len(findings) - MAX_SHOWN:,} more (--html FILE shows them, --json lists all)")
    output.say()
    output.notes(report.notes)


def _refuse_existing(path: Path | None, *, overwrite: bool) -> None:
    """Keep an edited list from being replaced by accident, before the work and not after it."""
    from headstart.core.errors import StorageError
    from headstart.core.files import refuse_unwritable_file
    from headstart.core.text import quoted

    if path is None:
        return
    refuse_unwritable_file(path)
    if not path.absolute().parent.is_dir():
        raise StorageError(f"{quoted(str(path))} cannot be written: there is no such folder.",
                           "Name a file in a folder that exists.")  # fmt: skip
    if path.exists() and not overwrite:
        raise StorageError(f"{quoted(str(path))} already exists.", "Name another file, or replace it with --overwrite.")
