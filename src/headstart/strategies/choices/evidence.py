"""The ground that choices are made on: train images, a cross-validated probe on them, and what counts as better.

Held-out images are not looked at: what is measured on them later must not have chosen anything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.options import Runtime
from headstart.core.progress import Advance, Progress
from headstart.core.text import counted, quoted
from headstart.data.table import ImageTable
from headstart.data.traits import Traits
from headstart.evaluation.metrics import negative_log_likelihood
from headstart.evaluation.paired_tests import LEVEL, mcnemar, swap_test
from headstart.features.dataset import Dataset
from headstart.heads import linear
from headstart.partition.divide import divide
from headstart.partition.draw import deal_folds
from headstart.settings.heads import OWN
from headstart.settings.recipe import Recipe
from headstart.strategies.embed import Embedded, embed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# More train images tell hardly more of which of two embeddings is better, and each costs every candidate time.
MAX_IMAGES = 2000
MIN_OF_A_CLASS = 10  # of the sample, where there are as many
MEASURES = 2  # accuracy and log loss: each is tested


@dataclass(frozen=True)
class Ground:
    """The train images that choices are made on.

    Attributes:
        table: A row for each.
        rows: Which rows of the table that was embedded they are, int64 (N,).
        digests: SHA-256 of each image file, hexadecimal.
        classes: Names, in the order of their numbers.
        labels: Class index of each, int64 (N,).
        groups: Group number of each; images of one group are no independent evidence.
        folds: Fold of each, int64 (N,).
        traits: What else is known of each.
        train: Number of train images, of which these may be a sample.
        measured_too: Whether the same images are measured later, by cross-validation.
    """

    table: ImageTable
    rows: NDArray[np.int64]
    digests: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: tuple[int, ...]
    folds: NDArray[np.int64]
    traits: tuple[Traits, ...]
    train: int
    measured_too: bool

    def __len__(self) -> int:
        """Number N of images."""
        return len(self.labels)

    @property
    def words(self) -> str:
        """What the evidence is, for a sentence."""
        some = f"{len(self):,} of {self.train:,} train images" if len(self) < self.train else (
            counted(self.train, "train image"))  # fmt: skip
        return f"cross-validated probe, {some}"


@dataclass(frozen=True)
class Outcome:
    """How a cross-validated probe fares with one candidate.

    Attributes:
        name: Of the candidate.
        right: Whether each image was predicted right, bool (M,).
        losses: Negative log likelihood of each, float64 (M,), in nats.
        groups: Group number of each, (M,).
        facts: What else there is to tell of it, as JSON values.
    """

    name: str
    right: NDArray[np.bool_]
    losses: NDArray[np.float64]
    groups: NDArray[np.int64]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share predicted right."""
        return float(self.right.mean())

    @property
    def log_loss(self) -> float:
        """Mean of the losses."""
        return float(self.losses.mean())


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        chosen: Name of the candidate.
        outcomes: All candidates, in the order of preference among equals.
        p_values: For each but the first, how often chance alone would make it look that much better than the first;
            corrected for the number of candidates and measures.
        skipped: Candidates that could not be tried, with reasons.
        reasons: Sentences that a person should read.
    """

    chosen: str
    outcomes: tuple[Outcome, ...]
    p_values: tuple[float, ...]
    skipped: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The choice as JSON values."""
        rows = [
            {"name": one.name, "accuracy": one.accuracy, "log_loss": one.log_loss, "p_value": p, **one.facts}
            for one, p in zip(self.outcomes, (None, *self.p_values), strict=False)
        ]
        skipped = [{"name": name, "reason": reason} for name, reason in self.skipped]
        return {"chosen": self.chosen, "candidates": rows, "skipped": skipped, "reasons": list(self.reasons)}


def evidence_recipe(recipe: Recipe) -> Recipe:
    """The probe that stands for a recipe: on its own backbone, where that begins with weights that it knows.

    A network that begins with random weights, or is the user's own, is judged by lite0: what of the pixels matters is
    much the same for both.
    """
    shared = ("folds", "measure_by", "holdout", "seed", "max_megapixels", "white_level", "class_weight")
    values: dict[str, Any] = {name: getattr(recipe, name) for name in shared}
    if recipe.pretrained and recipe.backbone != OWN:
        values |= {name: getattr(recipe, name) for name in ("backbone", "weights", "precision")}
        if not recipe.spec.probes:  # what trains a network begins with its float32 embeddings
            values["precision"] = "float32"
    fit = "crop" if recipe.fit == "auto" else recipe.fit
    return Recipe.from_dict(values | {"strategy": "probe", "fit": fit})


