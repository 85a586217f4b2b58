"""The choice of the head's penalty: a property of the images, which neither a tolerance nor rounding can move."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headstart.heads import linear, penalty, softmax
from headstart.targets.classes.temperature import fit_temperature, smoothed_log_loss

# Images, width, classes, spread of the noise: easy, overlapping, 5 images a class.
MADE = {"easy": (300, 160, 5, 2.0), "overlapping": (400, 160, 4, 8.0), "few": (100, 320, 20, 3.0)}
KERNELS = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen")


def made(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, labels and folds to learn from; embeddings and labels of 500 more."""
    count, width, classes, spread = MADE[name]
    rng = np.random.default_rng(7)
    labels = np.arange(count + 500) % classes
    points = rng.normal(size=(classes, width))[labels] + spread * rng.normal(size=(count + 500, width))
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    x = (points * np.geomspace(1, 1e-2, width) @ rotation + 3).astype(np.float32)
    return x[:count], labels[:count], np.arange(count) // classes % 5, x[count:], labels[count:]


def described(name: str, workers: int) -> dict[str, float]:
    """What is chosen, and how well it does on other images.

    Args:
        name: Of `MADE`.
        workers: Threads that fit folds.
    """
    x, labels, folds, others, truth = made(name)
    head = linear.fit(x, labels, folds, classes=int(labels.max()) + 1, workers=workers)
    p = head.probabilities(others)
    return {
        "c": float(head.head.c or 0), "whitening": head.head.whitening, "right": int((p.argmax(1) == truth).sum()),
        "log_loss": float(-np.log(p[np.arange(len(truth)), truth]).mean()),
    }  # fmt: skip


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("power", [-2, 0, 2])
def test_a_stricter_tolerance_changes_no_score_that_matters(name: str, power: int) -> None:
    x, labels, folds, *_ = made(name)
    z, classes = linear.along_axes(x)[0], int(labels.max()) + 1
    inside = folds != 0

    def loss(decrement: float, start: softmax.Solution | None = None) -> tuple[float, softmax.Solution]:
        found = softmax.solve(
            z[inside], labels[inside], classes=classes, c=10.0**power,
            sample_weight=np.ones(int(inside.sum()), np.float32), start=start, decrement=decrement,
        )  # fmt: skip
        assert found.converged
        scores = z[~inside] @ found.weights + found.bias
        return smoothed_log_loss(scores / fit_temperature(scores, labels[~inside]), labels[~inside]), found

    usual, strict = loss(softmax.DECREMENT)[0], loss(1e-9)[0]
    assert usual == pytest.approx(strict, rel=1e-3)
    far = softmax.solve(
        z[inside], labels[inside], classes=classes, c=1e3, sample_weight=np.ones(int(inside.sum()), np.float32)
    )
    assert loss(softmax.DECREMENT, far)[0] == pytest.approx(strict, rel=1e-3)  # and neither does the start


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_no_strength_of_scikit_learn_is_much_better_than_the_chosen_one(name: str) -> None:
    x, labels, folds, *_ = made(name)
    head = linear.fit(x, labels, folds, classes=int(labels.max()) + 1)
    centred = (x - x.mean(0)) / np.sqrt(np.square(x - x.mean(0)).mean())
    losses = []
    for power in range(-3, 3):
        scores = np.empty((len(x), int(labels.max()) + 1))
        for fold in range(5):
            out = folds == fold
            model = LogisticRegression(C=10.0**power, max_iter=20_000, tol=1e-6).fit(centred[~out], labels[~out])
            scores[out] = model.decision_function(centred[out])
        losses.append(smoothed_log_loss(scores / fit_temperature(scores, labels), labels))
    assert head.head.log_loss is not None
    assert head.head.log_loss < min(losses) * 1.03


def test_a_penalty_that_pays_by_hand() -> None:
    ones, losses = np.ones(100, np.float32), np.full(100, 0.5)
    assert penalty.pays(losses, losses - 0.006, ones)  # 1.2 % with every image
    assert not penalty.pays(losses, losses - 0.004, ones)  # 0.8 %
    assert not penalty.pays(losses, losses + 0.1, ones)
    noisy = np.where(np.arange(100) % 2, 0.2, -0.18)  # mean 0.01 with an error of 0.019
    assert not penalty.pays(losses, losses - noisy, ones)
    assert penalty.pays(losses, losses - noisy, np.where(np.arange(100) % 2, 1.5, 0.5).astype(np.float32))


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_whitening_keeps_the_variance_in_all(whitening: float) -> None:
    rng = np.random.default_rng(0)
    z = (rng.normal(size=(5000, 3)) * [1, 0.5, 0.1]).astype(np.float32)
    z /= np.sqrt(z.var(0).mean())
    factors = penalty.whitening_factors(z - z.mean(0), whitening)
    assert (z * factors).var(0).sum() == pytest.approx(z.var(0).sum(), rel=1e-3)
    spread = (z * factors).std(0)
    assert spread[0] / spread[1] == pytest.approx(2 ** (1 - whitening), rel=0.05)


