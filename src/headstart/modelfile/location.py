"""Where a model file is: what was named may be the file, or the run folder that it is in."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from headstart.core.errors import ModelError
from headstart.core.marks import MODEL_FILE, UNFINISHED
from headstart.core.text import quoted

NOT_OURS = "Expected a model.onnx that `headstart train` wrote."


def model_path(path: Path) -> Path:
    """The model file of a run folder; any other path as it is.

    Raises:
        ModelError: It is a folder without a model file.
    """
    if not os.path.isdir(path):  # noqa: PTH112  of a name that no file can have, reading says what is wrong with it
        return path
    if (inside := path / MODEL_FILE).exists():
        return inside
    hint = NOT_OURS
    if (path / UNFINISHED).exists():
        hint = f"Its training was interrupted. Finish it: headstart train --resume {shlex.quote(str(path))}"
    elif run := _first_run(path):
        hint = f"It is a folder of runs. Name one of them, such as {quoted(str(run))}."
    raise ModelError(f"{quoted(str(path))} is a folder without a {MODEL_FILE}.", hint)


def model_name(path: Path) -> str:
    """The name of the run folder, since model files in run folders all have the same name; else that of the file."""
    return (path.resolve().parent.name if path.name == MODEL_FILE else path.stem) or "model"


def holds_runs(folder: Path) -> bool:
    """Whether there are run folders in a folder."""
    return _first_run(folder) is not None


def _first_run(folder: Path) -> Path | None:
    return min((file.parent for file in folder.glob(f"*/{MODEL_FILE}")), default=None)
