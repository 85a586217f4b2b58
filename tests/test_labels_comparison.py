"""`compare` where an image has several labels: differences, the test by swaps, and how often it errs."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.evaluation import labels_comparison
from headstart.evaluation.average_precision import (
    average_precision,
    average_precision_slopes,
    average_precisions,
    mean_average_precision_shares,
)
from headstart.evaluation.comparison import Pair, Predicted
from headstart.evaluation.labels_comparison import compare
from headstart.evaluation.power import more_images
from helpers import headstart_cli


def drawn(
    rng: np.random.Generator, images: int, labels: int = 3, *, share: float = 0.2, better: float = 0.0
) -> tuple[list[Predicted], np.ndarray]:
    """Two models that see the same and something of their own; the first sees `better` more of the truth."""
    y = (rng.random((images, labels)) < share).astype(np.int8)
    shared = 2 * y + rng.normal(size=y.shape)
    scores = [shared + better * y * first + rng.normal(size=y.shape) - 2.5 for first in (1, 0)]
    made = [1 / (1 + np.exp(-score)) for score in scores]
    return [Predicted(one, one >= 0.5) for one in made], y


def test_the_slopes_are_derivatives() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random(40).round(1), rng.random(40) < 0.3
    value, slopes = average_precision_slopes(p, y)
    assert value == pytest.approx(average_precision(p, y))
    assert slopes.sum() == pytest.approx(0, abs=1e-12)
    for i in range(40):
        weights = np.ones((1, 40))
        weights[0, i] += 1e-6
        assert slopes[i] == pytest.approx((average_precisions(p, y, weights)[0] - value) / 1e-6, abs=1e-5)


def test_what_images_add_to_the_mean_average_precision() -> None:
    """Its mean is scikit-learn's, over what is known; and an image more changes it by what that image adds."""
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(2)
    p, y = rng.random((60, 4)), (rng.random((60, 4)) < 0.3).astype(np.int8)
    y[rng.random(y.shape) < 0.2], y[:, 3] = -1, 0  # a label that no image has does not count
    shares = mean_average_precision_shares(p, y)
    known = [y[:, i] >= 0 for i in range(3)]
    assert shares.mean() == pytest.approx(
        np.mean([average_precision_score(y[own, i], p[own, i]) for i, own in enumerate(known)])
    )
    for row in range(60):
        weights = np.ones((1, 60))
        weights[0, row] += 1e-6
        there = [average_precisions(p[own, i], y[own, i] == 1, weights[:, own])[0] for i, own in enumerate(known)]
        assert shares[row] - shares.mean() == pytest.approx(60 * (np.mean(there) - shares.mean()) / 1e-6, abs=1e-3)


def test_the_differences_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    made, y = drawn(np.random.default_rng(1), 80)
    (pair,) = compare(made, y)

    def less(metric: str, **more: str) -> float:
        found = [getattr(metrics, metric)(y, one.found, **more) for one in made]
        return float(found[0] - found[1])

    average = [metrics.average_precision_score(y, one.probabilities, average="macro") for one in made]
    assert pair.difference == pytest.approx(average[0] - average[1])
    assert pair.others["micro_f1"].difference == pytest.approx(less("f1_score", average="micro"))
    assert pair.others["macro_f1"].difference == pytest.approx(less("f1_score", average="macro"))
    assert pair.others["exact_match"].difference == pytest.approx(less("accuracy_score"))
    assert pair.only_first - pair.only_second == round(80 * pair.others["exact_match"].difference)
    losses = [np.mean([metrics.log_loss(y[:, i], one.probabilities[:, i]) for i in range(3)]) for one in made]
    assert pair.log_loss_difference == pytest.approx(losses[0] - losses[1])


@pytest.mark.slow
def test_the_p_value_is_that_of_all_swaps() -> None:
    """All 512 ways to swap nine images, by scikit-learn; what is drawn at random comes near."""
    from sklearn.metrics import average_precision_score

    made, y = drawn(np.random.default_rng(4), 9, 2, share=0.5, better=1.0)
    one, two = made[0].probabilities, made[1].probabilities
    differences = [
        average_precision_score(y, np.where(swap, two, one)) - average_precision_score(y, np.where(swap, one, two))
        for swap in (np.array(bits)[:, None] for bits in product([False, True], repeat=9))
    ]
    exact = np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12)
    (pair,) = compare(made, y)
    assert 0.01 < exact < 0.9
    assert pair.p_value == pytest.approx(exact, abs=0.04)


def test_what_is_not_known_counts_for_nothing() -> None:
    made, y = drawn(np.random.default_rng(2), 60)
    y[:20, 1] = -1
    scrambled = [one.probabilities.copy() for one in made]
    for one in scrambled:
        one[:20, 1] = np.random.default_rng(3).random(20)
    assert compare(made, y) == compare([Predicted(one, one >= 0.5) for one in scrambled], y)
    (nothing,) = compare(made, np.zeros_like(y))
    assert (nothing.difference, nothing.p_value, nothing.more_images) == (0, 1, None)
    with pytest.raises(ValueError, match="labels"):
        compare(made, y[:, :2])


