"""`headstart check` on a folder of embeddings: what it says of the images, and of many in lists of near ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.checks import labels, outoffold, whole
from headstart.core.errors import OptionError
from headstart.partition import duplicates
from helpers import headstart_cli, write_images
from sharding import write_embeddings

pytest.importorskip("pyarrow")
COPIES = {"train/disc/000.png": "test/disc/copy.png", "train/noise/001.png": "train/noise/copy.png"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in splits, of which some are copies, one has a wrong label and one cannot be read."""
    folder = tmp_path_factory.mktemp("faulty")
    write_images(folder / "train", {"disc": 30, "noise": 30, "stripes": 30})
    write_images(folder / "test", {"disc": 6, "noise": 6, "stripes": 6}, seed=500)
    for one, other in COPIES.items():
        shutil.copy(folder / one, folder / other)
    shutil.move(folder / "train/disc/007.png", folder / "train/stripes/wrong.png")
    (folder / "train" / "disc" / "torn.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def embeddings(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embeddings(images, tmp_path_factory.mktemp("embedded") / "faulty")


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """These few images are many: nothing holds all embeddings or all scores."""
    for module in (duplicates, whole, headstart.api.checking):
        monkeypatch.setattr(module, "MANY_IMAGES", 0)
    monkeypatch.setattr(outoffold, "MAX_HELD", 100)


def found(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings, without what a number in words is rounded to."""
    return [{key: value for key, value in one.items() if key != "message"} for one in document["findings"]]


def named(findings: list[dict[str, Any]]) -> list[list[str]]:
    return [one.get("paths") or [one["path"]] for one in findings if "path" in one or one["paths"]]


def test_the_findings_are_those_of_the_images(images: Path, embeddings: Path, tmp_path: Path) -> None:
    one = headstart_cli("check", images, "--json", "--fix-list", tmp_path / "one.csv")
    other = headstart_cli("check", embeddings, "--json", "--fix-list", tmp_path / "other.csv", "--html", tmp_path / "p")
    assert (one.code, other.code) == (3, 3)  # a file cannot be read
    assert other.json["findings"] == one.json["findings"]
    assert other.json["counts"] == {**one.json["counts"], "ignored": 0}
    assert {"leak", "duplicate", "label", "unreadable"} <= {kind["kind"] for kind in other.json["findings"]}
    assert (tmp_path / "other.csv").read_text() == (tmp_path / "one.csv").read_text()
    assert (tmp_path / "p").read_text().count("data:image/jpeg") > 3
    assert any("what changed since was not seen" in note for note in other.json["notes"])


@pytest.mark.slow
def test_many_are_found_in_lists(many: None, embeddings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_set = headstart_cli("check", embeddings, "--json", "--workers", "1")
    again = headstart_cli("check", embeddings, "--json", "--workers", "3")
    assert again.json == whole_set.json
    monkeypatch.undo()
    few = headstart_cli("check", embeddings, "--json")
    assert {one["kind"] for one in found(few.json)} >= {"leak", "duplicate", "label"}
    for kind in ("leak", "duplicate", "near-duplicate", "outlier", "unreadable", "quality"):
        got, wanted = ([one for one in found(run.json) if one["kind"] == kind] for run in (whole_set, few))
        assert named(got) == named(wanted)
    suspects = [{one["path"] for one in found(run.json) if one["kind"] == "label"} for run in (whole_set, few)]
    assert suspects[0] == suspects[1]
    assert "train/stripes/wrong.png" in suspects[0]


@pytest.mark.slow
def test_images_that_are_gone(images: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(images, moved)
    folder = write_embeddings(moved, tmp_path / "embedded")
    shutil.rmtree(moved)
    done = headstart_cli("check", folder, "--json", "--no-cache", "--html", tmp_path / "page.html")
    assert any("has only pictures that the cache" in note for note in done.json["notes"])
    assert "data:image/jpeg" not in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_embeddings_of_a_model_file(images: Path, tmp_path: Path) -> None:
    folder = write_embeddings(images, tmp_path / "embedded", recipe=None, model="ab" * 32)
    done = headstart_cli("check", folder, "--json")
    assert done.code == 3
    assert any("too small for the network were not looked for" in note for note in done.json["notes"])
    with pytest.raises(OptionError, match=r"backbone lite1 \(there: that of the model file\)"):
        headstart.check(folder, recipe=headstart.Recipe(backbone="lite1"))


def test_what_is_about_images_is_refused(embeddings: Path, tmp_path: Path) -> None:
    done = headstart_cli("check", embeddings, "--path-column", "file")
    assert (done.code, "--path-column is for images" in done.err) == (2, True)
    (tmp_path / "fix.csv").write_text("path,label,decision,new_label,kind,reason\n")
    with pytest.raises(OptionError, match="a folder of their embeddings"):
        headstart.check(embeddings, decisions=tmp_path / "fix.csv")
    with pytest.raises(OptionError, match=r"max_megapixels 5 \(there: 64\)"):
        headstart.check(embeddings, recipe=headstart.Recipe(max_megapixels=5))


def test_scores_that_are_not_held_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(600) % 3
    z = outoffold.centred((rng.normal(size=(3, 16))[truth] + rng.normal(size=(600, 16))).astype(np.float32))
    fits, folds, learn = outoffold.OutOfFold(z, truth, classes=3), np.arange(600) // 3 % 4, np.ones(600, bool)
    held = fits.scores(folds, learn)
    monkeypatch.setattr(outoffold, "MAX_HELD", 100)
    computed = outoffold.Scores(z, folds, held._models, 3)
    assert [len(block) for block in held.blocks()] == [600]
    assert max(len(block) for block in computed.blocks()) < 10
    rows = np.concatenate(list(computed.blocks()))
    assert rows.tolist() == list(range(600))
    np.testing.assert_allclose(computed.of(rows), held.of(rows))
    one, other = (labels._compared([(scores, 1.5)], truth, 0.02) for scores in (held, computed))
    for name in one._fields:
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=1e-12)
