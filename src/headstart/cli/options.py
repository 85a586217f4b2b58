"""Options that several commands share, so that each is described once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.core.options import Runtime
    from headstart.data.readers import Columns

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; words go to standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no words and no progress.")]
Strict = Annotated[bool, typer.Option("--strict", help="Any file that cannot be used is an error.")]
Workers = Annotated[int | None, typer.Option(min=1, max=256, help="Threads; default: one for each core.")]
MaxMegapixels = Annotated[
    int | None, typer.Option(help="Larger images are skipped; a JPEG counts as reduced. Default: 64, or the model's.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the feature cache.")]
PathColumn = Annotated[
    str | None, typer.Option(help="Manifest: column of the image's path; default: one of a known name.")
]
LabelColumn = Annotated[str | None, typer.Option(help="Manifest: column of the class.")]
SplitColumn = Annotated[str | None, typer.Option(help="Manifest: column of the split (train, val, test).")]
GroupColumn = Annotated[str | None, typer.Option(help="Manifest: column of the group; a group is never divided.")]
Decisions = Annotated[
    Path | None,
    typer.Option(
        "--decisions", metavar="FILE", help="CSV of what to drop, relabel and keep, as check --fix-list writes."
    ),
]
Root = Annotated[Path | None, typer.Option(help="Manifest: folder of its paths; default: its own.")]
Encoding = Annotated[
    str | None, typer.Option(help="Manifest: encoding of its text, such as cp1252; default: UTF-8, or as it is marked.")
]


def columns(
    path: str | None, label: str | None, split: str | None, group: str | None, root: Path | None, encoding: str | None
) -> Columns:
    """The columns of a manifest from the options."""
    from headstart.data.readers import Columns

    return Columns(path=path, label=label, split=split, group=group, root=root, encoding=encoding)


def runtime(output: Output, *, workers: int | None, strict: bool, cached: bool) -> Runtime:
    """How to run, from the options."""
    from headstart.core.options import Runtime, default_cache, default_workers

    return Runtime(
        cache=default_cache() if cached else None,
        workers=workers or default_workers(),
        progress=output.progress(),
        strict=strict,
    )