def test_whitened_head_predicts_what_was_cross_validated() -> None:
    """`fit_as_chosen`, told what `cross_validate` found, gives the head that `fit` gives."""
    x, labels, folds, others, _ = made("overlapping")
    found = linear.cross_validate(x, labels, folds, classes=4)
    assert found.whitening
    again = linear.fit_as_chosen(
        x, labels, classes=4, c=found.c, whitening=found.whitening, temperature=found.temperature
    )
    head = linear.fit(x, labels, folds, classes=4)
    assert again.probabilities(others) == pytest.approx(head.probabilities(others), abs=2e-3)
    assert again.head.whitening == head.head.whitening == found.whitening


@pytest.mark.slow
def test_no_kernel_of_the_matrix_products_moves_the_choice() -> None:
    """OpenBLAS adds up in another order for each kind of processor: same choice, and as good, on all that run here."""
    told = {}
    for kernel in KERNELS:
        environment = {
            **os.environ, "OPENBLAS_CORETYPE": kernel,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        }  # fmt: skip
        code = (
            "import json, test_penalty as t, threadpoolctl;"
            "told = [{name: t.described(name, workers) for name in t.MADE} for workers in (1, 2)];"
            "print(json.dumps([[one.get('architecture') for one in threadpoolctl.threadpool_info()], told]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode < 0:  # killed: this processor has no such instructions
            continue
        assert not done.returncode, done.stderr
        kernels, results = json.loads(done.stdout.splitlines()[-1])
        for workers, one in enumerate(results, 1):
            told[str(kernels), workers] = one  # by the kernel that it took, which may bear another name
    if len({kernel for kernel, _ in told}) < 2:
        pytest.skip("these matrix products have no kernels to choose from")
    first = next(iter(told.values()))
    for results in told.values():
        for name, one in results.items():
            assert (one["c"], one["whitening"]) == (first[name]["c"], first[name]["whitening"])
            assert abs(one["right"] - first[name]["right"]) <= 1
            assert one["log_loss"] == pytest.approx(first[name]["log_loss"], rel=0.02)


@pytest.mark.parametrize("name", MADE)
def test_folds_that_do_not_decide_are_predicted_all_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels, folds, *_ = made(name)
    classes = int(labels.max()) + 1
    whole = linear.cross_validate(x, labels, folds, classes=classes)
    done: list[int] = []
    monkeypatch.setattr(penalty, "DECIDING", 70)
    part = linear.cross_validate(x, labels, folds, classes=classes, advance=done.append)
    assert penalty._enough([int((folds == fold).sum()) for fold in range(5)]) < 5
    assert sum(done) == linear.steps(folds)
    assert np.array_equal(part.rows, whole.rows)
    if (part.c, part.whitening) == (whole.c, whole.whitening):
        assert np.allclose(part.probabilities, whole.probabilities, atol=2e-3)
    # Fewer images decide, so another penalty may be taken; it is none that does much worse on all of them.
    truth = np.arange(len(labels)), labels
    losses = [-np.log(np.maximum(one.probabilities[truth], 1e-9)).mean() for one in (part, whole)]
    assert losses[0] <= 1.1 * losses[1] + 0.01


def test_how_many_folds_decide() -> None:
    assert penalty._enough([300] * 5) == 5  # 1,500 images: all of them
    assert penalty._enough([1000] * 5) == 2
    assert penalty._enough([2000] * 5) == 1


def test_many_classes_are_chosen_on_some_images_of_each() -> None:
    """Up to 125 classes, 10,000 rows are enough; of more classes, 80 of each, or all."""
    few, many = np.arange(60_000) % 100, np.arange(60_000) % 600
    assert len(penalty.some_of_each(few, 100)) == penalty.SELECTION_LIMIT
    rows = penalty.some_of_each(many, 600)
    assert len(rows) == 48_000
    assert np.ptp(np.bincount(many[rows])) <= 1
    assert np.bincount(many[rows]).min() >= 79
    assert len(penalty.some_of_each(many[:40_000], 600)) == 40_000
