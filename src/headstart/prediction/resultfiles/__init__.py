"""The forms of a file of predictions: a row each.

While predictions come, a file of lines grows; where a form has a `finish`, that makes the file of the lines at the end,
and `restore` gives the records back, so that a finished file can be gone on with.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FormSpec:
    """What is known of a form.

    Attributes:
        suffix: Of its files.
        lines: The lines that grow, as ``module:name``: takes the columns, gives a
            `headstart.prediction.resultfiles.lines.Lines`.
        finish: What makes the file of the JSON lines and the columns of a table of them; empty where the lines are it.
        restore: What gives the records of the file.
        ready: What is called before any work, and raises where the form needs a package that is missing; empty for
            nothing.
    """

    suffix: str
    lines: str
    finish: str = ""
    restore: str = ""
    ready: str = ""


FORMS = {
    "csv": FormSpec(suffix=".csv", lines="headstart.prediction.resultfiles.lines:CsvLines"),
    "jsonl": FormSpec(suffix=".jsonl", lines="headstart.prediction.resultfiles.lines:JsonLines"),
    "parquet": FormSpec(
        suffix=".parquet",
        lines="headstart.prediction.resultfiles.lines:JsonLines",
        finish="headstart.prediction.resultfiles.parquet:finish",
        restore="headstart.prediction.resultfiles.parquet:restore",
        ready="headstart.prediction.resultfiles.parquet:ready",
    ),
}
