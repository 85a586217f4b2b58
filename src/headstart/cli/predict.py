"""`headstart predict`: the classes of images, by a model file."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli import options, panels
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.prediction.record import Wanted


class By(StrEnum):
    """How images get into class folders."""

    copy = "copy"
    link = "link"
    move = "move"


class Format(StrEnum):
    """How predictions are printed, or written to a file."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Images, folders, patterns such as 'new/*.jpg', - for an image on standard input, @FILE for the paths "
        "in a file (@- on standard input); each file counts once. Or one of these alone: a URL (s3://BUCKET/PREFIX), "
        "a Parquet or tar file of images.",
    ),
]
AllowEmpty = Annotated[
    bool,
    typer.Option(
        "--allow-empty",
        help="Allow empty prediction sets, where even the most probable class is too uncertain.",
    ),
]
Abstain = Annotated[
    bool,
    typer.Option(
        "--abstain",
        help="Name no class for images unlike the training images or, with --coverage, for sets of more or fewer "
        "than one class.",
    ),
]
OutputFormat = Annotated[Format | None, typer.Option(help="Output format. Default: a table, or by the name of --out.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|DIR",
        help="Write to this file as predictions come: .csv, .jsonl or .parquet; or to a folder (a name without a "
        "suffix) of Parquet shards, which is gone on with where it was left.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue --out: predict only the images that are not in it yet.")
]
SortInto = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Sort the images into a folder per class; undo with headstart unsort DIR."),
]


@panels.takes(options.SHARDS)
def predict(
    model: options.Model,
    paths: Paths,
    top: options.Top = 3,
    coverage: options.Coverage = None,
    allow_empty: AllowEmpty = False,
    abstain: Abstain = False,
    format: OutputFormat = None,
    out: Out = None,
    resume: Resume = False,
    overwrite: options.ReplaceOut = False,
    sort_into: SortInto = None,
    sort_by: Annotated[By, typer.Option(help="How --sort-into places the images.")] = By.copy,
    max_megapixels: options.MaxMegapixels = None,
    workers: options.Workers = None,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    **given: Any,
) -> int:
    """Predict the class of each image.

    Gives its probability, and says whether the image is like the training images.
    """
    from headstart import api
    from headstart.cli import predicted, shards, written
    from headstart.cli.output import Output
    from headstart.data.inputs import expand
    from headstart.features.passes import refuse_skipped
    from headstart.prediction.batch import predict_table

    sharded = shards.meant(out, format, given, sorting=sort_into is not None)
    _refuse(format, out, json=json, resume=resume, overwrite=overwrite, sets=coverage is not None, empty=allow_empty)
    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model, max_megapixels=max_megapixels)
    wanted = Wanted.of(classifier, top, coverage=coverage, allow_empty=allow_empty, abstain=abstain)
    runtime = options.runtime(output, workers=workers, strict=strict, cached=False)
    refuse_skipped(table := expand(paths), runtime)
    output.notes(notes := [*table.notes, *predicted.notes(classifier, wanted)])
    if sharded and out is not None:
        runtime = options.on_engine(runtime, given["on"], given["address"], workers=workers)
        into = partial(api.predict_into, classifier, replace(table, notes=()), out, wanted=wanted, runtime=runtime)
        return shards.told(into(shard_rows=given["shard_rows"], overwrite=overwrite), output, notes)
    file = None if out is None else written.file_of(out, format, classifier, wanted)
    to = written.Written(file, written.sorter_of(sort_into, sort_by.value, classifier, wanted))
    to.prepare(table, paths, resume=resume, overwrite=overwrite)
    printed = format if format in {Format.csv, Format.jsonl} and to.file is None else None
    with to.opened(table) as left:
        predictions = to.adding(predict_table(classifier, left, wanted, runtime))
        if to.file is None and (json or printed or to.sorter is None):
            unread, document = predicted.shown(predictions, wanted, classifier, output, printed)
        else:
            unread, document = sum(isinstance(result, Exception) for _, result in predictions), {}
    if to.file is not None:  # those of an interrupted run too
        unread = to.file.unread
    sets = predicted.sets(classifier, coverage, allow_empty=allow_empty)
    output.document({**document, **to.told(output, aside=bool(printed)), "notes": notes, **sets})
    return SOME_SKIPPED if unread or (to.sorter is not None and to.sorter.left) else DONE


def _refuse(
    format: Format | None, out: Path | None, *, json: bool, resume: bool, overwrite: bool, sets: bool, empty: bool
) -> None:
    """Say which options do not go together."""
    from headstart.core.errors import OptionError

    if json and format not in {None, Format.table} and out is None:
        raise OptionError(f"--json and --format {format} exclude each other.", "Choose one of them.")
    if empty and not sets:
        raise OptionError(
            "--allow-empty applies to prediction sets, and there are none without --coverage.",
            "Give --coverage too, such as 0.9.",
        )
    if out is None and (resume or overwrite):
        raise OptionError(
            f"{'--resume' if resume else '--overwrite'} applies to a file of predictions, and none is named.",
            "Name it with --out.",
        )
    if resume and overwrite:
        raise OptionError("--resume continues the file, --overwrite replaces it.", "Choose one of them.")
    if out is None and format is Format.parquet:
        raise OptionError("Parquet is a binary format and cannot be printed.", "Name a file with --out.")
    if out is not None and format is Format.table:
        raise OptionError("A table cannot be written to a file.", "Choose --format csv, jsonl or parquet.")
