"""Several labels an image: targets, thresholds, head, evaluation, model file, and all of it from the command line."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headstart as hs
from headstart import targets
from headstart.core.errors import ModelError, OptionError, SourceError
from headstart.core.runtime import Runtime
from headstart.data.table import ImageTable, Row
from headstart.evaluation import labels as evaluation
from headstart.evaluation.average_precision import average_precision, average_precision_interval
from headstart.evaluation.labels_calibration import labels_calibration_error
from headstart.heads import labels as heads
from headstart.heads import logistic
from headstart.modelfile.schema import Metadata
from headstart.prediction.exporters import EXPORTERS
from headstart.prediction.exporters.agreement import Allowance, prove
from headstart.settings.recipe import Recipe
from headstart.settings.thresholds import threshold_rule
from headstart.targets.labels import NOT_KNOWN, Labels
from headstart.targets.labels.sigmoid import Sigmoid
from headstart.targets.labels.thresholds import choose
from helpers import headstart_cli, numbers_of_other_types

TASK = "multi-label"


def table_of(labels: list[str], split: list[str] | None = None) -> ImageTable:
    rows = tuple(
        Row(f"{number}.png", label, split[number] if split else None)  # type: ignore[arg-type]
        for number, label in enumerate(labels)
    )
    return ImageTable("photos", None, rows, task=TASK)  # type: ignore[arg-type]


# Targets


def test_labels_are_read_with_what_is_not_known() -> None:
    found = targets.read(table_of(["a|b", "b|?a", "", "a", "b", "a|b", ""]))
    assert isinstance(found, Labels)
    assert found.names == ("a", "b")
    assert found.labels.tolist() == [[1, 1], [-1, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]]
    assert found.count().tolist() == [3, 4]
    assert found.strata()[:3] == [(0, 1), (1,), ()]
    assert found.notes == ("Not known of some images, and left out of learning and measuring there: 'a (1)'.",)
    assert found.take([1]).labels.tolist() == [[-1, 1]]


def test_labels_too_rare_to_learn_are_left_out_and_named() -> None:
    found = targets.read(table_of(["a|all|rare", "a|all", "a|all", "all", "all|rare", "all"]))
    assert found.names == ("a",)
    assert found.notes[0].startswith("2 labels are left out")
    assert "'all (6)', 'rare (2)'" in found.notes[0]
    split = ["train"] * 4 + ["test"] * 3
    found = targets.read(table_of(["a|b", "a", "", "", "b", "b", "b"], split))
    assert found.names == ("a",)  # b is in train once


def test_labels_of_a_model_are_matched_by_name() -> None:
    table = table_of(["a|c", "b", ""])
    found = Labels.known(table, ("b", "a"), allow_missing=False)
    assert found.labels.tolist() == [[0, 1], [1, 0], [0, 0]]
    assert found.notes == ("The model does not know 'c': not measured.",)
    with pytest.raises(SourceError, match="lacks labels of the model: 'd'"):
        Labels.known(table, ("a", "d"), allow_missing=False)
    assert (Labels.known(table, ("a", "d"), allow_missing=True).labels[:, 1] == NOT_KNOWN).all()
    with pytest.raises(SourceError, match="lacks labels"):
        Labels.known(table, ("e", "d"), allow_missing=True)


# Thresholds


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7, 0.9]), st.booleans()), min_size=1, max_size=25))
def test_the_threshold_of_the_largest_f1_is_found(pairs: list[tuple[float, bool]]) -> None:
    def f1(found: np.ndarray) -> float:
        return 2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1)

    probabilities, truth = np.array([p for p, _ in pairs]), np.array([y for _, y in pairs])
    (found,), _ = choose(threshold_rule("f1"), probabilities[:, None], truth[:, None].astype(np.int8))
    assert f1(probabilities >= found) == pytest.approx(max(f1(probabilities >= cut) for cut in np.linspace(0, 1, 101)))


def test_the_rules_for_thresholds() -> None:
    probabilities = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2])[:, None]
    truth = np.array([1, 1, 0, 1, 1, 0, -1], np.int8)[:, None]
    assert choose(threshold_rule("0.5"), probabilities, truth) == ((0.5,), (True,))
    (cut,), (kept,) = choose(threshold_rule("precision=0.9"), probabilities, truth)
    assert (0.7 < cut < 0.8, kept) == (True, True)
    (cut,), (kept,) = choose(threshold_rule("precision=0.7"), probabilities, truth)
    assert 0.3 < cut < 0.4  # 4 of 5, which finds all
    (cut,), _ = choose(threshold_rule("recall=0.5"), probabilities, truth)
    assert 0.7 < cut < 0.8
    low = np.array([0, 1, 0, 0, 0, 0, 0], np.int8)[:, None]
    assert choose(threshold_rule("precision=0.9"), probabilities, low)[1] == (False,)
    for wrong in ("f2", "1.5", "0", "precision=2", "accuracy=0.9", ""):
        with pytest.raises(OptionError, match="no rule for thresholds"):
            Recipe(threshold=wrong)


# The head


def samples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings (N, 12), labels (N, 4) that follow from them, and folds."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 12)).astype(np.float32) * np.linspace(3, 0.2, 12, dtype=np.float32)
    w = rng.normal(size=(12, 4)) / np.linspace(3, 0.2, 12)[:, None]
    y = (x @ w + rng.logistic(size=(count, 4)) > np.array([0, 1, 2, -1])).astype(np.int8)
    return x, y, rng.integers(0, 5, count)


def test_the_solver_finds_what_scikit_learn_finds() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y, _ = samples(300)
    weights = np.random.default_rng(1).uniform(0, 2, y.shape).astype(np.float32)
    weights[:50, 2] = 0  # not known
    c = np.array([0.01, 1.0, 0.1, 100.0])
    found = logistic.solve(x, y.astype(np.float32), c=c, weights=weights)
    assert found.converged.all()
    for i in range(4):
        model = LogisticRegression(C=c[i], tol=1e-8, max_iter=10_000).fit(x, y[:, i], sample_weight=weights[:, i])
        np.testing.assert_allclose(found.weights[:, i], model.coef_[0], atol=0.01, rtol=0.01)
        assert found.bias[i] == pytest.approx(model.intercept_[0], abs=0.01)


def test_each_label_is_fitted_by_itself() -> None:
    """Order and company of labels change nothing; nor do images of which a label is not known, for that label."""
    x, y, folds = samples(200)
    head, found = heads.fit(x, y, folds)
    other, _ = heads.fit(x, y[:, ::-1].copy(), folds)
    np.testing.assert_allclose(head.weights, other.weights[:, ::-1], atol=2e-3)
    assert found.probabilities.shape == (200, 4)
    unknown = y.copy()
    unknown[:60, 1] = NOT_KNOWN
    scrambled = np.where(np.arange(200)[:, None] < 60, 1 - y, y).astype(np.int8)
    scrambled[:60, 1] = NOT_KNOWN
    with_gaps, _ = heads.fit(x, unknown, folds)
    np.testing.assert_allclose(with_gaps.weights[:, 0], head.weights[:, 0], atol=2e-3)
    assert not np.allclose(with_gaps.weights[:, 1], head.weights[:, 1], atol=2e-3)


def test_probabilities_of_a_head_are_calibrated_and_better_than_frequencies() -> None:
    x, y, folds = samples(800)
    new, truth, _ = samples(800)
    targets_ = Labels(tuple("abcd"), y)
    calibrated = heads.fit_recipe(x, targets_, folds, Recipe(threshold="0.5"), Runtime(cache=None))
    assert calibrated.calibration.thresholds == (0.5,) * 4
    found = evaluation.evaluate(
        calibrated.probabilities(new), truth, tuple("abcd"), split="test", thresholds=np.full(truth.shape, 0.5)
    )
    assert found.log_loss < 0.8 * found.log_loss_by_frequency
    assert found.calibration_error < 0.05


def test_rare_labels_can_weigh_more() -> None:
    x, y, folds = samples(400)
    y[:, 2] &= (np.arange(400) % 4 == 0).astype(np.int8)
    plain, balanced = (heads.fit(x, y, folds, class_weight=weight)[0] for weight in ("none", "balanced"))  # type: ignore[arg-type]
    assert balanced.bias[2] > plain.bias[2] + 0.5


# The evaluation


def test_the_numbers_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    y = (rng.random((120, 5)) < [0.5, 0.2, 0.1, 0.8, 0.3]).astype(np.int8)
    p = np.clip(0.25 + 0.3 * y + rng.normal(0, 0.2, y.shape), 0.01, 0.99).round(2)
    cuts = np.tile([0.5, 0.4, 0.3, 0.6, 0.5], (120, 1))
    one = evaluation.evaluate(p, y, tuple("abcde"), split="test", thresholds=cuts)
    found = p >= cuts
    assert one.mean_average_precision == pytest.approx(metrics.average_precision_score(y, p, average="macro"))
    assert one.micro_f1 == pytest.approx(metrics.f1_score(y, found, average="micro"))
    assert one.macro_f1 == pytest.approx(metrics.f1_score(y, found, average="macro"))
    assert one.exact_match == pytest.approx(metrics.accuracy_score(y, found))
    assert one.log_loss == pytest.approx(np.mean([metrics.log_loss(y[:, i], p[:, i]) for i in range(5)]))
    for i, label in enumerate(one.labels):
        assert label.average_precision == pytest.approx(metrics.average_precision_score(y[:, i], p[:, i]))
        assert label.precision == pytest.approx(metrics.precision_score(y[:, i], found[:, i]))
        assert label.recall == pytest.approx(metrics.recall_score(y[:, i], found[:, i]))
        assert label.f1_by_frequency == pytest.approx(metrics.f1_score(y[:, i], np.ones(120)))
        share = np.full(120, y[:, i].mean())
        assert label.log_loss_by_frequency == pytest.approx(metrics.log_loss(y[:, i], share))
    assert {(i, j): n for i, j, n in one.together}[0, 3] == int((y[:, 0] & y[:, 3]).sum())
    json.dumps(one.as_dict(), allow_nan=False)


def test_what_is_not_known_counts_for_nothing() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, (60, 2)).astype(np.int8)
    p = rng.uniform(size=(60, 2))
    gaps = y.copy()
    gaps[40:, 0] = NOT_KNOWN
    one = evaluation.evaluate(p, gaps, ("a", "b"), split="test", thresholds=np.full(p.shape, 0.5))
    whole = evaluation.evaluate(p[:40], y[:40], ("a", "b"), split="test", thresholds=np.full((40, 2), 0.5))
    assert one.labels[0] == whole.labels[0]
    assert (one.unknown, one.labels[0].images, one.labels[1].images) == (20, 40, 60)
    nothing = evaluation.evaluate(p, np.full_like(y, 0), ("a", "b"), split="test", thresholds=np.full(p.shape, 0.5))
    assert nothing.mean_average_precision is None
    json.dumps(nothing.as_dict(), allow_nan=False)


def drawn(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, 3) that are true, and labels by them, which occur together."""
    common = rng.normal(size=(count, 1))
    p = 1 / (1 + np.exp(-(rng.normal(size=(count, 3)) * 2 + common - np.array([0, 1, 2]))))
    return p, (rng.random(p.shape) < p).astype(np.int8)


