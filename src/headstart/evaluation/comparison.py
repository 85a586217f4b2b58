"""Is one classifier better than another? Tests and intervals for predictions of the same images.

What counts is where two classifiers disagree: McNemar's exact test asks whether the images that only one of them
gets right are more than a fair coin would give it. Where images of one group belong together, whole groups are
swapped instead. The predictions of a cross-validation are correlated in another way, through the models that made them;
there the folds must agree on the difference too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.evaluation.intervals import Interval
from headstart.evaluation.metrics import judge
from headstart.evaluation.paired_intervals import (
    design_effect,
    middle,
    resampled_means,
    score_interval,
    wider,
)
from headstart.evaluation.paired_tests import LEVEL, fold_test, holm, mcnemar, swap_test
from headstart.evaluation.power import images_needed, needed_of_folds

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Difference(NamedTuple):
    """A difference of two models.

    Attributes:
        difference: Of the first less the second, in -1..1.
        interval: Of 95 %, by the bootstrap over clusters of images.
        p_value: Of the test by swaps, for this pair and this number alone.
    """

    difference: float
    interval: Interval
    p_value: float


@dataclass(frozen=True)
class Pair:
    """Two classifiers on the same images.

    Attributes:
        first: Which of the classifiers the difference speaks for, by number.
        second: Which it is taken from.
        n: Images, all predicted by both.
        only_first: Images that the first alone gets right.
        only_second: Images that the second alone gets right.
        difference: Accuracy of the first less that of the second, or of what else a task is compared by; in -1..1.
        difference_interval: Of 95 %, for this pair alone.
        p_value: Of the test of this pair alone: how often two equally good classifiers would differ as much.
        p_corrected: The same by Holm's correction for all pairs of the comparison; what a verdict may go by.
        test: What gave the p-value, in words.
        log_loss_difference: Mean log loss of the first less that of the second, in nats: negative speaks for it.
        log_loss_difference_interval: Of 95 %, by the bootstrap.
        more_images: About how many more held-out images would show a difference as large as this one at the level
            that the strictest correction leaves, four times out of five; 0 where it is shown, None where no number
            up to `MAX_IMAGES` would.
        others: Differences of other numbers by their keys, where a task has some. They decide nothing: their p-values
            are not corrected.
    """

    first: int
    second: int
    n: int
    only_first: int
    only_second: int
    difference: float
    difference_interval: Interval
    p_value: float
    p_corrected: float
    test: str
    log_loss_difference: float
    log_loss_difference_interval: Interval
    more_images: int | None
    others: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def resolved(self) -> bool:
        """Whether the difference is significant."""
        return self.p_corrected < LEVEL

    @property
    def same(self) -> bool:
        """Whether both get the same images right, and are equally good."""
        return not self.only_first + self.only_second and not self.difference

    def as_dict(self, names: Sequence[str]) -> dict[str, object]:
        """The pair as JSON values, with the names of the classifiers."""
        others = {
            name: {"difference": one.difference, "interval": list(one.interval), "p_value": one.p_value}
            for name, one in self.others.items()
        }
        return {
            "a": names[self.first], "b": names[self.second], "n": self.n, "test": self.test,
            "only_a": self.only_first, "only_b": self.only_second, "p_value": self.p_value,
            "p_corrected": self.p_corrected, "resolved": self.resolved, "difference": self.difference,
            "difference_interval": list(self.difference_interval), "more_images": self.more_images,
            "log_loss_difference": self.log_loss_difference,
            "log_loss_difference_interval": list(self.log_loss_difference_interval),
            **({"others": others} if others else {}),
        }  # fmt: skip


class Predicted(NamedTuple):
    """What a classifier says of N images.

    Attributes:
        probabilities: Calibrated, float64 (N, C).
        found: What reaches its threshold, where a task has some: bool (N, C).
    """

    probabilities: NDArray[np.float64]
    found: NDArray[np.bool_]


@dataclass(frozen=True)
class Comparing:
    """By what the classifiers of a task are compared.

    Attributes:
        measure: What a verdict goes by: a key of the evaluation, beside which its interval is.
        words: The same in words.
        also: Other keys that are shown, each with a heading.
        pairs: What tests each pair: ``(predicted of each, labels, *, groups, folds)``.
    """

    measure: str
    words: str
    also: tuple[tuple[str, str], ...]
    pairs: Callable[..., tuple[Pair, ...]]

    def numbers(self, evaluation: object | None) -> dict[str, object]:
        """The numbers of an evaluation, each with its interval, as JSON values; null where there is none."""
        found: dict[str, object] = {}
        for key in (self.measure, *(key for key, _ in self.also)):
            ends = getattr(evaluation, f"{key}_interval", None)
            found |= {key: getattr(evaluation, key, None), f"{key}_interval": None if ends is None else list(ends)}
        return found


def clusters_of(images: int, groups: Sequence[int] | None) -> NDArray[np.int64]:
    """The cluster of each image from 0 on, (N,), by its group; each image its own where there are none."""
    result: NDArray[np.int64] = np.unique(np.arange(images) if groups is None else groups, return_inverse=True)[1]
    return result


def compare(
    right: NDArray[np.bool_],
    losses: NDArray[np.float64],
    *,
    groups: Sequence[int] | None = None,
    folds: NDArray[np.int64] | None = None,
) -> tuple[Pair, ...]:
    """Compare each classifier with each other.

    Args:
        right: Whether each of M classifiers gets each image right, bool (M, N).
        losses: Negative log likelihood of the true class, float64 (M, N), in nats.
        groups: Group number of each image, (N,): images of one group are no independent evidence. None: all are.
        folds: Fold of each image in a cross-validation, (N,); None where one model predicted all.

    Raises:
        ValueError: There is no image, or the shapes do not fit.
    """
    if right.shape != losses.shape or right.ndim != 2 or not right.shape[1]:
        raise ValueError(f"right {right.shape} and losses {losses.shape}; expected (M, N) of at least one image")
    clusters = clusters_of(right.shape[1], groups)
    places = list(combinations(range(len(right)), 2))
    means = resampled_means(losses, clusters)
    pairs = [_pair(right, losses, means, place, clusters, folds, LEVEL / len(places)) for place in places]
    corrected = holm([pair.p_value for pair in pairs])
    return tuple(
        replace(pair, p_corrected=p, more_images=0 if p < LEVEL else pair.more_images)
        for pair, p in zip(pairs, corrected, strict=True)
    )


def _pair(
    right: NDArray[np.bool_],
    losses: NDArray[np.float64],
    means: NDArray[np.float64],
    place: tuple[int, int],
    clusters: NDArray[np.int64],
    folds: NDArray[np.int64] | None,
    level: float,
) -> Pair:
    """One pair, before the correction."""
    first, second = place
    gains = right[first].astype(np.int64) - right[second]  # (N,) of -1, 0, 1
    losses_more = losses[first] - losses[second]
    n, only_first, only_second = len(gains), int((gains > 0).sum()), int((gains < 0).sum())
    grouped = clusters.max() + 1 < n
    p_value = swap_test(np.bincount(clusters, gains).astype(np.int64)) if grouped else mcnemar(only_first, only_second)
    test = "exact swaps of whole groups" if grouped else "McNemar's exact test"
    # Correlated images count for fewer (Rao and Scott 1992).
    effect = design_effect(gains, clusters)
    interval = score_interval(only_first / effect, only_second / effect, n / effect)
    loss_interval = middle(means[first] - means[second], int(clusters.max()) + 1)[1]
    needed = images_needed(only_first / n, only_second / n, level=level)
    needed = needed and math.ceil(needed * effect)
    if folds is not None:
        fold_p, fold_interval = fold_test(gains.astype(np.float64), folds)
        p_value, interval = max(p_value, fold_p), wider(interval, fold_interval)
        loss_interval = wider(loss_interval, fold_test(losses_more, folds)[1])
        test += ", and the corrected t-test over folds"
        needed = needed and max(needed, needed_of_folds(n, fold_p, len(np.unique(folds)), level))
    return Pair(
        first, second, n, only_first, only_second, float(gains.mean()), interval, p_value, p_value, test,
        float(losses_more.mean()), loss_interval, needed and max(needed - n, 1),
    )  # fmt: skip


def _of_classes(
    predicted: Sequence[Predicted],
    labels: NDArray[np.int64],
    *,
    groups: Sequence[int] | None = None,
    folds: NDArray[np.int64] | None = None,
) -> tuple[Pair, ...]:
    """The comparison of classifiers of one class an image."""
    judged = [judge(one.probabilities, labels) for one in predicted]
    right, losses = (np.array(part) for part in zip(*judged, strict=True))
    return compare(right, losses, groups=groups, folds=folds)


BY_ACCURACY = Comparing(measure="accuracy", words="accuracy", also=(("log_loss", "Log loss"),), pairs=_of_classes)
