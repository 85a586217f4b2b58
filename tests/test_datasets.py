"""What a data set may do to a training and an evaluation: copies, leaks, renamed classes, odd features."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.core.errors import SourceError
from headstart.modelfile.session import Session
from helpers import draw, headstart_cli, write_images

UNCACHED = headstart.Runtime(cache=None)


def notes(run: headstart.Run) -> str:
    return "\n".join(run.fitted.notes)


def test_one_picture_in_two_classes_is_named(tmp_path: Path) -> None:
    source = write_images(tmp_path, {"disc": 6, "noise": 6})
    shutil.copy(source / "disc" / "000.png", source / "noise" / "copy.png")
    run = headstart.train(source)
    assert "1 image is a copy of another, byte for byte." in notes(run)
    assert "1 image is in more than one class, such as 'disc/000.png'" in notes(run)
    part = {row.path: part for row, part in zip(run.fitted.data.table.rows, run.fitted.partition.names(), strict=True)}
    assert part["disc/000.png"] == part["noise/copy.png"]


@pytest.mark.slow
def test_copies_stay_on_one_side(tmp_path: Path) -> None:
    source = write_images(tmp_path, {"disc": 40, "noise": 40})
    for path in sorted(source.rglob("*.png")):
        for copy in ("a", "b"):
            shutil.copy(path, path.with_name(f"{copy}{path.name}"))
    run = headstart.train(source, headstart.Recipe(holdout=0.3))
    assert run.evaluation.split == "test"
    assert "160 images are copies of another" in notes(run)
    sides: dict[str, set[str]] = {}
    for row, part in zip(run.fitted.data.table.rows, run.fitted.partition.names(), strict=True):
        sides.setdefault(row.path.replace("/a", "/").replace("/b", "/"), set()).add(part)
    assert len(sides) == 80
    assert all(len(parts) == 1 for parts in sides.values())


def test_a_leak_between_given_splits_is_counted(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"disc": 5, "noise": 5})
    write_images(tmp_path / "test", {"disc": 4, "noise": 4}, seed=50)
    clean = headstart.train(tmp_path)
    assert "also in train" not in notes(clean)
    for number in (0, 1):
        shutil.copy(tmp_path / f"train/disc/00{number}.png", tmp_path / f"test/disc/leak{number}.png")
    assert "2 test images are also in train (the same file or group)" in notes(headstart.train(tmp_path))


def test_given_splits_that_do_not_fit(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"disc": 4, "noise": 4})
    write_images(tmp_path / "val", {"disc": 2, "stripes": 2}, seed=50)
    with pytest.raises(SourceError, match=r"1 class of val without an image in train: 'stripes'.*'disc', 'noise'"):
        headstart.train(tmp_path)
    shutil.rmtree(tmp_path / "val" / "stripes")
    assert "No val image of 'noise': its accuracy is unknown" in notes(headstart.train(tmp_path))
    shutil.rmtree(tmp_path / "train")
    write_images(tmp_path / "val", {"noise": 2})
    with pytest.raises(SourceError, match="no train split beside val"):
        headstart.train(tmp_path)


def test_a_train_split_alone_is_divided(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"disc": 5, "noise": 5})
    assert headstart.train(tmp_path).evaluation.split == "cross-validation"


@pytest.mark.parametrize("splits", [False, True])
def test_a_class_of_copies_is_refused(tmp_path: Path, splits: bool) -> None:
    """However many copies there are: nothing of the class would be left to choose or to measure with."""
    train = write_images(tmp_path / "train" if splits else tmp_path, {"disc": 5, "noise": 1})
    for number in range(1, 6):
        shutil.copy(train / "noise" / "000.png", train / "noise" / f"{number}.png")
    if splits:
        write_images(tmp_path / "val", {"disc": 2, "noise": 2}, seed=9)
    with pytest.raises(SourceError, match=r"fewer than \d different images.*'noise \(1\)'.*Copies of one file"):
        headstart.train(tmp_path)


def test_all_images_identical(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    draw("disc", 0).save(tmp_path / "a" / "0.png")
    for number in range(1, 6):
        shutil.copy(tmp_path / "a" / "0.png", tmp_path / "a" / f"{number}.png")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(SourceError, match="different images"):
        headstart.train(tmp_path)


def test_one_embedding_for_all_is_refused(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Different files, and the network sees no difference."""
    monkeypatch.setattr(Session, "run", lambda self, image, outputs=None: [np.ones(1280, np.float32)])
    with pytest.raises(SourceError, match="same embedding"):
        headstart.train(shapes, runtime=UNCACHED)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_name_the_first_file(
    shapes: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    run = Session.run

    def broken(self: Session, image: np.ndarray, outputs: object = None) -> list[np.ndarray]:
        (embedding,) = run(self, image)
        if np.array_equal(image, np.asarray(draw("noise", 3))):
            embedding[7] = value
        return [embedding]

    monkeypatch.setattr(Session, "run", broken)
    for _ in range(2):  # nor is it kept in the cache
        with pytest.raises(SourceError, match=r"'noise/003.png' holds values that are not finite.*Nothing was saved"):
            headstart.train(shapes)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("held"), {"disc": 3, "noise": 3, "stripes": 3}, seed=70)


