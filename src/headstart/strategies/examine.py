"""The data check as the first stage of a training: its findings are printed before the long part begins."""

from __future__ import annotations

from headstart.checks import Finding, run, summary
from headstart.core.runtime import Runtime
from headstart.features.dataset import Dataset
from headstart.preprocess.spec import Preprocess


def examine(data: Dataset, *, preprocess: Preprocess, runtime: Runtime) -> tuple[Finding, ...]:
    """Check the images with what the training has computed anyway, and report the findings in a line.

    What would make a result wrong is refused elsewhere, by `targets.read` and `partition.divide`: nothing
    that is found here stops a training.

    Args:
        data: The images; without embeddings, what needs them is left out.
        preprocess: How the images are prepared for the network.
        runtime: Where it is reported.
    """
    findings = run(data, input_px=preprocess.size_px, white_level=preprocess.white_level).findings
    if findings:
        runtime.progress.line(f"{summary(findings, data.table.task)}. `headstart check SOURCE` lists them.")
    for one in findings:
        if "range" in one.facts.get("problems", ()):  # a setting puts that right, before the time is spent
            runtime.progress.line(one.message)
    return findings
