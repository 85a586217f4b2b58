"""The whole data check, from what one pass over the images gave."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.checks.findings import CheckReport, Finding
from headstart.checks.kinds import checks_of
from headstart.checks.subject import Subject
from headstart.core.inverted import InvertedFile
from headstart.core.spellings import twin_notes
from headstart.core.tables import resolve
from headstart.core.threads import one_blas_thread
from headstart.core.vectors import unit_rows
from headstart.features.dataset import Dataset
from headstart.partition.duplicates import MANY_IMAGES, NONE, Pairs, near_duplicates
from headstart.settings.recipe import FULL_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of more than `MANY_IMAGES`, how many neighbours of each are looked for (10 that are no copies), and in how many lists.
NEAREST, LISTS = 16, 16


def run(
    data: Dataset,
    *,
    input_px: int,
    near: Pairs | None = None,
    refusal: str = "",
    white_level: int = FULL_RANGE,
    directions: NDArray[np.float32] | None = None,
    workers: int = 1,
) -> CheckReport:
    """Check the images of a dataset.

    Args:
        data: The images; without embeddings, what needs them is left out: wrong labels and outliers.
        input_px: Side of the square that the network takes; 0 where that is not known.
        near: Near duplicates, where they have been looked for already.
        refusal: Why `train` refuses the images, and what to do; empty where it trains.
        white_level: With which they were decoded.
        directions: See `Subject`.
        workers: Threads; they change the time and nothing else.
    """
    start = time.perf_counter()
    with one_blas_thread():
        subject = Subject(
            data, input_px, near or NONE, refusal, white_level, directions=directions, workers=workers
        )  # fmt: skip
        if subject.embedded and len(data) > MANY_IMAGES:
            nearest = InvertedFile.of(unit_rows(subject.compressed), workers).nearest(NEAREST, LISTS)
            subject = replace(subject, directions=subject.compressed, neighbours=nearest)
        if near is None:
            prints = np.frombuffer(b"".join(one.fingerprint for one in data.traits), np.uint8).reshape(len(data), -1)
            near = near_duplicates(prints, data.features, neighbours=subject.neighbours, workers=workers)
            subject = replace(subject, near=near)
        kinds = checks_of(data.table.task)
        finders = dict.fromkeys(spec.find for spec in kinds.values())  # each once
        found: list[Finding] = [one for where in finders for one in resolve(where)(subject)]
    table = data.table
    place = {kind: number for number, kind in enumerate(kinds)}
    kept = [one for one in found if not one.paths or not table.accepted.issuperset(one.paths)]
    kept.sort(key=lambda one: (place[one.kind], -one.severity, one.paths))
    told = twin_notes(table.classes, table.nouns)  # as findings
    notes = tuple(note for note in table.notes if note not in told)
    return CheckReport(table, data.digests, tuple(kept), notes, time.perf_counter() - start)
