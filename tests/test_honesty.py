"""Numbers that would flatter are said to: images that were learnt from, groups that mix classes, many classes."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headstart
from headstart.backbones.embedder import load_embedder
from headstart.evaluation import evaluate
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead
from headstart.modelfile.schema import Backbone, Metadata
from headstart.modelfile.writer import write_model
from headstart.partition.draw import deal_folds
from headstart.prediction.classifier import Classifier
from headstart.settings.recipe import Recipe
from headstart.targets.classes.temperature import Temperature
from helpers import draw, headstart_cli, strata, write_images


def test_evaluate_tells_images_that_were_learnt_from(shapes: Path, model: Path, tmp_path: Path) -> None:
    source = tmp_path / "mixed"
    shutil.copytree(shapes, source)
    for label in ("disc", "noise", "stripes"):
        draw(label, 777).save(source / label / "new.png")
    _, table = headstart.evaluate(headstart.load(model), source)
    assert "The model was trained on 36 of these 39 images: the numbers are too optimistic." in table.notes
    fresh = write_images(tmp_path / "fresh", {"disc": 2, "noise": 2, "stripes": 2}, seed=500)
    assert headstart.evaluate(headstart.load(model), fresh)[1].notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 100])  # cross-validated, held out
def test_splits_csv_gives_the_same_run(tmp_path: Path, count: int) -> None:
    photos = write_images(tmp_path / "photos", {"disc": count, "noise": count})
    rows = "".join(f"{path.relative_to(photos)},{path.parent.name},g{int(path.stem) // 2}{path.parent.name}\n"
                   for path in photos.rglob("*.png"))  # fmt: skip
    (photos / "all.csv").write_text("path,label,group\n" + rows)
    first = headstart.train(photos / "all.csv")
    first.save(tmp_path / "run")
    columns = headstart.Columns(root=photos)
    second = headstart.train(headstart.read(tmp_path / "run" / "splits.csv", columns=columns))
    assert second.evaluation == first.evaluation
    assert second.fitted.details.as_dict()["head"] == first.fitted.details.as_dict()["head"]
    with (tmp_path / "run" / "splits.csv").open() as file:
        groups = {row["group"]: {r["split"] + r["fold"]} for row in csv.DictReader(file) for r in [row]}
    assert all(len(parts) == 1 for parts in groups.values())


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mixed_groups_never_take_a_class_from_a_fold(data: st.DataObject) -> None:
    n = data.draw(st.integers(8, 40))
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    labels[:6] = [0, 0, 1, 1, 2, 2]
    groups = data.draw(st.lists(st.integers(0, n // 2), min_size=n, max_size=n))
    digests = [f"{i:064x}" for i in range(n)]
    try:
        folds = deal_folds(strata(labels), groups, digests, folds=5, seed=0)
    except headstart.SourceError:
        return  # said in words; a class was never taken away in silence
    for fold in np.unique(folds):
        assert set(labels[folds != fold]) == set(labels)
    for group in set(groups):
        assert len({folds[i] for i in range(n) if groups[i] == group}) == 1


@pytest.mark.slow
def test_thousands_of_classes_fit_into_a_model_file() -> None:
    classes = tuple(f"class {i}" for i in range(3000))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3000, 4000)
    probabilities = rng.dirichlet(np.ones(3000), 4000)
    recipe = Recipe()
    embedder = load_embedder(recipe, None)
    head = Calibrated(LinearHead(np.zeros((1280, 3000), np.float32), np.zeros(3000, np.float32)), Temperature(1.0))
    metadata = Metadata(
        classes=classes, preprocess=embedder.preprocess, recipe=dataclasses.asdict(recipe),
        backbone=Backbone("lite0"), temperature=1.0, counts={},
        evaluation=evaluate(probabilities, labels, classes, split="val").as_dict(),
    )  # fmt: skip
    assert Classifier(write_model(embedder, head, metadata).content).classes == classes


def test_a_users_own_files_are_not_replaced(tmp_path: Path) -> None:
    photos = write_images(tmp_path, {"disc": 4, "noise": 4})
    manifest = "path,label\n" + "".join(
        f"{one.relative_to(photos)},{one.parent.name}\n" for one in photos.rglob("*.png")
    )
    (tmp_path / "splits.csv").write_text(manifest)
    done = headstart_cli("train", tmp_path / "splits.csv", "--out", tmp_path)
    assert done.code == 2
    assert "already holds 'splits.csv'" in done.err
    assert (tmp_path / "splits.csv").read_text() == manifest


def test_a_folder_above_names_its_run(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "birds", {"disc": 4, "noise": 4})
    done = headstart_cli("train", "..", "--json", cwd=photos / "disc")
    assert done.code == 0, done.err
    assert done.json["run"] == "runs/birds"
    again = headstart_cli("train", "..", "--json", cwd=photos / "disc")  # its own run is no part of the source
    assert (again.code, again.json["counts"]["images"]) == (0, 8)


@pytest.mark.parametrize("format", ["jsonl", "csv", "table"])
def test_results_go_to_standard_output_beside_a_progress_bar(model: Path, shapes: Path, format: str) -> None:
    """A terminal on standard error, a file on standard output."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "headstart", "predict", model, shapes / "disc", "--format", format],
        stdout=subprocess.PIPE, stderr=theirs, stdin=subprocess.DEVNULL, text=True, check=True, timeout=60,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert done.stdout.count("disc") >= 12
    if format == "jsonl":
        assert len([json.loads(line) for line in done.stdout.splitlines()]) == 12


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_streams_are_no_fault(model: Path, shapes: Path, closed: str) -> None:
    command = f"{sys.executable} -m headstart predict {model} {shapes / 'disc'} {closed}"
    assert subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False, timeout=60).returncode == 0


def test_no_device_number_is_kept_for_anybody(model: Path, shapes: Path, tmp_path: Path) -> None:
    done = headstart_cli("predict", model, shapes / "disc" / "000.png", HOME=str(tmp_path), XDG_CACHE_HOME="")
    assert done.code == 0, done.err
    assert list(tmp_path.rglob("*")) == []


def test_repr_of_a_run_is_short(shapes: Path) -> None:
    run = headstart.train(shapes)
    assert len(repr(run)) < 300
    assert len(repr(run.fitted)) < 5000


def test_one_lazy_image_many_times(model: Path, shapes: Path) -> None:
    from PIL import Image

    classifier = headstart.load(model)
    with Image.open(shapes / "disc" / "000.png") as image:
        probabilities = classifier.predict_proba([image] * 6)
    assert probabilities == pytest.approx(np.stack([classifier.predict_proba(shapes / "disc" / "000.png")] * 6))
