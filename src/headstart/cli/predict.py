"""`headstart predict`: the classes of images, by a model file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import options
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.core.text import portable
from headstart.prediction.record import Wanted, record_of

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.core.options import Runtime
    from headstart.data.table import ImageTable
    from headstart.prediction.classifier import Classifier
    from headstart.prediction.resultfiles.growing import PredictionFile


class Format(StrEnum):
    """How predictions are printed, or written to a file."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model.onnx of a run.")],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Images, folders, patterns such as 'new/*.jpg', - for an image on standard input, @FILE for the paths "
            "in a file (@- on standard input); each file counts once.",
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for each image.")] = 3,
    coverage: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Give prediction sets that contain the true class this often, such as 0.9."),
    ] = None,
    allow_empty: Annotated[
        bool,
        typer.Option(
            "--allow-empty",
            help="Allow empty prediction sets, where even the most probable class is too uncertain.",
        ),
    ] = False,
    abstain: Annotated[
        bool,
        typer.Option(
            "--abstain",
            help="Give no class to images unlike the training images; nor, with --coverage, where the set has not "
            "exactly one.",
        ),
    ] = False,
    format: Annotated[
        Format | None, typer.Option(help="How to print or write. Default: a table, or what the name of --out says.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write to this file as predictions come: .csv, .jsonl or .parquet."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with --out: only images that it does not hold are predicted.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out.")] = False,
    max_megapixels: options.MaxMegapixels = None,
    workers: options.Workers = None,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Say which class each image belongs to, how probable that is, and whether it is like the training images."""
    from headstart import api
    from headstart.cli import predicted
    from headstart.cli.output import Output
    from headstart.data.inputs import expand
    from headstart.features.loop import refuse_skipped
    from headstart.prediction.batch import predict_table

    _refuse(format, out, json=json, resume=resume, overwrite=overwrite, sets=coverage is not None, empty=allow_empty)
    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model, max_megapixels=max_megapixels)
    wanted = Wanted.of(classifier, top, coverage=coverage, allow_empty=allow_empty, abstain=abstain)
    table = expand(paths)
    runtime = options.runtime(output, workers=workers, strict=strict, cached=False)
    refuse_skipped(table, runtime)
    notes = [*table.notes, *predicted.notes(classifier, wanted)]
    output.notes(notes)
    sets = {} if coverage is None else {"sets": predicted.sets(classifier, coverage, allow_empty=allow_empty)}
    if out is not None:
        file = _file(out, format, classifier, wanted)
        file.prepare(resume=resume, overwrite=overwrite)
        unread = _write(file, classifier, table, runtime, output, {"notes": notes, **sets})
        return SOME_SKIPPED if unread else DONE
    predictions = predict_table(classifier, table, wanted, runtime)
    if json:
        records = [record_of(path, result, wanted) for path, result in predictions]
        skipped = [{"path": one["path"], "reason": one["error"]} for one in records if "error" in one]
        output.document({"predictions": records, "skipped": skipped, "notes": notes, **sets})
        unread = len(skipped)
    elif format in {None, Format.table}:
        unread = predicted.table(list(predictions), wanted, classifier, output)
    else:
        unread = predicted.printed(predictions, wanted, str(format))
    return SOME_SKIPPED if unread else DONE


def _refuse(
    format: Format | None, out: Path | None, *, json: bool, resume: bool, overwrite: bool, sets: bool, empty: bool
) -> None:
    """Say which options do not go together."""
    from headstart.core.errors import OptionError

    if json and format not in {None, Format.table} and out is None:
        raise OptionError(f"--json and --format {format} exclude each other.", "Choose one of them.")
    if empty and not sets:
        raise OptionError(
            "--allow-empty needs prediction sets, and none are asked for.", "Give --coverage too, such as 0.9."
        )
    if out is None and (resume or overwrite):
        raise OptionError(
            f"{'--resume' if resume else '--overwrite'} is about the file of predictions, and none is named.",
            "Name it with --out.",
        )
    if resume and overwrite:
        raise OptionError("--resume goes on with the file, --overwrite replaces it.", "Choose one of them.")
    if out is None and format is Format.parquet:
        raise OptionError("Parquet is no text to print.", "Name a file with --out.")
    if out is not None and format is Format.table:
        raise OptionError("A table is for people, not for a file.", "Choose --format csv, jsonl or parquet.")


def _file(out: Path, format: Format | None, classifier: Classifier, wanted: Wanted) -> PredictionFile:
    """The file of predictions, in the form that was asked for, or that its name says."""
    from headstart.core.errors import OptionError
    from headstart.core.text import listed, quoted
    from headstart.prediction.resultfiles import FORMS
    from headstart.prediction.resultfiles.growing import PredictionFile
    from headstart.prediction.resultfiles.made import Made

    named = next((name for name, spec in FORMS.items() if out.suffix.lower() == spec.suffix), None)
    form = named if format is None else str(format)
    if form is None:
        raise OptionError(
            f"{quoted(out.name)} does not say in which form to write; expected a name that ends in "
            f"{listed(spec.suffix for spec in FORMS.values())}.",
            "Choose such a name, or the form with --format.",
        )
    return PredictionFile(out, Made.by(classifier, form, wanted), wanted)


def _write(
    file: PredictionFile,
    classifier: Classifier,
    table: ImageTable,
    runtime: Runtime,
    output: Output,
    beside: dict[str, Any],
) -> int:
    """Let the file of predictions grow, and tell what is in it; how many images in it could not be read."""
    from headstart.cli.signals import set_hint
    from headstart.core.text import counted, quoted
    from headstart.prediction.batch import predict_table

    set_hint("What was predicted is in the file. Run the same command with --resume to go on.", record=str(file.path))
    with file:
        for _ in file.adding(predict_table(classifier, file.left(table), file.wanted, runtime)):
            pass
    images = file.before.total() + file.added
    new = f" ({file.added:,} new)" if file.before else ""
    unread = f"; {file.unread:,} could not be read" if file.unread else ""
    output.say(f"{quoted(str(file.path))}: {counted(images, 'image')}{new}{unread}.")
    output.document({
        "out": portable(str(file.path)), "format": file.format, "images": images, "added": file.added,
        "unread": file.unread, **beside,
    })  # fmt: skip
    return file.unread
