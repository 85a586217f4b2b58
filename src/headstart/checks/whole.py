"""The whole data check, from what one pass over the images gave."""

from __future__ import annotations

import time

import numpy as np

from headstart.checks.findings import CheckReport, Finding
from headstart.checks.kinds import CHECKS
from headstart.checks.subject import Subject
from headstart.core.spellings import twin_notes
from headstart.core.tables import resolve
from headstart.core.threads import one_blas_thread
from headstart.features.dataset import Dataset
from headstart.partition.duplicates import Pairs, near_duplicates
from headstart.settings.recipe import FULL_RANGE
from headstart.targets import TARGETS


def run(
    data: Dataset,
    *,
    input_px: int,
    near: Pairs | None = None,
    refusal: str = "",
    white_level: int = FULL_RANGE,
) -> CheckReport:
    """Check the images of a dataset.

    Args:
        data: The images; without embeddings, what needs them is left out: wrong labels and outliers.
        input_px: Side of the square that the network takes.
        near: Near duplicates, where they have been looked for already.
        refusal: Why `train` refuses the images, and what to do; empty where it trains.
        white_level: With which they were decoded.
    """
    start = time.perf_counter()
    with one_blas_thread():
        if near is None:
            prints = np.frombuffer(b"".join(one.fingerprint for one in data.traits), np.uint8).reshape(len(data), -1)
            near = near_duplicates(prints, data.features)
        subject = Subject(data, input_px, near, refusal, white_level)
        exclusive = TARGETS[data.table.task].exclusive
        finders = dict.fromkeys(spec.find for spec in CHECKS.values() if exclusive or not spec.exclusive)  # each once
        found: list[Finding] = [one for where in finders for one in resolve(where)(subject)]
    table = data.table
    place = {kind: number for number, kind in enumerate(CHECKS)}
    kept = [one for one in found if not one.paths or not table.accepted.issuperset(one.paths)]
    kept.sort(key=lambda one: (place[one.kind], -one.severity, one.paths))
    told = twin_notes(table.classes)  # as findings
    notes = tuple(note for note in table.notes if note not in told)
    return CheckReport(table, data.digests, tuple(kept), notes, time.perf_counter() - start)
