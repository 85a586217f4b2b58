"""What is said of a folder of shards that was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.core.text import counted, portable, quoted

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.features.sharded.run import Written


def told(written: Written, output: Output) -> int:
    """Say it to a person, and in JSON; the exit code."""
    folder, about = written.folder, written.folder.description
    images, kept = len(written) - written.errors, len(written) - written.computed
    what = f"{counted(images, 'embedding')} of {folder.width:,} numbers, by {folder.network}"
    if about.kind == "predictions":
        what = counted(images, "prediction")
    before = f" {kept:,} rows were there already." if kept else ""
    output.say(f"{quoted(str(folder.path))}: {what}, in {counted(about.shards, 'shard')}.{before}")
    output.notes(written.notes)
    if written.errors:
        output.say(f"{counted(written.errors, 'file')} cannot be used: rows with their reason in the column error.")
        output.skipped(written.skipped)
    output.document({
        "out": portable(str(folder.path)), "images": images, "errors": written.errors, "shards": about.shards,
        "computed": written.computed, **{name: value for name, value in about.made.items() if name in
        {"network", "embedder", "width", "dtype", "model"}}, "skipped": [one.as_dict() for one in written.skipped],
        "notes": list(written.notes),
    })  # fmt: skip
    return SOME_SKIPPED if written.errors else DONE
