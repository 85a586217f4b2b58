"""`headstart train` on a folder of embeddings: as on the images where it fits into memory, and in passes where not."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.core.errors import HeadstartError, OptionError, SourceError
from headstart.core.runtime import Runtime
from headstart.features.sharded.folder import ShardFolder
from headstart.features.sharded.images import read_images
from headstart.features.sharded.stored import StoredBlocks
from headstart.strategies import sharded
from headstart.strategies.streamed import NO_NEAR_DUPLICATES
from helpers import headstart_cli, write_images
from sharding import write_embeddings

pytest.importorskip("pyarrow")
GONE = "None of the images could be read again"
CLASSES = {"disc": 60, "noise": 60, "stripes": 60}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_images(tmp_path_factory.mktemp("drawn"), CLASSES)
    (folder / "disc" / "torn.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def embeddings(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embeddings(images, tmp_path_factory.mktemp("embedded") / "drawn")


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "IN_MEMORY_BYTES", 0)


def predictions(run: Path) -> dict[str, list[str]]:
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {path: rest for path, *rest in csv.reader(file)}


@pytest.mark.slow
def test_the_result_is_that_of_the_images(images: Path, embeddings: Path, tmp_path: Path) -> None:
    one = headstart_cli("train", images, "--out", tmp_path / "images", "--json")
    other = headstart_cli("train", embeddings, "--out", tmp_path / "embeddings", "--json")
    assert (one.code, other.code) == (3, 3)  # one file cannot be read
    assert predictions(tmp_path / "embeddings") == predictions(tmp_path / "images")
    for key in ("evaluation", "counts", "classes", "check", "skipped"):
        assert other.json[key] == one.json[key], key
    assert not any(GONE in note for note in other.json["notes"])
    assert (tmp_path / "embeddings" / "report.html").read_text().count("data:image/jpeg") > 10
    models = [headstart.load(tmp_path / name / "model.onnx") for name in ("images", "embeddings")]
    files = sorted((images / "noise").iterdir())[:3]
    expected, got = (model.predict_proba(files) for model in models)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
def test_in_passes(streamed: None, embeddings: Path, images: Path, tmp_path: Path) -> None:
    done = headstart_cli("train", embeddings, "--out", tmp_path / "run", "--json")
    assert done.code == 3, done.err
    found = done.json
    assert found["evaluation"]["accuracy"] > 0.9
    assert found["evaluation"]["split"] == "test"
    assert sum(found["counts"]["val"].values()) >= 3  # they set the temperature
    assert sum(sum(found["counts"][part].values()) for part in ("train", "val", "test")) == 180
    assert found["check"] is None
    assert NO_NEAR_DUPLICATES in found["notes"]
    assert found["details"]["familiarity"]["references"] > 100
    assert found["details"]["prediction_sets"]["images"] == found["evaluation"]["n"]
    assert not (tmp_path / "run" / "report.html").exists()
    model = headstart.load(tmp_path / "run" / "model.onnx")
    assert model.verify().passed
    # The model computes from an image what was measured from its stored embedding.
    told = predictions(tmp_path / "run")
    path = next(path for path in told if path.startswith("noise/") and told[path][0] == "test")
    prediction = model.predict(images / path)
    assert prediction.label == told[path][2]
    assert prediction.probability == pytest.approx(float(told[path][4]), abs=0.03)
    again = headstart_cli("train", embeddings, "--out", tmp_path / "again", "--workers", "1", "--json")
    assert predictions(tmp_path / "again") == told
    assert again.json["evaluation"] == found["evaluation"]


@pytest.mark.slow
def test_half_precision(images: Path, embeddings: Path, tmp_path: Path) -> None:
    half = write_embeddings(images, tmp_path / "half", dtype="float16")
    one, other = (headstart.train(folder) for folder in (embeddings, half))
    rows, probabilities = one.fitted.measured()
    np.testing.assert_array_equal(other.fitted.measured()[0], rows)
    np.testing.assert_allclose(other.fitted.measured()[1], probabilities, atol=0.01)


@pytest.mark.slow
def test_images_that_are_gone(images: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(images, moved)
    folder = write_embeddings(moved, tmp_path / "embedded")
    shutil.rmtree(moved)
    done = headstart_cli("train", folder, "--out", tmp_path / "run", "--json", "--no-cache")
    assert any(GONE in note for note in done.json["notes"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "data:image/jpeg" not in page
    assert "pictures" in page
    assert headstart.load(tmp_path / "run" / "model.onnx").verify().passed


def test_rows_on_the_disk_are_those_in_memory(embeddings: Path) -> None:
    found = read_images(ShardFolder.open(embeddings), traits=True)
    whole = found.in_memory(2)
    assert [row.path for row in whole.table.rows] == sorted(row.path for row in whole.table.rows)
    assert [skip.path for skip in whole.table.skipped] == ["disc/torn.jpg"]
    rows = np.array([150, 3, 77, 3, 179])
    np.testing.assert_array_equal(found.stored.take(rows, 2), whole.matrix[rows])
    some = np.flatnonzero(np.arange(len(whole)) % 3)
    blocks = StoredBlocks(found.stored, some, some * 10, 3)
    parts = [blocks.read(number) for number in range(len(blocks))]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), whole.matrix[some])
    np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), some * 10)
    np.testing.assert_array_equal(blocks.take(np.array([0, 40])), whole.matrix[some[[0, 40]]])


def test_settings_that_the_embeddings_have_not(embeddings: Path) -> None:
    with pytest.raises(OptionError, match=r"fit squash \(there: crop\)"):
        headstart.train(embeddings, fit="squash")
    with pytest.raises(OptionError, match="needs the images"):
        headstart.train(embeddings, strategy="finetune")
    done = headstart_cli("train", embeddings, "--path-column", "file")
    assert done.code == 2
    assert "--path-column is for images" in done.err


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        ({"embedder": "ab" * 32}, SourceError, "with the digest abababababab"),
        ({"recipe": None, "model": "cd" * 32}, SourceError, "by the network of a model file"),
    ],
)
def test_embeddings_of_another_embedder(
    made: dict[str, object], error: type[HeadstartError], message: str, images: Path, tmp_path: Path
) -> None:
    folder = write_embeddings(images, tmp_path / "embedded", **made)
    with pytest.raises(error, match=message):
        headstart.train(folder)


def test_a_folder_that_is_not_whole(embeddings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "embedded"
    shutil.copytree(embeddings, folder)
    (folder / "part-00002.parquet").unlink()
    done = headstart_cli("train", folder, "--out", tmp_path / "run")
    assert done.code == 2
    assert "is not finished: 1 of 12 shards" in done.err
    assert not (tmp_path / "run").exists()


def test_a_fit_that_only_memory_has_room_for(streamed: None, embeddings: Path) -> None:
    with pytest.raises(OptionError, match="cross-validation"):
        headstart.train(embeddings, headstart.Recipe(measure_by="folds"))
    with pytest.raises(OptionError, match="--head linear"):
        headstart.train(embeddings, headstart.Recipe(head="mlp"))


def test_strict_refuses_a_file_that_could_not_be_read(embeddings: Path) -> None:
    with pytest.raises(SourceError, match=r"1 file cannot be used.*torn\.jpg"):
        headstart.train(embeddings, runtime=Runtime(strict=True))


def test_metrics_say_what_was_not_computed(embeddings: Path, tmp_path: Path) -> None:
    headstart.train(embeddings).save(tmp_path / "run", report=False)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["details"]["embedded"], metrics["details"]["from_cache"]) == (0, 180)
