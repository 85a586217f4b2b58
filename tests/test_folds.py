"""Cross-validation for every strategy, and what is measured without leaks."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import headstart as hs
from headstart.core.progress import Advance, Within
from headstart.evaluation import evaluate
from headstart.heads import linear
from headstart.partition.draw import deal_folds
from headstart.training.task import Task
from helpers import headstart_cli, strata, write_images
from tiny import PREPROCESS, RUNTIME, tiny

SETTINGS: dict[str, Any] = {"strategy": "finetune", "start": "random", "epochs": 2, "batch_size": 8, "lr": 0.01}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with 14, 12 and 13 pictures. Do not change it: copy it."""
    return write_images(tmp_path_factory.mktemp("pictures") / "photos", {"disc": 14, "stripes": 12, "noise": 13})


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, val and test folders with 18, 10 and 8 pictures."""
    folder = tmp_path_factory.mktemp("splits")
    for number, (split, count) in enumerate({"train": 9, "val": 5, "test": 4}.items()):
        write_images(folder / split, {"disc": count, "noise": count}, seed=100 * number)
    return folder


@pytest.fixture(scope="module")
def cached(warm: Path) -> hs.Runtime:
    """Images are embedded once for all tests."""
    return hs.Runtime(cache=warm, device="cpu")


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def own(loop: Any = None) -> hs.Own:
    return hs.Own(backbone=tiny(), preprocess=PREPROCESS, loop=loop)


# --- who learns, and who is measured --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["finetune", "scratch"])
def test_no_network_learns_from_the_fold_that_it_is_measured_on(pictures: Path, strategy: str) -> None:
    """A loop that trains nothing notes what it is given, and marks each network, so that its predictions are known."""
    tasks: list[Task] = []
    begun: list[dict[str, torch.Tensor]] = []

    def loop(task: Task, runtime: hs.Runtime) -> None:
        begun.append({name: value.clone() for name, value in task.network.state_dict().items()})
        with torch.no_grad():  # so that its weights are no longer those of the beginning
            for value in task.network.backbone.parameters():
                value.mul_(0.5)
            task.network.head.weight.zero_()
            task.network.head.bias.copy_(torch.tensor([0.0, 1.0, 2.0]).roll(len(tasks)))
        assert runtime.folder is None
        tasks.append(task)

    settings = SETTINGS | {"strategy": strategy, "measure_by": "folds", "folds": 4}
    run = hs.train(pictures, hs.Recipe(**settings), own=own(loop), runtime=RUNTIME)
    assert len(tasks) == 5
    fitted = run.fitted
    parts = np.array(fitted.partition.names())
    everyone = set(range(39))
    assert set(tasks[0].train) | set(tasks[0].validation) == everyone  # the network that is handed out
    where = {row: place for place, row in enumerate(fitted.held_out.rows)}
    assert set(where) == everyone
    for number, task in enumerate(tasks[1:], 1):
        fold = set(np.flatnonzero(parts == f"fold {number}"))
        assert 8 <= len(fold) <= 11
        assert set(task.train) | set(task.validation) == everyone - fold
        assert not set(task.train) & set(task.validation)
        order = np.argsort(np.roll([0.0, 1.0, 2.0], number))
        for row in fold:  # it was predicted by the network of this fold
            assert np.array_equal(np.argsort(fitted.held_out.probabilities[where[row]]), order)
    for other in begun[1:]:  # each begins where the first began
        assert all(torch.equal(begun[0][name], value) for name, value in other.items())
    assert (run.evaluation.split, run.evaluation.n) == ("cross-validation", 39)
    assert fitted.counts == {"cross-validation": {"disc": 14, "noise": 13, "stripes": 12}}
    assert fitted.seconds["folds"] > 0


@pytest.mark.slow
def test_folds_of_finetuning_are_those_of_the_probe(pictures: Path, cached: hs.Runtime) -> None:
    """So that the two can be compared image by image."""
    by = {"measure_by": "folds", "folds": 3}
    probe = hs.train(pictures, hs.Recipe(**by), runtime=cached)
    trained = hs.train(pictures, hs.Recipe(**SETTINGS, **by), own=own(lambda task, runtime: None), runtime=RUNTIME)
    assert probe.fitted.partition.names() == trained.fitted.partition.names()
    assert set(probe.fitted.partition.names()) == {"fold 1", "fold 2", "fold 3"}


def test_a_fold_of_the_probe_is_a_head_that_was_fitted_without_it(pictures: Path, cached: hs.Runtime) -> None:
    """With the temperature and the C that the other folds chose."""
    recipe = hs.Recipe(measure_by="folds", folds=4)
    fitted = hs.train(pictures, recipe, runtime=cached).fitted
    labels = np.array([fitted.data.targets.names.index(row.label or "") for row in fitted.data.table.rows])
    inside = np.flatnonzero(np.array(fitted.partition.names()) != "fold 2")
    outside = np.flatnonzero(np.array(fitted.partition.names()) == "fold 2")
    inner = deal_folds(
        strata(labels[inside]), range(len(inside)), [fitted.data.digests[i] for i in inside], folds=4, seed=0
    )
    head = linear.fit(fitted.data.features[inside], labels[inside], inner, classes=3)
    places = np.searchsorted(fitted.held_out.rows, outside)
    expected = head.probabilities(fitted.data.features[outside])
    np.testing.assert_allclose(fitted.held_out.probabilities[places], expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["probe", "finetune"])
def test_the_sources_own_splits_are_pooled_but_for_test(splits: Path, strategy: str, cached: hs.Runtime) -> None:
    settings = {"measure_by": "folds", "folds": 3, **(SETTINGS if strategy == "finetune" else {})}
    run = hs.train(splits, hs.Recipe(**settings), own=own() if strategy == "finetune" else None, runtime=cached)
    assert (run.evaluation.split, run.evaluation.n) == ("cross-validation", 28)
    parts = {row.path.split("/")[0]: set() for row in run.fitted.data.table.rows}
    for row, part in zip(run.fitted.data.table.rows, run.fitted.partition.names(), strict=True):
        parts[row.path.split("/")[0]].add(part)
    assert parts["test"] == {"test"}
    assert parts["train"] | parts["val"] == {"fold 1", "fold 2", "fold 3"}
    assert "headstart evaluate" in "\n".join(run.fitted.notes)
    _, table = hs.evaluate(run.classifier, splits / "test")
    assert not any("was trained on" in note for note in table.notes)


def test_folds_need_images_that_choose_the_epoch() -> None:
    with pytest.raises(hs.OptionError, match="measure_by = folds none are held out"):
        hs.Recipe(strategy="finetune", measure_by="folds", validation=0)
    assert hs.Recipe(strategy="finetune", measure_by="holdout", validation=0).validation == 0


@pytest.mark.slow
def test_holdout_holds_out_what_the_probe_would_not(pictures: Path, cached: hs.Runtime) -> None:
    assert hs.train(pictures, runtime=cached).evaluation.split == "cross-validation"
    run = hs.train(pictures, hs.Recipe(measure_by="holdout"), runtime=cached)
    assert (run.evaluation.split, run.evaluation.n) == ("test", 8)


# --- the program ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_option_folds_asks_for_folds(pictures: Path, tmp_path: Path) -> None:
    done = headstart_cli("train", pictures, "--folds", "4", "--json", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert done.json["evaluation"]["split"] == "cross-validation"
    assert done.json["evaluation"]["n"] == 39
    assert "4-fold cross-validation" in done.err
    rows = table(tmp_path / "run" / "splits.csv")
    assert {row["fold"] for row in rows} == {"1", "2", "3", "4"}
    measured = table(tmp_path / "run" / "predictions.csv")
    assert {row["path"] for row in measured} == {row["path"] for row in rows}
    assert 'measure_by = "folds"' in (tmp_path / "run" / "recipe.toml").read_text()
    done = headstart_cli(
        "train", pictures, "--folds", "4", "--measure-by", "holdout", "--json", "--out", tmp_path / "held"
    )
    assert done.json["evaluation"]["split"] == "test"


class Noted:
    """Notes what is shown; and stops the program, as a person would, where a line begins so."""

    def __init__(self, stop: str = "nowhere") -> None:
        self.lines: list[str] = []
        self.stages: list[str] = []
        self._stop = stop

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        self.stages.append(name)
        yield lambda steps, text="": None

    def line(self, text: str) -> None:
        self.lines.append(text)
        if text.startswith(self._stop):
            raise KeyboardInterrupt


def test_progress_says_which_fold() -> None:
    noted = Noted()
    within = Within(noted, "fold 2 of 5")
    with within.stage("Training", 3):
        within.line("Epoch 1/2: well")
    assert (noted.stages, noted.lines) == (["Training, fold 2 of 5"], ["Fold 2 of 5: Epoch 1/2: well"])


IN_FOLDS = hs.Recipe(**SETTINGS, measure_by="folds", folds=3)


def noting(folder: Path, noted: Noted) -> hs.Runtime:
    return hs.Runtime(cache=None, device="cpu", folder=folder, tracker="none", progress=noted)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> hs.Run:
    """A cross-validation that nothing interrupted."""
    noted = Noted()
    run = hs.train(pictures, IN_FOLDS, own=own(), runtime=noting(tmp_path_factory.mktemp("whole"), noted))
    told = [line.split(":")[0] for line in noted.lines if "Epoch" in line]
    assert told == ["Epoch 1/2", "Epoch 2/2", *(f"Fold {number} of 3" for number in (1, 1, 2, 2, 3, 3))]
    return run


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["Epoch 1/2", "Fold 1 of 3: Epoch 2/2", "Fold 3 of 3: Epoch 1/2"])
def test_an_interrupted_cross_validation_ends_the_same(
    pictures: Path, whole: hs.Run, tmp_path: Path, stop: str
) -> None:
    """The network that is handed out goes on from its last epoch, and the folds are made again."""
    with pytest.raises(KeyboardInterrupt):
        hs.train(pictures, IN_FOLDS, own=own(), runtime=noting(tmp_path / "run", Noted(stop)))
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["epoch-000001" if stop == "Epoch 1/2" else "epoch-000002", "training.json"]
    run = hs.resume(tmp_path / "run", own=own(), runtime=noting(tmp_path / "run", Noted()))
    assert run.fitted.files["weights.safetensors"] == whole.fitted.files["weights.safetensors"]
    assert run.fitted.model == whole.fitted.model
    assert np.array_equal(run.fitted.held_out.probabilities, whole.fitted.held_out.probabilities)
    assert run.evaluation == whole.evaluation
    run.save(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


# --- leaks ----------------------------------------------------------------------------------------------------------


def write_blotches(folder: Path, count: int, seed: int) -> None:
    """Pictures of two classes, dark and bright ones; no two are alike."""
    for label, darkest in {"bright": 120, "dark": 0}.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng([seed, number, darkest])
            small = Image.fromarray(rng.integers(darkest, darkest + 136, (7, 9, 3), np.uint8))
            small.resize((90, 70), Image.Resampling.BICUBIC).save(folder / label / f"{number:03}.png")


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """A val split of 40 pictures: 6 are train pictures that were scaled and stored anew, and 2 are exact copies."""
    folder = tmp_path / "leaking"
    write_blotches(folder / "train", 30, seed=0)
    write_blotches(folder / "val", 16, seed=1)
    for number in range(6):
        label = "dark" if number % 2 else "bright"
        with Image.open(folder / "train" / label / f"{number:03}.png") as image:
            image.resize((120, 93)).save(folder / "val" / label / f"leak{number}.jpg", quality=60)
    for number in (10, 11):
        shutil.copy(folder / f"train/dark/0{number}.png", folder / f"val/dark/leak{number}.png")
    return folder


@pytest.mark.slow
def test_leaks_are_measured_with_and_without(leaking: Path, tmp_path: Path) -> None:
    done = headstart_cli("train", leaking, "--json", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    result = done.json
    assert (result["evaluation"]["n"], result["evaluation_without_leaks"]["n"]) == (40, 32)
    assert "8 val images are also in train" in "\n".join(result["notes"])
    line = next(line for line in done.err.splitlines() if line.startswith("Trust this one: "))
    assert "without 8 leaked images" in line
    low, high = result["evaluation_without_leaks"]["accuracy_interval"]
    assert f"95 % interval {100 * low:.1f} % to {100 * high:.1f} %" in line
    assert result["evaluation_without_leaks"]["split"] == "val"
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert kept["evaluation_without_leaks"] == result["evaluation_without_leaks"]
    rows = table(tmp_path / "run" / "predictions.csv")
    clean = [row for row in rows if "leak" not in row["path"]]
    right = sum(row["correct"] == "yes" for row in clean)
    assert result["evaluation_without_leaks"]["correct"] == right


@pytest.mark.slow
def test_the_evaluation_without_leaks_is_that_of_the_other_images(leaking: Path) -> None:
    fitted = hs.train(leaking).fitted
    clean = np.array(["leak" not in fitted.data.table.rows[row].path for row in fitted.held_out.rows])
    rows = fitted.held_out.rows[clean]
    labels = np.array([fitted.data.targets.names.index(fitted.data.table.rows[row].label or "") for row in rows])
    expected = evaluate(
        fitted.held_out.probabilities[clean], labels, fitted.data.targets.names, split="val",
        temperature=fitted.details.as_dict()["head"]["temperature"],
    )  # fmt: skip
    assert fitted.without_leaks == expected


def test_without_leaks_there_is_nothing_to_tell(splits: Path) -> None:
    run = hs.train(splits)
    assert run.fitted.without_leaks is None
    assert run.as_dict()["evaluation_without_leaks"] is None


def test_a_split_that_leaks_as_a_whole_is_refused(tmp_path: Path) -> None:
    write_blotches(tmp_path / "train", 8, seed=0)
    for path in sorted((tmp_path / "train").rglob("*.png"))[::2]:
        place = tmp_path / "val" / path.parent.name / f"{path.stem}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.save(place, quality=80)
    done = headstart_cli("train", tmp_path, "--out", tmp_path / "run")
    assert done.code == 2
    assert "All 8 val images are also in train" in done.err
    assert "headstart check" in done.err
    assert not (tmp_path / "run").exists()
