"""A folder of shards that grows: one process at a time writes it, and what is whole is not computed again."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from headstart.core.errors import SourceError, StorageError
from headstart.core.extras import require
from headstart.core.files import durable_write, folder_lock, make_folder, refuse_unwritable, storage_error
from headstart.core.text import counted, listed, quoted
from headstart.features.sharded.description import Description
from headstart.features.sharded.folder import ShardFolder, description_file, part_about, part_name
from headstart.features.sharded.plan import Plan
from headstart.features.sharded.work import Job
from headstart.features.sharded.writing import write_description

_HOLDER = ".holder"  # who writes; the lock itself is the kernel's
_ANEW = "Give the same to go on, choose another folder with --out, or begin anew with --overwrite."


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a folder of shards for writing, and say who holds it to others that want to.

    Raises:
        StorageError: Another process holds it, or it cannot be made or written.
        ExtraError: pyarrow is missing.
    """
    require("pyarrow", "parquet", "Parquet")
    refuse_unwritable(path)
    make_folder(path)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(path))
        except StorageError as error:
            raise StorageError(f"{quoted(str(path))} is being written by {_holder(path)}.", error.hint) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        record = {"host": socket.gethostname(), "process": os.getpid(), "since": since, "command": command}
        durable_write(path / _HOLDER, json.dumps(record))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (path / _HOLDER).unlink(missing_ok=True)


def _holder(path: Path) -> str:
    try:
        found = json.loads((path / _HOLDER).read_bytes())
        return f"process {found['process']} on {found['host']}, since {found['since']}: {quoted(found['command'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


@dataclass(frozen=True)
class Begun:
    """What is to be done in a folder that is held.

    Attributes:
        folder: With the description of what it will hold.
        plan: All shards.
        todo: Numbers of those that are not written yet.
        notes: Sentences that a person should read.
    """

    folder: ShardFolder
    plan: Plan
    todo: tuple[int, ...]
    notes: tuple[str, ...]

    def jobs(self) -> Iterator[Job]:
        """The shards that are to be written."""
        for shard in self.todo:
            yield Job(shard, tuple(self.plan.shard(shard)), self.plan.digests[shard])


def begin(path: Path, description: Description, plan: Plan, *, overwrite: bool) -> Begun:
    """Make a folder ready to be written, or to be gone on with.

    Args:
        path: The folder, which is held.
        description: What it will hold.
        plan: All shards.
        overwrite: Nothing of what is there is kept.

    Raises:
        StorageError: It holds something else.
        SourceError: Its description is damaged, or of a later version.
    """
    notes: list[str] = []
    before = None if overwrite else _before(path, description)
    if before is not None and before.shard_rows != plan.shard_rows:
        notes.append(f"The shards of {quoted(str(path))} have {before.shard_rows:,} rows; those of before are kept.")
        plan = Plan(plan.references, before.shard_rows)
    description = replace(description, shard_rows=plan.shard_rows, references=plan.references_digest)
    if overwrite:
        _remove(path, 0)
    if before != description:
        write_description(path, description)
    whole = [shard for shard in plan if _is_whole(path / part_name(shard), description, shard, plan.digests[shard])]
    todo = tuple(sorted(set(plan) - set(whole)))
    if before is not None and before.references != description.references:
        notes.append(
            f"The list of images has changed since {quoted(str(path))} was begun: "
            f"{counted(len(whole), 'shard')} of {plan.shards:,} can be kept."
        )
    elif whole:
        notes.append(f"{counted(len(whole), 'shard')} of {plan.shards:,} were there already.")
    _remove(path, plan.shards)
    return Begun(ShardFolder(path, description), plan, todo, tuple(notes))


def _before(path: Path, description: Description) -> Description | None:
    """The description that is there, where it is one of the same work."""
    file = path / description_file(description.kind)
    try:
        found = Description.from_json(file.read_bytes(), str(file))
    except FileNotFoundError:
        if others := sorted(one.name for one in path.iterdir() if not one.name.startswith(".")):
            raise StorageError(
                f"{quoted(str(path))} holds other files: {listed(others, 3)}.",
                "Choose a folder that is new or empty with --out.",
            ) from None
        return None
    except OSError as error:
        raise storage_error(error, file) from error
    except SourceError as error:
        raise StorageError(error.message, f"{error.hint} {_ANEW}") from error
    if found.kind != description.kind or found.digest != description.digest:
        differences = found.differences(description) or [f"kind ({found.kind}, now {description.kind})"]
        raise StorageError(f"{quoted(str(path))} was made with another {' and another '.join(differences)}.", _ANEW)
    return found


def _is_whole(path: Path, description: Description, shard: int, references: str) -> bool:
    about = part_about(path)
    expected = (description.digest, shard, references)
    return about is not None and (about.get("made"), about.get("shard"), about.get("references")) == expected


def _remove(path: Path, first: int) -> None:
    """Remove the shards from a number on, which nothing here belongs to any more."""
    for file in path.glob("part-*.parquet"):
        number = file.stem.removeprefix("part-")
        if number.isdecimal() and int(number) >= first:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(error, file) from error