@pytest.mark.slow
def test_the_intervals_cover_the_truth() -> None:
    """Measured with these 150 sets of 120 images: see docs/multi-label.md."""

    def numbers(of: Any) -> dict[str, tuple[float, tuple[float, float]]]:
        names = ("mean_average_precision", "micro_f1", "macro_f1", "exact_match", "log_loss")
        found = {name: (getattr(of, name), getattr(of, f"{name}_interval")) for name in names}
        for one in of.labels:
            for name in ("average_precision", "precision", "recall", "f1", "log_loss"):
                found[f"{name} {one.label}"] = getattr(one, name), getattr(one, f"{name}_interval")
        return found

    p, y = drawn(np.random.default_rng(0), 20_000)  # a tenth of the width of the intervals of 120
    truth = numbers(evaluation.evaluate(p, y, tuple("abc"), split="test", thresholds=np.full(p.shape, 0.4)))
    hits, rounds = dict.fromkeys(truth, 0), 150
    for seed in range(rounds):
        p, y = drawn(np.random.default_rng(seed + 1), 120)
        one = evaluation.evaluate(p, y, tuple("abc"), split="test", thresholds=np.full(p.shape, 0.4), seed=seed)
        for name, (_, (low, high)) in numbers(one).items():
            hits[name] += low <= truth[name][0] <= high
    assert min(hits.values()) > 0.89 * rounds, hits


