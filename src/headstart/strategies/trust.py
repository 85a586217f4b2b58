"""What the model file needs to express doubt: references for novelty detection, and scores for prediction sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation import conformal, novelty
from headstart.evaluation.conformal import Reported
from headstart.features.dataset import Dataset
from headstart.heads.references import References
from headstart.modelfile.familiarity import FalseAlarms, Familiarity
from headstart.modelfile.prediction_sets import Conformal
from headstart.partition.held_out import HeldOut
from headstart.partition.roles import Partition
from headstart.targets import TARGETS, Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

# With fewer, the held-out images that are not measured on are too few to calibrate with, and the others join them.
MIN_CALIBRATION = 50


@dataclass(frozen=True)
class Trust:
    """What a model file needs to express doubt.

    Attributes:
        references: Embeddings that the graph compares an image with; None where there are too few.
        familiarity: What their distance means, for the metadata; None where there are too few.
        conformal: Scores for prediction sets, for the metadata; None where no image was held out.
        prediction_sets: What was measured of these.
        notes: Remarks for the user.
    """

    references: References | None
    familiarity: Familiarity | None
    conformal: Conformal | None
    prediction_sets: Reported | None
    notes: tuple[str, ...]


def build(data: Dataset, partition: Partition, held_out: HeldOut) -> Trust:
    """Find the references, their threshold and the scores, and measure them.

    Args:
        data: All images, with embeddings by the network in the model file.
        partition: Who learnt, who is held out, and who chose the epoch of a network that was trained.
        held_out: Predictions on images that were not learnt from.
    """
    references, familiarity, notes = _familiarity(data, partition)
    sets, measured, more = _prediction_sets(partition, held_out)
    return Trust(
        references=references,
        familiarity=familiarity,
        conformal=sets,
        prediction_sets=measured,
        notes=(*notes, *more),
    )


def _familiarity(data: Dataset, partition: Partition) -> tuple[References | None, Familiarity | None, list[str]]:
    features = data.matrix
    # By digest: an order that has nothing to do with what an image shows, nor with the names of files.
    rows = np.array(sorted(partition.learnt(), key=lambda row: data.digests[row]), np.int64)
    arrays = features[rows], _kinds(partition.targets.take(rows)), partition.groups[rows]
    chose, leaked = partition.chooses(), np.flatnonzero(partition.leaked)
    others = features[np.setdiff1d(chose, leaked)] if len(chose) else None
    found = novelty.fit(*arrays, others)
    if found is None:
        return None, None, ["Too few images for novelty detection: no image will be flagged as unfamiliar."]
    alarms = None
    if partition.cross_validated:
        if not len(chose):
            alarms = novelty.held_out_folds(*arrays, partition.folds[rows])
    elif len(measured := np.setdiff1d(partition.measured(), np.union1d(leaked, chose))):
        alarms = FalseAlarms.of(found.unfamiliar(features[measured]))
    record = Familiarity(
        threshold=found.threshold,
        false_alarm_rate=found.false_alarm_rate,
        neighbours=found.references.neighbours,
        references=len(found.references),
        calibrated_on=found.calibrated_on,
        held_out=alarms,
    )
    return found.references, record, []


def _kinds(targets: Targets) -> NDArray[np.int64]:
    """A number for each image, (N,): the same where the same names are true of it. References are drawn from all."""
    numbers: dict[tuple[int, ...], int] = {}
    return np.array([numbers.setdefault(one, len(numbers)) for one in targets.strata()], np.int64)


def _prediction_sets(partition: Partition, held_out: HeldOut) -> tuple[Conformal | None, Reported | None, list[str]]:
    if not TARGETS[partition.targets.task].exclusive:
        return None, None, []
    sound = ~partition.leaked[held_out.rows]
    measured = sound & partition.is_measured(held_out.rows)
    others = sound & ~measured & ~partition.choosing[held_out.rows]
    # Images that are not measured on leave the others to show the coverage; without them each is held against the rest.
    apart = others.sum() >= MIN_CALIBRATION and measured.any()
    used = others if apart else sound & (measured | others)
    if not used.any():
        return None, None, []
    labels = partition.targets.labels[held_out.rows]
    record = conformal.calibrate(held_out.probabilities[used], labels[used])
    shown = measured if apart else used
    arrays = held_out.probabilities[shown], labels[shown]
    fared = conformal.held_out(*arrays, partition.split, apart=bool(apart))
    record = replace(record, split="val" if apart else partition.split, measured=fared)
    # Without that, sets made with the same images would look too good.
    told = conformal.measured(record, conformal.COVERAGE)
    sets = replace(conformal.measure(record, *arrays), covered=told.coverage, interval=told.interval)
    return record, Reported(sets, int(used.sum())), []