def test_classes_between_training_and_evaluation(model: Path, held_out: Path, tmp_path: Path) -> None:
    done = headstart_cli("evaluate", model, held_out, "--json")
    assert (done.code, done.json["evaluation"]["n"]) == (0, 9)

    renamed = shutil.copytree(held_out, tmp_path / "renamed")
    (renamed / "disc").rename(renamed / "Disc")
    done = headstart_cli("evaluate", model, renamed)
    assert done.code == 2
    assert "does not know: 'Disc'; it knows 'disc', 'noise', 'stripes'" in done.err
    assert headstart_cli("evaluate", model, renamed, "--allow-missing").code == 2

    missing = shutil.copytree(held_out, tmp_path / "missing")
    shutil.rmtree(missing / "noise")
    done = headstart_cli("evaluate", model, missing)
    assert done.code == 2
    assert "lacks classes of the model: 'noise'" in done.err
    assert "--allow-missing" in done.err
    done = headstart_cli("evaluate", model, missing, "--allow-missing", "--json")
    assert (done.code, done.json["evaluation"]["n"]) == (0, 6)
    assert [one["images"] for one in done.json["evaluation"]["classes"]] == [3, 0, 3]


def test_classes_are_matched_by_name_in_splits(model: Path, held_out: Path, tmp_path: Path) -> None:
    """Only the test split counts; the order of the folders does not."""
    shutil.copytree(held_out, tmp_path / "test")
    write_images(tmp_path / "train", {"disc": 1, "other": 1})
    evaluation, table = headstart.evaluate(headstart.load(model), tmp_path)
    assert (evaluation.split, evaluation.n, evaluation.accuracy) == ("test", 9, 1.0)
    assert {row.split for row in table.rows} == {"test"}


def test_evaluation_counts_what_it_cannot_read(model: Path, held_out: Path, tmp_path: Path) -> None:
    source = shutil.copytree(held_out, tmp_path / "in")
    (source / "disc" / "broken.png").write_bytes(b"")
    done = headstart_cli("evaluate", model, source, "--json")
    assert done.code == 3
    assert done.json["evaluation"]["n"] == 9
    assert done.json["skipped"] == [{"path": "disc/broken.png", "reason": "empty file"}]
    assert headstart_cli("evaluate", model, source, "--strict").code == 2


@pytest.mark.slow
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_one_to_a_hundred(tmp_path_factory: pytest.TempPathFactory, class_weight: headstart.ClassWeight) -> None:
    source = write_images(tmp_path_factory.mktemp("unlike"), {"disc": 300, "noise": 3})
    run = headstart.train(source, class_weight=class_weight)
    assert run.fitted.counts == {"train": {"disc": 240, "noise": 2}, "test": {"disc": 60, "noise": 1}}
    recall = {one.label: one.recall for one in run.evaluation.classes}
    assert recall["disc"] > 0.95
    assert recall["noise"] == 1  # told apart with ease, for all that they are few
    assert "Fewer than 3 held-out images of 'noise'" in notes(run)


def test_a_class_that_nobody_can_read_is_named(tmp_path: Path) -> None:
    source = write_images(tmp_path, {"disc": 4, "noise": 4, "stripes": 4})
    for path in (source / "stripes").iterdir():
        path.write_bytes(b"<html>")
    run = headstart.train(source)
    assert run.fitted.data.targets.names == ("disc", "noise")
    assert len(run.skipped) == 4
    assert "No image of the class 'stripes' can be used: the class is left out." in notes(run)
    shutil.rmtree(source / "noise")
    with pytest.raises(SourceError, match="only the class 'disc'"):
        headstart.train(source)
    shutil.rmtree(source / "disc")
    write_images(source, {"x": 1})
    (source / "x" / "000.png").write_bytes(b"")
    with pytest.raises(SourceError):
        headstart.train(source)
