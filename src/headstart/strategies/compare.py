"""Several strategies, backbones or recipes on the same images: what came of them, and what to use."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import HeadstartError, ImageError
from headstart.core.text import counted, portable
from headstart.evaluation.comparison import Comparing, Pair, Predicted
from headstart.evaluation.verdict import Candidate, Verdict, judge
from headstart.partition.draw import join_groups
from headstart.partition.duplicates import alike
from headstart.prediction.classifier import Classifier
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.targets import CLASSES, comparing_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMED_IMAGES = 30
# Times nearer to each other than this are those of the same network.
SAME_SPEED = 1.5


@dataclass(frozen=True)
class Row:
    """The outcome of one candidate.

    Attributes:
        name: What it is called.
        recipe: What it followed; None where its settings do not go together.
        fitted: What came out; None where it failed.
        seconds: Of the whole training.
        milliseconds: Of one image, decoded and predicted by the model file on one thread: a median.
        problem: Why it failed.
        task: What the label of an image is.
    """

    name: str
    recipe: Recipe | None
    fitted: Fitted | None = None
    seconds: float = 0.0
    milliseconds: float = math.nan
    problem: HeadstartError | None = None
    task: str = CLASSES

    @property
    def comparing(self) -> Comparing:
        """By what it is compared with others."""
        return comparing_of(self.task)

    def as_dict(self) -> dict[str, object]:
        """The row as JSON values; what a failed one does not have is null."""
        fitted, recipe, evaluation = self.fitted, self.recipe, self.fitted.evaluation if self.fitted else None
        return {
            "name": portable(self.name),
            "strategy": recipe.strategy if recipe else None,
            "backbone": portable(recipe.backbone) if recipe else None,
            "precision": recipe.precision if recipe else None,
            "n": evaluation.n if evaluation else None,
            **self.comparing.numbers(evaluation),
            "seconds": round(self.seconds, 3) if fitted else None,
            "model_bytes": len(fitted.model) if fitted else None,
            "milliseconds": round(self.milliseconds, 3) if fitted and math.isfinite(self.milliseconds) else None,
            "error": {"message": portable(self.problem.message), "hint": portable(self.problem.hint)}
            if self.problem
            else None,
        }

    @property
    def cost(self) -> str:
        """The cost in words."""
        speed = f", {self.milliseconds:.1f} ms per image" if math.isfinite(self.milliseconds) else ""
        return f"trained in {self.seconds:.1f} s{speed}"


@dataclass(frozen=True)
class Judged:
    """The verdict, and what it rests on.

    Attributes:
        pairs: Each pair, by places among the rows that did not fail.
        verdict: What to use.
        images: What was measured on, in words.
    """

    pairs: tuple[Pair, ...]
    verdict: Verdict
    images: str


def judge_rows(rows: Sequence[Row]) -> Judged:
    """Test each pair of what was trained, and choose.

    Args:
        rows: Those that did not fail, at least one.

    Raises:
        HeadstartError: They were not measured on the same images, which would be a fault of ours.
    """
    measured = [_measured(row.fitted) for row in rows if row.fitted]
    first = measured[0]
    for row, other in zip(rows, measured, strict=True):
        if (other.digests, other.labels, other.folds.tolist()) != (first.digests, first.labels, first.folds.tolist()):
            raise HeadstartError(
                f"{row.name} and {rows[0].name} were not measured on the same images and cannot be compared.",
                "If files changed meanwhile, run it again; otherwise please report this.",
            )
    folds = first.folds if (first.folds >= 0).all() else None
    comparing = comparing_of(rows[0].task)
    pairs = comparing.pairs([one.predicted for one in measured], first.truth, groups=first.groups, folds=folds)
    count = len(first.labels)
    images = f"{counted(count, 'held-out image')}" if folds is None else (
        f"{counted(count, 'image')} in {len(np.unique(folds))}-fold cross-validation"
    )  # fmt: skip
    candidates = [
        Candidate(row.name, getattr(row.fitted.evaluation, comparing.measure) or 0.0, cost, row.cost)
        for row, cost in zip(rows, _costs(rows), strict=True)
        if row.fitted
    ]
    return Judged(pairs, judge(candidates, pairs, images), images)


def _costs(rows: Sequence[Row]) -> list[tuple[float, ...]]:
    """What sorts the rows from the cheapest: time an image, which is paid for ever, then the time of the training."""
    fastest = min((row.milliseconds for row in rows if row.milliseconds > 0), default=math.nan)
    costs: list[tuple[float, ...]] = []
    for row in rows:
        times = row.milliseconds / fastest
        slower = math.floor(math.log(times, SAME_SPEED)) if math.isfinite(times) and times > 0 else 0
        costs.append((float(slower), row.seconds))
    return costs


@dataclass(frozen=True)
class _Measured:
    """The images that a row was measured on, in the order of their paths."""

    digests: tuple[str, ...]
    labels: tuple[str | None, ...]
    groups: tuple[int, ...]
    folds: NDArray[np.int64]  # -1 for a held-out image
    truth: NDArray[np.signedinteger]
    predicted: Predicted


def _measured(fitted: Fitted) -> _Measured:
    table, partition = fitted.data.table, fitted.partition
    held_out = fitted.held_out.take(partition.is_measured(fitted.held_out.rows))
    held_out = held_out.take(
        np.array(sorted(range(len(held_out.rows)), key=lambda i: table.rows[held_out.rows[i]].path))
    )
    rows = held_out.rows
    near = alike(fitted.data.traits).rows.tolist()
    groups = join_groups(fitted.data.digests, [row.group for row in table.rows], near)
    # By the first image of a group in this order, so that it does not depend on the order of the table.
    first: dict[int, int] = {}
    return _Measured(
        digests=tuple(fitted.data.digests[row] for row in rows),
        labels=tuple(table.rows[row].label for row in rows),
        groups=tuple(first.setdefault(groups[row], len(first)) for row in rows),
        folds=partition.folds[rows],
        truth=partition.targets.labels[rows],
        predicted=Predicted(held_out.probabilities, held_out.found()),
    )


def milliseconds(fitted: Sequence[Fitted]) -> list[float]:
    """Time of one image by each model file, decoding included, on one thread: the median over a few dozen images.

    The models take turns at each image, so that a moment in which the machine is busy slows all of them.

    Args:
        fitted: What was trained, on the same images.

    Returns:
        Milliseconds of each; NaN where no image could be read any more.
    """
    classifiers = [Classifier(one.model) for one in fitted]
    table, rows = fitted[0].data.table, fitted[0].held_out.rows
    times: list[list[float]] = [[] for _ in classifiers]
    for number, row in enumerate(rows[:: max(1, len(rows) // TIMED_IMAGES)][: TIMED_IMAGES + 1]):
        try:
            data = table.storage.read(table.rows[row].path)
            for classifier, taken in zip(classifiers, times, strict=True):
                begun = time.perf_counter()
                classifier.run_file(data)
                taken.append(time.perf_counter() - begun)
                if not number:
                    taken.clear()  # the first run sets the session up
        except ImageError:
            continue
    return [1000 * median(taken) if taken else math.nan for taken in times]


def timed(rows: Sequence[Row]) -> list[Row]:
    """The rows with the time of an image, where they have a model."""
    done = [row.fitted for row in rows if row.fitted]
    times = iter(milliseconds(done))
    return [dataclasses.replace(row, milliseconds=next(times)) if row.fitted else row for row in rows]
