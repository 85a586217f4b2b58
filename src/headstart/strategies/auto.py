"""The strategy `auto`: the probe first, and fine-tuning only where that can pay and fits into the time.

A ladder of strategies, from the cheapest. Each rung is compared with those below it on images of the train part that
neither has learnt from, never on those that are measured on; so the numbers at the end are as honest as those of any
single strategy. Of those that cannot be told apart the cheapest is kept.

Training from scratch is no rung. Given enough images and time it comes to what fine-tuning comes to, no further (He,
Girshick and Dollár 2019, "Rethinking ImageNet Pre-training"), and takes the longest; `headstart compare` tries it.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.artifact import guard
from headstart.artifact.writer import amend
from headstart.core.errors import HeadstartError, OptionError, SourceError, StorageError
from headstart.core.options import Runtime
from headstart.core.progress import Silent
from headstart.core.recipe import TRAINING, Recipe
from headstart.core.text import counted
from headstart.data.table import ImageTable
from headstart.evaluation import comparison
from headstart.evaluation.comparison import LEVEL
from headstart.evaluation.intervals import wilson
from headstart.evaluation.metrics import negative_log_likelihood
from headstart.evaluation.verdict import Candidate, judge
from headstart.features.extract import Features
from headstart.strategies import probe
from headstart.strategies.choices import decide
from headstart.strategies.fitted import Fitted
from headstart.strategies.own import Own
from headstart.strategies.parts import Parts, divide
from headstart.strategies.selection import Selection, select

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.training.task import Task, Trained

# What is trained on each rung of fine-tuning, unless the user says.
UNFREEZE = ("last", "all")
# The export of a trained network takes about as long as it takes to embed as many images, and some seconds at least.
EXPORT_IMAGES = 300
EXPORT_SECONDS = 15.0
PILOT_BATCHES = 2


@dataclass(frozen=True)
class _Rung:
    """What was tried.

    Attributes:
        name: For sentences.
        recipe: What it followed.
        fitted: What came out.
        seconds: What it took.
        probabilities: Of the images that choose, float64 (V, C).
    """

    name: str
    recipe: Recipe
    fitted: Fitted
    seconds: float
    probabilities: NDArray[np.float64]


class _TooLong(Exception):  # noqa: N818  no error: the reason why a rung is not climbed
    """A training was not begun, since it would take longer than there is time."""

    def __init__(self, seconds: float, left: float) -> None:
        super().__init__()
        self.seconds, self.left = seconds, left


def fit(table: ImageTable, recipe: Recipe, runtime: Runtime) -> Fitted:
    """Climb the ladder, and give what was chosen, with the reasons in its model file.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: The recipe names something that does not exist, or would choose by what is measured.
    """
    begun = time.perf_counter()
    _refuse(recipe)
    table.require_classes()
    # A training that goes on would go on without the others: nothing is kept for that.
    runtime = dataclasses.replace(runtime, folder=None, resume=False)
    below = of_probe(recipe)
    first = probe.fit(table, below, runtime)
    taken = time.perf_counter() - begun
    reasons: list[str] = []
    if any(part.startswith("fold ") for part in first.parts):
        reasons.append(
            f"The strategy is the probe: of {counted(len(first.table), 'image')} none can be spared to choose between "
            "strategies by. `headstart compare --folds 5` compares them."
        )
        return _chosen(first, below, reasons, [])
    if importlib.util.find_spec("torch") is None:
        reasons.append("The strategy is the probe: fine-tuning needs PyTorch, pip install 'headstart[torch]'.")
        return _chosen(first, below, reasons, [])
    try:
        ground = _Ground.of(first, of_finetune(recipe, UNFREEZE[0]))
    except SourceError as error:
        reasons.append(f"The strategy is the probe: there is nothing to choose another by. {error.message}")
        return _chosen(first, below, reasons, [])
    rungs = [_Rung("the probe", below, first, taken, ground.of_probe(first, below, runtime))]
    deadline = begun + recipe.budget if recipe.budget else float("inf")
    for name, above in _above(recipe):
        best = rungs[_choose(rungs, ground)[0]]
        if why := _cannot_pay(best, ground, tests=len(rungs)) or _no_time(first, deadline):
            reasons.append(why)
            break
        climbed, why = _climb(name, above, table, ground, deadline, runtime)
        if climbed is None:
            reasons.append(why)
            break
        rungs.append(climbed)
    place, sentence = _choose(rungs, ground)
    if len(rungs) > 1:
        reasons.append(sentence)
    kept = rungs[place]
    reasons.insert(0, f"The strategy was chosen step by step (auto); it is {_words(kept)}.")
    return _chosen(kept.fitted, kept.recipe, reasons, [ground.as_dict(rung) for rung in rungs])


def of_probe(recipe: Recipe) -> Recipe:
    """The probe that an `auto` begins with."""
    values = {name: value for name, value in recipe.as_dict().items() if name not in (*TRAINING, "budget")}
    return Recipe.from_dict(values | {"strategy": "probe"})


def of_finetune(recipe: Recipe, unfreeze: str) -> Recipe:
    """The fine-tuning of an `auto`, with the settings that were given; the images say whether flips are harmless."""
    values = {name: value for name, value in recipe.as_dict().items() if name not in {"budget", "precision"}}
    usual = {"unfreeze": unfreeze, "flip": "auto"}
    return Recipe.from_dict(usual | values | {"strategy": "finetune", "measure_by": "holdout"})


def _above(recipe: Recipe) -> list[tuple[str, Recipe]]:
    """The rungs above the probe."""
    parts = UNFREEZE if recipe.unfreeze is None else (recipe.unfreeze,)
    if recipe.views and recipe.unfreeze is None:
        parts = UNFREEZE[:1]  # kept views are of what is frozen
    words = {"head": "the head", "last": "the last stage", "half": "half of the stages", "all": "all layers"}
    return [(f"fine-tuning {words[part]}", of_finetune(recipe, part)) for part in parts]


def _refuse(recipe: Recipe) -> None:
    """Refuse what would let the images that are measured on choose."""
    if recipe.measure_by == "folds":
        raise OptionError(
            "The strategy auto chooses by images of the train part, which a cross-validation would have to repeat "
            "in each fold.",
            "Leave --folds and --measure-by out; or compare the strategies: headstart compare SOURCE --folds 5",
        )
    if recipe.validation == 0:
        raise OptionError(
            "With validation = 0 the strategy auto would choose by the images that it is measured on.",
            "Leave it out, or choose the strategy finetune.",
        )


@dataclass(frozen=True)
class _Ground:
    """The images that choose between rungs: of the train part, or the val part where there is a test part.

    Attributes:
        parts: Who learns and who is held out.
        selection: Who of those that learn chooses.
        groups: Group number of each image that chooses, (V,).
    """

    parts: Parts
    selection: Selection
    groups: tuple[int, ...]

    @classmethod
    def of(cls, first: Fitted, recipe: Recipe) -> _Ground:
        """The same images as those that choose the epoch of the fine-tuning.

        Raises:
            SourceError: There are too few to take some away.
        """
        parts = divide(
            first.table, first.digests, first.classes, recipe, traits=first.traits, cross_validate=False
        )  # fmt: skip
        selection = select(parts, first.digests, recipe)
        return cls(parts, selection, tuple(parts.groups[row] for row in selection.choose))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each image that chooses, (V,)."""
        return self.parts.labels[self.selection.choose]

    @property
    def words(self) -> str:
        """The images, for a sentence."""
        given = self.parts.names[int(self.selection.choose[0])]
        return counted(len(self.labels), f"{given} image") + " that chose" * (given == "train")

    def right(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each is predicted right, (V,)."""
        result: NDArray[np.bool_] = probabilities.argmax(1) == self.labels
        return result

    def of_probe(self, first: Fitted, recipe: Recipe, runtime: Runtime) -> NDArray[np.float64]:
        """What a probe predicts for them that has learnt from the others of the train part, (V, C)."""
        learn, choose = self.selection.learn, self.selection.choose
        features = Features(first.table, first.features, first.digests, first.traits, 0, ())
        folds = self.parts.folds[np.isin(self.parts.fit, learn)]
        head = probe.fit_head(features, self.parts, learn, folds, first.classes, recipe, runtime)
        probabilities: NDArray[np.float64] = head.probabilities(first.features[choose])
        return probabilities

    def as_dict(self, rung: _Rung) -> dict[str, Any]:
        """What became of a rung, as JSON values."""
        right = self.right(rung.probabilities)
        losses = negative_log_likelihood(rung.probabilities, self.labels)
        return {
            "name": rung.name, "strategy": rung.recipe.strategy, "images": len(right), "correct": int(right.sum()),
            "accuracy": float(right.mean()), "accuracy_interval": list(wilson(int(right.sum()), len(right))),
            "log_loss": float(losses.mean()), "seconds": round(rung.seconds, 3),
        }  # fmt: skip


def _cannot_pay(best: _Rung, ground: _Ground, *, tests: int) -> str:
    """Why no other could be shown to be better than this one, whatever it did; empty where one could."""
    right = ground.right(best.probabilities)
    wrong, n = int((~right).sum()), len(right)
    # The best that can come: it mends all mistakes and makes none. Groups are swapped whole, as in the test itself.
    gains = np.bincount(np.unique(ground.groups, return_inverse=True)[1], ~right).astype(np.int64)
    p_value = min(1.0, comparison.swap_test(gains) * tests)
    if p_value < LEVEL:
        return ""
    low, high = wilson(n - wrong, n)
    return (
        f"It stopped at {best.name}, which gets {n - wrong:,} of the {ground.words} right ({100 * low:.0f} to "
        f"{100 * high:.0f} %): even a network without a mistake could not be told from it (p = {p_value:.2g} at best)."
    )


def _no_time(first: Fitted, deadline: float) -> str:
    """Why there is no time to begin with a rung; empty where there may be."""
    left = deadline - time.perf_counter()
    embedded = first.details.get("embedded", 0)
    # At least the images are embedded by the network as it begins, in float32, and again by the one that comes out.
    least = 2 * len(first.table) * first.seconds.get("embed", 0.0) / embedded if embedded else 0.0
    if left > least:
        return ""
    need = f"needs {_time(least)} for its images alone, and" if embedded else "would follow, and"
    return f"Fine-tuning {need} {_time(max(left, 0))} of the budget are left: it was not begun."


def _climb(
    name: str, recipe: Recipe, table: ImageTable, ground: _Ground, deadline: float, runtime: Runtime
) -> tuple[_Rung | None, str]:
    """Train one rung; or why it was not, or came to nothing."""
    from headstart.strategies import finetune

    begun = time.perf_counter()
    try:
        choices = decide(table, recipe, runtime)
        own = Own(loop=_timed(deadline)) if deadline < float("inf") else None
        fitted = finetune.fit(table, choices.recipe, runtime, own)
    except _TooLong as stop:
        return None, (
            f"{name.capitalize()} would take about {_time(stop.seconds)}, by {PILOT_BATCHES} batches that were tried, "
            f"and {_time(max(stop.left, 0))} of the budget are left: it was not begun."
        )
    except StorageError:
        raise
    except HeadstartError as error:
        return None, f"{name.capitalize()} failed, and what is below it counts: {error.message}"
    if fitted.choosing is None or not np.array_equal(fitted.choosing.rows, ground.selection.choose):
        raise HeadstartError(
            "The strategies chose by different images, so that they cannot be compared.",
            "If files changed meanwhile, run it again; otherwise please report this.",
        )
    fitted = _with_reasons(fitted, choices.reasons)
    probabilities = fitted.choosing.probabilities if fitted.choosing else np.empty(0)
    return _Rung(name, choices.recipe, fitted, time.perf_counter() - begun, probabilities), ""


def _timed(deadline: float) -> Any:
    """A training loop that begins only where it would end in time."""

    def loop(task: Task, runtime: Runtime) -> Trained:
        seconds, left = estimate(task, runtime), deadline - time.perf_counter()
        if seconds > left:
            raise _TooLong(seconds, left)
        trained: Trained = importlib.import_module("headstart.training.loop").fit(task, runtime)
        return trained

    return loop


def estimate(task: Task, runtime: Runtime) -> float:
    """Seconds that a training will take, with the export and the evaluation after it.

    A copy of the network is trained on a few batches for two epochs: where outputs of the frozen part are kept, the
    first computes them, and the second shows what an epoch takes without.

    Args:
        task: What is to be trained; it is left as it is.
        runtime: Cache, device.
    """
    import copy

    recipe, rows = task.recipe, task.train[: PILOT_BATCHES * task.recipe.batch_size]
    pilot = dataclasses.replace(
        task, network=copy.deepcopy(task.network), train=rows, validation=task.validation[: len(rows)],
        recipe=dataclasses.replace(
            recipe, epochs=2, views=min(recipe.views, 1), lr=1e-5 if recipe.lr == "auto" else recipe.lr, patience=0
        ),
    )  # fmt: skip
    quiet = dataclasses.replace(runtime, folder=None, resume=False, tracker="none", progress=Silent())
    trained = importlib.import_module("headstart.training.loop").fit(pilot, quiet)
    seconds = {one["epoch"]: one["seconds"] for one in trained.history}
    images = len(rows) + len(pilot.validation)
    each = seconds[2] / images
    # Of one image by the whole network forward; where nothing is kept it is about a third of a step.
    forward = max((seconds[1] - seconds[2]) / images, 0.0) if recipe.views else each / 3
    every = len(task.train) + len(task.validation)
    epochs = recipe.epochs + (recipe.lr == "auto")
    kept = forward * (min(recipe.views, recipe.epochs) * len(task.train) + len(task.validation))
    after = max(EXPORT_SECONDS, EXPORT_IMAGES * forward) + len(task.labels) * forward
    return float(epochs * every * each + kept + after)


def _choose(rungs: list[_Rung], ground: _Ground) -> tuple[int, str]:
    """The place of the cheapest of those that cannot be told apart, and the sentence that says so."""
    right = np.array([ground.right(rung.probabilities) for rung in rungs])
    losses = np.array([negative_log_likelihood(rung.probabilities, ground.labels) for rung in rungs])
    pairs = comparison.compare(right, losses, groups=ground.groups)
    candidates = [
        Candidate(rung.name, float(one.mean()), (place,), f"{_time(rung.seconds)}")
        for place, (rung, one) in enumerate(zip(rungs, right, strict=True))
    ]
    verdict = judge(candidates, pairs, ground.words, more="more such image")
    shares = ", ".join(
        f"{rung.name} {100 * one.mean():.1f} %" for rung, one in zip(rungs, right, strict=True)
    )  # fmt: skip
    return verdict.chosen, f"{verdict.sentence} Right were: {shares}."


def _words(rung: _Rung) -> str:
    return f"{rung.name}, trained in {_time(rung.seconds)}"


def _time(seconds: float) -> str:
    """A time for people."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _with_reasons(fitted: Fitted, reasons: Any) -> Fitted:
    """The result with reasons before those that it has."""
    if not reasons:
        return fitted
    known = guard.check(fitted.model).reasons
    return dataclasses.replace(
        fitted, model=amend(fitted.model, reasons=(*reasons, *known)), notes=(*reasons, *fitted.notes)
    )


def _chosen(fitted: Fitted, recipe: Recipe, reasons: list[str], rungs: list[dict[str, Any]]) -> Fitted:
    """The result, with how it was chosen."""
    fitted = _with_reasons(fitted, tuple(reasons))
    details = {**fitted.details, "auto": {"reasons": reasons, "tried": rungs}}
    return dataclasses.replace(fitted, recipe=recipe, details=details, seconds=fitted.seconds)
