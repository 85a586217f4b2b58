"""Telling the unfamiliar: distances against scikit-learn, the rate of false alarms by simulation, real photos."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

import headstart
from headstart.core.graph import Graph
from headstart.evaluation import novelty
from headstart.evaluation.novelty import fit, held_out_folds, quantile
from headstart.heads.references import References
from headstart.modelfile.familiarity import FalseAlarms
from headstart.modelfile.session import Session
from headstart.prediction.classifier import Classifier
from headstart.strategies.embed import embed
from helpers import draw, headstart_cli, write_images

NONE = np.empty(0, np.int64)


def clouds(count: int, classes: int, seed: int, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, D) around a centre for each class, and labels (N,)."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = rng.integers(0, classes, count)
    return (centres[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


def alone(count: int) -> np.ndarray:
    return np.arange(count)


# --- distances -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "neighbours"), [(6, 5), (300, 5), (50, 1), (20, 20)])
def test_distance_is_the_mean_of_the_nearest(count: int, neighbours: int) -> None:
    references, queries = clouds(count, 3, 0)[0], clouds(1100, 3, 1)[0] * 7
    got = References.of(references, neighbours).distances(queries)
    nearest = NearestNeighbors(n_neighbors=neighbours, metric="cosine").fit(references)
    assert got == pytest.approx(nearest.kneighbors(queries)[0].mean(1), abs=4e-3)  # they are kept in 8 bits
    one = References.of(references, neighbours)
    kept = (one.levels * one.scales).T
    assert np.linalg.norm(kept, axis=1) == pytest.approx(1, abs=1e-5)
    exact = np.sort(cdist(queries, kept, "cosine"))[:, :neighbours].mean(1)
    assert got == pytest.approx(exact, abs=1e-5)


def test_own_group_is_no_neighbour() -> None:
    embeddings, _ = clouds(40, 2, 2)
    embeddings[1] = embeddings[0]
    groups = alone(40)
    groups[1] = 0
    references = References.of(embeddings, 5)
    got = references.distances(embeddings, groups, groups)
    for row in range(40):
        other = References.of(embeddings[groups != groups[row]], 5)
        assert got[row] == pytest.approx(other.distances(embeddings[row : row + 1])[0], abs=1e-6)
    assert got[0] == got[1] > references.distances(embeddings)[0]
    few = np.array([0] * 36 + [1] * 4)  # the first have four neighbours that are not of their group
    assert np.isinf(references.distances(embeddings, few, few)).sum() == 36


def test_a_blank_embedding_is_far_and_finite() -> None:
    references = References.of(clouds(20, 2, 3)[0], 5)
    assert references.distances(np.zeros((1, 32), np.float32))[0] == pytest.approx(1)


@pytest.mark.parametrize(("count", "width"), [(6, 3), (30, 1280), (1000, 512)])
def test_graph_gives_the_same_distance(count: int, width: int) -> None:
    """The nodes alone, on embeddings of any length and on one of nothing but zeros, several at once."""
    references = References.of(clouds(count, 3, 4, width)[0], 5)
    graph = Graph()
    name = references.add_nodes(graph, "embedding")
    from onnx import TensorProto, helper

    assert name == "distance"
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "test",
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", width])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1])], list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=9,
    )  # fmt: skip
    queries = clouds(50, 3, 5, width)[0] * np.logspace(-3, 3, 50, dtype=np.float32)[:, None]
    queries = np.concatenate([queries, np.zeros((1, width), np.float32)])
    for level in (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    ):  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {"embedding": queries})
        assert got.shape == (51, 1)
        assert got[:, 0] == pytest.approx(references.distances(queries), abs=1e-5)


# --- the threshold -------------------------------------------------------------------------------------------------


def test_quantile_by_hand() -> None:
    values = np.arange(1, 20, dtype=np.float32)  # 19 of them
    assert quantile(values, 0.95) == 19
    assert quantile(values, 0.9) == 18
    assert quantile(values[:18], 0.95) == np.inf
    assert quantile(np.array([3.0, 1.0, 2.0], np.float32), 0.5) == 2


@pytest.mark.parametrize(("count", "references"), [(30, 1000), (250, 1000), (600, 100)])
def test_false_alarms_are_as_frequent_as_stated(count: int, references: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many draws of training sets; with all of them as references, and with a sample."""
    monkeypatch.setattr(novelty, "MAX_REFERENCES", references)
    flagged, rates = [], []
    for seed in range(60):
        embeddings, labels = clouds(count, 3, seed)
        found = fit(embeddings, labels, alone(count))
        assert found is not None
        assert len(found.references) == min(count, references)
        flagged.append(found.unfamiliar(clouds(200, 3, 10_000 + seed)[0]).mean())
        rates.append(found.false_alarm_rate)
    assert set(rates) == {0.04}
    # What is drawn is the threshold: the mean of 60 such rates varies by about 0.004.
    assert 0.025 < np.mean(flagged) < 0.052


