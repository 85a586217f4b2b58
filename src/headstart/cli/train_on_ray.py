"""`headstart train --on ray`: the same training, in several processes of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.cli import clock, messages, options
from headstart.cli import train as command
from headstart.settings.recipe import SETTINGS

# What a training that goes on has from its folder.
_OF_ITS_FOLDER = {
    **dict.fromkeys((*SETTINGS, "source", "out", "recipe", "start_from", "decisions")),
    **{name: default for name, (_, default) in options.COLUMNS.items()},
    "fast": False, "overwrite": False,
}  # fmt: skip


def train(given: Mapping[str, Any]) -> int:
    """Train in ``--workers`` processes; the exit code.

    Args:
        given: All parameters of the command, by name.

    Raises:
        OptionError: A setting is wrong or missing, there is no cluster, or a node cannot run the training.
        TrainingError: Processes were lost too often.
    """
    from headstart.core.errors import OptionError

    processes = given["workers"]
    if processes is None:
        raise OptionError(
            "--on ray needs the number of processes.", "Give --workers N, such as one for each GPU or core."
        )
    folder = given["resume"]
    if folder is None:
        made, _, folder = command.new_training(given, max(processes, 2))  # one alone is refused what two are
        if made.spec.trains == "head":
            raise OptionError(
                f"--on ray trains a network in several processes; the strategy {made.strategy} trains a head in one.",
                "Choose --strategy finetune, or embed the images there: headstart embed SOURCE --out DIR --on ray.",
            )
    from headstart.scale.trainer import Share, train_together

    command.hint_at_resuming(folder)
    here = Path.cwd()
    asked = {"given": {**given, "workers": 1, **({} if given["resume"] else {"out": folder})}, "cwd": str(here)}
    share = Share(_take_part, asked, folder.absolute(), here, gpu=str(given["device"]).startswith("cuda"),
                  done=(messages.DONE, messages.SOME_SKIPPED))  # fmt: skip
    return train_together(share, processes, given["address"], sys.stdout, sys.stderr)


def _take_part(asked: Mapping[str, Any], again: bool) -> int:
    """One of the processes; the exit code. Its errors have been printed when this returns."""
    from headstart.runs import resumption

    clock.begin()
    given = asked["given"]
    try:
        with contextlib.chdir(asked["cwd"]):
            if again and given["resume"] is None and resumption.exists(given["out"]):
                given = {**given, **_OF_ITS_FOLDER, "resume": given["out"]}
            return command.perform(given)
    except BaseException as error:  # noqa: BLE001  put into words, as where a command is run
        return messages.tell(error, as_json=given["json"] and os.environ.get("RANK", "0") == "0")
