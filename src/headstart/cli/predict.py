"""`headstart predict`: the classes of images, by a model file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import options
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.core.text import csv_label, csv_path, json_text, portable, printable

if TYPE_CHECKING:
    from headstart.artifact.classifier import Classifier, Prediction
    from headstart.core.errors import ImageError
    from headstart.core.options import Runtime
    from headstart.data.table import ImageTable

    Predicted = Iterator[tuple[str, Prediction | ImageError]]


class Format(StrEnum):
    """How predictions are printed."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model.onnx of a run.")],
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Images, folders, or patterns such as 'new/*.jpg'; each file counts once."),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for each image.")] = 3,
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.table,
    workers: options.Workers = None,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Say which class each image belongs to, and how probable that is."""
    from headstart import api
    from headstart.cli.output import Output
    from headstart.core.errors import OptionError
    from headstart.data.inputs import expand
    from headstart.features.extract import refuse_skipped

    if json and format is not Format.table:
        raise OptionError(f"--json and --format {format} exclude each other.", "Choose one of them.")
    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model)
    table = expand(paths)
    runtime = options.runtime(output, workers=workers, strict=strict, cached=False)
    refuse_skipped(table, runtime)
    for note in table.notes:
        output.note(note)
    predictions = _predict(classifier, table, top, runtime)
    if json:
        records = [_record(path, result) for path, result in predictions]
        skipped = [{"path": one["path"], "reason": one["error"]} for one in records if "error" in one]
        output.document({"predictions": records, "skipped": skipped, "notes": list(table.notes)})
        unread = len(skipped)
    elif format is Format.table:
        rows = [_cells(path, result) for path, result in predictions]
        output.table(["Image", "Class", "Probability", "Next likely"], rows, right=(2,))
        unread = sum(row[2] == "" for row in rows)
    else:
        unread = _stream(predictions, format)
    return SOME_SKIPPED if unread else DONE


def _predict(classifier: Classifier, table: ImageTable, top: int, runtime: Runtime) -> Predicted:
    from headstart.core.errors import ImageError, SourceError
    from headstart.core.text import quoted
    from headstart.features.extract import each

    def work(index: int) -> Prediction:
        result = classifier.run_file(table.storage.read(table.rows[index].path))
        return classifier.prediction(result, top)

    for skip in table.skipped:
        yield skip.path, ImageError(skip.reason)
    for index, result in each(len(table), work, runtime, "Predicting"):
        path = table.rows[index].path
        if runtime.strict and isinstance(result, ImageError):
            raise SourceError(f"{quoted(path)}: {result.message}.", "Run without --strict to go on with the others.")
        yield path, result


def _record(path: str, result: Prediction | ImageError) -> dict[str, Any]:
    if isinstance(result, Exception):
        return {"path": portable(path), "error": portable(str(result))}
    return {
        "path": portable(path),
        "label": portable(result.label),
        "probability": round(result.probability, 6),
        "familiar": result.familiar,
        "top": [{"label": portable(label), "probability": round(value, 6)} for label, value in result.top],
    }


def _cells(path: str, result: Prediction | ImageError) -> list[str]:
    if isinstance(result, Exception):
        return [path, "", "", f"not read: {result}"]
    others = ", ".join(f"{label} {100 * value:.1f} %" for label, value in result.top[1:])
    return [path, result.label, f"{100 * result.probability:.1f} %", others]


def _stream(predictions: Predicted, format: Format) -> int:
    """Print a line an image as it comes; the number that could not be read."""
    import csv

    unread = 0
    # A file keeps every name as it is spelled; a terminal must not run what is hidden in one.
    shown = printable if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if format is Format.csv:
        writer.writerow(["path", "label", "probability", "error"])
    for path, result in predictions:
        record = _record(path, result)
        unread += "error" in record
        if format is Format.csv:
            cells = csv_path(path), csv_label(record.get("label", "")), record.get("probability", "")
            writer.writerow([shown(str(cell)) for cell in (*cells, csv_label(record.get("error", "")))])
        else:
            print(json_text(record, indent=None))
    return unread