@pytest.mark.parametrize(("sureness", "images"), [(1.0, 60), (1.0, 200), (2.0, 60), (2.0, 200), (0.5, 200)])
def test_the_interval_of_the_calibration_error_covers_it(sureness: float, images: int) -> None:
    """Of probabilities that are true, and of such as are too sure or not sure enough."""

    def error(seed: int, count: int) -> tuple[float, tuple[float, float], float]:
        p, y = drawn(np.random.default_rng(seed), count)
        seen = 1 / (1 + np.exp(-sureness * np.log(p / (1 - p))))
        return labels_calibration_error(seen, y == 1, np.ones(y.shape, bool), seed)

    true = error(0, 100_000)[0] if sureness != 1 else 0.0
    covered = [low <= true <= high for _, (low, high), _ in (error(seed + 1, images) for seed in range(100))]
    assert np.mean(covered) >= 0.92


@pytest.mark.parametrize("sureness", [0.5, 1.0, 2.0])
def test_an_evaluation_holds_no_number_of_numpy(sureness: float) -> None:
    """Whichever bound of an interval is the one that counts."""
    for seed in range(6):
        p, y = drawn(np.random.default_rng(seed), 60)
        seen = 1 / (1 + np.exp(-sureness * np.log(p / (1 - p))))
        found = evaluation.evaluate(seen, y, tuple("abc"), split="test", thresholds=np.full(p.shape, 0.4), seed=seed)
        assert numbers_of_other_types(found) == []


