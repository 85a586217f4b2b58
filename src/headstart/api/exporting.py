"""Export: a model in another form, such as a page that classifies in any browser."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from headstart.core.arguments import must_be, must_be_flags, must_be_path
from headstart.core.errors import OptionError, StorageError
from headstart.core.files import refuse_unwritable, refuse_unwritable_file
from headstart.core.tables import resolve
from headstart.core.text import listed, nearest, quoted
from headstart.prediction.classifier import Classifier
from headstart.prediction.exporters import EXPORTERS
from headstart.runs.folder import MODEL_FILE

_NOT_IN_NAMES = frozenset('/\\:*?"<>|')  # of files, on some system


@dataclass(frozen=True)
class Exported:
    """A model in another form.

    Attributes:
        format: Which.
        path: The file, or the folder.
        files: All files that were written.
        size: Bytes of them together.
    """

    format: str
    path: Path
    files: tuple[Path, ...]
    size: int


def export(
    model: str | os.PathLike[str],
    to: str,
    *,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model in another form, which gives the probabilities that `Classifier.predict` gives.

    Args:
        model: The model file, or the run folder that it is in.
        to: ``html``, one file that classifies in any browser; ``web``, the same as a folder for a web host.
        out: The file or folder to write; None for one beside the model, of its name.
        name: What the page calls the model; None for the name of the run folder or of the file.
        overwrite: Replace what is there.

    Raises:
        ModelError: There is no such model file, or it is refused.
        OptionError: There is no such form.
        StorageError: Something is there already, or it cannot be written.

    Example:
        >>> headstart.export("runs/pets", "html").path  # doctest: +SKIP
        PosixPath('runs/pets/pets.html')
    """
    must_be_path("model", model)
    must_be("to", to, str, "the name of a form")
    must_be("name", name, str | None, "a name")
    must_be_flags(overwrite=overwrite)
    if out is not None:
        must_be_path("out", out)
    if to not in EXPORTERS:
        raise OptionError(
            f"There is no export to {quoted(to)}.", f"{nearest(to, EXPORTERS)}Choose one of {listed(EXPORTERS)}."
        )
    spec = EXPORTERS[to]
    source = Path(model)
    source = source / MODEL_FILE if source.is_dir() else source
    classifier = Classifier.load(source)
    name = name or _name_of(source)
    path = Path(out) if out is not None else source.with_name(_file_name(name) + (spec.suffix or f"-{to}"))
    _refuse_existing(path, is_file=bool(spec.suffix), overwrite=overwrite)
    files = resolve(spec.function)(classifier, name, path)
    return Exported(to, path, tuple(files), sum(file.stat().st_size for file in files))


def _name_of(model: Path) -> str:
    """The name of a run folder, whose model files are all called alike, or that of the file."""
    return (model.resolve().parent.name if model.name == MODEL_FILE else model.stem) or "model"


def _file_name(name: str) -> str:
    return (
        "".join("-" if one in '/\\:*?"<>|' or not one.isprintable() else one for one in name).strip(". ")[:80]
        or "model"
    )


def _refuse_existing(path: Path, *, is_file: bool, overwrite: bool) -> None:
    """Say that something is in the way, or that nothing can be written there, before the work."""
    if is_file:
        refuse_unwritable_file(path)
    else:
        refuse_unwritable(path)
    there = path.exists() and (is_file or any(path.iterdir()))
    if there and not overwrite:
        raise StorageError(
            f"{quoted(str(path))} {'is there already' if is_file else 'is a folder that is not empty'}.",
            "Choose another one with --out, or replace what is there with --overwrite (overwrite=True in Python).",
        )
