"""What every strategy ends with: the evaluation and the model file."""

from __future__ import annotations

import time
from collections.abc import Callable

from headstart import __version__
from headstart.backbones.embedder import Embedder
from headstart.core.tables import resolve
from headstart.evaluation import Evaluation
from headstart.features.dataset import Dataset
from headstart.heads import Head
from headstart.heads.calibrated import Calibrated
from headstart.modelfile.schema import FINGERPRINT_BYTES, Backbone, Metadata
from headstart.modelfile.writer import ModelFile, write_model
from headstart.partition.held_out import HeldOut
from headstart.partition.roles import Partition, Role
from headstart.settings.recipe import Recipe
from headstart.strategies.trust import Trust
from headstart.targets import TARGETS


class Stopwatch:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Note the seconds since the lap before, or since the beginning, as those of a stage."""
        now = time.perf_counter()
        self.seconds[stage], self._clock = now - self._clock, now


def measure(held_out: HeldOut, partition: Partition, classes: tuple[str, ...]) -> Evaluation:
    """Evaluate held-out predictions; where there are val and test images, the test images alone.

    Args:
        held_out: The predictions.
        partition: Which rows are measured.
        classes: Names in the order of the probabilities.
    """
    measured = held_out.take(partition.is_measured(held_out.rows))
    evaluate: Callable[..., Evaluation] = resolve(TARGETS[partition.targets.task].measure)
    return evaluate(
        measured.probabilities,
        partition.targets.labels[measured.rows],
        classes,
        split=partition.split,
        calibrations=measured.calibrations,
    )


def measure_without_leaks(held_out: HeldOut, partition: Partition, classes: tuple[str, ...]) -> Evaluation | None:
    """The same without the images of which there is another in train; None where there is none, or nothing else."""
    clean = ~partition.leaked[held_out.rows]
    if clean.all() or not (clean & partition.is_measured(held_out.rows)).any():
        return None
    return measure(held_out.take(clean), partition, classes)


def model_file(
    embedder: Embedder,
    head: Calibrated[Head],
    recipe: Recipe,
    data: Dataset,
    partition: Partition,
    evaluation: Evaluation,
    trust: Trust,
) -> ModelFile:
    """The model file.

    Args:
        embedder: Pixels to embedding.
        head: Embedding to probabilities.
        recipe: All choices.
        data: The images.
        partition: Which of them were learnt from.
        evaluation: Numbers on held-out images.
        trust: What it needs to doubt its own answers.
    """
    learnt_from = {bytes.fromhex(data.digests[row])[:FINGERPRINT_BYTES] for row in partition.of(Role.TRAIN)}
    backbone = Backbone(
        name=recipe.backbone,
        embedder=embedder.digest,
        weights=embedder.weights,
        embedding_size=embedder.width,
        licence=embedder.licence,
    )
    metadata = Metadata(
        task=data.targets.task,
        classes=data.targets.names,
        preprocess=embedder.preprocess,
        recipe=recipe.as_dict(),
        backbone=backbone,
        temperature=head.temperature,
        thresholds=head.calibration.thresholds,
        schema=TARGETS[data.targets.task].schema,
        counts=partition.count(),
        evaluation=evaluation.as_dict(),
        familiarity=trust.familiarity,
        conformal=trust.conformal,
        learnt_from=b"".join(sorted(learnt_from)),
        version=__version__,
    )
    return write_model(embedder, head, metadata, trust.references)
