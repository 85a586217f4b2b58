"""Prediction sets: the quantile by hand, coverage by simulation and on real digits, and what predict makes of them."""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headstart
from headstart.core.errors import ModelError, OptionError
from headstart.evaluation.conformal import calibrate, held_out, measure, scores
from headstart.modelfile import prediction_sets
from headstart.modelfile.prediction_sets import (
    CAVEAT,
    MAX_SCORES,
    Conformal,
    Mistakes,
    limit,
    measured,
    members,
    parse,
)
from headstart.prediction.classifier import Classifier
from helpers import amended, draw, headstart_cli

STORED = Path(__file__).parent / "golden" / "model-1.onnx"
STORED_2 = STORED.with_name("model-2.onnx")


def drawn(count: int, classes: int, apart: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, C) of a classifier that is too sure of itself, and labels (N,)."""
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += apart
    powers = np.exp(logits * apart * 1.5)
    return powers / powers.sum(1, keepdims=True), labels


# --- the quantile --------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    kept = Conformal.of(np.array([0.5, 0.1, 0.3, 0.2, 0.4, 0.9, 0.7, 0.6, 0.8]))
    assert kept == Conformal(9, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
    # Of ten equally likely places of a new score among nine, it is below the k-th in k of them.
    assert limit(kept, 0.9) == 0.9
    assert limit(kept, 0.8) == 0.8
    assert limit(kept, 0.81) == 0.9
    assert limit(kept, 0.1) == 0.1
    assert limit(kept, 0.05) == 0.1
    assert limit(kept, 0.91) == math.inf
    assert members(np.array([0.2, 0.5, 0.3], np.float32), 0.7).tolist() == [1, 2]
    assert members(np.array([0.2, 0.5, 0.3]), 0.4).tolist() == [1]
    assert members(np.array([0.4, 0.4, 0.2]), 0.4).tolist() == [0]  # the first of equals, which is the label
    assert members(np.array([0.2, 0.5, 0.3]), 0.4, allow_empty=True).tolist() == []
    assert members(np.array([0.2, 0.5, 0.3]), 0.7, allow_empty=True).tolist() == [1, 2]
    assert members(np.array([0.2, 0.5, 0.3]), math.inf).tolist() == [1, 2, 0]


@given(st.integers(1, 4000), st.floats(0.01, 0.99))
def test_bounded_scores_lose_next_to_nothing(count: int, coverage: float) -> None:
    """Never less than asked for, and at most a thousandth more."""
    values = np.random.default_rng(count).permutation(count) / count
    kept = Conformal.of(values)
    assert len(kept.scores) == min(count, MAX_SCORES)
    found, rank = limit(kept, coverage), math.ceil(coverage * (count + 1) - 1e-9)
    if rank > count:
        assert found == math.inf
    else:
        exact = (rank - 1) / count
        assert exact - 1e-5 <= found <= exact + 1 / MAX_SCORES + 1e-5


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_no_coverage(coverage: float) -> None:
    with pytest.raises(OptionError, match="coverage"):
        limit(Conformal(1, (0.5,)), coverage)


# --- coverage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "classes", "apart"), [(50, 3, 1.5), (153, 2, 2.5), (153, 10, 2.0), (3000, 5, 1.5)])
def test_coverage_is_what_was_asked_for(images: int, classes: int, apart: float) -> None:
    """88 to 93 % of 90 % sets, and likewise at other levels; also where more than 90 % of the images are told right."""
    rng, found = np.random.default_rng(images), {0.8: [], 0.9: [], 0.95: []}
    for _ in range(200):
        kept = calibrate(*drawn(images, classes, apart, rng))
        new, labels = drawn(200, classes, apart, rng)
        for coverage, shares in found.items():
            shares.append(measure(kept, new, labels, coverage, allow_empty=True).covered)
    assert 0.88 <= np.mean(found[0.9]) <= 0.93
    for coverage, shares in found.items():
        # On average it is between what was asked for and 1 / (n + 1) more; 40,000 images show it to half a point.
        assert coverage - 0.01 <= np.mean(shares) <= coverage + 1 / (images + 1) + 0.01


def truth(kept: dict, probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> float:
    """Share of sets that hold the true class, from `members` alone."""
    most = limit(kept, coverage)
    return float(np.mean([label in members(one, most) for one, label in zip(probabilities, labels, strict=True)]))


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("images", "classes", "apart_by", "accuracy"),
    [(60, 3, 1.5, 0.765), (153, 5, 2.5, 0.88), (150, 2, 3.0, 0.98), (400, 10, 3.9, 0.98), (3000, 5, 1.5, 0.655)],
)
def test_told_coverage_is_the_true_one(
    images: int, classes: int, apart_by: float, accuracy: float, apart: bool
) -> None:
    """Unbiased, and within the interval that is told about as often as that claims; coverage as asked for holds too."""
    rng = np.random.default_rng(images + apart)
    fresh, fresh_labels = drawn(200_000, classes, apart_by, rng)
    right, fresh_scores = fresh.argmax(1) == fresh_labels, scores(fresh, fresh_labels)
    assert right.mean() == pytest.approx(accuracy, abs=0.02)
    for coverage in (0.8, 0.9, 0.95):
        told, true, inside = [], [], 0
        for _ in range(200 if images < 1000 else 60):
            probabilities, labels = drawn(images, classes, apart_by, rng)
            kept = calibrate(probabilities, labels)
            if apart:
                probabilities, labels = drawn(images, classes, apart_by, rng)
            kept = replace(kept, measured=held_out(probabilities, labels, "val", apart=apart))
            again = parse(json.loads(json.dumps(kept.as_dict())))
            assert again == kept
            found = measured(again, coverage)
            true.append(float((right | (fresh_scores <= limit(kept, coverage))).mean()))
            told.append(found.coverage)
            inside += found.interval[0] <= true[-1] <= found.interval[1]
            assert not found.at_least
        fresh_noise = math.sqrt(coverage * (1 - coverage) / len(fresh))
        noise = math.hypot(np.std(np.subtract(told, true)) / math.sqrt(len(told)), fresh_noise)
        assert np.mean(told) == pytest.approx(np.mean(true), abs=4 * noise + 1 / images)
        assert np.mean(true) >= max(coverage, right.mean()) - 0.01
        assert inside / len(told) >= (0.9 if images > 100 else 0.87)  # of few images, the truth is then above


def test_told_coverage_is_that_of_leaving_one_out() -> None:
    """Counted image by image, with the quantile of the others."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        probabilities, labels = drawn(40, 4, 1.6, rng)
        kept = replace(calibrate(probabilities, labels), measured=held_out(probabilities, labels, "val", apart=False))
        for coverage in (0.5, 0.8, 0.9):
            hits = 0
            for one in range(40):
                others = np.arange(40) != one
                most = limit(calibrate(probabilities[others], labels[others]), coverage)
                hits += labels[one] in members(probabilities[one], most)
            assert measured(kept, coverage).coverage == pytest.approx(hits / 40)
            # Others than these are counted as they are.
            strangers, their_labels = drawn(50, 4, 1.6, rng)
            apart = replace(kept, measured=held_out(strangers, their_labels, "test", apart=True))
            assert measured(apart, coverage).coverage == pytest.approx(truth(kept, strangers, their_labels, coverage))


