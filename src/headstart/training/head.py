"""Train a head on embeddings: the last step of the probe, for heads without a closed solution."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from headstart.core.progress import Progress
from headstart.core.runtime import Runtime
from headstart.heads import Head
from headstart.heads.calibrated import Calibrated
from headstart.settings.recipe import Recipe
from headstart.targets import Targets, calibration_of
from headstart.training.loop import fit as train
from headstart.training.network import Network, head_record, make_head
from headstart.training.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _BarsOnly:
    """Keeps a line for each epoch, of which a head has many and quick ones, from being shown."""

    def __init__(self, progress: Progress) -> None:
        self.stage = progress.stage

    def line(self, text: str) -> None:
        """Show nothing."""


def fit(
    features: NDArray[np.float32],
    targets: Targets,
    folds: NDArray[np.int64],
    recipe: Recipe,
    runtime: Runtime,
) -> Calibrated[Head]:
    """Train a head; the images of the first fold choose the best epoch and the temperature.

    Args:
        features: Embeddings, float32 (N, D).
        targets: Their labels.
        folds: Fold of each, int64 (N,).
        recipe: Head, epochs, rate and so on.
        runtime: Device and progress.
    """
    network = Network(nn.Identity(), make_head(recipe, features.shape[1], len(targets.names)))
    choose = np.flatnonzero(folds == folds.min())
    train(Task(
        network=network, images=features, targets=targets, train=np.flatnonzero(folds != folds.min()),
        validation=choose, recipe=recipe,
    ), replace(runtime, folder=None, progress=_BarsOnly(runtime.progress)))  # fmt: skip
    with torch.no_grad():
        scores = network(torch.from_numpy(features[choose])).numpy()
    head = head_record(network.head, recipe.head, features.shape[1])
    made = calibration_of(targets.task).fit(scores, targets.labels[choose], threshold=recipe.threshold)
    return Calibrated(head, made)
