"""What a source of backbones hands over: a network without its classification layer, and its record."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.preprocess.spec import Preprocess

if TYPE_CHECKING:
    import torch

    from headstart.core.graph import Graph

_CHATTY = ("timm", "torch", "torchvision", "huggingface_hub", "httpx", "filelock", "urllib3")


@dataclass(frozen=True)
class Network:
    """A network without its classification layer.

    Attributes:
        name: Canonical name: ``timm:resnet18.a1_in1k``.
        module: float32 (N, 3, S, S) normalised pixels to the embedding (N, D).
        preprocess: The weights' own record.
        embedding_size: D.
        licence: Of the weights; ``unknown`` where their record has none.
        left_over: Beginnings of the names of tensors that a checkpoint may have beside those of `module`: its
            classification layers.
        convert: Makes the names of `module` of those that the authors of a checkpoint gave to its tensors; None where
            there is no such thing.
        nodes: Adds the module, with whatever weights it has been given since, to a graph: ``nodes(graph, pixels,
            module, size_px)`` gives the name of the embedding. None where PyTorch's exporter does.
    """

    name: str
    module: torch.nn.Module
    preprocess: Preprocess
    embedding_size: int
    licence: str
    left_over: tuple[str, ...] = ()
    convert: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None
    nodes: Callable[[Graph, str, torch.nn.Module, int], str] | None = None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries print, log and warn of away from the user, and put all settings back."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,  # noqa: PTH123
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