def test_no_set_is_empty_at_an_accuracy_of_98() -> None:
    rng = np.random.default_rng(1)
    kept = calibrate(*drawn(1000, 10, 3.9, rng))
    new, labels = drawn(5000, 10, 3.9, rng)
    before, now = measure(kept, new, labels, allow_empty=True), measure(kept, new, labels)
    assert (new.argmax(1) == labels).mean() == pytest.approx(0.98, abs=0.01)
    assert 0.06 <= before.empty <= 0.12
    assert now.empty == 0
    assert now.covered == pytest.approx(truth(kept, new, labels, 0.9))
    assert now.covered >= 0.97


def test_told_of_old_files_is_a_lower_bound() -> None:
    rng = np.random.default_rng(2)
    for classes, apart_by in ((2, 1.5), (2, 3.0), (6, 1.5), (6, 2.5)):
        probabilities, labels = drawn(300, classes, apart_by, rng)
        old = replace(calibrate(probabilities, labels), split="val")
        new = replace(old, measured=held_out(probabilities, labels, "val", apart=False))
        for coverage in (0.5, 0.8, 0.9):
            bound, exact = measured(old, coverage), measured(new, coverage)
            assert (bound.at_least, bound.interval[1], bound.images, bound.split) == (True, 1.0, 300, "val")
            assert coverage <= bound.coverage <= exact.coverage
            if classes == 2:
                assert bound.coverage == exact.coverage