def test_groups_are_swapped_whole() -> None:
    """Each image ten times is no more evidence than once."""
    made, y = drawn(np.random.default_rng(5), 40, better=0.8)
    ten = [Predicted(*(np.repeat(part, 10, axis=0) for part in one)) for one in made]
    groups = np.repeat(np.arange(40), 10).tolist()
    (single,), (grouped,) = compare(made, y), compare(ten, np.repeat(y, 10, axis=0), groups=groups)
    (naive,) = compare(ten, np.repeat(y, 10, axis=0))
    assert grouped.test == "swaps of whole groups"
    assert grouped.p_value == pytest.approx(single.p_value, abs=0.05)
    assert naive.p_value < single.p_value / 2
    lows = [pair.difference_interval[0] for pair in (single, grouped, naive)]
    assert lows[1] == pytest.approx(lows[0], abs=0.02)
    assert lows[2] > lows[0]


@pytest.mark.slow
def test_of_very_many_images_the_linear_part_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    made, y = drawn(np.random.default_rng(6), 1500, better=0.08)
    (drawn_pair,) = compare(made, y)
    monkeypatch.setattr(labels_comparison, "MAX_VALUES", 0)
    (linear,) = compare(made, y)
    assert linear.difference == pytest.approx(drawn_pair.difference)
    assert linear.difference_interval == pytest.approx(drawn_pair.difference_interval, abs=0.004)
    assert linear.p_value == pytest.approx(drawn_pair.p_value, abs=0.03)


def test_folds_must_agree() -> None:
    made, y = drawn(np.random.default_rng(7), 100, better=0.7)
    (alone,), (folded,) = compare(made, y), compare(made, y, folds=np.arange(100) % 5)
    assert folded.p_value >= alone.p_value
    assert folded.difference_interval[0] <= alone.difference_interval[0]
    assert "t-test over folds" in folded.test


def rejected(sets: int, images: int, labels: int, share: float, *, better: float = 0.0) -> list[Pair]:
    return [compare(*drawn(np.random.default_rng(seed), images, labels, share=share, better=better))[0]
            for seed in range(sets)]  # fmt: skip


@pytest.mark.slow
def test_the_level_is_kept() -> None:
    """Of 60 sets with no difference few are found to differ; of 1,000 it was 4.7 %, and 4.5 % of intervals missed 0."""
    pairs = rejected(60, 60, 3, 0.2)
    assert np.mean([pair.resolved for pair in pairs]) <= 0.12
    assert np.mean([pair.difference_interval[0] <= 0 <= pair.difference_interval[1] for pair in pairs]) >= 0.85
    for name in ("micro_f1", "macro_f1", "exact_match"):
        assert np.mean([pair.others[name].p_value < 0.05 for pair in pairs]) <= 0.12
    assert np.mean([pair.resolved for pair in rejected(10, 120, 3, 0.2, better=1.5)]) == 1


def test_more_images_are_those_that_the_error_asks_for() -> None:
    """With four times the images the error is half as large: a difference of 1.4 errors needs four times as many."""
    error = 0.01
    needed = more_images(100, 1.4008 * error, (0.014 - 1.96 * error, 0.014 + 1.96 * error), level=0.05)
    assert needed == pytest.approx(300, abs=2)
    assert more_images(100, 0.0, (-0.1, 0.1), level=0.05) is None
    assert more_images(100, 1e-6, (-0.1, 0.1), level=0.05) is None


# The command


@pytest.mark.slow
def test_the_command_compares_models_of_several_labels(canvases: Path, tmp_path: Path, warm: Path) -> None:
    names = []
    for name, text in (("frequent", "threshold = '0.5'"), ("balanced", "class_weight = 'balanced'")):
        (tmp_path / f"{name}.toml").write_text(f"strategy = 'probe'\nfit = 'squash'\n{text}\n")
        names.append(str(tmp_path / f"{name}.toml"))
    out = tmp_path / "out"
    done = headstart_cli(
        "compare", canvases / "list.csv", "--recipes", ",".join(names), "--fit", "squash", "--out", out, "--json",
        HEADSTART_CACHE=str(warm),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "Differences in mean average precision" in done.err
    record = json.loads((out / "comparison.json").read_text())
    assert record["measure"] == "mean_average_precision"
    assert "images per label" in record["rule_of_thumb"]["advice"]
    for row in record["rows"]:
        saved = json.loads((out / row["run"] / "metrics.json").read_text())["evaluation"]
        for key in ("mean_average_precision", "micro_f1", "exact_match", "log_loss"):
            assert row[key] == pytest.approx(saved[key], abs=1e-6)
    (pair,) = record["pairs"]
    assert set(pair["others"]) == {"micro_f1", "macro_f1", "exact_match"}
    values = [row["mean_average_precision"] for row in record["rows"]]
    assert pair["difference"] == pytest.approx(values[0] - values[1], abs=1e-6)
    page = (out / "report.html").read_text()
    assert "Mean average precision" in page
    assert "all labels right" in page
    comparison = headstart.compare(
        canvases / "list.csv", recipes=names, settings={"fit": "squash"}, runtime=headstart.Runtime(cache=warm)
    )
    assert "Mean average precision" in comparison._repr_html_()