def lay(embedded: Embedded, recipe: Recipe) -> Ground:
    """Find the train images of a recipe: those of its own splits, or those that it will not hold out itself.

    Args:
        embedded: All images.
        recipe: The one that will be followed, whatever is left open in it.

    Raises:
        SourceError: The images cannot be learnt from.
    """
    data = embedded.data
    partition = divide(data, recipe, cross_validate=recipe.spec.probes)
    rows = partition.learnt()
    folds = partition.folds[rows]
    sampled = sample(partition.targets.labels[rows], [data.digests[row] for row in rows])
    if len(sampled) < len(rows):
        kept = rows[sampled]
        try:
            dealt = deal_folds(
                partition.targets.take(kept).strata(), partition.groups[kept].tolist(),
                [data.digests[row] for row in kept],
                folds=recipe.folds, seed=recipe.seed,
            )  # fmt: skip
        except SourceError:  # the sample has too few groups of a class
            pass
        else:
            rows, folds = kept, dealt
    return Ground(
        table=take(data.table, rows),
        rows=rows,
        digests=tuple(data.digests[row] for row in rows),
        classes=data.targets.names,
        labels=partition.targets.labels[rows],
        groups=tuple(partition.groups[rows].tolist()),
        folds=folds,
        traits=tuple(data.traits[row] for row in rows),
        train=len(partition.learnt()),
        measured_too=partition.cross_validated,
    )