def test_the_calibration_error_is_that_of_the_pairs() -> None:
    p, y = drawn(np.random.default_rng(3), 300)
    known = np.random.default_rng(4).random(p.shape) < 0.8
    found, _, by_chance = labels_calibration_error(p, y == 1, known)
    two = np.stack([1 - p[known], p[known]], 1)
    bins = np.clip(np.ceil(two[:, 1] * 15) - 1, 0, 14)
    gaps = [abs((two[bins == one, 1] - y[known][bins == one]).sum()) for one in range(15)]
    assert found == pytest.approx(sum(gaps) / known.sum())
    assert by_chance == pytest.approx(found, rel=0.6)  # since these are true
    # The same labels three times over are not three times as certain.
    thrice = labels_calibration_error(np.tile(p, 3), np.tile(y == 1, 3), np.tile(known, 3))
    assert thrice.interval[1] == pytest.approx(labels_calibration_error(p, y == 1, known).interval[1], abs=0.01)


def test_what_frequencies_alone_would_get() -> None:
    y = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]] * 5, np.int8)
    one = evaluation.evaluate(np.full(y.shape, 0.5), y, tuple("abc"), split="test", thresholds=np.full(y.shape, 0.6))
    best = max(
        2 * (y * taken).sum() / (y.sum() + len(y) * sum(taken))
        for taken in ((a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)) if any(taken)
    )  # fmt: skip
    assert one.micro_f1_by_frequency == pytest.approx(best)
    assert one.macro_f1_by_frequency == pytest.approx(np.mean([2 * s / (1 + s) for s in y.mean(0)]))
    assert [label.precision_by_frequency for label in one.labels] == pytest.approx(y.mean(0).tolist())
    assert [label.recall_by_frequency for label in one.labels] == [0, 0, 0]


