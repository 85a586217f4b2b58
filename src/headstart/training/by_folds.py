"""The cross-validation of a strategy that trains a network: one network for each fold, from the same beginning."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.runtime import Runtime
from headstart.partition.folds import predict_by_folds
from headstart.partition.held_out import HeldOut
from headstart.partition.roles import Partition
from headstart.partition.selection import select
from headstart.settings.recipe import Recipe
from headstart.targets import Calibration, calibration_of
from headstart.training.job import Job, begun, probe_if_kept, train
from headstart.training.network import start_from_probe
from headstart.training.scores import scores

if TYPE_CHECKING:
    from numpy.typing import NDArray


def measure_by_folds(job: Job, recipe: Recipe, runtime: Runtime) -> HeldOut:
    """Train a network for each fold, without it; and predict the fold.

    Args:
        job: With the backbone as it begins, which stays so, and the partition of a cross-validation.
        recipe: All choices.
        runtime: How to run.
    """
    data, images = job.data, job.images
    make = calibration_of(data.table.task)

    def learn(divided: Partition, runtime: Runtime) -> tuple[NDArray[np.float64], Calibration]:
        inside = select(divided, data, recipe)
        choose, measured = inside.chooses(), inside.measured()
        fresh = replace(job.loaded, module=copy.deepcopy(job.loaded.module))
        one = replace(job, loaded=fresh, partition=inside)
        network = begun(one, recipe, runtime)
        trained = train(one, network, recipe, runtime)
        if probe := probe_if_kept(trained, data, divided, recipe, runtime):
            start_from_probe(network.head, probe.head, probe.temperature)
            of_fold = scores(network, images, measured, recipe, runtime)
            return make(temperature=1.0).probabilities(of_fold), probe.calibration
        rows = np.concatenate([choose, measured])
        of_choice, of_fold = np.split(scores(network, images, rows, recipe, runtime), [len(choose)])
        calibration = make.fit(of_choice, inside.targets.labels[choose], threshold=recipe.threshold)
        return calibration.probabilities(of_fold), calibration

    return predict_by_folds(job.partition, data, recipe, runtime, learn)
