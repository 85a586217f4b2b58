"""Paired tests, their intervals and the verdict: against SciPy, brute force, and simulated sets of known truth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headstart.evaluation import paired_intervals, paired_tests, power
from headstart.evaluation.comparison import Pair, compare
from headstart.evaluation.verdict import Candidate, judge

SETS = 1000
FEW_SETS = 400  # of what takes long
# Three standard errors of a share of 5 % over as many sets.
NOISE, MORE_NOISE = (3 * math.sqrt(0.05 * 0.95 / sets) for sets in (SETS, FEW_SETS))


def outcomes(rng: np.random.Generator, n: int, first: float, second: float) -> np.ndarray:
    """Right or wrong, bool (2, N): each alone is right with these chances, and both or none otherwise."""
    kind = rng.choice(3, size=n, p=[first, second, 1 - first - second])
    both = rng.random(n) < 0.9
    return np.array([(kind == 0) | ((kind == 2) & both), (kind == 1) | ((kind == 2) & both)])


def losses_of(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.exponential(0.3, right.shape) + ~right


# Tests


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_binomial_test_of_scipy(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert paired_tests.mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=10))
def test_swaps_are_counted_as_brute_force_counts_them(gains: list[int]) -> None:
    signs = itertools.product([1, -1], repeat=len(gains))
    sums = [abs(sum(sign * gain for sign, gain in zip(one, gains, strict=True))) for one in signs]
    expected = np.mean([total >= abs(sum(gains)) for total in sums])
    assert paired_tests.swap_test(np.array(gains)) == pytest.approx(expected)


@given(st.integers(0, 60), st.integers(0, 60))
def test_swaps_of_single_images_are_mcnemars_test(first: int, second: int) -> None:
    gains = np.array([1] * first + [-1] * second + [0, 0])
    assert paired_tests.swap_test(gains) == pytest.approx(paired_tests.mcnemar(first, second))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_its_definition(p_values: list[float]) -> None:
    """The k-th smallest is multiplied by the number of those from it on, and none is smaller than one before it."""
    order = np.argsort(p_values, kind="stable")
    expected = np.empty(len(p_values))
    for rank, place in enumerate(order):
        steps = [min(1.0, (len(p_values) - k) * p_values[order[k]]) for k in range(rank + 1)]
        expected[place] = max(steps)
    assert paired_tests.holm(p_values) == pytest.approx(expected)


def test_holm_keeps_the_level_over_all_pairs() -> None:
    """Four classifiers of the same accuracy: at most one set in twenty shows any difference at all."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(SETS):
        right = rng.random((4, 300)) < 0.8
        pairs = itertools.combinations(right, 2)
        p_values = [paired_tests.mcnemar(int((a & ~b).sum()), int((b & ~a).sum())) for a, b in pairs]
        found += min(paired_tests.holm(p_values)) < 0.05
    assert found / SETS <= 0.05 + NOISE


@pytest.mark.parametrize(("n", "share"), [(153, 0.03), (60, 0.15), (1000, 0.02)])
def test_mcnemar_keeps_its_level(n: int, share: float) -> None:
    rng = np.random.default_rng(1)
    counts = rng.multinomial(n, [share, share, 1 - 2 * share], size=SETS)
    found = np.mean([paired_tests.mcnemar(int(first), int(second)) < 0.05 for first, second, _ in counts])
    assert found <= 0.05 + NOISE


def test_swaps_keep_their_level_where_images_of_a_group_are_alike() -> None:
    """Groups of six that are right or wrong together: McNemar's test, which counts images, finds far too much."""
    rng = np.random.default_rng(2)
    found, naive = 0, 0
    for _ in range(SETS):
        gains = rng.choice([-1, 0, 1], size=40, p=[0.2, 0.6, 0.2]).repeat(6)
        groups = np.arange(40).repeat(6)
        found += paired_tests.swap_test(np.bincount(groups, gains).astype(np.int64)) < 0.05
        naive += paired_tests.mcnemar(int((gains > 0).sum()), int((gains < 0).sum())) < 0.05
    assert found / SETS <= 0.05 + NOISE
    assert naive / SETS > 0.25


