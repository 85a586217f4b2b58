"""Likely wrong labels: against labels that were changed here, on digits, on points, and in simulation."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from headstart.checks import labels as check
from headstart.checks import outoffold
from headstart.checks.subject import Subject
from headstart.data.table import ImageTable, Row
from headstart.features.dataset import Dataset
from headstart.partition.duplicates import near_duplicates
from headstart.targets.classes.temperature import to_probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

NONE_NEAR = near_duplicates(np.zeros((0, 1024), np.uint8))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As `headstart.checks.whole` has it: two threads in such small products wait for each other."""
    with threadpool_limits(1):
        yield


def subject(features: np.ndarray, labels: np.ndarray, names: list[str] | None = None) -> Subject:
    """A subject of these embeddings; equal rows of embeddings are copies of one file."""
    names = names or [f"{label:02}" for label in range(labels.max() + 1)]
    digests = tuple(sha256(row.tobytes()).hexdigest() for row in features)
    rows = tuple(Row(f"{number}.png", names[label]) for number, label in enumerate(labels))
    table = ImageTable("made up", None, rows)  # type: ignore[arg-type]
    return Subject(Dataset(table, digests, (), features.astype(np.float32)), 224, NONE_NEAR)


def points(images: int, classes: int, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around the centres of classes, in 64 dimensions, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    centres = rng.normal(size=(classes, 64)) * distance
    return (centres[labels] + rng.normal(size=(images, 64))).astype(np.float32), labels


def plant(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share was changed to another class at random, and which."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    changed = labels.copy()
    classes = labels.max() + 1
    changed[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return changed, wrong


def named(found: Subject) -> dict[int, str]:
    """Row and suggested label of each finding."""
    return {int(one.paths[0].split(".")[0]): one.facts["suggested"] for one in check.find(found)}


@pytest.fixture(scope="module")
def embedded(digits: Path, warm: Path) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the digits by the default backbone, and their labels."""
    import headstart
    from headstart.strategies.embed import embed

    features = embed(headstart.read(digits), headstart.Recipe(), headstart.Runtime(cache=warm)).data
    return features.matrix, np.array([int(row.label or "") for row in features.table.rows])


@pytest.mark.slow
def test_wrong_labels_among_digits_are_found(embedded: tuple[np.ndarray, np.ndarray]) -> None:
    """Asked: precision 0.75 at recall 0.7 with 5 % wrong. Measured: 0.94 at 0.95."""
    features, labels = embedded
    precisions, recalls, right = [], [], []
    for seed in range(4):
        changed, wrong = plant(labels, 0.05, seed)
        found = named(subject(features, changed))
        hits = set(found) & set(wrong.tolist())
        precisions.append(len(hits) / len(found))
        recalls.append(len(hits) / len(wrong))
        right.append(np.mean([int(found[row]) == labels[row] for row in hits]))
    assert np.mean(precisions) >= 0.88
    assert np.mean(recalls) >= 0.88
    assert min(precisions) >= 0.8
    assert min(recalls) >= 0.8
    assert np.mean(right) >= 0.95


@pytest.mark.slow
def test_right_labels_of_digits_are_left_alone_however_hard_they_are(embedded: tuple[np.ndarray, np.ndarray]) -> None:
    """The rule of Northcutt et al. would call 540 of the 1,797 suspect where 43 % can be told."""
    features, labels = embedded
    assert len(named(subject(features, labels))) <= 10
    noise = np.random.default_rng(0).normal(size=features.shape) * features.std(0)
    for strength in (2, 5):
        assert len(named(subject((features + strength * noise).astype(np.float32), labels))) <= 18  # one in a hundred


@pytest.mark.parametrize("share", [0.02, 0.05, 0.15])
def test_wrong_labels_among_points_are_found(share: float) -> None:
    features, labels = points(600, 5, 0.8)
    changed, wrong = plant(labels, share, 1)
    found = named(subject(features, changed))
    hits = set(found) & set(wrong.tolist())
    assert len(hits) >= 0.9 * len(wrong)
    assert len(found) <= 1.1 * len(wrong) + 1
    assert all(int(found[row]) == labels[row] for row in hits)


def test_labels_without_a_pattern_are_not_judged() -> None:
    features, labels = points(400, 3, 0.8)
    for seed in range(5):
        assert not named(subject(features, np.random.default_rng(seed).permutation(labels)))


def test_hard_classes_are_not_called_mislabelled() -> None:
    for seed in range(5):
        features, labels = points(500, 4, 0.12, seed)  # six in ten can be told
        assert len(named(subject(features, labels))) <= 5


def test_the_share_of_wrong_labels_is_estimated() -> None:
    """Labels drawn from known probabilities, of which a known share was replaced."""
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(4000, 6)) * 3
    probabilities = to_probabilities(scores)
    labels = (probabilities.cumsum(1) > rng.random((4000, 1))).argmax(1)
    for share in (0.0, 0.05, 0.2):
        changed, _ = plant(labels, share, 3)
        temperature, rate = check.fit_rate(scores / 2, changed)  # too flat by a factor of 2
        assert temperature == pytest.approx(0.5, rel=0.15)
        assert rate == pytest.approx(max(share, check.LEAST_RATE), rel=0.35)


def test_chances_are_bayes_rule() -> None:
    """Among labels that were drawn as the model says, the chances say how many are wrong."""
    rng = np.random.default_rng(6)
    probabilities = to_probabilities(rng.normal(size=(20_000, 4)) * 3)
    labels = (probabilities.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    flip = rng.random(20_000) < 0.1
    # A wrong label is any but the one that would have been drawn.
    changed = np.where(flip, (labels + rng.integers(1, 4, 20_000)) % 4, labels)
    chances = check.chances(probabilities, changed, 0.1)
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.8), (0.8, 1.01)):
        inside = (chances >= low) & (chances < high)
        assert flip[inside].mean() == pytest.approx(chances[inside].mean(), abs=0.05)


def test_the_order_of_the_images_does_not_matter() -> None:
    features, labels = points(300, 3, 0.5)
    changed, _ = plant(labels, 0.08, 2)
    order = np.random.default_rng(0).permutation(300)
    one = named(subject(features, changed))
    other = named(subject(features[order], changed[order]))
    assert {int(order[row]): label for row, label in other.items()} == one
    assert one


def test_renaming_the_classes_renames_the_suggestions() -> None:
    features, labels = points(300, 3, 0.5)
    changed, _ = plant(labels, 0.08, 2)
    one = named(subject(features, changed, ["a", "b", "c"]))
    other = named(subject(features, changed, ["z", "y", "x"]))
    assert {row: {"a": "z", "b": "y", "c": "x"}[label] for row, label in one.items()} == other


def test_copies_do_not_vouch_for_each_other() -> None:
    """A wrong label on an image and nine copies of it: with the copies in other folds it would be learnt as right."""
    features, labels = points(300, 3, 0.6)
    features, labels = np.concatenate([features, np.repeat(features[:1], 9, axis=0)]), labels.copy()
    changed = np.concatenate([labels, np.full(9, labels[0])])
    changed[[0, *range(300, 309)]] = (labels[0] + 1) % 3
    assert {0, *range(300, 309)} <= set(named(subject(features, changed)))


def test_small_classes_are_not_judged() -> None:
    features, labels = points(200, 2, 0.8)
    far = np.full((4, 64), 9.0) + np.random.default_rng(0).normal(size=(4, 64))
    features, labels = np.concatenate([features, far]).astype(np.float32), np.concatenate([labels, np.full(4, 2)])
    judged = check.judge(subject(features, labels))
    assert judged is not None
    assert judged.classes.tolist() == [0, 1]
    assert judged.rows.max() < 200


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12])
def test_hardly_any_images(count: int) -> None:
    features, labels = points(count, 2, 1.0) if count else (np.zeros((0, 64), np.float32), np.zeros(0, int))
    if count:
        labels[-1] = 1
        assert isinstance(named(subject(features, labels)), dict)


def test_constant_features_say_nothing() -> None:
    labels = np.arange(40) % 2
    features = np.ones((40, 64), np.float32)
    assert not check.find(subject(features, labels))
    wide = subject(features, labels)
    data = dataclasses.replace(wide.data, digests=tuple(f"{row:064x}" for row in range(40)))
    wide = dataclasses.replace(wide, data=data)
    assert not check.find(wide)


def test_folds_keep_groups_together_and_classes_even() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 50)
    groups = np.arange(200) // 2
    digests = [sha256(bytes([row])).hexdigest() for row in range(200)]
    folds = outoffold.deal(groups, labels, digests, folds=5, seed=1)
    assert all(len(set(folds[groups == group])) == 1 for group in range(100))
    assert (np.array([np.bincount(folds[labels == label], minlength=5) for label in range(4)]) == 10).all()
    order = rng.permutation(200)
    again = outoffold.deal(groups[order], labels[order], [digests[row] for row in order], folds=5, seed=1)
    assert (again == folds[order]).all()
    assert (outoffold.deal(groups, labels, digests, folds=5, seed=2) != folds).any()


def test_compressed_embeddings_keep_lengths_and_angles() -> None:
    """Also where there are fewer images than dimensions."""
    for images in (40, 300):
        features, labels = points(images, 3, 0.5)
        found = subject(features, labels)
        np.testing.assert_allclose(found.compressed @ found.compressed.T, features @ features.T, atol=2e-3)