def test_told_of_many_mistakes_is_no_more_than_is_so() -> None:
    probabilities, labels = drawn(20_000, 5, 1.0, np.random.default_rng(5))
    kept = replace(calibrate(probabilities, labels), measured=held_out(probabilities, labels, "test", apart=True))
    assert kept.measured is not None
    assert kept.measured.mistakes > len(kept.measured.scores) == MAX_SCORES
    for coverage in (0.5, 0.8, 0.9):
        exact = measure(kept, probabilities, labels, coverage).covered
        assert exact - 1 / MAX_SCORES <= measured(kept, coverage).coverage <= exact


def test_told_where_sets_hold_all_classes_or_nothing_is_wrong() -> None:
    few = Conformal(2, (0.1, 0.9), measured=Mistakes(2, 1, (0.9,), "test", apart=False))
    assert (measured(few, 0.9).coverage, measured(few, 0.9).interval) == (1.0, (1.0, 1.0))
    nothing = Mistakes.of(np.full(20, 0.1), np.zeros(20, bool), "val", apart=False)
    none = replace(Conformal.of(np.full(20, 0.1)), measured=nothing)
    found = measured(none, 0.5)
    assert (found.coverage, found.images, found.interval[1]) == (1.0, 20, 1.0)
    assert 0.8 < found.interval[0] < 0.9
    with pytest.raises(OptionError, match="coverage"):
        measured(none, 1.0)


def test_measured_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.05, 0.05, 0.9], [0.34, 0.33, 0.33]])
    labels = np.array([0, 1, 0, 2])
    assert scores(probabilities, labels) == pytest.approx([0.3, 0.65, 0.95, 0.67])
    kept = Conformal(9, (0.0,) * 8 + (0.65,))
    filled = measure(kept, probabilities, labels, 0.9)
    assert (filled.empty, filled.single, filled.covered) == (0, 0.75, 0.5)
    found = measure(kept, probabilities, labels, 0.9, allow_empty=True)
    assert (found.empty, found.single, found.covered) == (0.25, 0.5, 0.5)
    assert found.interval[0] < 0.5 < found.interval[1]


@pytest.mark.slow
def test_digits(digits: Path, warm: Path) -> None:
    """Real held-out digits: calibrated on one half of them, measured on the other, over many halves."""
    run = headstart.train(digits, runtime=headstart.Runtime(cache=warm))
    unseen = run.fitted.held_out
    index = {label: i for i, label in enumerate(run.fitted.data.targets.names)}
    labels = np.array([index[run.fitted.data.table.rows[row].label] for row in unseen.rows])
    rng, covered = np.random.default_rng(0), []
    for _ in range(100):
        order = rng.permutation(len(labels))
        one, other = order[::2], order[1::2]
        kept = calibrate(unseen.probabilities[one], labels[one])
        covered.append(measure(kept, unseen.probabilities[other], labels[other], allow_empty=True).covered)
    assert len(labels) == 360
    assert 0.88 <= np.mean(covered) <= 0.93
    # The model file itself, on the images that it was calibrated on, from their bytes.
    files = [digits / run.fitted.data.table.rows[row].path for row in unseen.rows]
    results = [run.classifier.run_file(file.read_bytes()) for file in files]

    def sets_of(coverage: float, allow_empty: bool) -> list[tuple[str, ...]]:
        most = run.classifier.set_limit(coverage)
        return [run.classifier.prediction(one, most=most, allow_empty=allow_empty).labels or () for one in results]

    for coverage in (0.9, 0.99):
        filled = sets_of(coverage, allow_empty=False)
        right = np.mean(
            [run.fitted.data.targets.names[label] in one for label, one in zip(labels, filled, strict=True)]
        )
        assert all(filled)
        assert right == pytest.approx(run.classifier.measured_coverage(coverage).coverage, abs=0.01)
        sets = sets_of(coverage, allow_empty=True)
        assert np.mean(
            [run.fitted.data.targets.names[label] in one for label, one in zip(labels, sets, strict=True)]
        ) == (pytest.approx(coverage, abs=0.012))


# --- in the model file ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(model: Path) -> Classifier:
    return Classifier.load(model)


@pytest.fixture(scope="module")
def unsure(model: Path) -> Classifier:
    """The model with the scores of one that is right in 70 of 99 cases."""
    values = [round(0.001 * i, 3) for i in range(70)] + [0.999] * 29
    return Classifier(amended(model.read_bytes(), conformal=Conformal(99, tuple(values))))


