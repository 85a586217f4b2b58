"""`headstart compare`: which strategy, backbone or recipe the evidence supports."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli import options, signals
from headstart.cli import training_options as settings
from headstart.cli.folders import default_folder
from headstart.cli.messages import DONE, SOME_SKIPPED

if TYPE_CHECKING:
    from headstart.api import Comparison
    from headstart.cli.output import Output

Names = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Of probe, finetune and scratch; all by default, the probe with --backbones."),
]
Backbones = Annotated[
    str | None, typer.Option(metavar="A,B", help="Networks that each strategy is tried on; see `headstart backbones`.")
]
Recipes = Annotated[
    str | None, typer.Option(metavar="A,B", help="Recipes to compare too, by name or file; see `headstart recipes`.")
]
Folds = Annotated[
    int | None, typer.Option(help="Measure all of them by cross-validation with as many folds: better for small sets.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write; default: runs/NAME-comparison.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in the folder.")]
SETTINGS = ("folds", "holdout", "seed", "epochs", "batch_size", "fit", "class_weight", "flip", "max_megapixels",
            "white_level")  # fmt: skip


def compare(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder of class folders, split folders, manifest, or zip.")
    ],
    strategies: Names = None,
    backbones: Backbones = None,
    recipes: Recipes = None,
    out: Out = None,
    overwrite: Overwrite = False,
    folds: Folds = None,
    holdout: settings.Holdout = None,
    seed: settings.Seed = None,
    epochs: settings.Epochs = None,
    batch_size: settings.BatchSize = None,
    fit: settings.Fit = None,
    class_weight: settings.ClassWeight = None,
    flip: settings.Flip = None,
    max_megapixels: options.MaxMegapixels = None,
    white_level: options.WhiteLevel = None,
    device: Annotated[str, typer.Option(help="Where networks are trained: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    path_column: options.PathColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    group_column: options.GroupColumn = None,
    root: options.Root = None,
    encoding: options.Encoding = None,
    label_pattern: options.LabelPattern = None,
    class_level: options.ClassLevel = None,
    split_folders: options.SplitFolders = None,
    workers: options.Workers = None,
    no_cache: options.NoCache = False,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Train several ways on the same splits, and say which to use: or that the images cannot tell them apart."""
    from headstart import api
    from headstart.cli.output import Output

    output = Output(as_json=json, quiet=quiet)
    chosen = {name: context.params[name] for name in SETTINGS if context.params[name] is not None}
    if folds is not None:
        chosen["measure_by"] = "folds"
    runtime = dataclasses.replace(
        options.runtime(output, workers=workers, strict=strict, cached=not no_cache), device=device
    )
    folder = out or default_folder(source, Path.exists, suffix="-comparison", overwrite=overwrite)
    signals.set_hint(
        f"What was finished is in {shlex.quote(str(folder))}: each folder there is a run. "
        "An interrupted training goes on with `headstart train --resume` and its folder."
    )
    columns = options.columns(context.params)
    table = api.read(source, columns=columns)
    output.notes(table.notes)  # before the work, which may end in an error
    comparison = api.compare(
        table,
        strategies=_names(strategies), backbones=_names(backbones), recipes=_names(recipes),
        settings=chosen, folder=folder, overwrite=overwrite, runtime=runtime,
    )  # fmt: skip
    _show(output, comparison, table.notes)
    output.say(f"\nReport: {folder / 'report.html'}")
    output.document({"folder": str(folder), **comparison.as_dict()})
    return SOME_SKIPPED if comparison.best.fitted.data.table.unusable else DONE


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _show(output: Output, comparison: Comparison, told: Sequence[str]) -> None:
    if output.quiet:
        return
    output.say(f"Measured on {comparison.images}")
    output.say()
    output.table(
        ["", "Training", "Accuracy", "95 % interval", "Log loss", "Model", "An image"],
        [_cells(row) for row in comparison.as_dict()["rows"]],
        right=(1, 2, 3, 4, 5, 6),
    )
    output.say()
    _show_pairs(output, comparison)
    output.say(f"\n{comparison.verdict.sentence}")
    output.say(f"Rule of thumb: {comparison.rule_of_thumb['advice']}")
    output.notes(note for note in comparison.notes if note not in told)
    output.skipped(comparison.skipped)


def _cells(row: dict[str, object]) -> list[str]:
    def number(key: str, words: str, scale: float = 1.0) -> str:
        value = row[key]
        return words.format(value * scale) if isinstance(value, int | float) else "-"

    interval = row["accuracy_interval"]
    between = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %" if isinstance(interval, list) else "-"
    return [
        str(row["name"]), number("seconds", "{:.1f} s"), number("accuracy", "{:.1f} %", 100), between,
        number("log_loss", "{:.3f}"), number("model_bytes", "{:.1f} MB", 1e-6), number("milliseconds", "{:.1f} ms"),
    ]  # fmt: skip


def _show_pairs(output: Output, comparison: Comparison) -> None:
    names = list(comparison.runs)
    rows = [
        [
            f"{names[pair.first]} - {names[pair.second]}", f"{100 * pair.difference:+.1f} points",
            f"{100 * pair.difference_interval[0]:+.1f} to {100 * pair.difference_interval[1]:+.1f}",
            f"{pair.only_first:,} : {pair.only_second:,}",
            "< 0.001" if pair.p_corrected < 0.001 else f"{pair.p_corrected:.3f}",
        ]
        for pair in comparison.pairs
    ]  # fmt: skip
    if rows:
        header = ["Difference of accuracy", "", "95 % interval", "Right alone", "p, corrected"]
        output.table(header, rows, right=(1, 2, 3, 4))