def test_the_interval_of_an_average_precision_covers_it() -> None:
    rng = np.random.default_rng(0)

    def scores(count: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.random(count) < 0.2
        return rng.normal(size=count) + 1.5 * truth, truth

    true = average_precision(*scores(200_000))
    values = [(average_precision(*one), int(one[1].sum())) for one in (scores(100) for _ in range(300))]
    covered = [low <= true <= high for low, high in (average_precision_interval(*one) for one in values)]
    assert 0.91 < np.mean(covered) <= 1


# The whole way


def test_digits_on_canvases_are_found(labelled: hs.Run, canvases: Path, tmp_path: Path) -> None:
    found = labelled.evaluation
    assert labelled.fitted.data.targets.names == ("digit 0", "digit 1", "digit 4")
    assert found.mean_average_precision > found.mean_average_precision_by_frequency + 0.3  # type: ignore[attr-defined]
    assert found.log_loss < 0.8 * found.log_loss_by_frequency  # type: ignore[attr-defined]
    assert "multi-label" not in repr(labelled)
    assert "mean average precision" in repr(labelled)
    labelled.save(tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["evaluation"]["labels"][0]["label"] == "digit 0"
    model = hs.load(tmp_path / "run" / "model.onnx")
    assert model.verify().passed
    assert (model.metadata.task, model.metadata.schema, len(model.metadata.thresholds)) == (TASK, 3, 3)
    prediction = model.predict(canvases / "000.png")
    values = dict(prediction.probabilities)  # type: ignore[attr-defined]
    assert set(prediction.labels or ()) == {  # type: ignore[attr-defined]
        name for name, cut in zip(model.classes, model.metadata.thresholds, strict=True) if values[name] >= cut
    }
    lines = list(csv.DictReader((tmp_path / "run" / "predictions.csv").read_text().splitlines()))
    assert len(lines) == 150
    assert {line["correct"] for line in lines} == {"yes", "no"}
    # The list of the run gives the same run again, although no name has been told.
    again = hs.read(tmp_path / "run" / "splits.csv", columns=hs.Columns(root=canvases))
    assert (again.task, [row.label for row in again.rows]) == (
        TASK,
        [row.label for row in labelled.fitted.data.table.rows],
    )


@pytest.mark.slow
def test_the_command_line(canvases: Path, tmp_path: Path, warm: Path) -> None:
    folder = tmp_path / "run"
    done = headstart_cli(
        "train", canvases / "list.csv", "--out", folder, "--fit", "squash", "--json", HEADSTART_CACHE=str(warm)
    )
    document = json.loads(done.out)
    assert document["evaluation"]["labels"][2]["label"] == "digit 4"
    done = headstart_cli(
        "train", canvases / "list.csv", "--out", tmp_path / "b", "--fit", "squash", HEADSTART_CACHE=str(warm)
    )
    assert "Mean average precision" in done.out
    assert "150 images of 3 labels" in done.out
    done = headstart_cli("predict", folder / "model.onnx", canvases / "000.png", "--format", "jsonl")
    record = json.loads(done.out)
    assert list(record) == ["path", "labels", "probabilities", "familiar", "distance"]
    assert list(record["probabilities"]) == ["digit 0", "digit 1", "digit 4"]
    done = headstart_cli("predict", folder / "model.onnx", canvases / "000.png", "--format", "csv")
    assert done.out.splitlines()[0] == "path,labels,probabilities,error,familiar,distance"
    assert "Next most likely" in headstart_cli("predict", folder / "model.onnx", canvases / "000.png").out
    pq = pytest.importorskip("pyarrow.parquet")
    for out, more in (("p.parquet", ()), ("p.parquet", ("--resume",)), ("p", ())):
        command = ("predict", folder / "model.onnx", canvases / "000.png", "--out", tmp_path / out, *more)
        assert headstart_cli(*command).code == 0
        place = tmp_path / out if out.endswith("t") else tmp_path / out / "part-00000.parquet"
        (row,) = pq.read_table(place).to_pylist()
        assert row["labels"] == record["labels"]
        assert dict(row["probabilities"]) == record["probabilities"]
    done = headstart_cli("evaluate", folder / "model.onnx", canvases / "list.csv", "--json")
    assert json.loads(done.out)["evaluation"]["n"] == 150
    assert "optimistic" in json.loads(done.out)["notes"][-1]


@pytest.mark.slow
def test_the_commands_of_the_page_run(canvases: Path, tmp_path: Path, warm: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "multi-label.md").read_text("utf-8")
    shutil.copytree(canvases, tmp_path / "here")
    shutil.copy(canvases / "000.png", tmp_path / "here" / "photo.png")
    commands = re.findall(r"^headstart (.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    done = [headstart_cli(*shlex.split(one), cwd=tmp_path / "here", HEADSTART_CACHE=str(warm)) for one in commands]
    assert [one.code for one in done] == [0, 0]
    assert list(json.loads(done[1].out)) == ["path", "labels", "probabilities", "familiar", "distance"]


def test_what_is_for_one_class_is_refused_in_a_sentence(
    labelled: hs.Run, canvases: Path, tmp_path: Path, warm: Path
) -> None:
    folder = labelled.save(tmp_path / "run")
    model = str(folder / "model.onnx")
    for command in (
        ("predict", model, canvases / "000.png", "--coverage", "0.9"),
        ("predict", model, canvases / "000.png", "--sort-into", tmp_path / "sorted"),
        ("train", canvases / "list.csv", "--backbone", "auto", "--out", tmp_path / "c"),
        ("train", canvases / "list.csv", "--strategy", "auto", "--out", tmp_path / "d"),
    ):
        done = headstart_cli(*command, HEADSTART_CACHE=str(warm))
        assert (done.code, done.err.count("Error:"), "bug" in done.err) == (2, 1, False), command
        assert not {path.name for path in tmp_path.iterdir()} - {"run", "c", "d"}, command
    with pytest.raises(OptionError, match=r"threshold = 0\.3 is for several labels an image"):
        hs.train(one_class(canvases), Recipe(threshold="0.3"))


def one_class(canvases: Path) -> ImageTable:
    rows = tuple(Row(f"{number:03}.png", "odd" if number % 2 else "even") for number in range(20))
    return ImageTable(str(canvases), hs.read(canvases / "list.csv").storage, rows)


def test_a_single_label_is_enough(canvases: Path, warm: Path) -> None:
    table = hs.read(canvases / "list.csv")
    rows = [replace(row, label="odd" if "digit 1" in (row.label or "") else "") for row in table.rows]
    made = hs.train(replace(table, rows=tuple(rows)), Recipe(fit="squash"), runtime=Runtime(cache=warm))
    assert made.classifier.classes == ("odd",)
    assert made.classifier.predict_proba(canvases / "000.png").shape == (1,)


def test_the_stored_model_of_schema_3(tmp_path: Path) -> None:
    """It sees the mean of each channel; a label for each of them."""
    stored = hs.load(Path(__file__).parent / "golden" / "model-3.onnx")
    assert (stored.metadata.schema, stored.metadata.task, stored.classes) == (3, TASK, ("blue", "green", "red"))
    assert stored.metadata.thresholds == pytest.approx([0.496333, 0.497842, 0.498626], abs=1e-6)
    assert stored.verify().passed
    colours = [(220, 220, 20), (20, 20, 20), (20, 20, 220)]
    found = stored.predict([np.full((40, 40, 3), colour, np.uint8) for colour in colours])
    assert [one.labels for one in found] == [("green", "red"), (), ("blue",)]


def test_a_damaged_model_file_is_refused(labelled: hs.Run) -> None:
    record = json.loads(labelled.classifier.metadata.to_json())
    assert Metadata.from_json(json.dumps(record)).thresholds == pytest.approx(labelled.classifier.metadata.thresholds)
    for thresholds in ([0.5], [0.5, 0.5, 1.5], [0.5, 0.5, "x"], [], "0.5", [0.5, 0.5, None], [True, 0.5, 0.5]):
        with pytest.raises(ModelError, match="no valid thresholds"):
            Metadata.from_json(json.dumps(record | {"thresholds": thresholds}))
    with pytest.raises(ModelError, match="no valid thresholds"):
        Metadata.from_json(json.dumps({**record, "task": "classes"}))


def test_a_fixed_threshold_is_that_of_the_model_file(canvases: Path, warm: Path) -> None:
    made = hs.train(
        canvases / "list.csv", Recipe(fit="squash", threshold="0.25", measure_by="holdout"), runtime=Runtime(cache=warm)
    )
    assert made.classifier.metadata.thresholds == (0.25,) * 3
    assert {one.threshold for one in made.evaluation.labels} == {0.25}  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(fit="squash", measure_by="holdout", head="mlp", epochs=8, batch_size=8, class_weight="balanced"),
        Recipe(strategy="finetune", measure_by="holdout", fit="squash", epochs=1, batch_size=8, unfreeze="head",
               flip=False, label_smoothing=0.1),
    ],
    ids=["mlp", "finetune"],
)  # fmt: skip
def test_networks_learn_labels(canvases: Path, warm: Path, tmp_path: Path, recipe: Recipe) -> None:
    pytest.importorskip("torch")
    made = hs.train(canvases / "list.csv", recipe, runtime=Runtime(cache=warm))
    found: Any = made.evaluation
    assert found.mean_average_precision > found.mean_average_precision_by_frequency + 0.2
    made.save(tmp_path / "run")
    model = hs.load(tmp_path / "run" / "model.onnx")
    assert model.verify().passed
    assert len(model.metadata.thresholds) == 3


def test_the_loss_leaves_out_what_is_not_known() -> None:
    torch = pytest.importorskip("torch")
    from headstart.training.losses_of_labels import BinaryCrossEntropy

    labels = np.array([[1, 0, -1], [0, -1, 1], [-1, -1, -1]], np.int8)
    loss = BinaryCrossEntropy(labels, 3, Recipe(), torch.device("cpu"))
    scores = torch.tensor([[2.0, -1.0, 50.0], [0.5, -50.0, 1.0], [9.0, 9.0, 9.0]])
    each = loss.each(scores, torch.from_numpy(labels)).numpy()
    expected = [
        (np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2,
        (np.log1p(np.exp(0.5)) + np.log1p(np.exp(-1))) / 2,
        0,
    ]
    np.testing.assert_allclose(each, expected, atol=1e-6)
    assert loss.right(scores, torch.from_numpy(labels)) == 2
    with pytest.raises(OptionError, match="mixup"):
        BinaryCrossEntropy(labels, 3, Recipe(strategy="finetune", mixup=0.2), torch.device("cpu"))


def test_the_calibration_of_networks_brings_probabilities_near_the_truth() -> None:
    """Each label by itself: one is three times too sure, one half as sure as it could be."""
    p, y = drawn(np.random.default_rng(5), 3000)
    y[:500, 1] = NOT_KNOWN
    scores = np.log(p / (1 - p)) * [3, 1, 0.5]
    found = Sigmoid.fit(scores, y)
    assert found.temperature * np.array(found.each) == pytest.approx([3, 1, 0.5], rel=0.12)
    assert len(found.thresholds) == 3
    np.testing.assert_allclose(found.probabilities(scores), p, atol=0.05)
    rare = y.copy()
    rare[:, 2] = 0
    rare[:4, 2] = 1  # too few to go by
    assert Sigmoid.fit(scores, rare).each[2] == 1


def test_the_temperatures_of_labels_are_in_the_graph_and_in_the_head_that_is_read_from_it() -> None:
    import onnx
    import onnxruntime

    from headstart.core.graph import IR_VERSION, OPSET, Graph
    from headstart.heads.calibrated import Calibrated
    from headstart.heads.linear import LinearHead
    from headstart.modelfile import linear_head

    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(6, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    one = Calibrated(head, Sigmoid(2.0, (0.5, 0.4, 0.3), (1.0, 0.5, 3.0)))
    graph = Graph()
    one.add_nodes(graph, "embedding")
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes, "head",
            [onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["N", 6])],
            [onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", 3])],
            list(graph.constants.values()),
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
    ).SerializeToString()  # fmt: skip
    x = rng.normal(size=(5, 6)).astype(np.float32)
    session = onnxruntime.InferenceSession(model)
    np.testing.assert_allclose(session.run(None, {"embedding": x})[0], one.probabilities(x), atol=1e-6)
    read = linear_head.find(model, 3)
    assert read is not None
    scores = (x @ read.weights + read.bias) / read.temperature
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), one.probabilities(x), atol=1e-6)


