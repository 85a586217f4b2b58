"""LogME against the definition of what it maximises, and against the algorithm of its paper."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from headstart.evaluation.transferability import logme


def embeddings(count: int, width: int, classes: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds (N, D) around the centres of classes that are `apart` standard deviations long, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = apart * rng.normal(size=(classes, width))
    return (rng.normal(size=(count, width)) + centres[labels]).astype(np.float32), labels


def by_definition(features: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The density of each class's labels under N(0, 1/beta + F F' / alpha), maximised by a general optimiser."""
    count, gram = len(labels), features.astype(np.float64) @ features.astype(np.float64).T
    found = []
    for one in range(classes):
        target = (labels == one).astype(float)

        def surprise(logs: np.ndarray, target: np.ndarray = target) -> float:
            alpha, beta = np.exp(np.clip(logs, -15, 15))
            law = multivariate_normal(np.zeros(count), np.eye(count) / beta + gram / alpha)
            return -float(law.logpdf(target))

        tries = [
            minimize(surprise, [start, 2.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
            for start in (-4.0, 0.0, 4.0)
        ]
        found.append(-min(one.fun for one in tries))
    return float(np.mean(found) / count)


def by_fixed_point(features: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Algorithm 1 of You et al. 2021: alpha and beta from each other until they stay; dense matrices throughout."""
    f = features.astype(np.float64)
    count, width = f.shape
    found = []
    for one in range(classes):
        y, alpha, beta = (labels == one).astype(float), 1.0, 1.0
        for _ in range(2000):
            a = alpha * np.eye(width) + beta * f.T @ f
            m = beta * np.linalg.solve(a, f.T @ y)
            values = beta * np.linalg.eigvalsh(f.T @ f)
            gamma = (values / (alpha + values)).sum()
            before = alpha, beta
            alpha, beta = gamma / (m @ m), (count - gamma) / ((f @ m - y) ** 2).sum()
            if np.allclose(before, (alpha, beta), rtol=1e-10):
                break
        a = alpha * np.eye(width) + beta * f.T @ f
        m = beta * np.linalg.solve(a, f.T @ y)
        found.append(
            0.5 * (count * np.log(beta) + width * np.log(alpha) - count * np.log(2 * np.pi))
            - 0.5 * (beta * ((f @ m - y) ** 2).sum() + alpha * m @ m + np.linalg.slogdet(a)[1])
        )
    return float(np.mean(found) / count)


@pytest.mark.parametrize(
    ("count", "width", "classes", "apart"), [(60, 8, 3, 1.0), (40, 100, 2, 0.5), (30, 30, 4, 0.3), (50, 12, 2, 0.0)]
)
def test_it_is_the_maximum_of_the_evidence(count: int, width: int, classes: int, apart: float) -> None:
    features, labels = embeddings(count, width, classes, apart)
    assert logme(features, labels, classes) == pytest.approx(by_definition(features, labels, classes), abs=1e-6)


@pytest.mark.parametrize(("count", "width", "classes", "apart"), [(60, 8, 3, 1.0), (200, 30, 5, 0.4), (80, 60, 2, 0.5)])
def test_it_is_what_the_algorithm_of_the_paper_finds(count: int, width: int, classes: int, apart: float) -> None:
    features, labels = embeddings(count, width, classes, apart)
    assert logme(features, labels, classes) == pytest.approx(by_fixed_point(features, labels, classes), abs=1e-7)


def test_better_separated_classes_have_more_evidence() -> None:
    values = [logme(*embeddings(150, 40, 3, apart), 3) for apart in (0.0, 0.2, 0.4, 0.8)]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.3


def test_scale_turn_and_order_change_nothing() -> None:
    features, labels = embeddings(80, 20, 3, 0.5)
    rng = np.random.default_rng(1)
    turned = (features @ np.linalg.qr(rng.normal(size=(20, 20)))[0]).astype(np.float32)
    order, names = rng.permutation(80), np.array([2, 0, 1])
    expected = logme(features, labels, 3)
    for other, known in ((1000 * features, labels), (turned, labels), (features[order], labels[order]),
                         (features, names[labels])):  # fmt: skip
        assert logme(other, known, 3) == pytest.approx(expected, abs=1e-5)


def test_it_orders_embeddings_as_a_cross_validated_probe_does() -> None:
    """Noise of ten strengths on the same embeddings: what a shortlist needs is their order."""
    from headstart.heads import linear

    rng = np.random.default_rng(3)
    features, labels = embeddings(300, 50, 4, 0.6)
    folds = np.arange(300) % 5
    evidence, losses = [], []
    for noise in np.linspace(0, 5, 10):
        worse = (features + noise * rng.normal(size=features.shape)).astype(np.float32)
        evidence.append(logme(worse, labels, 4))
        found = linear.cross_validate(worse, labels, folds, classes=4)
        losses.append(-float(np.log(found.probabilities[np.arange(300), labels]).mean()))
    assert np.corrcoef(np.argsort(np.argsort(evidence)), np.argsort(np.argsort(losses)))[0, 1] < -0.9


def test_embeddings_that_say_nothing_or_everything_are_finite() -> None:
    labels = np.arange(40) % 2
    for features in (np.zeros((40, 5)), np.ones((40, 5)), np.eye(2)[labels] * 5, np.eye(40)):
        assert np.isfinite(logme(features.astype(np.float32), labels, 2))


@pytest.mark.parametrize("broken", ["rows", "nan", "one"])
def test_what_cannot_be_scored_is_refused(broken: str) -> None:
    features, labels = embeddings(10, 4, 2, 1.0)
    if broken == "rows":
        features = features[:-1]
    elif broken == "nan":
        features[3, 2] = np.nan
    else:
        features, labels = features[:1], labels[:1]
    with pytest.raises(ValueError, match="labels"):
        logme(features, labels, 2)
