"""What Headstart writes carries a mark, so that it never mistakes its own files for a user's images or lists.

A run is known by its files, a page by its ``generator``, a CSV file by its first line. The pictures of `explain` are
images like any other: their folder gets a small file that lists them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from headstart.core.files import durable_write
from headstart.core.text import portable

MODEL_FILE = "model.onnx"
RUN = frozenset({MODEL_FILE, "recipe.toml"})  # the files by which a folder is known as a run
UNFINISHED = "checkpoints/training.json"  # and as one that is not finished
COMPARISON = frozenset({"comparison.json", "report.html"})
LIST = ".headstart"  # in a folder: the names of what was written there, a JSON string each line
GENERATOR = '<meta name="generator" content="Headstart">'
SPLITS_HEADER = ("path", "label", "split", "group", "fold")
SPLITS_OF_LABELS_HEADER = ("path", "labels", "split", "group", "fold")  # of several an image
PREDICTIONS_HEADER = ("path", "split", "label", "predicted", "correct", "probability", "probability_of_label")
PREDICTED_HEADER = ("path", "label", "probability", "error", "familiar", "distance")
PREDICTED_LABELS_HEADER = ("path", "labels", "probabilities", "error", "familiar", "distance")
PREDICTIONS_OF_LABELS_HEADER = ("path", "split", "labels", "predicted", "correct")  # and a column for each label
DECISIONS_HEADER = ("path", "label", "decision", "new_label", "kind", "reason")
# What the metadata of a Parquet file holds under the key ``headstart``, as JSON spells it.
PARQUET = ('"headstart": "predictions"', '"headstart": "embeddings"')
_PAGE_HEAD = 1024  # bytes of a page in which its generator is named


def write_list(folder: Path, names: Iterable[str]) -> None:
    """Add names to the list of what was written into a folder.

    Raises:
        StorageError: It cannot be written.
    """
    path = folder / LIST
    try:
        before = names_in(path.read_bytes())
    except OSError:
        before = set()
    lines = sorted(before | {portable(name) for name in names})
    durable_write(path, "".join(f"{json.dumps(name)}\n" for name in lines))


def names_in(content: bytes) -> set[str]:
    """The names in such a list; lines that are none are passed over."""
    found = set()
    for line in content.decode("utf-8", "replace").splitlines():
        try:
            name = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(name, str):
            found.add(name)
    return found


def is_ours(name: str, content: bytes) -> bool:
    """Whether Headstart wrote a page or a table.

    Args:
        name: Of the file.
        content: Of the file.
    """
    suffix = name[name.rfind(".") :].lower()
    if suffix in {".html", ".htm"}:
        return GENERATOR.encode() in content[:_PAGE_HEAD]
    if suffix == ".parquet":
        return any(mark.encode() in _footer(content) for mark in PARQUET)
    first = content.split(b"\n", 1)[0].rstrip(b"\r")
    if suffix == ".csv":
        written = tuple(first.decode("utf-8", "replace").split(","))
        # splits.csv is a list of images on purpose; the other files in its folder show that it is Headstart's.
        begins = (PREDICTED_HEADER, PREDICTED_LABELS_HEADER, PREDICTIONS_OF_LABELS_HEADER)
        whole = {PREDICTIONS_HEADER, DECISIONS_HEADER}
        return written in whole or any(written[: len(one)] == one for one in begins)
    if suffix == ".jsonl":
        try:
            record = json.loads(first)
        except (ValueError, RecursionError):
            return False
        keys = record.keys() if isinstance(record, dict) else frozenset[str]()
        return {"path", "probability", "familiar", "top"} <= keys or keys == {"path", "error"}
    return False


def _footer(content: bytes) -> bytes:
    """The metadata of a Parquet file: before its last eight bytes, which are its length and four letters."""
    end = len(content) - 8
    return content[max(0, end - int.from_bytes(content[end : end + 4], "little")) : end] if end > 0 else b""