@pytest.mark.slow
def bootstrap(values: np.ndarray, clusters: np.ndarray, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """P-value and interval of the mean of one difference of the images (N,), as `compare` has them of several."""
    means = paired_intervals.resampled_means(values[None], clusters, seed)[0]
    return paired_intervals.middle(means, int(clusters.max()) + 1)


@pytest.mark.parametrize(("n", "clusters"), [(150, 150), (500, 500), (300, 20)])
def test_bootstrap_keeps_its_level_and_covers(n: int, clusters: int) -> None:
    """Losses as they are, skewed, and with clusters that have a share of their own in each difference."""
    rng = np.random.default_rng(3)
    numbers = np.arange(n) % clusters
    found, covered = 0, 0
    for number in range(FEW_SETS):
        values = rng.exponential(0.4, n) - rng.exponential(0.4, n)
        if clusters < n:
            values += rng.normal(0, 0.3, clusters)[numbers]
        p_value, (low, high) = bootstrap(values, numbers, seed=number)
        found += p_value < 0.05
        covered += low <= 0 <= high
    assert found / FEW_SETS == pytest.approx(0.05, abs=MORE_NOISE)
    assert covered / FEW_SETS == pytest.approx(0.95, abs=MORE_NOISE)


def test_bootstrap_says_the_same_as_its_interval() -> None:
    rng = np.random.default_rng(4)
    for shift in np.linspace(-0.4, 0.4, 41):
        p_value, (low, high) = bootstrap(rng.normal(shift, 1, 100), np.arange(100))
        if abs(p_value - 0.05) > 0.005:
            assert (p_value < 0.05) == (not low <= 0 <= high)


def ridge(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    wide = np.c_[features, np.ones(len(features))]
    weights: np.ndarray = np.linalg.solve(wide.T @ wide + np.eye(wide.shape[1]), wide.T @ (2 * labels - 1))
    return weights


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at no bootstrap, which is most of the time of a comparison."""
    monkeypatch.setattr(paired_intervals, "RESAMPLES", 10)


def cross_validated(rng: np.random.Generator, n: int, width: int, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """Two learners that are equally good on average, since each sees other features of the same kind; (2, N)."""
    labels = rng.integers(0, 2, n)
    common = rng.normal(size=(n, width))
    centre = 1.5 * (2 * labels - 1)[:, None] / math.sqrt(width)
    number = rng.permutation(n) % folds
    right = np.empty((2, n), bool)
    for learner in range(2):
        features = 0.7 * common + 0.7 * rng.normal(size=(n, width)) + centre
        for fold in range(folds):
            inside, outside = number != fold, number == fold
            weights = ridge(features[inside], labels[inside])
            scores = np.c_[features[outside], np.ones(outside.sum())] @ weights
            right[learner, outside] = (scores > 0) == labels[outside]
    return right, number


@pytest.mark.slow
@pytest.mark.parametrize(("n", "width", "folds"), [(100, 50, 5), (240, 20, 5), (240, 100, 10)])
@pytest.mark.usefixtures("few_draws")
def test_two_cross_validated_learners_that_are_alike(n: int, width: int, folds: int) -> None:
    """Over trainings and test images both, the level holds; and the interval covers at least as often as it says."""
    rng = np.random.default_rng(5)
    found, covered = 0, 0
    for _ in range(FEW_SETS):
        right, number = cross_validated(rng, n, width, folds)
        (pair,) = compare(right, np.zeros(right.shape), folds=number)
        found += pair.resolved
        covered += pair.difference_interval[0] <= 0 <= pair.difference_interval[1]
    assert found / FEW_SETS <= 0.05
    assert covered / FEW_SETS >= 0.95


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
def test_without_the_folds_two_learners_that_are_alike_are_told_apart_too_often() -> None:
    """Why the folds count in a cross-validation: McNemar's test knows nothing of the luck of a training."""
    rng = np.random.default_rng(6)
    found = 0
    for _ in range(FEW_SETS):
        right, _ = cross_validated(rng, 100, 50, 5)
        found += compare(right, np.zeros(right.shape))[0].resolved
    assert found / FEW_SETS > 0.05 + MORE_NOISE


def test_fold_test_is_that_of_nadeau_and_bengio() -> None:
    """SciPy's t-test of the folds' means, with the variance raised by 1 + K / (K - 1)."""
    rng = np.random.default_rng(7)
    values, folds = rng.normal(0.3, 1, 100), np.arange(100) % 5
    means = np.array([values[folds == fold].mean() for fold in range(5)])
    plain = stats.ttest_1samp(means, 0)
    raised = plain.statistic / math.sqrt(1 + 5 / 4)
    p_value, (low, high) = paired_tests.fold_test(values, folds)
    assert p_value == pytest.approx(2 * stats.t.sf(abs(raised), 4))
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * abs(values.mean() / raised))


def test_folds_that_all_agree_are_left_to_the_exact_test() -> None:
    """One image more in each of five folds: no variance at all, and yet five images prove nothing."""
    right = np.ones((2, 50), bool)
    right[1, :5] = False
    (pair,) = compare(right, np.zeros((2, 50)), folds=np.arange(50) % 5)
    assert pair.p_value == pytest.approx(2 * 0.5**5)
    assert not pair.resolved


# Intervals


@pytest.mark.parametrize(
    ("n", "first", "second"),
    [(153, 0.03, 0.03), (153, 0.06, 0.02), (60, 0.1, 0.05), (500, 0.02, 0.02), (153, 0.3, 0.02), (1000, 0.03, 0.02)],
)
def test_score_interval_covers(n: int, first: float, second: float) -> None:
    rng = np.random.default_rng(8)
    counts = rng.multinomial(n, [first, second, 1 - first - second], size=2 * SETS)
    intervals = [paired_intervals.score_interval(int(one), int(other), n) for one, other, _ in counts]
    assert 0.93 <= np.mean([low <= first - second <= high for low, high in intervals]) <= 0.97


def test_score_interval_covers_where_images_come_in_groups() -> None:
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(SETS):
        groups = np.arange(80).repeat(4)
        kinds = rng.choice(3, size=80, p=[0.12, 0.06, 0.82]).repeat(4)
        own = rng.random(320) < 0.3  # do as they please
        kinds[own] = rng.choice(3, size=own.sum(), p=[0.12, 0.06, 0.82])
        effect = paired_intervals.design_effect((kinds == 0).astype(int) - (kinds == 1), groups)
        counts = ((kinds == 0).sum() / effect, (kinds == 1).sum() / effect)
        low, high = paired_intervals.score_interval(*counts, 320 / effect)
        covered += low <= 0.06 <= high
    assert 0.93 <= covered / SETS <= 0.97


@pytest.mark.slow
@given(st.integers(1, 400), st.data())
def test_score_interval_is_where_the_score_test_changes_its_mind(n: int, data: Any) -> None:
    """At its edges the difference is 1.96 standard errors away, with the likeliest shares found by a search."""
    first = data.draw(st.integers(0, n))
    second = data.draw(st.integers(0, n - first))
    low, high = paired_intervals.score_interval(first, second, n)
    assert -1 <= low <= (first - second) / n <= high <= 1
    for edge in (low, high):
        if abs(edge) < 0.999:
            assert score(first, second, n, edge) == pytest.approx(1.959963984540054, abs=0.02)


def score(first: int, second: int, n: int, guess: float) -> float:
    """Tango's statistic, with the restricted maximum of the likelihood found on a grid instead of by its formula."""
    shares = np.linspace(max(0, -guess), min(1, (1 - guess) / 2), 400_001)
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = (
            stats.binom.logpmf(0, 0, 0.5) + np.where(first, first * np.log(shares + guess), 0)
            + np.where(second, second * np.log(shares), 0)
            + np.where(n - first - second, (n - first - second) * np.log(1 - 2 * shares - guess), 0)
        )  # fmt: skip
    best = shares[np.nanargmax(likelihood)]
    return abs(first - second - n * guess) / math.sqrt(n * (2 * best + guess * (1 - guess)))


def test_intervals_turn_with_the_pair() -> None:
    low, high = paired_intervals.score_interval(7, 3, 100)
    assert paired_intervals.score_interval(3, 7, 100) == pytest.approx((-high, -low))


# How many more images


@pytest.mark.parametrize(("first", "second"), [(3 / 153, 0.0), (0.05, 0.02), (0.3, 0.02), (0.035, 0.025)])
def test_with_the_images_needed_the_difference_is_found_four_times_of_five(first: float, second: float) -> None:
    needed = power.images_needed(first, second)
    assert needed is not None
    rng = np.random.default_rng(10)
    counts = rng.multinomial(needed, [first, second, 1 - first - second], size=4000)
    found = np.mean([paired_tests.mcnemar(int(one), int(other)) < 0.05 for one, other, _ in counts])
    assert found == pytest.approx(power.power(needed, first, second), abs=0.02)
    assert 0.79 <= found <= 0.84


def test_power_is_that_of_all_outcomes() -> None:
    """Every pair of counts, weighed by its chance."""
    n, first, second = 40, 0.2, 0.05
    total = sum(
        stats.multinomial.pmf([one, other, n - one - other], n, [first, second, 1 - first - second])
        for one in range(n + 1) for other in range(n + 1 - one)
        if one + other and stats.binomtest(one, one + other).pvalue < 0.05
    )  # fmt: skip
    assert power.power(n, first, second) == pytest.approx(total)


def test_no_number_of_images_where_nothing_differs() -> None:
    assert power.images_needed(0, 0) is None
    assert power.images_needed(0.04, 0.04) is None
    assert power.images_needed(0.0300001, 0.03) is None  # beyond a million
    same = np.array([[True, True, False]] * 2)
    (pair,) = compare(same, np.zeros((2, 3)))
    assert (pair.difference, pair.p_value, pair.more_images) == (0, 1, None)


def test_more_images_are_asked_for_only_where_the_difference_is_not_shown() -> None:
    rng = np.random.default_rng(11)
    clear = outcomes(rng, 200, 0.3, 0.02)
    (pair,) = compare(clear, losses_of(clear, rng))
    assert (pair.resolved, pair.more_images) == (True, 0)
    few = np.ones((2, 100), bool)
    few[1, :3] = False
    (pair,) = compare(few, np.zeros(few.shape))
    needed = power.images_needed(0.03, 0)
    assert needed is not None
    assert (pair.resolved, pair.more_images) == (False, needed - 100)
    (grouped,) = compare(few, np.zeros(few.shape), groups=[i // 3 for i in range(100)])
    assert grouped.more_images is not None
    assert grouped.more_images > needed - 100  # three images of one group are no three images


# Properties


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.integers(2, 4))
def test_the_order_of_images_and_classifiers_changes_nothing(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random((count, 40)) < 0.7
    losses = losses_of(right, rng)
    pairs = compare(right, losses)
    mixed = rng.permutation(40)
    again = compare(right[::-1][:, mixed], losses[::-1][:, mixed])
    turned = {(count - 1 - pair.second, count - 1 - pair.first): pair for pair in again}
    for pair in pairs:
        other = turned[pair.first, pair.second]
        assert (pair.only_first, pair.only_second) == (other.only_second, other.only_first)
        assert pair.p_corrected == pytest.approx(other.p_corrected)
        assert pair.difference_interval == pytest.approx((-other.difference_interval[1], -other.difference_interval[0]))
        assert pair.log_loss_difference == pytest.approx(-other.log_loss_difference)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        compare(np.ones((2, 0), bool), np.ones((2, 0)))
    with pytest.raises(ValueError, match="at least one image"):
        compare(np.ones((2, 3), bool), np.ones((2, 4)))


# The verdict


def verdict_of(accuracies: Sequence[float], p_values: dict[tuple[int, int], float], **changes: Any) -> Any:
    """The verdict on candidates a, b, c, ..., from the cheapest; pairs that are not named have p = 1."""
    pairs = []
    for first, second in itertools.combinations(range(len(accuracies)), 2):
        p = p_values.get((first, second), 1.0)
        difference = accuracies[first] - accuracies[second]
        values = {"more_images": 2871, "only_first": 5, "only_second": 4} | changes
        pairs.append(Pair(
            first=first, second=second, n=153, difference=difference, difference_interval=(-0.1, 0.1), p_value=p,
            p_corrected=p, test="", log_loss_difference=0, log_loss_difference_interval=(0, 0), **values,
        ))  # fmt: skip
    candidates = [Candidate("abcdef"[i], accuracy, (i,), f"trained in {i} s") for i, accuracy in enumerate(accuracies)]
    return judge(candidates, pairs, "153 held-out images")


def test_verdict_where_nothing_is_resolved() -> None:
    verdict = verdict_of([0.95, 0.94, 0.96], {})
    assert (verdict.chosen, verdict.alike) == (0, (0, 1, 2))
    assert verdict.sentence == (
        "Use a: it is the cheapest (trained in 0 s) of a, b and c, which 153 held-out images cannot separate. "
        "If c is as much better than a as it was here (1.0 points), about 2,900 more held-out images "
        "would be needed to show it."
    )
    assert "better than b" not in verdict.sentence


def test_verdict_where_one_is_better_than_all() -> None:
    verdict = verdict_of([0.9, 0.8, 0.99], {(0, 2): 0.0496, (1, 2): 1e-9, (0, 1): 0.3})
    assert (verdict.chosen, verdict.alike) == (2, (2,))
    assert verdict.sentence == (
        "Use c: it is better than a (p = 0.0496) and b (p < 0.001) on 153 held-out images "
        "(p-values corrected for 3 pairs)."
    )


def test_verdict_where_the_cheapest_is_beaten_by_none() -> None:
    verdict = verdict_of([0.95, 0.96, 0.6], {(0, 2): 0.001, (1, 2): 0.0002})
    assert verdict.sentence.startswith(
        "Use a: it is the cheapest (trained in 0 s) of a and b, which 153 held-out images cannot separate, "
        "and better than c (p = 0.001) (p-values corrected for 3 pairs). If b is as much better than a"
    )


def test_verdict_claims_nothing_of_the_chosen_one_that_another_has_shown() -> None:
    """b beats c, a does not: a, the cheapest that none beats, is not said to be better than c."""
    verdict = verdict_of([0.93, 0.96, 0.9], {(1, 2): 0.02})
    assert verdict.chosen == 0
    assert "better than c" not in verdict.sentence
    assert "c is worse than b (p = 0.02)" in verdict.sentence


def test_the_cheapest_is_left_where_something_is_better() -> None:
    assert verdict_of([0.8, 0.9], {(0, 1): 0.049}).chosen == 1
    assert verdict_of([0.8, 0.9], {(0, 1): 0.05}).chosen == 0


def test_verdict_on_one_alone_and_on_twins() -> None:
    assert verdict_of([0.9], {}).sentence == "Use a."
    assert (
        "exactly the same images" in verdict_of([0.9, 0.9], {}, only_first=0, only_second=0, more_images=None).sentence
    )
    assert "equally good here" in verdict_of([0.9, 0.9], {}, more_images=None).sentence
    assert "More than 1,000,000 images" in verdict_of([0.9, 0.901], {}, more_images=None).sentence


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
def test_verdict_seldom_calls_one_better_where_all_are_alike() -> None:
    """The whole way from predictions to words: at most one false claim in twenty sets."""
    rng = np.random.default_rng(12)
    claims = 0
    for _ in range(SETS):
        right = rng.random((3, 150)) < 0.9
        candidates = [Candidate(f"{i}", float(right[i].mean()), (i,), "") for i in range(3)]
        sentence = judge(candidates, compare(right, np.zeros(right.shape)), "150 images").sentence
        claims += "better than" in sentence.split(" If ")[0] or "worse" in sentence
    assert claims / SETS <= 0.05 + NOISE


@pytest.mark.parametrize(("signs", "expected"), [([1, 1, 1, 1], 2 / 16), ([1] * 6, 2 / 64), ([1, -1], 1.0)])
def test_sign_flips_of_equal_differences_are_coin_throws(signs: list[int], expected: float) -> None:
    """Beside any number of images on which there is no difference."""
    differences = np.array([*signs, *[0] * 3], float)
    assert paired_tests.sign_flip_test(differences, np.arange(len(differences))) == pytest.approx(expected)


@pytest.mark.slow
def test_sign_flips_keep_their_level_and_clusters_flip_together() -> None:
    """Of 200 sets without a difference about 5 % are called different; copies of an image are no evidence."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(200, 12)) * rng.exponential(size=(200, 12))
    called = np.mean([paired_tests.sign_flip_test(one, np.arange(12)) < 0.05 for one in draws])
    assert 0.02 < called < 0.09
    alone = paired_tests.sign_flip_test(draws[0], np.arange(12))
    copied = paired_tests.sign_flip_test(np.repeat(draws[0], 4), np.repeat(np.arange(12), 4))
    assert copied == pytest.approx(alone)
