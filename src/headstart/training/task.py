"""What is to be trained, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.runs.details import Epoch
from headstart.settings.recipe import Recipe
from headstart.targets import Targets
from headstart.training.network import Network
from headstart.training.pixel_feed import Images

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Task:
    """What is to be trained, and on what.

    Attributes:
        network: The network, as it begins; it is trained in place.
        images: The images; or, where the head alone is trained, their embeddings, float32 (N, D).
        targets: The labels of all rows.
        train: Rows to learn from.
        validation: Rows that choose the best epoch.
        recipe: All choices.
    """

    network: Network
    images: Images | NDArray[np.float32]
    targets: Targets
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    recipe: Recipe

    @property
    def labels(self) -> NDArray[np.signedinteger]:
        """The label of each row, (N, ...); for the task `classes` its class index, int64 (N,)."""
        return self.targets.labels

    @property
    def classes(self) -> int:
        """Number C of classes."""
        return len(self.targets.names)


@dataclass(frozen=True)
class Trained:
    """What became of it. The best weights are in the task's network, on the CPU, in evaluation mode.

    Attributes:
        history: The results of each epoch; epoch 0 is the start.
        best_epoch: The epoch of the best weights.
        lr: Learning rate of the head.
        device: Where it was trained.
        precision: Mixed precision: ``no``, ``bf16`` or ``fp16``.
        processes: Number of processes.
        images_per_second: Train images a second, validation and the computing of views included.
        stopped_early: Whether patience ran out.
        range_test: Learning rates and losses of ``lr = auto``.
        notes: Remarks for the user.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    lr: float
    device: str
    precision: str
    processes: int
    images_per_second: float
    stopped_early: bool
    range_test: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]
