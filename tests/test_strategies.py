"""The strategies finetune and scratch, in Python: who learns, who chooses, who measures, and what comes out."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load

import headstart as hs
from headstart.training.task import Task, Trained
from helpers import write_images

pytestmark = pytest.mark.slow
SETTINGS = {"strategy": "finetune", "backbone": "timm:test_resnet", "pretrained": False, "start": "random",
            "epochs": 1, "batch_size": 8}  # fmt: skip


@pytest.fixture(scope="module")
def runtime(warm: Path) -> hs.Runtime:
    """Images are embedded once for all tests."""
    return hs.Runtime(cache=warm, device="cpu")


def weights(run: hs.Run) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in load(run.fitted.files["weights.safetensors"]).items()}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A train, a val and a test folder; and one file that is no picture."""
    folder = tmp_path_factory.mktemp("splits")
    for number, (split, count) in enumerate({"train": 9, "val": 4, "test": 5}.items()):
        write_images(folder / split, {"disc": count, "noise": count}, seed=100 * number)
    (folder / "train" / "disc" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize("strategy", ["finetune", "scratch"])
def test_val_chooses_and_test_measures(splits: Path, tmp_path: Path, strategy: str, runtime: hs.Runtime) -> None:
    """What the test images show changes no weight."""
    settings = SETTINGS | {"strategy": strategy, "head": "mlp"}
    run = hs.train(splits, hs.Recipe(**settings), runtime=runtime)
    assert (run.evaluation.split, run.evaluation.n) == ("test", 10)
    assert run.fitted.details.as_dict()["validation_images"] == 8
    assert [skip.path for skip in run.skipped] == ["train/disc/broken.png"]
    assert run.as_dict()["counts"]["images"] == 36
    other = Path(shutil.copytree(splits, tmp_path / "other"))
    for path in (other / "test").rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    again = hs.train(other, hs.Recipe(**settings), runtime=runtime)
    assert again.fitted.files["weights.safetensors"] == run.fitted.files["weights.safetensors"]


def test_held_out_images_choose_only_where_they_are_asked_to(splits: Path, runtime: hs.Runtime) -> None:
    run = hs.train(splits / "train", hs.Recipe(**SETTINGS, validation=0.0), runtime=runtime)
    assert any("also chose the best epoch" in note for note in run.fitted.notes)


def test_the_model_is_the_network_of_the_weights_file(splits: Path, tmp_path: Path, runtime: hs.Runtime) -> None:
    """Trained no further by `start_from`, the network gives what the model file gives on the files themselves."""
    import torch

    from headstart.data.decode import decode
    from headstart.features.pixels import PixelSession
    from headstart.training import sources

    run = hs.train(splits, hs.Recipe(**SETTINGS), runtime=runtime)
    folder = run.save(tmp_path / "run")
    assert (folder / "logs").exists() is False
    loaded = sources.load(f"file:{folder / 'weights.safetensors'}", pretrained=True, weights="", seed=0)
    tensors = weights(run)
    temperature = run.classifier.metadata.temperature
    for path in sorted((splits / "test").rglob("*.png"))[:4]:
        picture = decode(path.read_bytes(), max_megapixels=64, enough_px=loaded.preprocess.enough_px)
        pixels = torch.from_numpy(PixelSession(loaded.preprocess).run(picture.pixels)[None])
        with torch.no_grad():
            embedding = loaded.module.eval()(pixels).numpy()
        scores = (embedding @ tensors["head.weight"].T + tensors["head.bias"]) / temperature
        expected = np.exp(scores - scores.max())
        got = run.classifier.run_file(path.read_bytes()).probabilities
        np.testing.assert_allclose(got, (expected / expected.sum())[0], atol=1e-3)


@pytest.mark.parametrize("settings", [{"measure_by": "holdout"}, {"folds": 3, "measure_by": "folds"}])
def test_a_start_that_is_kept_is_the_probe(tmp_path: Path, settings: dict[str, Any], runtime: hs.Runtime) -> None:
    """Also of the images that chose between it and the epochs."""
    photos = write_images(tmp_path / "photos", {"disc": 30, "noise": 30, "stripes": 30})
    network: dict[str, Any] = {"backbone": "timm:test_resnet", "pretrained": False}

    def no_better(task: Task, runtime: hs.Runtime) -> Trained:
        assert 0 < len(task.train) < 90
        return Trained((), 0, 1e-3, "cpu", "no", 1, 1.0, False, (), ())

    probe = hs.train(photos, hs.Recipe(strategy="probe", **network, **settings), runtime=runtime)
    recipe = hs.Recipe(strategy="finetune", epochs=1, flip=False, **network, **settings)
    kept = hs.train(photos, recipe, own=hs.Own(loop=no_better), runtime=runtime)
    assert np.array_equal(kept.fitted.held_out.rows, probe.fitted.held_out.rows)
    assert np.allclose(kept.fitted.held_out.probabilities, probe.fitted.held_out.probabilities, rtol=0, atol=1e-4)
    assert kept.classifier.metadata.temperature == pytest.approx(probe.classifier.metadata.temperature, rel=1e-2)
    (note,) = (note for note in kept.fitted.notes if "No epoch was better than the start" in note)
    learnt = 90 if "folds" in settings else 90 - kept.evaluation.n
    assert f"fitted on all {learnt} train images" in note
    saved = [hs.load(run.save(tmp_path / name) / "model.onnx") for name, run in (("a", kept), ("b", probe))]
    pictures = sorted(photos.rglob("*.png"))[::9]
    assert np.allclose(saved[0].predict_proba(pictures), saved[1].predict_proba(pictures), rtol=0, atol=1e-4)


def test_lean_commands_import_no_torch(splits: Path, tmp_path: Path) -> None:
    program = (
        "import json, sys; from headstart.cli.main import run\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    code = run(arguments)\n"
        "    heavy = {'torch', 'timm', 'accelerate', 'torchvision', 'matplotlib'} & set(sys.modules)\n"
        "    assert (code, heavy) == (0, set()), (arguments, code, heavy)"
    )
    model = tmp_path / "run" / "model.onnx"
    commands = (
        ["train", splits / "val", "--out", tmp_path / "run"], ["predict", model, splits / "test" / "disc"],
        ["evaluate", model, splits / "test"], ["verify", model], ["backbones"], ["recipes"],
    )  # fmt: skip
    given = json.dumps([[*map(str, arguments)] for arguments in commands])
    done = subprocess.run([sys.executable, "-c", program, given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "splits.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_drawn_splits_bear_the_names_of_what_they_are_for(tmp_path: Path, runtime: hs.Runtime) -> None:
    """And the run's own list of them gives the same run again, the head that it begins with included."""
    photos = write_images(tmp_path / "photos", {"disc": 30, "noise": 30})
    recipe = hs.Recipe(**SETTINGS | {"start": "probe", "measure_by": "holdout", "flip": False}, validation=0.25)

    def stays(task: Task, runtime: hs.Runtime) -> Trained:
        return Trained((), 1, 1e-3, "cpu", "no", 1, 1.0, False, (), ())

    run = hs.train(photos, recipe, own=hs.Own(loop=stays), runtime=runtime)
    folder = run.save(tmp_path / "run")
    counts = {name: sum(by.values()) for name, by in run.fitted.counts.items()}
    assert counts == {"train": 36, "val": 12, "test": 12}
    assert (run.evaluation.split, run.evaluation.n) == ("test", 12)
    chose = {run.fitted.data.table.rows[row].path for row in run.fitted.choosing.rows}
    assert chose == {row["path"] for row in rows_of(folder) if row["split"] == "val"}
    assert any("12 val images, drawn from the train images, chose" in note for note in run.fitted.notes)

    table = hs.read(folder / "splits.csv", columns=hs.Columns(root=photos))
    again = hs.train(table, recipe, own=hs.Own(loop=stays), runtime=runtime)
    assert again.fitted.files["weights.safetensors"] == run.fitted.files["weights.safetensors"]
    assert again.evaluation == run.evaluation


def test_measured_images_that_chose_are_no_test_split(splits: Path, tmp_path: Path, runtime: hs.Runtime) -> None:
    photos = write_images(tmp_path / "photos", {"disc": 30, "noise": 30})
    settings = SETTINGS | {"measure_by": "holdout", "validation": 0.0}
    run = hs.train(photos, hs.Recipe(**settings), runtime=runtime)
    assert run.evaluation.split == "val"
    assert any("The val images also chose the best epoch" in note for note in run.fitted.notes)
    shutil.copytree(splits / "train", tmp_path / "own" / "train")
    shutil.copytree(splits / "test", tmp_path / "own" / "test")
    own = hs.train(tmp_path / "own", hs.Recipe(**SETTINGS, validation=0.0), runtime=runtime)
    assert own.evaluation.split == "test"  # its owner's name for it stays, and the note says what it was used for
    assert any("The test images also chose the best epoch" in note for note in own.fitted.notes)


def test_a_source_with_train_and_test_gets_a_val_split(splits: Path, tmp_path: Path, runtime: hs.Runtime) -> None:
    shutil.copytree(splits / "train", tmp_path / "own" / "train")
    shutil.copytree(splits / "test", tmp_path / "own" / "test")
    run = hs.train(tmp_path / "own", hs.Recipe(**SETTINGS), runtime=runtime)
    assert set(run.fitted.counts) == {"train", "val", "test"}
    shutil.move(tmp_path / "own" / "test", tmp_path / "own" / "val")
    run = hs.train(tmp_path / "own", hs.Recipe(**SETTINGS), runtime=runtime)
    assert set(run.fitted.counts) == {"train", "val"}  # whose val is measured, and keeps its name
    assert any("train images chose the best epoch" in note for note in run.fitted.notes)
