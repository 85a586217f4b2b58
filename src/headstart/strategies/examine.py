"""The data check as the first stage of a training: a person sees what was found before the long part begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.checks import Finding, run, summary
from headstart.core.options import Runtime
from headstart.data.table import ImageTable
from headstart.data.traits import Traits
from headstart.preprocess.spec import Preprocess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def examine(
    table: ImageTable,
    digests: Sequence[str],
    traits: Sequence[Traits],
    matrix: NDArray[np.float32] | None,
    *,
    preprocess: Preprocess,
    runtime: Runtime,
) -> tuple[Finding, ...]:
    """Check the images with what the training knows of them anyway, and tell the findings in a line.

    What would make a result wrong is refused elsewhere, by `ImageTable.require_classes` and `partition.divide`: nothing
    that is found here stops a training.

    Args:
        table: The images that can be read.
        digests: SHA-256 of each.
        traits: What else is known of each.
        matrix: Embeddings, float32 (N, D); None leaves out what needs them.
        preprocess: How the images are prepared for the network.
        runtime: Where it is told.
    """
    findings = run(
        table, digests, traits, matrix, input_px=preprocess.size_px, white_level=preprocess.white_level
    ).findings
    if findings:
        runtime.progress.line(f"{summary(findings)}. `headstart check SOURCE` lists them.")
    for one in findings:
        if "range" in one.facts.get("problems", ()):  # a setting puts that right, before the time is spent
            runtime.progress.line(one.message)
    return findings
