"""Export: a model in another format, such as a page that classifies in any browser, tested to agree with the model."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.api.samples import sample_of
from headstart.core.arguments import must_be, must_be_flags, must_be_path
from headstart.core.errors import ModelError, OptionError, StorageError
from headstart.core.extras import require
from headstart.core.files import durable_write_all, make_folder, refuse_unwritable, refuse_unwritable_file
from headstart.core.tables import resolve
from headstart.core.text import counted, listed, nearest, quoted
from headstart.modelfile.location import model_name, model_path
from headstart.prediction.classifier import Classifier
from headstart.prediction.exporters import EXPORTERS, ExporterSpec
from headstart.prediction.exporters.agreement import ROUNDING, Allowance, Proof, prove

_NOT_IN_NAMES = frozenset('/\\:*?"<>|')  # of files, on some system


@dataclass(frozen=True)
class Exported:
    """A model in another format.

    Attributes:
        format: The format, such as ``html``.
        path: The file or folder.
        files: All files that were written.
        size: Their total size in bytes.
        proof: How far it agrees with the model; None for a page, which tests itself when it is opened.
        notes: Remarks for the user.
    """

    format: str
    path: Path
    files: tuple[Path, ...]
    size: int
    proof: Proof | None = None
    notes: tuple[str, ...] = ()


def export(
    model: str | os.PathLike[str],
    to: str,
    *,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    check: str | os.PathLike[str] | None = None,
    bound: float | None = None,
    overwrite: bool = False,
) -> Exported:
    """Convert a model to another format; the result is refused if its probabilities differ too much.

    A page checks itself where it is opened. Other forms are run beside the model on its golden images and on up to 200
    others: those of `check`, or the held-out images of the run, where they still are where they were.

    Args:
        model: The model file, or the run folder that it is in.
        to: The format; see `headstart export --help`.
        out: The file or folder to write; None for one next to the model, with its name.
        name: Title of the page; None for the name of the run folder or of the file.
        check: Images to test it on, as for `predict`: a folder, a file, a pattern.
        bound: The largest accepted difference in a probability, above 0 and up to 1; None for that of the format. If
            the rounding of int8 lies between the two, one image in 20 may differ by more.
        overwrite: Replace what is there.

    Raises:
        ModelError: There is no such model file, or it is refused; or the form differs by more than the bound allows.
        OptionError: There is no such form, or the bound is none.
        ExtraError: The form needs a package that is not installed.
        SourceError: `check` names no image that can be read.
        StorageError: Something is there already, or it cannot be written.

    Examples:
        >>> headstart.export("runs/pets", "html").path  # doctest: +SKIP
        PosixPath('runs/pets/pets.html')
        >>> headstart.export("runs/pets", "onnx-fp16").proof.difference  # doctest: +SKIP
        0.0041
    """
    must_be_path("model", model)
    must_be("name", name, str | None, "a name")
    must_be_flags(overwrite=overwrite)
    if out is not None:
        must_be_path("out", out)
    spec = _spec(to, bound, check)
    source = model_path(Path(model))
    classifier = Classifier.load(source)
    name = name or model_name(source)
    path = Path(out) if out is not None else source.with_name(_file_name(name) + spec.suffix)
    _refuse_existing(path, is_file=not spec.folder, overwrite=overwrite)
    if not spec.run:
        return _written(to, path, resolve(spec.make)(classifier, name, ()), None, ())
    precision = classifier.metadata.precision
    sample = sample_of(classifier, source, check, learns=spec.learns and spec.keeps != precision)
    files = resolve(spec.make)(classifier, name, sample.learnt)
    allowance = _allowance(spec, precision, bound)
    proof = prove(classifier, resolve(spec.run)(files), sample.images, sample.of, allowance)
    if not proof.passed:
        raise _different(to, proof, _remedies(spec, precision, alone=not len(sample.images)))
    return _written(to, path, files, proof, sample.notes)


def _allowance(spec: ExporterSpec, precision: str, bound: float | None) -> Allowance:
    """What is accepted of a form, with the bound that was asked for."""
    own = ROUNDING if spec.rounds(precision) else Allowance(spec.bound)
    return own if bound is None else replace(own, bound=bound)


def _remedies(spec: ExporterSpec, precision: str, *, alone: bool) -> str:
    """What helps, in sentences; the form was tested on the golden images alone, or on others too."""
    own = (
        "Golden images are drawn patterns: test it on images like yours (--check FOLDER, check=...). " if alone else ""
    )
    if not spec.rounds(precision):
        return own
    return f"{own}Train with --precision {'int8' if spec.computes == 'int8' else 'float32'}: then they differ little. "


def _different(to: str, proof: Proof, remedy: str) -> ModelError:
    """Why an export is not written; what helps, in sentences."""
    limit = (
        f"in at most {counted(proof.allowed, 'image')} a probability may differ by more than {proof.bound:g}, "
        f"and it does in {proof.beyond:,}"
        if proof.allowed
        else f"at most {proof.bound:g} is accepted"
    )
    return ModelError(
        f"The export to {to} differs too much from the model: a probability by {proof.difference:.3f} ({limit}), on "
        f"{counted(proof.images, 'image')} ({proof.of}); the same {proof.answer} for {proof.same:,}. Nothing was "
        "written.",
        f"{remedy}Choose another format, or accept more with --bound (bound=...).",
    )


def _spec(to: str, bound: float | None, check: str | os.PathLike[str] | None) -> ExporterSpec:
    """The row of a format, for which the bound and the images must make sense, and whose packages are installed."""
    must_be("to", to, str, "the name of a format")
    must_be("bound", bound, float | int | None, "a number above 0 and up to 1")
    if check is not None:
        must_be_path("check", check)
    if to not in EXPORTERS:
        raise OptionError(
            f"There is no export to {quoted(to)}.", f"{nearest(to, EXPORTERS)}Choose one of {listed(EXPORTERS)}."
        )
    if bound is not None and not 0 < bound <= 1:
        raise OptionError(f"The bound is {bound:g}; expected a number above 0 and up to 1.")
    spec = EXPORTERS[to]
    if not spec.run and (check is not None or bound is not None):
        raise OptionError(
            f"An export to {to} checks itself on its golden images when it is opened.",
            "Leave out --check and --bound (check=..., bound=...).",
        )
    if spec.extra:
        require(spec.extra, spec.extra, f"An export to {to}")
    return spec


def _written(to: str, path: Path, files: dict[str, bytes], proof: Proof | None, notes: tuple[str, ...]) -> Exported:
    """Put all files in place, or none."""
    contents: dict[Path, bytes | str] = {path / name if name else path: content for name, content in files.items()}
    for folder in {file.parent for file in contents}:
        make_folder(folder)
    durable_write_all(contents)
    return Exported(to, path, tuple(contents), sum(len(content) for content in files.values()), proof, notes)


def _file_name(name: str) -> str:
    shown = "".join("-" if one in _NOT_IN_NAMES or not one.isprintable() else one for one in name)
    return shown.strip(". ")[:80] or "model"


def _refuse_existing(path: Path, *, is_file: bool, overwrite: bool) -> None:
    """Refuse an output that exists or cannot be written, before any work."""
    if is_file:
        refuse_unwritable_file(path)
    else:
        refuse_unwritable(path)
    there = path.exists() and (is_file or any(path.iterdir()))
    if there and not overwrite:
        raise StorageError(
            f"{quoted(str(path))} {'already exists' if is_file else 'is a folder that is not empty'}.",
            "Choose another one with --out, or replace what is there with --overwrite (overwrite=True in Python).",
        )
