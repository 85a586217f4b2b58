"""`headstart predict`: the classes of images, by a model file."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import options
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.cli.streams import as_json
from headstart.core.text import csv_cell, portable, printable
from headstart.prediction.record import Wanted, record_of

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.core.errors import ImageError
    from headstart.modelfile.prediction_sets import Measured
    from headstart.prediction.answers import Prediction
    from headstart.prediction.classifier import Classifier

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
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.table,
    max_megapixels: options.MaxMegapixels = None,
    workers: options.Workers = None,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Say which class each image belongs to, how probable that is, and whether it is like the training images."""
    from headstart import api
    from headstart.cli.output import Output
    from headstart.core.errors import OptionError
    from headstart.data.inputs import expand
    from headstart.features.loop import refuse_skipped
    from headstart.prediction.batch import predict_table

    if json and format is not Format.table:
        raise OptionError(f"--json and --format {format} exclude each other.", "Choose one of them.")
    if allow_empty and coverage is None:
        raise OptionError(
            "--allow-empty needs prediction sets, and none are asked for.", "Give --coverage too, such as 0.9."
        )
    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model, max_megapixels=max_megapixels)
    wanted = Wanted.of(classifier, top, coverage=coverage, allow_empty=allow_empty, abstain=abstain)
    table = expand(paths)
    runtime = options.runtime(output, workers=workers, strict=strict, cached=False)
    refuse_skipped(table, runtime)
    notes = [*table.notes, *_notes(classifier, wanted)]
    output.notes(notes)
    predictions = predict_table(classifier, table, wanted, runtime)
    if json:
        records = [record_of(path, result, wanted) for path, result in predictions]
        skipped = [{"path": one["path"], "reason": one["error"]} for one in records if "error" in one]
        sets = {} if coverage is None else {"sets": _sets(classifier, coverage, allow_empty=allow_empty)}
        output.document({"predictions": records, "skipped": skipped, "notes": notes, **sets})
        unread = len(skipped)
    elif format is Format.table:
        unread = _table(list(predictions), wanted, classifier, output)
    else:
        unread = _stream(predictions, wanted, format)
    return SOME_SKIPPED if unread else DONE


def _notes(classifier: Classifier, wanted: Wanted) -> list[str]:
    """What a person should know about abstaining and prediction sets."""
    from headstart.modelfile.prediction_sets import CAVEAT

    notes = []
    if wanted.abstain and classifier.metadata.familiarity is None:
        notes.append("This model cannot detect images unlike its training images: it gives every image a class.")
    if wanted.coverage is not None:
        notes.append(CAVEAT)
        if wanted.most == math.inf and classifier.metadata.conformal:
            images = classifier.metadata.conformal.images
            notes.append(
                f"{images:,} held-out images are too few for a coverage of {wanted.coverage:g}: "
                "every set contains all classes."
            )
        elif not wanted.allow_empty:
            notes.append(_measured(classifier.measured_coverage(wanted.coverage), wanted.coverage))
    return notes


def _measured(found: Measured, coverage: float) -> str:
    """The measured coverage of sets that are never empty, beside the nominal one."""
    from headstart.core.text import counted

    low, high = (f"{100 * end:.1f}" for end in found.interval)
    share, within = f"{100 * found.coverage:.1f} %", f"95 % interval {low} to {high} %"
    if found.at_least:  # as it was written by a Headstart that did not store the mistakes
        share, within = f"at least {share}", f"95 % interval from {low} % on"
    return (
        f"For a coverage of {100 * coverage:g} %, such sets contain the true class of {share} of "
        f"{counted(found.images, 'held-out image')} ({within}). No set is empty: the most probable class is always in "
        "it."
    )


def _sets(classifier: Classifier, coverage: float, *, allow_empty: bool) -> dict[str, Any]:
    """The coverage that was asked for, and the one that was measured; null of sets that may be empty."""
    found = None if allow_empty else classifier.measured_coverage(coverage)
    measured = found and {
        "coverage": round(found.coverage, 6),
        "interval": [round(end, 6) for end in found.interval],
        "images": found.images,
        "split": portable(found.split),
        "at_least": found.at_least,
    }
    return {"coverage": coverage, "allow_empty": allow_empty, "measured": measured}


def _table(
    predictions: list[tuple[str, Prediction | ImageError]], wanted: Wanted, classifier: Classifier, output: Output
) -> int:
    """Print the table; the number of images that could not be read."""
    from headstart.core.text import counted

    results = [result for _, result in predictions if not isinstance(result, Exception)]
    unfamiliar = sum(result.familiar is False for result in results)
    header = ["Image", "Class", "Probability"]
    header += ["Familiar"] if unfamiliar else []
    header += [] if wanted.coverage is None else [f"{100 * wanted.coverage:g} % set"]
    rows = []
    for path, result in predictions:
        if isinstance(result, Exception):
            rows.append([path, *[""] * (len(header) - 1), f"not read: {result}"])
            continue
        named = wanted.reason(result) is None
        cells = [path, result.label if named else "", f"{100 * result.probability:.1f} %" if named else ""]
        cells += ["yes" if result.familiar else "NO"] if unfamiliar else []
        cells += [] if result.labels is None else [", ".join(result.labels) or "none"]
        first = 1 if named else 0
        rows.append([*cells, ", ".join(f"{label} {100 * value:.1f} %" for label, value in result.top[first:])])
    output.table([*header, "Next most likely"], rows, right=(2,))
    if unfamiliar and (familiarity := classifier.metadata.familiarity):
        rate = familiarity.false_alarm_rate
        output.note(
            f"{counted(unfamiliar, 'image is', 'images are')} unlike the training images (Familiar: NO); do not "
            f"rely on the class of such images. About {100 * rate:.2g} % of images like the training images are "
            "marked so too (false alarms)."
        )
    return len(predictions) - len(results)


def _stream(predictions: Predicted, wanted: Wanted, format: Format) -> int:
    """Print a line an image as it comes; the number that could not be read."""
    import csv

    from headstart.core import marks

    unread = 0
    # A file keeps every name as it is spelled; a terminal must not run what is hidden in one.
    shown = printable if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = list(marks.PREDICTED_HEADER)
    names += [] if wanted.coverage is None else ["labels"]
    names += ["abstained"] if wanted.abstain else []
    if format is Format.csv:
        writer.writerow(names)
    for path, result in predictions:
        record = record_of(path, result, wanted)
        unread += "error" in record
        if format is Format.csv:
            writer.writerow([shown(_cell(name, record.get(name), path)) for name in names])
        else:
            print(as_json(record, indent=None))
    return unread


def _cell(name: str, value: Any, path: str) -> str:
    """A value of a record as the cell of a CSV file: a list as JSON, a truth as yes or no, nothing as nothing."""
    if name == "path":
        return csv_cell(path)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return as_json(value, indent=None) if isinstance(value, list) else csv_cell(str(value))
