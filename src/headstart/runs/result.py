"""What every strategy gives: a model file, and predictions on images that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.equality import ByValue
from headstart.core.text import portable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.checks import Finding
    from headstart.evaluation import Evaluation
    from headstart.features.dataset import Dataset
    from headstart.modelfile.writer import ModelFile
    from headstart.partition.held_out import HeldOut
    from headstart.partition.roles import Partition
    from headstart.runs.details import Details
    from headstart.settings.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Fitted(ByValue):
    """The result of a strategy.

    Attributes:
        data: The images that were used, with their embeddings by the network that is in the model file; its classes
            are in the order of the probabilities.
        model_file: The model file.
        evaluation: Numbers on the held-out images.
        without_leaks: The same without those of which there is another in train: a copy, a near duplicate, or one of
            the same group; None where there is none.
        held_out: The predictions behind them.
        partition: What each row was for.
        counts: Images of each role and class.
        seconds: Time of each stage.
        details: What else the strategy has to say of its fit.
        notes: Remarks for the user.
        files: What else belongs in the run folder, by name.
        pictures: PNG files that do too, by name; each is drawn when the folder is written, in a third of a second.
        folder: The run folder, where the strategy has kept checkpoints in it.
        findings: What the data check found before the training.
        checked: Whether the data check was made.
        choosing: Predictions on the images that chose the epoch, which the network did not learn from; None where no
            image did.
        recipe: What was followed, where the strategy chose that itself.
    """

    data: Dataset
    model_file: ModelFile = field(repr=False)
    evaluation: Evaluation
    held_out: HeldOut = field(repr=False)
    partition: Partition = field(repr=False)
    counts: dict[str, dict[str, int]]
    seconds: dict[str, float]
    details: Details
    notes: tuple[str, ...]
    without_leaks: Evaluation | None = None
    files: dict[str, bytes | str] = field(default_factory=dict, repr=False)
    pictures: dict[str, Callable[[], bytes]] = field(default_factory=dict, repr=False, compare=False)
    folder: Path | None = None
    findings: tuple[Finding, ...] = field(default=(), repr=False)
    checked: bool = True
    choosing: HeldOut | None = field(default=None, repr=False)
    recipe: Recipe | None = None

    @property
    def model(self) -> bytes:
        """The bytes of ``model.onnx``."""
        return self.model_file.content

    def counted(self) -> dict[str, int | dict[str, int]]:
        """Numbers of images and files, and of the images of each role and class, as JSON values."""
        table = self.data.table
        by_role = {
            role: {portable(label): n for label, n in by_class.items()} for role, by_class in self.counts.items()
        }
        return {"images": len(table), "skipped": len(table.skipped), "ignored": table.ignored, **by_role}

    def measured(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The rows that the evaluation is about, and their probabilities, (M,) and (M, C)."""
        measured = self.partition.is_measured(self.held_out.rows)
        return self.held_out.rows[measured], self.held_out.probabilities[measured]
