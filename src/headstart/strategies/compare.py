"""Several strategies, backbones or recipes on the same images: what to run, and what came of it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import recipes as kept
from headstart.core.errors import HeadstartError, ImageError, OptionError
from headstart.core.text import counted, listed, portable, quoted
from headstart.evaluation import comparison
from headstart.evaluation.comparison import Pair
from headstart.evaluation.metrics import negative_log_likelihood
from headstart.evaluation.verdict import Candidate, Verdict, judge
from headstart.partition.draw import join_groups
from headstart.partition.duplicates import alike
from headstart.prediction.classifier import Classifier
from headstart.runs.result import Fitted
from headstart.settings.heads import head_spec_of
from headstart.settings.recipe import TRAINING, Recipe
from headstart.settings.strategies import STRATEGIES, UNKNOWN, names, spec_of
from headstart.strategies import refuse_unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT = names("compared")
# Settings that say who learns and who is held out: all that is compared must share them.
SHARED = ("holdout", "folds", "measure_by", "seed", "max_megapixels", "white_level")
# Of the train images, where a recipe would let the held-out ones choose its epoch: then they could not judge it.
VALIDATION = 0.2
TIMED_IMAGES = 30
# Times nearer to each other than this are those of the same network.
SAME_SPEED = 1.5


@dataclass(frozen=True)
class Plan:
    """One of those that are to be compared.

    Attributes:
        name: What to call it: unlike all others.
        recipe: What it follows; None where its settings do not go together.
        problem: Why there is none.
        notes: What was changed of it, in sentences.
    """

    name: str
    recipe: Recipe | None
    problem: HeadstartError | None = None
    notes: tuple[str, ...] = ()


def plan(
    strategies: Sequence[str] | None,
    backbones: Sequence[str] | None,
    recipes: Sequence[str] | None,
    settings: Mapping[str, Any],
) -> tuple[Plan, ...]:
    """What to run: each strategy on each backbone, and each recipe.

    Args:
        strategies: Names; None for all three, or for the probe where backbones are named, or none where recipes are.
        backbones: Names; None for each one's default.
        recipes: Names or files, as `headstart.recipes.load` takes them.
        settings: Fields of the recipe for all. Those of a training are for those that train.

    Raises:
        OptionError: There is no such strategy or recipe, the same is named twice, or nothing is left to compare.
    """
    if strategies is None:
        strategies = ("probe",) if backbones else () if recipes else DEFAULT
    found = [
        _plan(f"{strategy} {backbone}" if backbone else strategy, _of_strategy(strategy, backbone), settings)
        for strategy in strategies
        for backbone in backbones or ("",)
    ]
    found += [_plan(_recipe_name(name), kept.load(name), settings) for name in recipes or ()]
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise OptionError(f"{quoted(twice)} would be compared with itself.", "Name each once.")
    if len(found) < 2:
        raise OptionError(
            f"A comparison needs at least two candidates, and {'none' if not found else quoted(names[0])} was named.",
            "Name several with --strategies, --backbones or --recipes; a single one is trained with headstart train.",
        )
    return tuple(found)


def _of_strategy(strategy: str, backbone: str) -> dict[str, Any]:
    refuse_unknown(strategy)
    if not STRATEGIES[strategy].compared:
        raise OptionError(
            f"The strategy {strategy} compares the others itself.", f"Name those to compare: {listed(DEFAULT)}."
        )
    return {"strategy": strategy, **({"backbone": backbone} if backbone else {})}


def _recipe_name(name: str) -> str:
    return name if name in kept.names() else PurePath(name).stem


def _plan(name: str, own: Mapping[str, Any], settings: Mapping[str, Any]) -> Plan:
    spec, head = spec_of(own.get("strategy", Recipe.strategy)), head_spec_of(own.get("head", Recipe.head))
    trains = spec.trains != "head" or head.probe is not None
    values = {**own, **{key: value for key, value in settings.items() if trains or key not in TRAINING}}
    values = {key: value for key, value in values.items() if key not in SHARED or key in settings}
    values["measure_by"] = settings.get("measure_by", "holdout")
    notes = []
    if trains and values.get("validation") == 0:
        values["validation"] = VALIDATION
        notes.append(
            f"{name} would let the images that are measured on choose its epoch; here {100 * VALIDATION:.0f} % of the "
            "train images do, where there is no val split beside a test split."
        )
    if spec is not UNKNOWN and spec.trains == "network" and "flip" not in values:
        values["flip"] = "auto"
    try:
        return Plan(name, Recipe.from_dict(values), notes=tuple(notes))
    except OptionError as error:
        return Plan(name, None, error)


@dataclass(frozen=True)
class Row:
    """What became of one of those that were compared.

    Attributes:
        name: What it is called.
        recipe: What it followed; None where its settings do not go together.
        fitted: What came out; None where it failed.
        seconds: Of the whole training.
        milliseconds: Of one image, decoded and predicted by the model file on one thread: a median.
        problem: Why it failed.
    """

    name: str
    recipe: Recipe | None
    fitted: Fitted | None = None
    seconds: float = 0.0
    milliseconds: float = math.nan
    problem: HeadstartError | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON values; what a failed one does not have is null."""
        fitted, recipe, evaluation = self.fitted, self.recipe, self.fitted.evaluation if self.fitted else None
        return {
            "name": portable(self.name),
            "strategy": recipe.strategy if recipe else None,
            "backbone": portable(recipe.backbone) if recipe else None,
            "precision": recipe.precision if recipe else None,
            "n": evaluation.n if evaluation else None,
            "accuracy": evaluation.accuracy if evaluation else None,
            "accuracy_interval": list(evaluation.accuracy_interval) if evaluation else None,
            "log_loss": evaluation.log_loss if evaluation else None,
            "log_loss_interval": list(evaluation.log_loss_interval) if evaluation else None,
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
    pairs = comparison.compare(
        np.array([one.right for one in measured]), np.array([one.losses for one in measured]),
        groups=first.groups, folds=folds,
    )  # fmt: skip
    count = len(first.labels)
    images = f"{counted(count, 'held-out image')}" if folds is None else (
        f"{counted(count, 'image')} in {len(np.unique(folds))}-fold cross-validation"
    )  # fmt: skip
    candidates = [
        Candidate(row.name, float(one.right.mean()), cost, row.cost)
        for row, one, cost in zip(rows, measured, _costs(rows), strict=True)
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
    right: NDArray[np.bool_]
    losses: NDArray[np.float64]


def _measured(fitted: Fitted) -> _Measured:
    table, partition = fitted.data.table, fitted.partition
    rows, probabilities = fitted.measured()
    order = sorted(range(len(rows)), key=lambda place: table.rows[rows[place]].path)
    rows, probabilities = rows[order], probabilities[order]
    labels = partition.targets.labels[rows]
    near = alike(fitted.data.traits).rows.tolist()
    groups = join_groups(fitted.data.digests, [row.group for row in table.rows], near)
    # By the first image of a group in this order, so that it does not hang on the order of the table.
    first: dict[int, int] = {}
    return _Measured(
        digests=tuple(fitted.data.digests[row] for row in rows),
        labels=tuple(table.rows[row].label for row in rows),
        groups=tuple(first.setdefault(groups[row], len(first)) for row in rows),
        folds=partition.folds[rows],
        right=probabilities.argmax(1) == labels,
        losses=negative_log_likelihood(probabilities, labels),
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
