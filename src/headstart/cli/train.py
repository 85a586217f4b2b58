"""`headstart train`: from labelled images to a run folder with a model file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.core.text import counted, quoted

if TYPE_CHECKING:
    from headstart.api import Run
    from headstart.cli.output import Output

# Choices are checked by the recipe, whose errors name the nearest one.
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write; default: runs/NAME of the source.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that is in the folder.")]
Backbone = Annotated[str, typer.Option(help="Pretrained network.")]
Strategy = Annotated[str, typer.Option(help="How to learn: probe (a head on a frozen backbone).")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="Arithmetic of the backbone: int8 or float32.")]
FitOption = Annotated[str, typer.Option("--fit", help="Bring images to a square: crop, squash or pad.")]
ClassWeightOption = Annotated[str, typer.Option("--class-weight", help="none, or balanced for classes of unlike size.")]
Holdout = Annotated[float, typer.Option(help="Share held out where the source has no splits.")]
Folds = Annotated[int, typer.Option(help="Folds of cross-validation.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
MaxMegapixels = Annotated[int, typer.Option(help="Larger images are skipped.")]


def train(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder of class folders, split folders, manifest, or zip.")
    ],
    out: Out = None,
    overwrite: Overwrite = False,
    strategy: Strategy = "probe",
    backbone: Backbone = "lite0",
    precision: PrecisionOption = "int8",
    fit: FitOption = "crop",
    class_weight: ClassWeightOption = "none",
    holdout: Holdout = 0.2,
    folds: Folds = 5,
    seed: Seed = 0,
    max_megapixels: MaxMegapixels = 64,
    path_column: options.PathColumn = "path",
    label_column: options.LabelColumn = "label",
    split_column: options.SplitColumn = "split",
    group_column: options.GroupColumn = "group",
    root: options.Root = None,
    workers: options.Workers = None,
    no_cache: options.NoCache = False,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Train a classifier, measure it on images it has not seen, and write a run folder with model.onnx."""
    from headstart import api
    from headstart.cli.output import Output
    from headstart.core.recipe import Recipe

    output = Output(as_json=json, quiet=quiet)
    recipe = Recipe.from_dict({
        "strategy": strategy, "backbone": backbone, "precision": precision, "fit": fit, "class_weight": class_weight,
        "holdout": holdout, "folds": folds, "seed": seed, "max_megapixels": max_megapixels,
    })  # fmt: skip
    folder = out or _free_folder(source)
    api.refuse_existing(folder, overwrite=overwrite)  # before the work, not after it
    _refuse_unwritable(folder)
    columns = options.columns(path_column, label_column, split_column, group_column, root)
    table = api.read(source, columns=columns)
    run = api.train(table, recipe, runtime=options.runtime(output, workers=workers, strict=strict, cached=not no_cache))
    folder = run.save(folder, overwrite=overwrite)
    _show(output, run, folder, source)
    output.document({"run": str(folder), **run.as_dict()})
    return SOME_SKIPPED if run.skipped else DONE


def _free_folder(source: str) -> Path:
    """``runs/NAME``, or the first ``runs/NAME-2``, ``runs/NAME-3``, ... without a run."""
    path = Path(source).resolve()
    name = (path.name if path.is_dir() else path.stem) or "run"
    folder, number = Path("runs") / name, 1
    while (folder / "model.onnx").exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _refuse_unwritable(folder: Path) -> None:
    """Say that a run cannot be written before the work is done for it; nothing is created yet."""
    import os

    from headstart.core.errors import StorageError

    parent = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise StorageError(f"No run can be written to {quoted(str(folder))}.", "Choose another folder with --out.")


def _show(output: Output, run: Run, folder: Path, source: str) -> None:
    from headstart.cli.show import show_evaluation

    fitted, seconds = run.fitted, run.seconds
    images, cached = counted(len(fitted.table), "image"), fitted.details["from_cache"]
    sizes = ", ".join(f"{sum(by_class.values()):,} {part}" for part, by_class in fitted.counts.items())
    output.say(f"{images} of {counted(len(fitted.classes), 'class', 'classes')} in {quoted(source)}: {sizes}")
    output.say(
        f"Embedded {fitted.details['embedded']:,} ({cached:,} from the cache) in {seconds['embed']:.1f} s, "
        f"fitted in {seconds['fit']:.1f} s, {seconds['total']:.1f} s in all"
    )
    output.say()
    if run.evaluation.split == "cross-validation":
        folds = len(set(fitted.parts))
        where = f"images, each by a model that had not seen it ({folds}-fold cross-validation),"
    else:
        where = f"{run.evaluation.split} images"
    show_evaluation(output, run.evaluation, where)
    for note in fitted.notes:
        output.note(note)
    output.skipped(run.skipped)
    model = folder / "model.onnx"
    output.say(f"\nModel: {model} ({model.stat().st_size / 1e6:.1f} MB), which prepares images itself")
    output.say(f"Next:  headstart predict {shlex.quote(str(model))} PHOTO")
