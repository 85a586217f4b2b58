"""`headstart train`: from labelled images to a run folder with a model file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import clock, options, panels, signals
from headstart.cli import training_options as settings
from headstart.cli.folders import default_folder
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.cli.trained import show_run
from headstart.core.runtime import TRACKERS
from headstart.settings.setting import MODEL, RUNNING
from headstart.settings.strategies import names

if TYPE_CHECKING:
    from headstart.api import Run
    from headstart.core.runtime import Runtime
    from headstart.settings.recipe import Recipe

Source = Annotated[
    str | None, typer.Argument(metavar="SOURCE", help="Folder of class folders, split folders, manifest, or zip.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Run folder to write; default: runs/NAME of the source.", rich_help_panel=panels.FIRST
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the run that is in the folder.", rich_help_panel=RUNNING)
]
Resume = Annotated[
    Path | None,
    typer.Option("--resume", metavar="RUN", help="Resume an interrupted training.", rich_help_panel=panels.FIRST),
]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="RUN", help="Start from the network of a finished run.", rich_help_panel=MODEL),
]
On = Annotated[
    options.Engine,
    typer.Option("--on", help="Where to train: in this process, or in --workers processes on a Ray cluster.",
                 rich_help_panel=RUNNING),
]  # fmt: skip
OTHERS = {
    "tracker": (
        Annotated[
            str,
            typer.Option(
                metavar="|".join(TRACKERS), rich_help_panel=RUNNING,
                help="Where to log the numbers of each epoch; tensorboard: logs/ in the run folder.",
            ),
        ],
        "tensorboard",
    ),
    "decisions": (options.Decisions, None),
    "no_report": (
        Annotated[bool, typer.Option("--no-report", help="Write no report.html.", rich_help_panel=RUNNING)], False
    ),
}  # fmt: skip


@panels.takes(settings.of_settings(), settings.RECIPE, options.DEVICE, options.COLUMNS, OTHERS, options.PROCESS)
def train(
    context: typer.Context,
    source: Source = None,
    out: Out = None,
    overwrite: Overwrite = False,
    resume: Resume = None,
    start_from: From = None,
    on: On = options.Engine.local,
    address: options.Address = None,
    **given: Any,
) -> int:
    """Train a classifier and measure it on held-out images.

    Writes a run folder with model.onnx, the metrics and a report.
    """
    options.refuse_address(on, address)
    if on is options.Engine.ray:
        from headstart.cli import train_on_ray

        return train_on_ray.train(context.params)
    return perform(context.params)


def perform(given: Mapping[str, Any]) -> int:
    """Train in this process, or do its share where there are several; the exit code.

    Args:
        given: All parameters of the command, by name.
    """
    from headstart import api
    from headstart.cli.output import Output
    from headstart.runs import resumption

    helper = _environment_number("RANK") > 0  # torchrun or `accelerate launch` started it beside the one that speaks
    output = Output(as_json=given["json"] and not helper, quiet=given["quiet"] or helper)
    runtime = dataclasses.replace(
        options.runtime(output, workers=given["workers"], strict=given["strict"], cached=not given["no_cache"]),
        device=given["device"], tracker=given["tracker"], main_process=not helper,
    )  # fmt: skip
    told: tuple[str, ...] = ()
    source, start_from, overwrite = given["source"], given["start_from"], given["overwrite"]
    if given["resume"] is not None:
        _refuse_beside_resume({
            "--out": given["out"], "--recipe": given["recipe"], "--from": start_from, "--decisions": given["decisions"],
        })  # fmt: skip
        folder, overwrite = given["resume"], True  # a run that is there was to be replaced when the training began
        run = _go_on(folder, source, given, runtime)
    else:
        made, source, folder = new_training(given, _environment_number("WORLD_SIZE"), helper=helper)
        if made.spec.resumes:
            runtime = dataclasses.replace(runtime, folder=folder)
            hint_at_resuming(folder)
        table = options.images(source, given)
        told = () if isinstance(table, str) else table.notes
        output.notes(told)  # before the work, which may end in an error
        if overwrite and not helper:
            resumption.remove(folder)
        with _full_disk_told(folder):
            run = api.train(table, made, start_from=start_from, runtime=runtime)
    if helper:
        return DONE
    with _full_disk_told(folder):
        folder = run.save(folder, overwrite=overwrite, report=not given["no_report"], runtime=runtime)
    show_run(output, run, folder, source or run.fitted.data.table.source, told)
    timed = dataclasses.replace(run, seconds={**run.seconds, "process": clock.seconds()})
    output.document({"run": str(folder), **timed.as_dict()})
    return SOME_SKIPPED if run.fitted.data.table.unusable else DONE


def new_training(given: Mapping[str, Any], processes: int, *, helper: bool = False) -> tuple[Recipe, str, Path]:
    """The recipe, the source and the run folder of a training that begins; refused before the work if it would fail.

    Args:
        given: All parameters of the command, by name.
        processes: How many train together; at most 1 for one alone.
        helper: Whether this process is not the first of them.

    Raises:
        OptionError: A setting is wrong or missing, or there is a run in the folder.
        StorageError: The folder cannot be written.
    """
    source = _required(given["source"])
    made = _recipe(given)
    folder = given["out"] or _default_folder(source, processes, overwrite=given["overwrite"])
    _refuse_start(made, folder, processes, overwrite=given["overwrite"], helper=helper)
    return made, source, folder


def _recipe(parameters: Mapping[str, Any]) -> Recipe:
    """The recipe of a new training, from all parameters of the command."""
    chosen = settings.chosen(parameters)
    if parameters["start_from"] is not None and parameters["recipe"] is None:
        chosen.setdefault("strategy", names("continues")[0])  # what can begin with a run
    return settings.make_recipe(parameters["recipe"], chosen, fast=parameters["fast"])


def _go_on(folder: Path, source: str | None, parameters: Mapping[str, Any], runtime: Runtime) -> Run:
    """Go on with the training in a folder."""
    from headstart import api
    from headstart.data.readers import Columns

    chosen, columns = settings.chosen(parameters), options.columns(parameters)
    hint_at_resuming(folder)
    with _full_disk_told(folder):
        return api.resume(
            folder,
            source=source,
            choices=chosen | (settings.fast_views(chosen) if parameters["fast"] else {}),
            columns=None if columns == Columns() else columns,
            runtime=dataclasses.replace(runtime, folder=folder),
        )


def _refuse_start(recipe: Recipe, folder: Path, processes: int, *, overwrite: bool, helper: bool) -> None:
    """Refuse before the work what would fail after it, or in one of several processes."""
    from headstart.core.errors import OptionError
    from headstart.core.files import refuse_unwritable
    from headstart.runs.folder import refuse_existing

    if not helper:  # the first process may have begun to write there already
        refuse_unwritable(folder)
        refuse_existing(folder, overwrite=overwrite)
    if processes <= 1:
        return
    if not recipe.spec.processes:
        raise OptionError(
            f"Several processes train together, but the strategy {recipe.strategy} runs in one only.",
            "Name a strategy.",
        )
    if recipe.budget:
        raise OptionError(
            "Several processes train together, and each would measure the budget on its own.",
            "Give --epochs instead of --budget.",
        )


def _environment_number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def _required(source: str | None) -> str:
    from headstart.core.errors import OptionError

    if source is None:
        raise OptionError(
            "Missing argument 'SOURCE': the training images.",
            "Name a folder of class folders, or resume with --resume RUN. See `headstart train --help`.",
        )
    return source


def _refuse_beside_resume(given: dict[str, object]) -> None:
    """A training goes on in its folder, with its recipe."""
    from headstart.core.errors import OptionError

    if extra := [option for option, value in given.items() if value is not None]:
        raise OptionError(
            f"--resume continues a training with its own settings, and {' and '.join(extra)} would start a different "
            "one.",
            "Leave them out, or leave --resume out.",
        )


def hint_at_resuming(folder: Path) -> None:
    """Say how to go on with a training, should it be interrupted."""
    from headstart.runs import resumption

    signals.set_hint(
        f"No file was left half-written. Resume after the last finished epoch: {_resuming(folder)}",
        record=str((folder / resumption.FOLDER / resumption.FILE).absolute()),
    )


def _resuming(folder: Path) -> str:
    return f"headstart train --resume {shlex.quote(str(folder))}"


@contextlib.contextmanager
def _full_disk_told(folder: Path) -> Iterator[None]:
    """Where a training is unfinished, the same command again would be refused."""
    from headstart.core.errors import StorageError
    from headstart.runs import resumption

    try:
        yield
    except StorageError as error:
        if resumption.exists(folder):
            error.hint = error.hint.replace("run the same command again", f"resume: {_resuming(folder)}")
            error.hint = error.hint.replace(
                "Free some space, or choose another folder, and resume", "Free some space, and resume"
            )
        raise


def _default_folder(source: str, processes: int = 1, *, overwrite: bool) -> Path:
    """``runs/NAME``, or where nothing is to be replaced the first such without a run or an unfinished training."""
    from headstart.core.errors import OptionError
    from headstart.runs import resumption

    if processes > 1:  # one may look for a free folder when another has begun to write
        raise OptionError("Several processes train together, and all need the same run folder.", "Name it with --out.")
    return default_folder(
        source,
        lambda folder: any((folder / one).exists() for one in ("model.onnx", resumption.FOLDER)),
        overwrite=overwrite,
    )