def test_model_holds_the_scores_of_held_out_images(model: Path, classifier: Classifier) -> None:
    conformal = classifier.metadata.conformal
    assert conformal is not None
    assert conformal.images == len(conformal.scores) == 36
    assert list(conformal.scores) == sorted(conformal.scores)
    told = conformal.measured
    assert told is not None
    evaluation = classifier.metadata.evaluation
    assert evaluation is not None
    assert (told.images, told.apart) == (36, False)
    assert told.mistakes == len(told.scores) == round(36 * (1 - evaluation["accuracy"]))
    assert set(told.scores) <= set(conformal.scores)
    assert classifier.measured_coverage(0.5).coverage >= evaluation["accuracy"]


def test_sets_of_predictions(classifier: Classifier, unsure: Classifier) -> None:
    picture = draw("stripes", 77)
    assert classifier.predict(picture).labels is None
    probabilities = classifier.predict_proba(picture)
    for one in (classifier, unsure):
        sizes = []
        for coverage in (0.2, 0.5, 0.7, 0.9, 0.95, 0.999):
            prediction = one.predict(picture, coverage=coverage, allow_empty=True)
            filled = one.predict(picture, coverage=coverage)
            assert filled.labels == (prediction.labels or (filled.label,))
            most = one.set_limit(coverage)
            assert most is not None
            expected = [name for name, p in zip(one.classes, probabilities, strict=True) if 1 - float(p) <= most]
            assert prediction.labels is not None
            assert set(prediction.labels) == set(expected)
            assert list(prediction.labels) == sorted(
                prediction.labels, key=lambda name: -probabilities[one.classes.index(name)]
            )
            sizes.append(len(prediction.labels))
        assert sizes == sorted(sizes)
        assert sizes[-1] == 3  # more is asked for than the scores can show: every class
    assert [one.labels for one in unsure.predict([picture, picture], coverage=0.9)] == [prediction.labels] * 2


