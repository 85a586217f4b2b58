"""The whole data check, on what one pass over the images has told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from headstart.checks.findings import CheckReport, Finding
from headstart.checks.kinds import CHECKS
from headstart.checks.subject import Subject
from headstart.core.spellings import twin_notes
from headstart.core.tables import resolve
from headstart.core.threads import one_blas_thread
from headstart.partition.duplicates import Pairs, near_duplicates
from headstart.settings.recipe import FULL_RANGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from headstart.data.table import ImageTable
    from headstart.data.traits import Traits


def run(
    table: ImageTable,
    digests: Sequence[str],
    traits: Sequence[Traits],
    matrix: NDArray[np.float32] | None,
    *,
    input_px: int,
    near: Pairs | None = None,
    refusal: str = "",
    white_level: int = FULL_RANGE,
) -> CheckReport:
    """Check the images of a table.

    Args:
        table: The images that can be read, with all that were skipped.
        digests: SHA-256 of each, hexadecimal.
        traits: What can be said of each without a network.
        matrix: Embeddings, float32 (N, D); None leaves out what needs them: wrong labels and outliers.
        input_px: Side of the square that the network takes.
        near: Near duplicates, where they have been looked for already.
        refusal: Why `train` refuses the images, and what to do; empty where it trains.
        white_level: With which they were decoded.
    """
    start = time.perf_counter()
    with one_blas_thread():
        if near is None:
            prints = np.frombuffer(b"".join(one.fingerprint for one in traits), np.uint8).reshape(len(traits), -1)
            near = near_duplicates(prints, matrix)
        subject = Subject(table, tuple(digests), tuple(traits), matrix, input_px, near, refusal, white_level)
        finders = dict.fromkeys(spec.find for spec in CHECKS.values())  # each once
        found: list[Finding] = [one for where in finders for one in resolve(where)(subject)]
    place = {kind: number for number, kind in enumerate(CHECKS)}
    kept = [one for one in found if not one.paths or not table.accepted.issuperset(one.paths)]
    kept.sort(key=lambda one: (place[one.kind], -one.severity, one.paths))
    told = twin_notes(table.classes)  # as findings
    notes = tuple(note for note in table.notes if note not in told)
    return CheckReport(table, tuple(digests), tuple(kept), notes, time.perf_counter() - start)
