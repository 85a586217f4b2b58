"""What a label is, is known in one place: a task of another kind goes all the way of the built-in one."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import headstart as hs
from headstart import targets
from headstart.core.errors import ModelError, OptionError, SourceError
from headstart.core.runtime import Runtime
from headstart.data.table import ImageTable, Row
from headstart.features.dataset import Dataset
from headstart.modelfile.schema import Metadata
from headstart.partition.divide import divide
from headstart.partition.roles import Role
from headstart.prediction.record import Wanted, record_of
from headstart.settings.recipe import Recipe
from headstart.targets.classes import Classes
from tags import ROW, TASK, Tags
from test_splits import blotches, digest, trait


def table_of(labels: list[str], task: str) -> ImageTable:
    rows = tuple(Row(f"{number}.png", label) for number, label in enumerate(labels))
    return ImageTable("photos", None, rows, task=task)  # type: ignore[arg-type]


def data_of(table: ImageTable) -> Dataset:
    """Images of which no two are alike."""
    traits = tuple(trait(blotches(number + 1)) for number in range(len(table)))
    return Dataset(table, tuple(digest(row.path) for row in table.rows), traits)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> str:
    """One file and one row."""
    monkeypatch.setitem(targets.TARGETS, TASK, ROW)
    return TASK


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Canvases of two handwritten digits, in a folder for what is on them: a nought, a one, both or neither."""
    from sklearn.datasets import load_digits

    folder, digits = tmp_path_factory.mktemp("pairs"), load_digits()
    for name in ("nought", "one", "nought+one", "neither"):
        (folder / name).mkdir()
        for number in range(16):
            left, right = (0 if "nought" in name else 7), (1 if "one" in name else 6)
            place = number + 16 * len(name) % 160
            both = [digits.images[digits.target == one][(place + one) % 170] for one in (left, right)]
            pixels = np.uint8(15 * np.hstack(both))
            Image.fromarray(pixels).resize((128, 64)).save(folder / name / f"{number}.png")
    return folder


def read(folder: Path, task: str) -> ImageTable:
    """The canvases with their tags."""
    table = hs.read(folder)
    rows = [dataclasses.replace(row, label=(row.label or "").replace("neither", "")) for row in table.rows]
    return dataclasses.replace(table, rows=tuple(rows), task=task)