def test_copies_do_not_lower_the_threshold() -> None:
    """Each image twice: without the groups each would have itself as its nearest, and new images would be flagged."""
    flagged = []
    for seed in range(20):
        embeddings, labels = clouds(100, 3, seed)
        twice, groups = np.repeat(embeddings, 2, axis=0), np.repeat(alone(100), 2)
        right, wrong = fit(twice, np.repeat(labels, 2), groups), fit(twice, np.repeat(labels, 2), alone(200))
        assert right is not None
        assert wrong is not None
        new = clouds(300, 3, 1000 + seed)[0]
        flagged.append((right.unfamiliar(new).mean(), wrong.unfamiliar(new).mean()))
    known, ignored = np.mean(flagged, axis=0)
    assert known < 0.055
    assert ignored > 0.1


@pytest.mark.parametrize(("count", "rate"), [(5, None), (8, None), (9, 0.1), (12, 1 / 13), (23, 1 / 24), (24, 0.04)])
def test_few_images(count: int, rate: float | None) -> None:
    """With few, the rate that can be stated is larger; with fewer than nine, nothing is said."""
    embeddings, labels = clouds(count, 2, 8)
    found = fit(embeddings, labels, alone(count))
    assert (found and found.false_alarm_rate) == (rate and pytest.approx(rate))
    if found:
        assert np.isfinite(found.threshold)
        assert found.calibrated_on == count


def test_one_group_tells_nothing() -> None:
    embeddings, labels = clouds(50, 2, 9)
    assert fit(embeddings, labels, np.zeros(50, np.int64)) is None
    assert fit(np.zeros((50, 32), np.float32), labels, alone(50)) is None


def test_tiny_embeddings() -> None:
    """Of one number, the direction is its sign."""
    rng = np.random.default_rng(0)
    found = fit(rng.uniform(1, 2, (40, 1)).astype(np.float32), rng.integers(0, 2, 40), alone(40))
    assert found is not None
    assert found.unfamiliar(np.array([[-1.0], [1.5]], np.float32)).tolist() == [True, False]


def test_others_set_the_threshold_of_a_trained_network() -> None:
    """What was learnt from lies closer together than what is new."""
    embeddings, labels = clouds(200, 3, 10)
    tight = (embeddings * 0.3 + clouds(200, 3, 10)[0].mean(0)).astype(np.float32)
    others, new = clouds(100, 3, 11)[0], clouds(2000, 3, 12)[0]
    found, naive = fit(tight, labels, alone(200), others), fit(tight, labels, alone(200))
    assert found is not None
    assert naive is not None
    assert found.calibrated_on == 100
    assert found.unfamiliar(new).mean() < 0.1
    assert naive.unfamiliar(new).mean() > 0.5


def test_references_are_bounded_and_of_all_classes() -> None:
    embeddings, labels = clouds(6000, 3, 13)
    labels[:] = 0
    labels[5990:] = 1  # a rare class, at the end
    found = fit(embeddings, labels, alone(6000))
    assert found is not None
    assert len(found.references) == novelty.MAX_REFERENCES
    assert found.calibrated_on == novelty.MAX_CALIBRATED
    rare = embeddings[5990:]
    kept = (found.references.levels * found.references.scales).T
    assert (cdist(rare, kept, "cosine").min(1) < 1e-3).all()


def test_held_out_folds_are_measured_without_their_fold() -> None:
    embeddings, labels = clouds(120, 3, 14)
    folds = alone(120) % 5
    strange = embeddings.copy()
    strange[folds == 2] *= -1  # nothing like them is left where they are held out
    alarms, found = (
        held_out_folds(embeddings, labels, alone(120), folds),
        held_out_folds(strange, labels, alone(120), folds),
    )
    assert alarms is not None
    assert found is not None
    assert alarms.images == 120
    assert alarms.flagged <= 12
    assert alarms.interval[0] <= alarms.rate <= alarms.interval[1]
    assert found.flagged >= 20
    assert held_out_folds(embeddings[:9], labels[:9], alone(9), folds[:9]) is None
    assert FalseAlarms.of(np.array([True, False, False, False])).rate == 0.25


# --- in the model file ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["int8", "float32"])
def insects(request: pytest.FixtureRequest, photos: Path, warm: Path) -> headstart.Run:
    return headstart.train(photos, precision=request.param, runtime=headstart.Runtime(cache=warm))


def references_of(run: headstart.Run) -> References:
    """Of the train images, in the order of their content."""
    learnt = [i for i, part in enumerate(run.fitted.partition.names()) if part == "train"]
    order = sorted(learnt, key=lambda row: run.fitted.data.digests[row])
    return References.of(run.fitted.data.features[order], novelty.NEIGHBOURS)


