"""What travels in the model file so that its answers can be doubted: references to compare with, prediction sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.evaluation import conformal, novelty
from headstart.heads.references import References
from headstart.partition.divide import Parts
from headstart.partition.held_out import HeldOut

if TYPE_CHECKING:
    from numpy.typing import NDArray

# With fewer, the held-out images that are not measured on are too few to calibrate with, and the others join them.
MIN_CALIBRATION = 50


@dataclass(frozen=True)
class Trust:
    """What a model file needs to doubt.

    Attributes:
        references: Embeddings that the graph compares an image with; None where there are too few.
        familiarity: What their distance means, for the metadata; None where there are too few.
        conformal: Scores for prediction sets, for the metadata; None where no image was held out.
        details: What was measured of both, as JSON values.
        notes: Sentences that a person should read.
    """

    references: References | None
    familiarity: dict[str, Any] | None
    conformal: dict[str, Any] | None
    details: dict[str, Any]
    notes: tuple[str, ...]


def build(
    features: NDArray[np.float32],
    digests: Sequence[str],
    parts: Parts,
    held_out: HeldOut,
    chose: NDArray[np.int64] | None = None,
) -> Trust:
    """Find the references, their threshold and the scores, and measure them.

    Args:
        features: Embeddings of all rows by the network in the model file, (N, D).
        digests: SHA-256 of each image.
        parts: Who learnt and who is held out.
        held_out: Predictions on images that were not learnt from.
        chose: Of a network that was trained: the rows that it did not learn from, but that chose its epoch. None for
            the frozen network of a probe.
    """
    familiarity, details, notes = _familiarity(features, digests, parts, chose)
    sets, measured, more = _prediction_sets(parts, held_out, chose)
    return Trust(
        references=familiarity.references if familiarity else None,
        familiarity=details,
        conformal=sets,
        details={"familiarity": details, "prediction_sets": measured},
        notes=(*notes, *more),
    )


def _familiarity(
    features: NDArray[np.float32], digests: Sequence[str], parts: Parts, chose: NDArray[np.int64] | None
) -> tuple[novelty.Familiarity | None, dict[str, Any] | None, list[str]]:
    # By digest: an order that has nothing to do with what an image shows, nor with the names of files.
    learnt = parts.fit if chose is None else np.setdiff1d(parts.fit, chose)
    rows = np.array(sorted(learnt, key=lambda row: digests[row]), np.int64)
    arrays = features[rows], parts.labels[rows], np.asarray(parts.groups, np.int64)[rows]
    others = None if chose is None else features[np.setdiff1d(chose, _leaked(parts))]
    found = novelty.fit(*arrays, others)
    if found is None:
        return None, None, ["Too few images to tell what is unlike them: no image will be called unfamiliar."]
    alarms = None
    measured = np.setdiff1d(_measured(parts), [] if chose is None else chose)
    if len(measured):
        alarms = novelty.FalseAlarms.of(found.unfamiliar(features[measured]))
    elif parts.cross_validated and chose is None:
        folds = np.empty(len(features), np.int64)
        folds[parts.fit] = parts.folds
        alarms = novelty.held_out_folds(*arrays, folds[rows])
    details = {
        "threshold": found.threshold,
        "false_alarm_rate": found.false_alarm_rate,
        "neighbours": found.references.neighbours,
        "references": len(found.references),
        "calibrated_on": found.calibrated_on,
        "held_out": asdict(alarms) | {"interval": list(alarms.interval)} if alarms else None,
    }
    return found, details, []


def _prediction_sets(
    parts: Parts, held_out: HeldOut, chose: NDArray[np.int64] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, list[str]]:
    sound = ~np.isin(held_out.rows, _leaked(parts))
    measured = np.isin(held_out.rows, _measured(parts)) if not parts.cross_validated else sound
    others = sound & ~measured & ~np.isin(held_out.rows, chose if chose is not None else [])
    # Images that are not measured on leave the others to show the coverage; without them each is held against the rest.
    apart = others.sum() >= MIN_CALIBRATION and measured.any()
    used = others if apart else sound & (measured | others)
    if not used.any():
        return None, None, []
    labels = parts.labels[held_out.rows]
    record = conformal.calibrate(held_out.probabilities[used], labels[used])
    shown = measured if apart else used
    arrays = held_out.probabilities[shown], labels[shown]
    record |= {"split": "val" if apart else parts.split}
    record |= {"measured": conformal.held_out(*arrays, parts.split, apart=bool(apart))}
    sets, told = asdict(conformal.measure(record, *arrays)), conformal.measured(record, conformal.COVERAGE)
    sets |= {"covered": told.coverage, "interval": told.interval}  # not flattered by their own scores
    return record, {**sets, "calibrated_on": int(used.sum()), "caveat": conformal.CAVEAT}, []


def _measured(parts: Parts) -> NDArray[np.int64]:
    """The rows that the evaluation is of, without those that are in train too; none where all are cross-validated."""
    rows = parts.held_out[np.array(parts.names)[parts.held_out] == parts.split]
    return np.setdiff1d(rows, _leaked(parts))


def _leaked(parts: Parts) -> NDArray[np.int64]:
    return np.flatnonzero(parts.leaked)
