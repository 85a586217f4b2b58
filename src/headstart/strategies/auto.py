"""The strategy `auto`: the probe first, and fine-tuning only if that can pay off and fits into the time.

A ladder of strategies, from the cheapest. Each rung is compared with those below it on train images that neither was
trained on, never on those that are measured on; so the numbers at the end are as honest as those of any single
strategy. Of those that cannot be separated, the cheapest is kept.

Training from scratch is not a rung. Given enough images and time it arrives where fine-tuning arrives, no further (He,
Girshick and Dollár 2019, "Rethinking ImageNet Pre-training"), and takes the longest; `headstart compare` tries it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from headstart import targets
from headstart.core.errors import BudgetError, HeadstartError, OptionError, SourceError, StorageError
from headstart.core.runtime import Runtime
from headstart.core.text import counted
from headstart.data.table import ImageTable
from headstart.evaluation import comparison, paired_tests
from headstart.evaluation.intervals import wilson
from headstart.evaluation.paired_tests import LEVEL
from headstart.evaluation.verdict import Candidate, judge
from headstart.features.dataset import Dataset
from headstart.partition.divide import divide
from headstart.partition.roles import Partition, Role
from headstart.partition.selection import select
from headstart.runs.details import Ladder, Tried
from headstart.runs.origin import GIVEN, Origin
from headstart.runs.result import Fitted
from headstart.settings.recipe import TRAINING, Recipe
from headstart.strategies import find, probe
from headstart.strategies.choices import decide

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class _Rung:
    """What was tried.

    Attributes:
        name: For sentences.
        recipe: What it followed.
        fitted: What came out.
        seconds: What it took.
        probabilities: Of the images that choose, float64 (V, C).
        reasons: Why its recipe is what it is; its model file has them.
    """

    name: str
    recipe: Recipe
    fitted: Fitted
    seconds: float
    probabilities: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    reasons: tuple[str, ...] = ()


def fit(table: ImageTable, recipe: Recipe, runtime: Runtime, origin: Origin = GIVEN) -> Fitted:
    """Climb the ladder, and give what was chosen, with the reasons in its model file.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: The recipe names something that does not exist, or would choose by what is measured.
    """
    begun = origin.began or time.perf_counter()
    _refuse(recipe)
    targets.refuse_several(table.task, "The strategy auto", "Choose a strategy: probe, finetune or scratch.")
    targets.read(table)
    # A resumed training would continue without the others: nothing is kept for that.
    runtime = dataclasses.replace(runtime, folder=None, resume=False)
    below = of_probe(recipe)
    first = probe.fit(table, below, runtime)
    reasons: list[str] = []
    rung = _Rung("the probe", below, first, time.perf_counter() - begun)
    if first.partition.cross_validated:
        reasons.append(
            f"The strategy is the probe: with {counted(len(first.data), 'image')}, none can be spared to choose "
            "between strategies. `headstart compare --folds 5` compares them."
        )
        return _chosen(rung, origin, reasons, [])
    if importlib.util.find_spec("torch") is None:
        reasons.append("The strategy is the probe: fine-tuning needs PyTorch, pip install 'headstart[torch]'.")
        return _chosen(rung, origin, reasons, [])
    try:
        val = _Validation.of(first, of_finetune(recipe))
    except SourceError as error:
        reasons.append(f"The strategy is the probe: there are no images to choose by. {error.message}")
        return _chosen(rung, origin, reasons, [])
    rungs = [dataclasses.replace(rung, probabilities=val.of_probe(below, runtime))]
    deadline = begun + recipe.budget if recipe.budget else float("inf")
    climbed = None
    if not (why := _cannot_pay(rungs[0], val) or _no_time(first, deadline)):
        climbed, why = _climb("fine-tuning", of_finetune(recipe), table, val, runtime, begun)
    if climbed is None:
        reasons.append(why)
    else:
        rungs.append(climbed)
    place, sentence = _choose(rungs, val)
    if len(rungs) > 1:
        reasons.append(sentence)
    kept = rungs[place]
    kept_words = f"{kept.name}, trained in {_time(kept.seconds)}"
    reasons.insert(0, f"The strategy was chosen step by step (auto); it is {kept_words}.")
    return _chosen(kept, origin, reasons, [val.tried(rung) for rung in rungs])


def of_probe(recipe: Recipe) -> Recipe:
    """The probe that an `auto` begins with."""
    values = {name: value for name, value in recipe.as_dict().items() if name not in (*TRAINING, "budget")}
    return Recipe.from_dict(values | {"strategy": "probe"})


def of_finetune(recipe: Recipe) -> Recipe:
    """The fine-tuning of an `auto`, with the settings that were given; how far it goes, it finds within the budget."""
    values = {name: value for name, value in recipe.as_dict().items() if name != "precision"}
    return Recipe.from_dict(values | {"strategy": "finetune", "measure_by": "holdout"})


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
class _Validation:
    """The images that choose between rungs: of the train part, or the val part where there is a test part.

    Attributes:
        data: All images.
        partition: Who learns, who chooses, and who is held out.
    """

    data: Dataset
    partition: Partition

    @classmethod
    def of(cls, first: Fitted, recipe: Recipe) -> _Validation:
        """The same images as those that choose the epoch of the fine-tuning.

        Raises:
            SourceError: There are too few to take some away.
        """
        partition = divide(first.data, recipe, cross_validate=False)
        return cls(first.data, select(partition, first.data, recipe))

    @property
    def groups(self) -> tuple[int, ...]:
        """Group number of each image that chooses, (V,)."""
        return tuple(self.partition.groups[self.partition.choosing].tolist())

    @property
    def words(self) -> str:
        """The images, for a sentence."""
        given = self.data.table.rows[self.partition.chooses()[0]].split == Role.VAL.word
        count = len(self.partition.chooses())
        return counted(count, "val image") if given else f"{count:,} train images that chose"

    def judge(self, probabilities: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Whether each is predicted right, (V,), and its loss in nats, (V,)."""
        judge = targets.judge_of(self.partition.targets.task)
        return judge(probabilities, self.partition.targets.labels[self.partition.choosing])

    def of_probe(self, recipe: Recipe, runtime: Runtime) -> NDArray[np.float64]:
        """What a probe predicts for them that has learnt from the others of the train part, (V, C)."""
        head = probe.fit_head(self.data, self.partition, recipe, runtime)
        probabilities: NDArray[np.float64] = head.probabilities(self.data.matrix[self.partition.chooses()])
        return probabilities

    def tried(self, rung: _Rung) -> Tried:
        """What became of a rung."""
        right, losses = self.judge(rung.probabilities)
        return Tried(
            name=rung.name, strategy=rung.recipe.strategy, images=len(right), correct=int(right.sum()),
            accuracy=float(right.mean()), accuracy_interval=wilson(int(right.sum()), len(right)),
            log_loss=float(losses.mean()), seconds=round(rung.seconds, 3),
        )  # fmt: skip


