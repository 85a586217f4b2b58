"""Contract of the heads, and the linear head against scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from headstart.backbones.embedder import load_embedder
from headstart.core.errors import SourceError
from headstart.core.graph import IR_VERSION, OPSET, Graph
from headstart.core.tables import resolve
from headstart.heads import linear, softmax
from headstart.heads.balance import weights_of
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead
from headstart.heads.mlp import MlpHead
from headstart.modelfile.schema import Backbone, Metadata
from headstart.modelfile.writer import write_model
from headstart.prediction.classifier import Classifier
from headstart.settings.heads import HEADS
from headstart.settings.recipe import Recipe
from headstart.targets.classes.temperature import Temperature, fit_temperature, smoothed_log_loss, to_probabilities
from helpers import draw

if TYPE_CHECKING:
    from headstart.heads import Head


def blobs(n: int, width: int, classes: int, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, D) in overlapping clouds whose axes differ in length a thousand times, and labels (N,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    lengths = np.geomspace(1, 1e-3, width)
    points = rng.normal(size=(classes, width))[labels] + spread * rng.normal(size=(n, width))
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return (points * lengths @ rotation + 3).astype(np.float32), labels


def fit(x: np.ndarray, labels: np.ndarray, **options: object) -> Calibrated[LinearHead]:
    folds = np.arange(len(labels)) // int(labels.max() + 1) % 4
    return linear.fit(x, labels, folds, classes=int(labels.max()) + 1, **options)  # type: ignore[arg-type]


def random_head(name: str, width: int, classes: int) -> Calibrated[Head]:
    """A head of random weights, as a training could have left it."""
    rng = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    if name == "linear":
        return Calibrated(LinearHead(normal(width, classes), normal(classes)), Temperature(1.7))
    return Calibrated(MlpHead(normal(width, 16), normal(16), normal(16, classes), normal(classes)), Temperature(1.7))


def as_session(head: Calibrated[Head], width: int, classes: int) -> onnxruntime.InferenceSession:
    """The head's nodes alone."""
    graph = Graph()
    name = head.add_nodes(graph, "embedding")
    inputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", width])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", classes])]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "head", inputs, outputs, list(graph.constants.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


# The contract of every head in the table that does not come from the user.
KNOWN = [name for name, spec in HEADS.items() if spec.record]


@pytest.mark.parametrize("name", KNOWN)
def test_head_is_what_the_table_says(name: str) -> None:
    assert type(random_head(name, 8, 3).head) is resolve(HEADS[name].record)


@pytest.mark.parametrize("name", KNOWN)
def test_probabilities_of_every_head_sum_to_one(name: str) -> None:
    x, _ = blobs(60, 24, 3)
    probabilities = random_head(name, 24, 3).probabilities(1000 * x)
    assert probabilities.shape == (60, 3)
    assert probabilities.sum(1) == pytest.approx(1)
    assert (probabilities >= 0).all()


@pytest.mark.parametrize("name", KNOWN)
def test_onnx_nodes_agree_with_numpy(name: str) -> None:
    x, _ = blobs(90, 24, 3)
    head = random_head(name, 24, 3)
    (got,) = as_session(head, 24, 3).run(None, {"embedding": x})
    assert got == pytest.approx(head.probabilities(x), abs=1e-5)


@pytest.mark.parametrize("name", KNOWN)
def test_order_of_images_does_not_matter(name: str) -> None:
    x, _ = blobs(90, 24, 3)
    head, order = random_head(name, 24, 3), np.random.default_rng(1).permutation(90)
    assert head.probabilities(x[order]) == pytest.approx(head.probabilities(x)[order], abs=1e-6)


@pytest.mark.parametrize("name", KNOWN)
def test_temperature_keeps_the_ranking(name: str) -> None:
    x, _ = blobs(90, 24, 5)
    head = random_head(name, 24, 5)
    cold, hot = (Calibrated(head.head, Temperature(value)).probabilities(x) for value in (0.5, 4.0))
    assert (np.argsort(cold) == np.argsort(hot)).all()
    assert (cold.max(1) > hot.max(1)).all()


@pytest.mark.parametrize("name", KNOWN)
def test_model_file_with_every_head(name: str) -> None:
    recipe = Recipe(precision="float32")
    embedder = load_embedder(recipe, None)
    head = random_head(name, embedder.width, 3)
    metadata = Metadata(
        classes=("a", "b", "c"), preprocess=embedder.preprocess, recipe=recipe.as_dict(), backbone=Backbone("lite0"),
        temperature=head.temperature, counts={}, evaluation=None,
    )  # fmt: skip
    classifier = Classifier(write_model(embedder, head, metadata).content)
    assert classifier.verify().passed
    for label in ("disc", "noise"):
        result = classifier.run_pixels(np.asarray(draw(label, 5)))
        assert result.probabilities == pytest.approx(head.probabilities(result.embedding), abs=1e-5)


# The linear head.


@pytest.mark.parametrize(("n", "width", "classes"), [(200, 20, 3), (60, 300, 2), (90, 200, 5)])
@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_solver_finds_the_minimum_that_scikit_learn_finds(n: int, width: int, classes: int, c: float) -> None:
    x, labels = blobs(n, width, classes)
    z = (x - x.mean(0)) @ softmax.principal_axes(x - x.mean(0))
    ones = np.ones(n, np.float32)
    ours = softmax.solve(z, labels, classes=classes, c=c, sample_weight=ones)
    theirs = LogisticRegression(C=c if classes > 2 else 2 * c, tol=1e-8, max_iter=20_000).fit(z, labels)
    got = to_probabilities(z @ ours.weights + ours.bias)
    assert ours.converged
    # In two classes scikit-learn keeps one row of weights w where we keep -w/2 and w/2, at half the penalty.
    assert got == pytest.approx(theirs.predict_proba(z), abs=5e-3)


def test_of_many_rows_it_goes_on_to_the_exact_probabilities() -> None:
    """Of few it ends where it always did; of more it is as near to the minimum as the head that is fitted in passes."""
    few, many = softmax.MANY_ROWS, softmax.MANY_ROWS + 500
    x, labels = blobs(many, 60, 12, spread=1.5)
    z = (x - x.mean(0)) @ softmax.principal_axes(x - x.mean(0))

    def solved(rows: int, decrement: float | None) -> softmax.Solution:
        ones = np.ones(rows, np.float32)
        return softmax.solve(z[:rows], labels[:rows], classes=12, c=10.0, sample_weight=ones, decrement=decrement)

    def probabilities(found: softmax.Solution) -> np.ndarray:
        return to_probabilities(z @ found.weights + found.bias)

    exact, usual = probabilities(solved(many, 1e-12)), probabilities(solved(many, softmax.DECREMENT))
    assert np.abs(probabilities(solved(many, None)) - exact).max() < np.abs(usual - exact).max() / 10
    assert np.array_equal(solved(few, None).weights, solved(few, softmax.DECREMENT).weights)


def test_class_weights_are_those_of_scikit_learn() -> None:
    x, labels = blobs(240, 10, 3)
    keep = (labels != 2) | (np.arange(240) % 10 == 2)
    x, labels = x[keep], labels[keep]
    weight = weights_of(labels, "balanced")
    z = x - x.mean(0)
    ours = softmax.solve(z, labels, classes=3, c=1.0, sample_weight=weight)
    theirs = LogisticRegression(C=1.0, class_weight="balanced", tol=1e-8, max_iter=20_000).fit(z, labels)
    assert to_probabilities(z @ ours.weights + ours.bias) == pytest.approx(theirs.predict_proba(z), abs=5e-3)
    assert weight.mean() == pytest.approx(1)


def test_balanced_weights_help_the_rare_class() -> None:
    x, labels = blobs(2000, 10, 2, spread=3)
    keep = (labels == 0) | (np.arange(2000) % 40 == 1)
    plain, balanced = (fit(x[keep], labels[keep], class_weight=one) for one in ("none", "balanced"))
    rare = x[labels == 1]
    assert (balanced.head.scores(rare).argmax(1) == 1).mean() > (plain.head.scores(rare).argmax(1) == 1).mean() + 0.2


def test_row_order_does_not_matter() -> None:
    x, labels = blobs(120, 30, 3)
    folds = np.arange(120) // 3 % 4
    order = np.random.default_rng(1).permutation(120)
    first = linear.fit(x, labels, folds, classes=3)
    second = linear.fit(x[order], labels[order], folds[order], classes=3)
    assert second.head.c == first.head.c
    assert second.probabilities(x) == pytest.approx(first.probabilities(x), abs=2e-3)


def test_renaming_labels_commutes() -> None:
    x, labels = blobs(120, 30, 3)
    folds = np.arange(120) // 3 % 4
    renamed = np.array([2, 0, 1])
    first = linear.fit(x, labels, folds, classes=3).probabilities(x)
    second = linear.fit(x, renamed[labels], folds, classes=3).probabilities(x)
    assert second[:, renamed] == pytest.approx(first, abs=2e-3)


def test_same_seed_same_bytes_for_any_number_of_threads() -> None:
    x, labels = blobs(120, 30, 3)
    heads = [fit(x, labels, workers=workers) for workers in (1, 1, 3)]
    assert len({one.head.weights.tobytes() + one.head.bias.tobytes() for one in heads}) == 1
    assert len({head.temperature for head in heads}) == 1


def test_probabilities_sum_to_one() -> None:
    x, labels = blobs(60, 10, 3)
    probabilities = fit(x, labels).probabilities(1000 * x)
    assert probabilities.sum(1) == pytest.approx(1)
    assert (probabilities >= 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    x, labels = blobs(60, 10, 3)
    x[17, 3] = value
    with pytest.raises(SourceError, match="row 17"):
        fit(x, labels)


def test_constant_features_are_refused() -> None:
    with pytest.raises(SourceError, match="same embedding"):
        fit(np.ones((60, 10), np.float32), np.arange(60) % 3)


def test_class_without_images_is_refused() -> None:
    x, labels = blobs(60, 10, 3)
    with pytest.raises(SourceError, match="4 classes"):
        linear.fit(x, labels, np.arange(60) % 4, classes=4)


def test_a_class_that_a_fold_lacks_is_no_obstacle() -> None:
    x, labels = blobs(61, 10, 2)
    labels = np.append(labels[:-3], [2, 2, 2])
    folds = np.where(labels == 2, 0, np.arange(61) % 4)  # the whole class is out when fold 0 is
    head = linear.fit(x, labels, folds, classes=3)
    assert np.isfinite(head.head.weights).all()
    assert head.probabilities(x).sum(1) == pytest.approx(1)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(true: float) -> None:
    """Labels are drawn from softmax(scores / T): the temperature of those scores is T."""
    rng = np.random.default_rng(8)
    scores = rng.normal(size=(20_000, 4)) * 3
    probabilities = to_probabilities(scores / true)
    labels = (rng.random((20_000, 1)) > probabilities.cumsum(1)).sum(1).clip(0, 3)
    assert fit_temperature(scores, labels) == pytest.approx(true, rel=0.05)


def test_smoothed_log_loss_by_hand() -> None:
    assert smoothed_log_loss(np.zeros((3, 3)), np.arange(3)) == pytest.approx(np.log(3))
    scores, labels = np.log([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]), np.array([0, 1])
    # Two images: the label counts 3/4, each other class 1/8.
    by_hand = [-(0.75 * np.log(0.7) + 0.125 * np.log(0.2) + 0.125 * np.log(0.1)),
               -(0.75 * np.log(0.6) + 0.125 * np.log(0.3) + 0.125 * np.log(0.1))]  # fmt: skip
    assert smoothed_log_loss(scores, labels) == pytest.approx(np.mean(by_hand))
    weights = np.array([3, 1], np.float32)
    assert smoothed_log_loss(scores, labels, weights) == pytest.approx((3 * by_hand[0] + by_hand[1]) / 4)


@pytest.mark.parametrize("n", [12, 20, 50])
def test_few_images_that_are_easily_told_do_not_make_it_certain(n: int) -> None:
    """Held-out log loss stays near that of the untempered head, and below what overconfidence costs."""
    losses = []
    for seed in range(8):
        x, labels = blobs(n + 300, 60, 2, seed, spread=0.9)
        head = linear.fit(x[:n], labels[:n], np.arange(n) // 2 % 4, classes=2)
        p = head.probabilities(x[n:])[np.arange(300), labels[n:]]
        losses.append(-np.log(np.maximum(p, 1e-12)).mean())
        assert 0.1 < head.temperature < 5  # a strong penalty makes scores small, and the temperature puts that right
    assert np.mean(losses) < 0.45


def test_progress_ends_at_its_total() -> None:
    steps: list[int] = []
    x, labels = blobs(90, 24, 3)
    fit(x, labels, advance=steps.append)
    folds = np.arange(len(labels)) // 3 % 4  # as `fit` deals them
    assert sum(steps) == linear.steps(folds)
    assert steps[:8] == [1] * 8  # both attempts of the first C, fold by fold