@pytest.mark.slow
def test_digits_are_unlike_ants_and_bees(photos: Path, digits: Path, insects: headstart.Run) -> None:
    """99 % of them are flagged, and at most 6 % of the ants and bees that were not learnt from."""
    run, classifier = insects, insects.classifier
    flagged = [one.familiar is False for one in classifier.predict(sorted(digits.rglob("*.png"))[::12])]
    assert np.mean(flagged) >= 0.99
    held_out = run.fitted.details.as_dict()["familiarity"]["held_out"]
    assert held_out["images"] == 153
    assert held_out["rate"] == held_out["flagged"] / 153 <= 0.06
    # What is told is what the model file does: the same images through the graph, from their bytes.
    rows = run.fitted.held_out.rows
    files = [photos / run.fitted.data.table.rows[row].path for row in rows]
    predictions = classifier.predict(files)
    assert sum(one.familiar is False for one in predictions) == held_out["flagged"]
    # And the distances of the graph are those of the arrays that the threshold was chosen on.
    expected = references_of(run).distances(run.fitted.data.features[rows])
    assert [one.distance for one in predictions] == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("insects", ["int8"], indirect=True)
def test_all_digits(digits: Path, insects: headstart.Run, warm: Path) -> None:
    """By the distances of the arrays, which are those of the graph."""
    familiarity = insects.classifier.metadata.familiarity
    assert familiarity is not None
    embeddings = embed(headstart.read(digits), headstart.Recipe(), headstart.Runtime(cache=warm)).data.matrix
    assert len(embeddings) == 1797
    assert (references_of(insects).distances(embeddings) > familiarity.threshold).mean() >= 0.99


def test_cross_validated(model: Path) -> None:
    """36 images: all are references, and each was held out once."""
    metadata = Classifier.load(model).metadata
    assert metadata.familiarity is not None
    assert metadata.familiarity.references == metadata.familiarity.calibrated_on == 36
    assert metadata.familiarity.held_out.images == 36


def test_model_of_few_images_cannot_tell(tmp_path: Path) -> None:
    source = write_images(tmp_path / "few", {"disc": 4, "stripes": 4})
    run = headstart.train(source)
    assert run.classifier.metadata.familiarity is None
    assert run.fitted.details.as_dict()["familiarity"] is None
    assert any("unfamiliar" in note for note in run.fitted.notes)
    prediction = run.classifier.predict(draw("noise", 3))
    assert prediction.familiar is None
    assert prediction.distance is None
    run.save(tmp_path / "run")
    draw("noise", 3).save(tmp_path / "x.png")
    done = headstart_cli("predict", tmp_path / "run" / "model.onnx", tmp_path / "x.png", "--json", "--abstain")
    assert done.code == 0
    assert done.json["predictions"][0]["familiar"] is None
    assert done.json["predictions"][0]["label"] in {"disc", "stripes"}
    assert "cannot detect" in " ".join(done.json["notes"])


def test_twelve_images(tmp_path: Path) -> None:
    source = write_images(tmp_path / "few", {"disc": 6, "stripes": 6})
    run = headstart.train(source)
    familiarity = run.classifier.metadata.familiarity
    assert familiarity is not None
    assert familiarity.false_alarm_rate == pytest.approx(1 / 13)
    # In each fold fewer than nine are left, of which nothing can be said, or the rate is another one.
    assert familiarity.held_out is None or familiarity.held_out.images == 12


@pytest.mark.slow
def test_threshold_of_a_trained_network_is_that_of_images_it_did_not_learn_from(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = write_images(tmp_path / "shapes", {"disc": 50, "stripes": 50, "noise": 50})
    recipe = headstart.Recipe(
        strategy="finetune", backbone="timm:test_resnet", pretrained=False, epochs=1, batch_size=8, flip=False,
        start="random",  # a start that is kept learns from all
    )  # fmt: skip
    run = headstart.train(source, recipe, runtime=headstart.Runtime(cache=tmp_path / "cache"))
    assert run.fitted.details.as_dict()["best_epoch"] == 1
    familiarity, chose = run.classifier.metadata.familiarity, run.fitted.details.as_dict()["validation_images"]
    learnt = run.fitted.partition.names().count("train")
    assert familiarity is not None
    assert familiarity.calibrated_on == chose
    assert familiarity.references == learnt
    assert familiarity.false_alarm_rate == pytest.approx(max(0.04, 1 / (chose + 1)))
    assert run.fitted.details.as_dict()["familiarity"] == familiarity.as_dict()
    # What is in the graph is the final network's, not the one it began with.
    rows = [i for i, part in enumerate(run.fitted.partition.names()) if part == "test"]
    predictions = run.classifier.predict([source / run.fitted.data.table.rows[row].path for row in rows])
    assert familiarity.held_out is None or familiarity.held_out.images == len(rows)
    if familiarity.held_out:
        assert sum(one.familiar is False for one in predictions) == familiarity.held_out.flagged


def test_session_gives_the_distance(model: Path) -> None:
    classifier = Classifier.load(model)
    session = Session(model.read_bytes())
    assert session.outputs == ("probabilities", "embedding", "distance", "feature_map")
    pixels = np.asarray(draw("disc", 3))
    (distance,) = session.run(pixels, ["distance"])
    assert classifier.run_pixels(pixels).distance == distance[0]
    assert classifier.predict(pixels).distance == distance[0]
    assert len(session.run(pixels)) == 4
    assert dataclasses.asdict(classifier.verify())["distance_difference"] == 0