def _cannot_pay(best: _Rung, val: _Validation) -> str:
    """Why no other could be shown to be better than this one, whatever it did; empty where one could."""
    right, _ = val.judge(best.probabilities)
    wrong, n = int((~right).sum()), len(right)
    # The best possible outcome: all mistakes are corrected, none are made. Groups are swapped whole, as in the test.
    gains = np.bincount(np.unique(val.groups, return_inverse=True)[1], ~right).astype(np.int64)
    p_value = paired_tests.swap_test(gains)
    if p_value < LEVEL:
        return ""
    low, high = wilson(n - wrong, n)
    return (
        f"It stopped at {best.name}, which classifies {n - wrong:,} of the {val.words} correctly "
        f"({100 * low:.0f} to {100 * high:.0f} %): even a network without a single mistake could not be shown to be "
        f"better (p = {p_value:.2g} at best)."
    )


def _no_time(first: Fitted, deadline: float) -> str:
    """Why there is no time to begin with a rung; empty where there may be."""
    left = deadline - time.perf_counter()
    embedded = first.details.embedding.embedded if first.details.embedding else 0
    # At least the images are embedded by the network as it begins, in float32, and again by the one that comes out.
    least = 2 * len(first.data) * first.seconds.get("embed", 0.0) / embedded if embedded else 0.0
    if left > least:
        return ""
    need = f"needs {_time(least)} for its images alone, and" if embedded else "would follow, and"
    return f"Fine-tuning {need} {_time(max(left, 0))} of the budget are left: it was not begun."


