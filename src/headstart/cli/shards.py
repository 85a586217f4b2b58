"""Folders of shards on the command line: whether one is meant, and what is said of one that was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.cli.options import refuse_for_files
from headstart.cli.signals import set_hint
from headstart.core.errors import OptionError
from headstart.core.text import counted, portable, quoted
from headstart.features.sharded.folder import is_shard_folder

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.features.sharded.run import Written


def meant(out: Path | None, format: str | None, given: Mapping[str, Any], *, sorting: bool) -> bool:
    """Whether predictions go to a folder of shards.

    Args:
        out: Where they go; None to be printed.
        format: The one that was asked for.
        given: The values of `options.SHARDS`, by name.
        sorting: Whether images are to be sorted too.

    Raises:
        OptionError: They do, and images are to be sorted too; or they do not, and an option is for shards alone.
    """
    if out is None or format is not None or not is_shard_folder(out):
        refuse_for_files(given)
        return False
    set_hint("The predictions so far are kept. Run the same command to go on.")
    if sorting:
        raise OptionError(
            f"--sort-into goes with a file of predictions, and {quoted(str(out))} is a folder.",
            "Name a file with --out, such as predictions.parquet.",
        )
    return True


def told(written: Written, output: Output, notes: Sequence[str] = ()) -> int:
    """Say it to a person, and in JSON; the exit code.

    Args:
        written: The folder.
        output: Where to say it.
        notes: What was said before the work began.
    """
    folder, about = written.folder, written.folder.description
    images, kept = len(written) - written.errors, len(written) - written.computed
    what = counted(images, "prediction")
    if about.kind == "embeddings":
        what = f"{counted(images, 'embedding')} of {folder.width:,} numbers, by {folder.network}"
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
        "notes": [*notes, *written.notes],
    })  # fmt: skip
    return SOME_SKIPPED if written.errors else DONE
