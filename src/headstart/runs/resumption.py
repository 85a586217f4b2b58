"""What an unfinished training keeps in its run folder, so that it can be resumed."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.core.errors import ModelError, OptionError, SourceError, StorageError
from headstart.core.files import durable_write, make_folder
from headstart.core.marks import MODEL_FILE
from headstart.core.runtime import CHECKPOINTS
from headstart.core.text import counted, quoted
from headstart.data.table import ImageTable
from headstart.runs.origin import Origin
from headstart.settings.recipe import Recipe

FOLDER = CHECKPOINTS
FILE = "training.json"
LOGS = "logs/headstart"  # of the trackers, in the run folder
MAX_SHOWN = 5
_OURS = re.compile(r"epoch-\d{6}|\.(epoch-\d{6}|training\.json\.[0-9a-f]{12})\.tmp")
_PARTS = ("path", "label", "split", "group", "content")


@dataclass(frozen=True)
class Unfinished:
    """A training that was interrupted.

    Attributes:
        source: What the user pointed at, an absolute path.
        columns: Names of a manifest's columns.
        recipe: All choices.
        images: For each image path, label, split, group and digest.
        weights: SHA-256 of the weights that it began with; empty for random ones.
        decisions: The file of decisions that its images were read with, an absolute path; empty for none.
        origin: Where the recipe comes from.
    """

    source: str
    columns: dict[str, str | None]
    recipe: Recipe
    images: list[list[str | None]]
    weights: str
    decisions: str
    origin: Origin


def write(
    folder: Path,
    table: ImageTable,
    digests: Sequence[str],
    recipe: Recipe,
    weights: str,
    origin: Origin | None = None,
) -> None:
    """Note what is trained, and on what, and why so.

    Raises:
        StorageError: It cannot be written.
    """
    remove(folder)  # what a killed process left: its checkpoints would be mistaken for those of this training
    shutil.rmtree(folder / LOGS, ignore_errors=True)  # of a run that is to be replaced
    make_folder(folder / FOLDER)
    # In ASCII with Python's own escapes: names that are not UTF-8 come back as they were.
    record = {
        "source": str(Path(table.source).absolute()), "columns": dict(table.columns), "recipe": recipe.as_dict(),
        "images": _images(table, digests), "weights": weights, "decisions": table.decisions,
        "chosen": (origin or Origin()).as_dict(),
    }  # fmt: skip
    durable_write(folder / FOLDER / FILE, json.dumps(record))


def read(folder: Path) -> Unfinished:
    """What is trained in a run folder.

    Raises:
        StorageError: There is no unfinished training.
        ModelError: The record is damaged.
    """
    try:
        record = json.loads((folder / FOLDER / FILE).read_text("utf-8"))
        return Unfinished(
            record["source"], record["columns"], Recipe.from_dict(record["recipe"]), record["images"],
            record["weights"], record.get("decisions", ""), Origin.from_dict(record.get("chosen", {})),
        )  # fmt: skip
    except OSError as error:
        if (done := (folder / MODEL_FILE).exists()) and isinstance(error, FileNotFoundError):
            remove(folder)  # what is left where a process was killed while it did that
        raise StorageError(
            f"{quoted(str(folder))} holds {'a finished run' if done else 'no unfinished training'}.",
            f"To train its network further, use: headstart train SOURCE --from {shlex.quote(str(folder))}" if done
            else "Name the run folder that the interrupted `headstart train` wrote to.",
        ) from error  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The record of the training in {quoted(str(folder))} is damaged.", "Start again with --overwrite."
        ) from error


def exists(folder: Path) -> bool:
    """Whether a run folder holds an unfinished training."""
    return (folder / FOLDER / FILE).exists()


def in_the_way(folder: Path) -> StorageError:
    """The error for a new training in a folder where another one is unfinished."""
    return StorageError(
        f"{quoted(str(folder))} holds an interrupted training.",
        f"Resume it: headstart train --resume {shlex.quote(str(folder))}. Or start over: --overwrite.",
    )


def forget_unbegun(folder: Path) -> None:
    """Delete the record of a training that failed before its first checkpoint: there is nothing to go on with."""
    if not list((folder / FOLDER).glob("epoch-*")):
        remove(folder)


def remove(folder: Path) -> None:
    """Delete the checkpoints of a training that is finished; a folder of that name may hold files of other tools."""
    with contextlib.suppress(OSError):
        (folder / FOLDER / FILE).unlink(missing_ok=True)  # first, since half a checkpoint is none
        for path in (folder / FOLDER).iterdir():
            if _OURS.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        (folder / FOLDER).rmdir()


def check_recipe(before: Unfinished, recipe: Recipe) -> None:
    """Refuse another recipe.

    Raises:
        OptionError: It differs; it says in what.
    """
    if differences := before.recipe.differences(recipe):
        raise OptionError(
            f"The interrupted training used other settings: {'; '.join(differences)}.",
            "Leave these options out to resume it, or start again with --overwrite.",
        )


def check_weights(before: Unfinished, weights: str) -> None:
    """Refuse other weights to begin with.

    Raises:
        ModelError: They are others; what stays frozen would not fit what was trained.
    """
    if before.weights != weights:
        raise ModelError(
            f"The backbone's weights are not those of the interrupted training: {before.recipe.backbone}"
            f"{f', {before.recipe.weights}' if before.recipe.weights else ''}.",
            "Restore the file to resume it, or start again with --overwrite.",
        )


def check_images(before: Unfinished, table: ImageTable, digests: Sequence[str]) -> None:
    """Refuse other images.

    Raises:
        SourceError: Images were added, taken away or changed since; it says which.
    """
    then = {str(image[0]): image for image in before.images}
    now = {str(image[0]): image for image in _images(table, digests)}
    changes = [f"{quoted(path)} is new" for path in now if path not in then]
    changes += [f"{quoted(path)} is gone" for path in then if path not in now]
    for path, image in now.items():
        if path in then and image != then[path]:
            parts = [name for name, a, b in zip(_PARTS, then[path], image, strict=True) if a != b]
            changes.append(f"{' and '.join(parts)} of {quoted(path)} changed")
    if not changes and list(then) == list(now):
        return
    changes = changes or ["the order of the images"]
    shown = "; ".join(changes[:MAX_SHOWN])
    if len(changes) > MAX_SHOWN:
        shown += f"; and {len(changes) - MAX_SHOWN:,} more"
    raise SourceError(
        f"The images are not those of the interrupted training: {counted(len(changes), 'difference')}: {shown}.",
        "Restore them to resume it, or start again with --overwrite.",
    )


def _images(table: ImageTable, digests: Sequence[str]) -> list[list[str | None]]:
    return [
        [row.path, row.label, row.split, row.group, digest[:16]]
        for row, digest in zip(table.rows, digests, strict=True)
    ]  # fmt: skip