def _climb(
    name: str, recipe: Recipe, table: ImageTable, val: _Validation, runtime: Runtime, begun: float
) -> tuple[_Rung | None, str]:
    """Train one rung; or why it was not trained, or failed."""
    start = time.perf_counter()
    try:
        choices = decide(table, recipe, runtime)
        origin = Origin(reasons=choices.reasons, began=begun)
        fitted = find(choices.recipe.strategy)(table, choices.recipe, runtime, origin)
    except BudgetError as stop:
        return None, f"{stop.message} It was not begun."
    except StorageError:
        raise
    except HeadstartError as error:
        return None, f"{name.capitalize()} failed, and the strategy before it is kept: {error.message}"
    if fitted.choosing is None or not np.array_equal(fitted.choosing.rows, val.partition.chooses()):
        raise HeadstartError(
            "The strategies chose by different images, so that they cannot be compared.",
            "If files changed meanwhile, run it again; otherwise please report this.",
        )
    seconds, recipe = time.perf_counter() - start, fitted.recipe or choices.recipe
    return _Rung(name, recipe, fitted, seconds, fitted.choosing.probabilities, choices.reasons), ""


def _choose(rungs: list[_Rung], val: _Validation) -> tuple[int, str]:
    """The index of the cheapest of those that cannot be separated, and the sentence that says so.

    Few images choose, and if both are mostly right, a handful of mistakes cannot show what all probabilities together
    do: a strategy that is no less accurate also counts as better if its log loss is significantly lower.
    """
    right, losses = map(np.array, zip(*(val.judge(rung.probabilities) for rung in rungs), strict=True))
    pairs = comparison.compare(right, losses, groups=val.groups)
    candidates = [
        Candidate(rung.name, float(one.mean()), (place,), f"{_time(rung.seconds)}")
        for place, (rung, one) in enumerate(zip(rungs, right, strict=True))
    ]
    verdict = judge(candidates, pairs, val.words, more="more such image")
    shares = ", ".join(f"{rung.name} {100 * one.mean():.1f} %" for rung, one in zip(rungs, right, strict=True))
    if len(rungs) == 2 and not pairs[0].resolved and (right[1].sum() >= right[0].sum()):
        p_value = paired_tests.sign_flip_test(losses[0] - losses[1], np.array(val.groups))
        if p_value < LEVEL and losses[1].mean() < losses[0].mean():
            return 1, (
                f"Use {rungs[1].name}: on {val.words} its log loss is {losses[1].mean():.3f}, that of "
                f"{rungs[0].name} {losses[0].mean():.3f} (p = {p_value:.2g}), "
                f"and its accuracy is no lower. Accuracies: {shares}."
            )
    return verdict.chosen, f"{verdict.sentence} Accuracies: {shares}."


def _time(seconds: float) -> str:
    """A time for people."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _chosen(rung: _Rung, origin: Origin, reasons: list[str], tried: list[Tried]) -> Fitted:
    """The result, with how it was chosen; its model file says so too."""
    fitted, told = rung.fitted, (*origin.reasons, *reasons)
    return dataclasses.replace(
        fitted,
        model_file=fitted.model_file.because((*told, *rung.reasons)),
        notes=(*told, *fitted.notes),
        recipe=rung.recipe,
        details=dataclasses.replace(fitted.details, auto=Ladder(tuple(reasons), tuple(tried)), choices=origin.evidence),
    )
