"""`headstart compare`: which strategy, backbone or recipe the evidence supports."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import options, panels, signals
from headstart.cli import training_options as settings
from headstart.cli.folders import default_folder
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.settings.setting import RUNNING

if TYPE_CHECKING:
    from headstart.api import Comparison
    from headstart.cli.output import Output
    from headstart.evaluation.comparison import Comparing

Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="Folder of class folders, split folders, manifest, or zip.")
]
Names = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Any of probe, finetune, scratch; default: all, or only probe with --backbones.",
        rich_help_panel=panels.FIRST,
    ),
]
Backbones = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Networks that each strategy is tried on; see `headstart backbones`.",
        rich_help_panel=panels.FIRST,
    ),
]
Recipes = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Recipes to compare too, by name or file; see `headstart recipes`.",
        rich_help_panel=panels.FIRST,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder to write; default: runs/NAME-comparison.", rich_help_panel=panels.FIRST),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in the folder.", rich_help_panel=RUNNING)]
SETTINGS = ("folds", "holdout", "seed", "epochs", "batch_size", "fit", "class_weight", "flip", "max_megapixels",
            "white_level")  # fmt: skip


@panels.takes(settings.of_settings(SETTINGS), options.DEVICE, options.COLUMNS, options.PROCESS)
def compare(
    context: typer.Context,
    source: Source,
    strategies: Names = None,
    backbones: Backbones = None,
    recipes: Recipes = None,
    out: Out = None,
    overwrite: Overwrite = False,
    **given: Any,
) -> int:
    """Compare ways to train on the same splits.

    Says which one to use, or that the images cannot separate them.
    """
    from headstart import api
    from headstart.cli.output import Output

    output = Output(as_json=given["json"], quiet=given["quiet"])
    chosen = settings.chosen(context.params)
    runtime = dataclasses.replace(
        options.runtime(output, workers=given["workers"], strict=given["strict"], cached=not given["no_cache"]),
        device=given["device"],
    )
    folder = out or default_folder(source, Path.exists, suffix="-comparison", overwrite=overwrite)
    signals.set_hint(
        f"What was finished is in {shlex.quote(str(folder))}: each folder there is a run. "
        "Resume an interrupted training with `headstart train --resume` and its folder."
    )
    columns = options.columns(given)
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
    by = comparison.rows[0].comparing
    header = [
        "Candidate", by.words.capitalize(), "95 % interval", *(heading for _, heading in by.also), "Training time",
        "Time per image", "Model size",
    ]  # fmt: skip
    rows = [_cells(row.as_dict(), by) for row in comparison.rows]
    output.wide_table(header, rows, right=tuple(range(1, len(header))), second=4)
    output.say()
    _show_pairs(output, comparison)
    output.say(f"\n{comparison.verdict.sentence}")
    output.say(f"Rule of thumb: {comparison.rule_of_thumb.advice}")
    output.notes(note for note in comparison.notes if note not in told)
    output.skipped(comparison.skipped)


def _cells(row: dict[str, object], by: Comparing) -> list[str]:
    def number(key: str, words: str, scale: float = 1.0) -> str:
        value = row[key]
        return words.format(value * scale) if isinstance(value, int | float) else "-"

    interval = row[f"{by.measure}_interval"]
    between = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %" if isinstance(interval, list) else "-"
    return [
        str(row["name"]), number(by.measure, "{:.1f} %", 100), between,
        *(number(key, "{:.3f}") for key, _ in by.also),
        number("seconds", "{:.1f} s"), number("milliseconds", "{:.1f} ms"), number("model_bytes", "{:.1f} MB", 1e-6),
    ]  # fmt: skip


def _show_pairs(output: Output, comparison: Comparison) -> None:
    names = list(comparison.runs)
    rows = [
        [
            f"{names[pair.first]} - {names[pair.second]}", f"{100 * pair.difference:+.1f}",
            f"{100 * pair.difference_interval[0]:+.1f} to {100 * pair.difference_interval[1]:+.1f}",
            f"{pair.only_first:,} : {pair.only_second:,}",
            "< 0.001" if pair.p_corrected < 0.001 else f"{pair.p_corrected:.3f}",
            *(f"{100 * one.difference:+.1f}" for one in pair.others.values()),
        ]
        for pair in comparison.pairs
    ]  # fmt: skip
    if rows:
        output.say(f"Differences in {comparison.rows[0].comparing.words}, in percentage points")
        output.say()
        others = [name.replace("_", " ").capitalize().replace("f1", "F1") for name in comparison.pairs[0].others]
        header = ["Pair", "Difference", "95 % interval", "Only one correct", "Corrected p", *others]
        output.wide_table(header, rows, right=tuple(range(1, len(header))), second=3)
