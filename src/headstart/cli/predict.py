"""`headstart predict`: the classes of images, by a model file."""

from __future__ import annotations

import contextlib
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
    from headstart.prediction.sorting.sorter import Sorter

    sharded = shards.meant(out, format, sorting=sort_into is not None)
    if not sharded:
        options.refuse_for_files(given)
    _refuse(format, out, json=json, resume=resume, overwrite=overwrite, sets=coverage is not None, empty=allow_empty)
    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model, max_megapixels=max_megapixels)
    wanted = Wanted.of(classifier, top, coverage=coverage, allow_empty=allow_empty, abstain=abstain)
    table = expand(paths)
    runtime = options.runtime(output, workers=workers, strict=strict, cached=False)
    refuse_skipped(table, runtime)
    output.notes(notes := [*table.notes, *predicted.notes(classifier, wanted)])
    if sharded and out is not None:
        runtime = options.on_engine(runtime, given["on"], given["address"], workers=workers)
        ask = partial(api.predict_into, classifier, replace(table, notes=()), out, wanted=wanted, overwrite=overwrite)
        return shards.told(ask(shard_rows=given["shard_rows"], runtime=runtime), output, notes)
    sets = {} if coverage is None else {"sets": predicted.sets(classifier, coverage, allow_empty=allow_empty)}
    file = None if out is None else written.file_of(out, format, classifier, wanted)
    sorter = None if sort_into is None else Sorter(sort_into, sort_by.value, classifier.classes, wanted)
    if file is not None:
        file.prepare(resume=resume, overwrite=overwrite)
    if sorter is not None:
        sorter.prepare(table, paths)
    printed = format if format in {Format.csv, Format.jsonl} and file is None else None
    with contextlib.ExitStack() as stack:
        table = written.opened(stack, file, sorter, table)
        predictions = written.writing(predict_table(classifier, table, wanted, runtime), file, sorter)
        if file is None and (json or printed or sorter is None):
            unread, document = predicted.shown(predictions, wanted, classifier, output, printed)
        else:
            unread, document = sum(isinstance(result, Exception) for _, result in predictions), {}
    if file is not None:  # those of an interrupted run too
        unread = file.unread
    document |= written.told_of_file(file, output) | written.told_of_sorting(sorter, output, aside=bool(printed))
    output.document({**document, "notes": notes, **sets})
    return SOME_SKIPPED if unread or (sorter is not None and sorter.left) else DONE


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
