"""What a training ends with: the export, the temperature, the one evaluation, the model file and its proof."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.runtime import Runtime
from headstart.core.text import counted
from headstart.features.extract import extract
from headstart.features.pixels import PixelSession
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead
from headstart.partition.held_out import HeldOut
from headstart.partition.roles import Partition, Role
from headstart.runs.details import Details
from headstart.runs.origin import Origin
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.strategies import finish
from headstart.strategies.proof import EMBEDDING, pictures, prove_evaluated, prove_trained
from headstart.strategies.trust import build as build_trust
from headstart.targets import calibration_of
from headstart.training.export import export, probabilities
from headstart.training.job import Job
from headstart.training.network import Network, head_record, start_from_probe

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Ended:
    """The outcome of a training.

    Attributes:
        network: The network, with the weights of the best epoch.
        divided: The partition before some train images were taken away to choose the epoch.
        probe: The probe's head, fitted on all train images of that, where no epoch was better than the start.
        by_folds: The predictions of the networks of the folds; None where there are none.
    """

    network: Network
    divided: Partition
    probe: Calibrated[LinearHead] | None
    by_folds: HeldOut | None


def finish_training(
    job: Job, ended: Ended, recipe: Recipe, runtime: Runtime, origin: Origin, watch: finish.Stopwatch
) -> Fitted:
    """Export, calibrate, evaluate once, write the model file, and prove it.

    All images pass the exported network, which is what the model file holds. It is also what is measured, unless the
    networks of the folds were. Where the start was kept, the network gets the probe's head in the end; what is told of
    the images that chose is from before that.
    """
    data, loaded, network, probe = job.data, job.loaded, ended.network, ended.probe
    choose = job.partition.chooses()
    partition = _kept(ended.divided, job.partition) if probe else job.partition
    embedder, difference = export(network.backbone, loaded, job.preprocess, pictures(data.table, recipe))
    measured = extract(
        replace(data.table, skipped=()), embedder, replace(runtime, cache=None, strict=True),
        max_megapixels=recipe.max_megapixels,
    )  # fmt: skip
    record = head_record(network.head, recipe.head, loaded.embedding_size)
    inside = record.scores(measured.matrix[choose])
    calibration = calibration_of(data.table.task).fit(
        inside, partition.targets.labels[choose], threshold=recipe.threshold
    )
    head = Calibrated(record, calibration)
    choosing = HeldOut.by(choose, head.probabilities(measured.matrix[choose]), head.calibration)
    if probe:
        start_from_probe(network.head, probe.head, temperature=1.0)
        head = Calibrated(head_record(network.head, recipe.head, loaded.embedding_size), probe.calibration)
    held = partition.held_out()
    held_out = ended.by_folds or HeldOut.by(held, head.probabilities(measured.matrix[held]), head.calibration)
    evaluation = finish.measure(held_out, partition, data.targets.names)
    watch.lap("evaluate")
    trust = build_trust(measured, partition, held_out)
    model = finish.model_file(embedder, head, recipe, data, partition, evaluation, trust).because(origin.reasons)
    prove_evaluated(model.content, head, measured, recipe.precision, embedder)
    calibrated = partial(probabilities, network, calibration=head.calibration)
    prove_trained(model.content, calibrated, PixelSession(job.preprocess), data.table, recipe)
    return Fitted(
        data=replace(data, features=measured.matrix), model_file=model, evaluation=evaluation, held_out=held_out,
        without_leaks=finish.measure_without_leaks(held_out, partition, data.targets.names),
        partition=partition,
        details=Details(familiarity=trust.familiarity, prediction_sets=trust.prediction_sets),
        counts=partition.count(), seconds={}, choosing=choosing,
        notes=(*data.table.notes, *data.notes, *partition.notes,
               *head.head.notes, *_sensitive(difference), *trust.notes),
    )  # fmt: skip


def _kept(divided: Partition, selected: Partition) -> Partition:
    """The partition if the starting point was kept: the images that chose were trained on in the end.

    Only the val split of the source itself, which the probe would not learn from either, stays what it is; and so do
    measured images that chose.
    """
    train = divided.of(Role.TRAIN)
    chose = np.intersect1d(selected.chooses(), train)
    by = f" on the {counted(len(chose), 'train image')} set aside to choose" if len(chose) else ""
    note = (
        f"No epoch was better than the starting point{by}. That is kept: the model is the probe, its head fitted on "
        f"all {counted(len(train), 'train image')}."
    )
    same = divided.measures == selected.measures
    return replace(divided, notes=(*divided.notes, note)) if same else selected.chosen_by(selected.chooses()[:0], note)


def _sensitive(difference: float) -> tuple[str, ...]:
    """The note on a network whose embeddings depend on the order in which numbers are added."""
    if difference <= EMBEDDING:
        return ()
    return (
        f"The model file's embeddings differ from PyTorch's by {100 * difference:.1f} % of their length, and its "
        "probabilities agree: after so few steps the network is sensitive to rounding.",
    )