# Exports


def test_a_proof_compares_labels_by_their_thresholds(labelled: hs.Run, canvases: Path) -> None:
    """An export that moves one label over its threshold gives another answer; the most probable one may stay."""
    classifier = labelled.classifier
    thresholds = np.array(classifier.metadata.thresholds, np.float32)
    pixels = [classifier.pixels((canvases / f"{number:03}.png").read_bytes()) for number in range(3)]

    def moved(image: np.ndarray) -> np.ndarray:
        found = classifier.run_pixels(image).probabilities
        least = found.argmin()
        found[least] = thresholds[least] + (0.001 if found[least] < thresholds[least] else -0.001)
        return found

    proof = prove(classifier, moved, pixels, "canvases", Allowance(1.0))
    assert (proof.answer, proof.images, proof.same) == ("labels", 6, 0)
    same = prove(classifier, lambda image: classifier.run_pixels(image).probabilities, pixels, "", Allowance(0.0))
    assert (same.same, same.passed) == (6, True)


@pytest.mark.slow
@pytest.mark.parametrize("form", [name for name, spec in EXPORTERS.items() if spec.run and not spec.folder])
def test_each_form_of_a_model_of_labels_is_proved(form: str, labelled: hs.Run, canvases: Path, tmp_path: Path) -> None:
    """In ONNX Runtime it gives what the model gives; golden images, which are drawn patterns, refuse none of them."""
    labelled.save(tmp_path / "run")
    made = hs.export(tmp_path / "run", form, check=canvases / "0[0-3]?.png")
    session = onnxruntime.InferenceSession(made.path.read_bytes())
    pixels = labelled.classifier.pixels((canvases / "007.png").read_bytes())
    (found,) = session.run(["probabilities"], {"image": pixels[None]})
    np.testing.assert_allclose(found[0], labelled.classifier.predict_proba(pixels), atol=0.2)
    assert made.proof is not None
    assert made.proof.answer == "labels"
    assert made.proof.same >= 38 <= made.proof.images == 43