def test_another_task_divides_with_the_share_of_each_label(task: str) -> None:
    labels = ["a", "b", "a+b", "", "b+c", "c"] * 50
    partition = divide(data_of(table_of(labels, task)), Recipe(holdout=0.2))
    assert isinstance(partition.targets, Tags)
    held = partition.targets.take(partition.of(Role.TEST)).count()
    bare = partition.targets.labels[partition.of(Role.TEST)].sum(1) == 0
    assert bare.sum() == pytest.approx(10, abs=2)  # images without a label have their share too
    assert held.tolist() == pytest.approx([20, 30, 20], abs=3)
    assert partition.count()["train"] == dict(zip("abc", (np.array([100, 150, 100]) - held).tolist(), strict=True))
    folds = [partition.targets.take(partition.folds == fold).count() for fold in range(5)]
    assert np.ptp(folds, axis=0).max() <= 6


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(measure_by="holdout", holdout=0.25, fit="squash"),
        Recipe(measure_by="folds", fit="squash"),
        pytest.param(
            Recipe(measure_by="holdout", holdout=0.25, fit="squash", head="mlp", epochs=8, batch_size=8),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Recipe(
                strategy="finetune", holdout=0.25, fit="squash", epochs=1, batch_size=8, unfreeze="head", flip=False
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["holdout", "folds", "mlp", "finetune"],
)
def test_another_task_goes_from_images_to_predictions(pairs: Path, tmp_path: Path, task: str, recipe: Recipe) -> None:
    table = read(pairs, task)
    run = hs.train(table, recipe)
    assert run.evaluation.exact > 0.8 * run.evaluation.n  # type: ignore[attr-defined]  # a quarter by chance
    run.save(tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["classes"] == ["nought", "one"]
    assert metrics["notes"][-1] == f"There is no report of the task {task}."
    assert metrics["evaluation"]["exact"] == run.evaluation.exact  # type: ignore[attr-defined]

    classifier = hs.load(tmp_path / "run" / "model.onnx")
    assert classifier.metadata.task == task
    assert classifier.verify().passed
    lines = list(csv.DictReader((tmp_path / "run" / "predictions.csv").read_text().splitlines()))
    if not run.fitted.partition.cross_validated:  # then the lines are of this very model
        for line in lines[::5]:
            found = classifier.predict_proba(pairs / line["path"])
            assert found == pytest.approx([float(line["nought"]), float(line["one"])], abs=0.03)
    both = classifier.predict(sorted((pairs / "nought+one").iterdir()))
    assert sum(one.tags == ("nought", "one") for one in both) > 12  # type: ignore[attr-defined]
    record = record_of("one.png", both[0], Wanted.of(classifier, 5, coverage=None))
    assert list(record) == ["path", "tags", "probabilities", "familiar"]
    evaluation, measured = hs.evaluate(classifier, table)
    assert (evaluation.n, len(measured)) == (64, 64)
    assert evaluation.exact > 51  # type: ignore[attr-defined]


@pytest.mark.slow
def test_what_another_task_has_not_is_refused(pairs: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = read(pairs, task)
    with pytest.raises(OptionError, match="chooses no backbone, fit or flip by itself"):
        hs.train(table, fit="auto")
    run = hs.train(table)
    assert run.fitted.details.prediction_sets is None
    assert not {one.kind for one in run.fitted.findings} & {"class", "label", "shortcut", "spelling"}
    with pytest.raises(OptionError, match="in the task of this model, tags, any number can be true"):
        run.classifier.predict(pairs / "nought" / "7.png", coverage=0.9)
    assert hs.explain(run.classifier, pairs / "nought" / "7.png", label="nought").method == "cam"
    record = json.loads(run.classifier.metadata.to_json())
    assert record["task"] == task
    with pytest.raises(ModelError, match="prediction sets, which the task tags does not have"):
        Metadata.from_json(json.dumps(record | {"conformal": {"images": 1, "scores": [0.5], "split": "test"}}))
    monkeypatch.delitem(targets.TARGETS, TASK)
    with pytest.raises(ModelError, match="names a task that this Headstart does not know: 'tags'"):
        hs.Classifier(run.classifier.content)


def test_the_task_of_classes_is_not_written(shapes: Path) -> None:
    """So that model files of old are as they were."""
    classifier = hs.train(shapes, runtime=Runtime()).classifier
    assert classifier.metadata.task == "classes"
    assert "task" not in json.loads(classifier.metadata.to_json())


def test_classes_are_read_in_the_order_of_their_names() -> None:
    found = targets.read(table_of(["b", "a", "b", "c", "a", "c", "c", "b", "a"], "classes"))
    assert isinstance(found, Classes)
    assert (found.names, found.labels.tolist()) == (("a", "b", "c"), [1, 0, 1, 2, 0, 2, 2, 1, 0])
    assert found.count().tolist() == found.take([1, 0, 2, 3, 4, 5, 6, 7, 8]).count().tolist() == [3, 3, 3]
    assert found.strata()[:2] == [(1,), (0,)]


def test_classes_of_a_model_are_matched_by_name() -> None:
    found = Classes.known(table_of(["b", "a"], "classes"), ("c", "b", "a"), allow_missing=True)
    assert (found.names, found.labels.tolist()) == (("c", "b", "a"), [1, 2])
    with pytest.raises(SourceError, match="lacks classes of the model: 'c'"):
        Classes.known(table_of(["b", "a"], "classes"), ("c", "b", "a"), allow_missing=False)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(SourceError, match="only the class 'a'"):
        targets.read(table_of(["a"] * 9, "classes"))