def test_sets_elsewhere(model: Path, unsure: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The few lines of the page on the model file give the same sets."""
    page = (Path(__file__).parent.parent / "docs" / "model-file.md").read_text("utf-8")
    (code,) = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    picture = draw("disc", 41)
    for classifier in (Classifier.load(model), unsure):
        about = json.loads(classifier.metadata.to_json())
        exec(code, {"about": about, "probabilities": classifier.predict_proba([picture])})
        expected = classifier.predict(picture, coverage=0.9).labels
        assert set(ast.literal_eval(capsys.readouterr().out)) == set(expected or ())


def test_old_models_have_none() -> None:
    old = headstart.load(STORED)
    assert old.metadata.conformal is None
    assert old.predict(draw("disc", 3)).labels is None
    with pytest.raises(OptionError, match=r"held-out.*Train it again"):
        old.predict(draw("disc", 3), coverage=0.9)
    with pytest.raises(OptionError, match="coverage"):
        old.predict(draw("disc", 3), coverage=0.0)
    with pytest.raises(OptionError, match="held-out"):
        old.measured_coverage(0.9)
    with pytest.raises(OptionError, match="no sets are asked for"):
        old.predict(draw("disc", 3), allow_empty=True)


def test_a_model_of_before_the_mistakes_were_stored() -> None:
    found = headstart.load(STORED_2).measured_coverage(0.9)
    assert (found.at_least, found.images) == (True, 36)
    assert 0.9 <= found.coverage <= 1


@pytest.mark.parametrize(
    "value",
    [
        [], "x", 1, {}, {"images": 2}, {"images": 2, "scores": []}, {"images": 2, "scores": [0.1]},
        {"images": 0, "scores": []}, {"images": 2, "scores": [0.2, 0.1]}, {"images": 2, "scores": [0.1, 1.1]},
        {"images": 2, "scores": [-0.1, 0.1]}, {"images": 2, "scores": [0.1, "0"]}, {"images": 2, "scores": [0.1, None]},
        {"images": True, "scores": [0.1]}, {"images": 2.0, "scores": [0.1, 0.2]}, {"images": 2, "scores": {"0": 1}},
        {"images": 5000, "scores": [0.5] * 5000}, {"images": 5000, "scores": [0.5] * 999},
        {"images": 2, "scores": [[0.1], [0.2]]}, {"images": 2, "scores": [False, True]},
    ],
)  # fmt: skip
def test_damaged_scores_are_refused(value: object) -> None:
    with pytest.raises(ModelError, match="conformal"):
        parse(value)


def test_sound_scores() -> None:
    assert parse(None) is None
    told = {"images": 3, "mistakes": 1, "scores": [1], "split": "val", "apart": False}
    found = parse({"images": 3, "scores": [0, 0.5, 1], "measured": told})
    assert found == Conformal(3, (0.0, 0.5, 1.0), measured=Mistakes(3, 1, (1.0,), "val", apart=False))
    for damage in (
        {"images": 2}, {"images": 0}, {"images": True}, {"mistakes": 0}, {"mistakes": 2}, {"mistakes": None},
        {"mistakes": 4, "scores": [0.1, 0.2, 0.3, 0.4]}, {"mistakes": -1}, {"mistakes": True}, {"scores": [2]},
        {"scores": "x"}, {"split": None}, {"apart": None}, {"apart": 1},
    ):  # fmt: skip
        with pytest.raises(ModelError, match="conformal"):
            parse({"images": 3, "scores": [0, 0.5, 1], "measured": told | damage})
    for value in ([], "x", 1, {}):
        with pytest.raises(ModelError, match="conformal"):
            parse({"images": 3, "scores": [0, 0.5, 1], "measured": value})
    kept = parse({"images": 3, "scores": [0, 0.5, 1], "split": "val"})
    assert kept == Conformal(3, (0.0, 0.5, 1.0), "val")
    assert kept.as_dict() == {"images": 3, "scores": [0.0, 0.5, 1.0], "split": "val"}


# --- the program ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, model: Path, unsure: Classifier) -> Path:
    (tmp_path / "new").mkdir()
    draw("stripes", 70).save(tmp_path / "new" / "=a.png")
    draw("disc", 70).save(tmp_path / "new" / "b.png")
    (tmp_path / "new" / "c.png").write_bytes(b"no image")
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    (tmp_path / "unsure.onnx").write_bytes(unsure.content)
    return tmp_path


def test_program_prints_sets(folder: Path) -> None:
    arguments = ["predict", "unsure.onnx", "new", "--coverage", "0.9"]
    done = headstart_cli(*arguments, "--json", cwd=folder)
    assert done.code == 3
    assert CAVEAT in done.json["notes"]
    records = [one for one in done.json["predictions"] if "error" not in one]
    assert [len(one["labels"]) for one in records] == [3, 3]
    assert [one["labels"][0] for one in records] == [one["label"] for one in records] == ["stripes", "disc"]
    assert "abstained" not in records[0]
    table = headstart_cli(*arguments, cwd=folder)
    assert "90 % set" in table.out
    assert "contain the true class" in table.err
    assert "not read" in table.out
    lines = list(csv.DictReader(io.StringIO(headstart_cli(*arguments, "--format", "csv", cwd=folder).out)))
    assert [json.loads(one["labels"] or "[]") for one in lines] == [*(one["labels"] for one in records), []]
    assert lines[0]["familiar"] in {"yes", "no"}
    assert float(lines[0]["distance"]) == records[0]["distance"]
    assert lines[2]["error"]


def test_program_fills_sets_and_tells_their_coverage(folder: Path) -> None:
    arguments = ["predict", "unsure.onnx", "new/b.png", "--coverage", "0.01"]
    done = headstart_cli(*arguments, "--json", cwd=folder)
    assert done.json["predictions"][0]["labels"] == ["disc"]
    told = done.json["sets"]
    assert (told["coverage"], told["allow_empty"]) == (0.01, False)
    assert (told["measured"]["images"], told["measured"]["at_least"]) == (99, True)
    assert told["measured"]["coverage"] == pytest.approx(70 / 99, abs=1e-6)
    assert sum("For a coverage of 1 %, such sets" in note for note in done.json["notes"]) == 1
    table = headstart_cli(*arguments, cwd=folder)
    assert "none" not in table.out
    assert table.err.count("true class of at least 70.7 % of 99 held-out images") == 1
    empty = headstart_cli(*arguments, "--allow-empty", cwd=folder)
    assert "none" in empty.out
    assert "was asked for" not in empty.err
    done = headstart_cli(*arguments, "--allow-empty", "--json", cwd=folder)
    assert done.json["predictions"][0]["labels"] == []
    assert done.json["sets"] == {"coverage": 0.01, "allow_empty": True, "measured": None}
    alone = headstart_cli("predict", "unsure.onnx", "new/b.png", "--allow-empty", cwd=folder)
    assert alone.code == 2
    assert "--coverage" in alone.err
    assert "sets" not in headstart_cli("predict", "unsure.onnx", "new/b.png", "--json", cwd=folder).json
    # A file of today tells what is so, rather than a bound.
    done = headstart_cli("predict", "model.onnx", "new/b.png", "--coverage", "0.5", "--json", cwd=folder)
    assert done.json["sets"]["measured"]["at_least"] is False
    assert not any("at least" in note for note in done.json["notes"] if "asked for;" in note)


def test_program_abstains(folder: Path) -> None:
    """By what is unfamiliar alone; and, where sets are asked for, by those that are not one class."""
    arguments = ["predict", "unsure.onnx", "new/b.png", "--abstain"]
    (named,) = headstart_cli(*arguments, "--json", cwd=folder).json["predictions"]
    assert (named["label"], named["abstained"]) == ("disc", None)
    (unnamed,) = headstart_cli(*arguments, "--coverage", "0.9", "--json", cwd=folder).json["predictions"]
    assert (unnamed["label"], unnamed["probability"], unnamed["abstained"]) == (None, None, "ambiguous")
    assert unnamed["top"][0] == {"label": "disc", "probability": named["probability"]}
    (line,) = csv.DictReader(
        io.StringIO(headstart_cli(*arguments, "--coverage", "0.9", "--format", "csv", cwd=folder).out)
    )
    assert (line["label"], line["probability"], line["abstained"]) == ("", "", "ambiguous")
    blank = np.full((64, 64, 3), 255, np.uint8)
    from PIL import Image

    Image.fromarray(blank).save(folder / "new" / "blank.png")
    arguments = ["predict", "model.onnx", "new/blank.png", "new/b.png"]
    done = headstart_cli(*arguments, "--abstain", "--json", cwd=folder)
    strange, known = sorted(done.json["predictions"], key=lambda one: bool(one["familiar"]))
    assert (strange["label"], strange["familiar"], strange["abstained"]) == (None, False, "unfamiliar")
    assert (known["label"], known["familiar"], known["abstained"]) == ("disc", True, None)
    assert strange["distance"] > known["distance"]
    table = headstart_cli(*arguments, cwd=folder)
    assert "NO" in table.out
    assert "1 image is unlike the training images" in table.err
    assert "Familiar" not in headstart_cli("predict", "model.onnx", "new/b.png", cwd=folder).out


def test_program_with_an_old_model(folder: Path) -> None:
    done = headstart_cli("predict", STORED, "new/b.png", "--coverage", "0.9", cwd=folder)
    assert done.code == 2
    assert "Train it again" in done.err
    done = headstart_cli("predict", "model.onnx", "new/b.png", "--coverage", "1.5", cwd=folder)
    assert done.code == 2
    assert "above 0 and below 1" in done.err
    done = headstart_cli("predict", STORED, "new/b.png", "--abstain", "--json", cwd=folder)
    assert done.code == 0
    assert any("cannot detect" in note for note in done.json["notes"])
    done = headstart_cli("predict", "model.onnx", "new/b.png", "--coverage", "0.99", "--json", cwd=folder)
    assert any("too few for a coverage of 0.99" in note for note in done.json["notes"])
    assert len(done.json["predictions"][0]["labels"]) == 3


def test_class_names_in_sets_are_escaped(model: Path, tmp_path: Path) -> None:
    names = {"classes": ("=1+1", 'a"\x1b[31m,', "b]")}
    classifier = Classifier(model.read_bytes())
    scores_of_all = Conformal(10, (1.0,) * 10)
    (tmp_path / "x.onnx").write_bytes(amended(classifier.content, conformal=scores_of_all, **names))
    draw("disc", 3).save(tmp_path / "a.png")
    arguments = ["predict", "x.onnx", "a.png", "--coverage", "0.5", "--format"]
    lines = headstart_cli(*arguments, "csv", cwd=tmp_path).out
    assert "\x1b" not in lines
    (line,) = csv.DictReader(io.StringIO(lines))
    assert set(json.loads(line["labels"])) == set(names["classes"])
    assert "\x1b" not in headstart_cli(*arguments, "table", cwd=tmp_path).out
    assert prediction_sets.MAX_SCORES == 1000