def sample(
    labels: NDArray[np.int64], digests: Sequence[str], limit: int = MAX_IMAGES, least: int = MIN_OF_A_CLASS
) -> NDArray[np.int64]:
    """Rows of a stratified sample, rising: about `limit`, but `least` of each class that has as many.

    Which they are depends on the content of the images, not on their order.

    Args:
        labels: Class index of each, (N,).
        digests: SHA-256 of each, hexadecimal.
        limit: Images wanted.
        least: Of a class.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    by_content = np.array(sorted(range(len(labels)), key=lambda row: digests[row]))
    share = limit / len(labels)
    taken = []
    for one in np.unique(labels):
        of_class = by_content[labels[by_content] == one]
        taken.append(of_class[: max(least, round(share * len(of_class)))])
    return np.sort(np.concatenate(taken))


def part(ground: Ground, some: NDArray[np.int64]) -> Ground:
    """Some images of a ground, by their places in it, (M,)."""
    return dataclasses.replace(
        ground, table=take(ground.table, some), rows=ground.rows[some], labels=ground.labels[some],
        folds=ground.folds[some], digests=tuple(ground.digests[i] for i in some),
        groups=tuple(ground.groups[i] for i in some), traits=tuple(ground.traits[i] for i in some),
    )  # fmt: skip


def take(table: ImageTable, rows: NDArray[np.int64]) -> ImageTable:
    """The table of some rows alone."""
    return dataclasses.replace(table, rows=tuple(table.rows[row] for row in rows), skipped=(), notes=())


def embed_ground(ground: Ground, recipe: Recipe, runtime: Runtime, name: str) -> Embedded:
    """Embed the ground with the recipe of a candidate, whose name the progress bears.

    Raises:
        SourceError: An image that could be read before cannot be any more.
        HeadstartError: The backbone cannot be had; see `embed`.
    """
    embedded = embed(ground.table, recipe, named(runtime, name))
    if skipped := embedded.data.table.skipped:
        raise SourceError(
            f"{counted(len(skipped), 'image')} failed; the first is {quoted(skipped[0].path)}: {skipped[0].reason}."
        )
    return embedded


def try_out(
    name: str, ground: Ground, data: Dataset, recipe: Recipe, runtime: Runtime, facts: dict[str, Any] | None = None
) -> Outcome:
    """Cross-validate a probe on the embeddings of a candidate; the folds are the same for all."""
    with named(runtime, name).progress.stage("Fitting", linear.steps(ground.folds)) as advance:
        found = linear.cross_validate(
            data.matrix, ground.labels, ground.folds, classes=len(ground.classes),
            class_weight=recipe.class_weight, workers=runtime.workers, advance=advance,
        )  # fmt: skip
    labels = ground.labels[found.rows]
    return Outcome(
        name,
        found.probabilities.argmax(1) == labels,
        negative_log_likelihood(found.probabilities, labels),
        np.array(ground.groups, np.int64)[found.rows],
        facts or {},
    )


def choose(outcomes: Sequence[Outcome]) -> tuple[int, tuple[float, ...]]:
    """The place of the candidate to take, and the p-value of each other against the first.

    The first stays, unless others are better than it beyond noise; then the first of those that none of them is better
    than. Better is what has at least the accuracy and at most the log loss, and in one of them more than chance would
    give at the 5 % level, corrected (Bonferroni) for the number of candidates and measures. So the first is replaced
    without need in about 5 % of cases.

    Args:
        outcomes: On the same images, in the order of preference among equals.
    """
    tests = MEASURES * max(len(outcomes) - 1, 1)
    p_values = tuple(min(1.0, better(other, outcomes[0]) * tests) for other in outcomes[1:])
    winners = [place for place, p in enumerate(p_values, 1) if p < LEVEL]
    best = (
        place
        for place in winners
        if all(better(outcomes[other], outcomes[place]) * tests >= LEVEL for other in winners)
    )
    return next(best, 0), p_values


def better(one: Outcome, other: Outcome) -> float:
    """The smaller p-value, uncorrected, of two tests that `one` is better than `other`; 1 where it is not in both.

    Accuracy: McNemar's exact test, or exact swaps of whole groups. Log loss: a paired t-test over groups.
    """
    gains = one.right.astype(np.int64) - other.right
    saved = other.losses - one.losses
    if gains.sum() < 0 or saved.mean() < 0:
        return 1.0
    clusters = np.unique(one.groups, return_inverse=True)[1]
    if clusters.max() + 1 == len(gains):
        by_accuracy = mcnemar(int((gains > 0).sum()), int((gains < 0).sum()))
    else:
        by_accuracy = swap_test(np.bincount(clusters, gains).astype(np.int64))
    return min(by_accuracy, paired_test(saved, clusters))


def paired_test(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """P-value, two-sided, of the t-test that a mean is zero; with clusters of one it is SciPy's ``ttest_1samp``.

    Args:
        values: One for each image, (N,).
        clusters: Cluster of each, int64 (N,), in 0..K-1; their sums are what varies (Cochran 1977, ratio estimate).
    """
    from scipy.special import stdtr

    mean, count = float(values.mean()), int(clusters.max()) + 1
    error = standard_error(values, clusters)
    if not error:
        return float(mean == 0)
    return 2 * float(stdtr(count - 1, -abs(mean) / error)) if math.isfinite(error) else 1.0


def standard_error(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Standard error of a mean over images of which whole clusters vary; infinite for a single cluster."""
    count = int(clusters.max()) + 1
    if count < 2:
        return math.inf
    deviations = np.bincount(clusters, values - values.mean())
    return math.sqrt(count / (count - 1) * float((deviations**2).sum())) / len(values)


def numbers(outcome: Outcome, p_value: float | None = None) -> str:
    """A candidate for a sentence, with the p-value that it is better than the first, where it looks so."""
    words = f"{100 * outcome.accuracy:.1f} %, log loss {outcome.log_loss:.3f}"
    return words if p_value is None or p_value == 1 else f"{words}, {p_words(p_value)}"


def p_words(p_value: float) -> str:
    """A p-value for a sentence."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.2f}" if p_value >= 0.095 else f"p = {p_value:.3f}"


def caveat(ground: Ground) -> str:
    """What must be said where the choice was made on images that are measured on, too."""
    if not ground.measured_too:
        return ""
    return " The choice was made on the images that are measured, so the numbers are slightly optimistic."


def named(runtime: Runtime, name: str) -> Runtime:
    """The same, with the name of a candidate behind that of each stage."""
    return dataclasses.replace(runtime, progress=_Named(runtime.progress, name))


class _Named:
    """Shows the stages of a candidate."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Begin a stage."""
        return self._progress.stage(f"{name} ({self._name})", total)

    def line(self, text: str) -> None:
        """Show a line."""
        self._progress.line(text)
