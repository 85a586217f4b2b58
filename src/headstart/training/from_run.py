"""Begin with the head of a finished run, to train it further on other images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from headstart.core.errors import ModelError, OptionError, SourceError
from headstart.core.text import counted, listed, quoted
from headstart.training.sources.file import KEY
from headstart.training.sources.weights import read_checkpoint

PREFIX = "head."


def start_from_run(head: nn.Module, backbone: str, classes: Sequence[str], kind: str) -> None:
    """Put the weights of a run's head in a new one.

    Args:
        head: The new head.
        backbone: Name of the run's backbone, ``file:PATH`` of its ``weights.safetensors``.
        classes: Names of the classes of the images.
        kind: Kind of the new head, ``linear`` or ``mlp``.

    Raises:
        SourceError: The run knows other classes.
        OptionError: The run has another kind of head.
        ModelError: The file is damaged.
    """
    path = backbone.removeprefix("file:")
    checkpoint = read_checkpoint(Path(path))
    try:
        record = json.loads(checkpoint.texts[KEY])
        known, had = list(record["classes"]), str(record["head"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The record in the header of {quoted(path)} is damaged.") from error
    if known != list(classes):
        _refuse(known, classes, path)
    if had != kind:
        raise OptionError(
            f"The run has the head {quoted(had)}, and {quoted(kind)} was asked for.", f"Use --head {had}."
        )
    tensors = {
        name.removeprefix(PREFIX): value for name, value in checkpoint.tensors.items() if name.startswith(PREFIX)
    }
    try:
        with torch.no_grad():
            head.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(
            f"The head in {quoted(path)} does not fit: {str(error).splitlines()[-1].strip()[:200]}",
            "Use the run's own --hidden.",
        ) from error


def _refuse(known: Sequence[str], classes: Sequence[str], path: str) -> None:
    unknown, missing = sorted(set(classes) - set(known)), sorted(set(known) - set(classes))
    parts = [f"it does not know {listed(unknown)}"] if unknown else []
    parts += [f"the images lack {listed(missing)}"] if missing else []
    raise SourceError(
        f"The run knows {counted(len(known), 'class', 'classes')}, and the images have {len(classes):,}: "
        f"{' and '.join(parts) or 'in another order'}.",
        f"To keep its backbone alone, with a new head: --backbone file:{path}",
    )
