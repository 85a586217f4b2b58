"""What a terminal shows of predictions: a table, lines as they come, and the notes beside them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from headstart.cli.streams import as_json
from headstart.core.tables import resolve
from headstart.core.text import portable, printable
from headstart.prediction.record import Wanted, record_of
from headstart.prediction.resultfiles import FORMS
from headstart.prediction.resultfiles.lines import Lines, columns
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.core.errors import ImageError
    from headstart.modelfile.prediction_sets import Measured
    from headstart.prediction.answers import Prediction
    from headstart.prediction.classifier import Classifier

    Predicted = Iterator[tuple[str, Prediction | ImageError]]


def notes(classifier: Classifier, wanted: Wanted) -> list[str]:
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


def sets(classifier: Classifier, coverage: float | None, *, allow_empty: bool) -> dict[str, object]:
    """The key of the JSON document that tells the coverage that was asked for, if any, and the one that was measured.

    Of sets that may be empty, the latter is null.
    """
    if coverage is None:
        return {}
    found = None if allow_empty else classifier.measured_coverage(coverage)
    measured = found and {
        "coverage": round(found.coverage, 6),
        "interval": [round(end, 6) for end in found.interval],
        "images": found.images,
        "split": portable(found.split),
        "at_least": found.at_least,
    }
    return {"sets": {"coverage": coverage, "allow_empty": allow_empty, "measured": measured}}


def shown(
    predictions: Predicted, wanted: Wanted, classifier: Classifier, output: Output, lines: str | None
) -> tuple[int, dict[str, object]]:
    """Print predictions in the format that was asked for.

    Args:
        predictions: What is printed.
        wanted: What is asked of each prediction.
        classifier: What made them.
        output: Where to: as JSON, or as a table.
        lines: ``csv`` or ``jsonl`` for lines; None otherwise.

    Returns:
        How many images could not be read, and the keys of the JSON document that hold the predictions.
    """
    if output.as_json:
        records = [record_of(path, result, wanted) for path, result in predictions]
        skipped = [{"path": one["path"], "reason": one["error"]} for one in records if "error" in one]
        return len(skipped), {"predictions": records, "skipped": skipped}
    if lines is not None:
        return printed(predictions, wanted, str(lines)), {}
    return table(list(predictions), wanted, classifier, output), {}


def table(
    predictions: list[tuple[str, Prediction | ImageError]], wanted: Wanted, classifier: Classifier, output: Output
) -> int:
    """Print the table; the number of images that could not be read."""
    shown: Callable[..., int] = resolve(TARGETS[classifier.metadata.task].table)
    return shown(predictions, wanted, classifier, output)


def plain_table(
    predictions: list[tuple[str, Prediction | ImageError]], wanted: Wanted, classifier: Classifier, output: Output
) -> int:
    """The records themselves, of a task that has no table."""
    rows = [[path, str(record_of(path, result, wanted))] for path, result in predictions]
    output.table(["Image", "Prediction"], rows)
    return sum(isinstance(result, Exception) for _, result in predictions)


def class_table(
    predictions: list[tuple[str, Prediction | ImageError]], wanted: Wanted, classifier: Classifier, output: Output
) -> int:
    """The class of each image, and those that are next most likely."""
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
    tell_unfamiliar(unfamiliar, classifier, output)
    return len(predictions) - len(results)


def tell_unfamiliar(unfamiliar: int, classifier: Classifier, output: Output) -> None:
    """The note on images that are unlike the training images, where there are some."""
    from headstart.core.text import counted

    if unfamiliar and (familiarity := classifier.metadata.familiarity):
        rate = familiarity.false_alarm_rate
        output.note(
            f"{counted(unfamiliar, 'image is', 'images are')} unlike the training images (Familiar: NO); do not "
            f"rely on the prediction for such images. About {100 * rate:.2g} % of images like the training images are "
            "marked so too (false alarms)."
        )


def printed(predictions: Predicted, wanted: Wanted, format: str) -> int:
    """Print a line an image as it comes; the number that could not be read."""
    from functools import partial

    dump = partial(as_json, indent=None)
    lines: Lines = resolve(FORMS[format].lines)(columns(wanted), dump)
    # A file keeps every name as it is spelled; a terminal must not run what is hidden in one.
    shown = printable if sys.stdout.isatty() and format == "csv" else str
    unread = 0
    if lines.header is not None:
        print(lines.header)
    for path, result in predictions:
        record = record_of(path, result, wanted)
        unread += "error" in record
        print(shown(lines.line(path, record)))
    return unread
