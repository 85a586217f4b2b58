"""`embed` and `search`: the very embeddings of training and of model files, in files that others read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import headstart as hs
from headstart.core.digest import digest_bytes
from headstart.prediction.nearest import Nearest
from helpers import headstart_cli, write_images


@pytest.fixture
def source(shapes: Path, tmp_path: Path) -> Path:
    """A list with split and group, of which one image cannot be read."""
    lines = ["path,label,split,group"]
    for number in range(3):
        lines.append(f"{shapes}/disc/{number:03}.png,disc,train,g{number}")
        lines.append(f"{shapes}/noise/{number:03}.png,noise,test,")
    (tmp_path / "broken.png").write_bytes(b"no image")
    lines.append("broken.png,noise,test,")
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines).replace(f"{shapes}/", "s/"))
    (tmp_path / "s").symlink_to(shapes)
    return path


def test_both_files_hold_the_same(source: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    out = [tmp_path / "e.npz", tmp_path / "e.parquet"]
    done = [headstart_cli("embed", source, "--out", path, "--root", tmp_path, "--json") for path in out]
    assert [one.code for one in done] == [3, 3]
    assert done[0].json["skipped"][0]["path"].endswith("broken.png")
    table = pq.read_table(out[1])
    with np.load(out[0]) as arrays:
        metadata = json.loads(str(arrays["metadata"]))
        assert arrays["embedding"].shape == (6, 1280)
        np.testing.assert_array_equal(arrays["embedding"], np.array(table["embedding"].to_pylist(), np.float32))
        for name in ("path", "label", "split", "group", "digest"):
            assert arrays[name].tolist() == [value or "" for value in table[name].to_pylist()]
        for path, digest in zip(arrays["path"], arrays["digest"], strict=True):
            assert digest == digest_bytes((tmp_path / str(path)).read_bytes())
        assert set(zip(arrays["label"].tolist(), arrays["split"].tolist(), strict=True)) == {
            ("disc", "train"), ("noise", "test"),
        }  # fmt: skip
    assert json.loads(table.schema.metadata[b"headstart"]) == metadata
    assert (metadata["images"], metadata["width"]) == (6, 1280)
    assert metadata["embedder"] == done[0].json["embedder"]


def test_they_are_those_that_a_training_used(shapes: Path, cache: Path) -> None:
    run = hs.train(shapes, runtime=hs.Runtime(cache=cache))
    found = hs.embed(shapes, runtime=hs.Runtime(cache=cache))
    np.testing.assert_array_equal(found.features, run.fitted.data.matrix)
    assert found.embedder == run.classifier.metadata.backbone.embedder


@pytest.mark.slow
def test_those_of_a_model_are_its_own(shapes: Path, model: Path, cache: Path) -> None:
    classifier, runtime = hs.load(model), hs.Runtime(cache=cache)
    first = hs.embed(shapes, classifier=classifier, runtime=runtime)
    paths = [shapes / row.path for row in first.table.rows]
    np.testing.assert_array_equal(first.features, classifier.embed(paths))
    again = hs.embed(shapes, classifier=classifier, runtime=runtime)
    np.testing.assert_array_equal(again.features, first.features)
    other = hs.load(model, max_megapixels=3)
    assert hs.embed(shapes, classifier=other, runtime=runtime).embedder != first.embedder


def test_images_without_classes(shapes: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    done = headstart_cli("embed", shapes / "disc", "--unlabelled", "--model", model, "--out", out)
    assert (done.code, done.out) == (0, f"'{out}': 12 embeddings of 1,280 numbers, by lite0.\n")
    with np.load(out) as arrays:
        assert set(arrays["label"].tolist()) == {""}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", "e.txt"], "Expected '.npz', '.parquet'"),
        (["--out", "there.npz"], "already exists"),
        (["--out", "e.npz", "--model", "{model}", "--backbone", "lite0"], "--backbone selects another one"),
    ],
)
def test_what_cannot_be_written_is_refused_first(
    options: list[str], says: str, shapes: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.npz").write_text("mine")
    done = headstart_cli("embed", shapes, *[one.format(model=model) for one in options], cwd=tmp_path)
    assert (done.code, says in done.err) == (2, True), done.err
    assert (tmp_path / "there.npz").read_text() == "mine"


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_folders_are_made_whatever_they_are_called(suffix: str, shapes: Path, model: Path, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / "new" / os.fsdecode(b"\xff") / f"e{suffix}"
    try:
        out.parent.mkdir(parents=True)
    except OSError:  # a file system of UTF-8 alone
        out = tmp_path / "new" / f"e{suffix}"
    else:
        shutil.rmtree(tmp_path / "new")
    done = headstart_cli("embed", shapes / "disc", "--unlabelled", "--model", model, "--out", out)
    assert (done.code, out.is_file()) == (0, True), done.err


def test_search_finds_what_all_cosines_say(shapes: Path, model: Path, tmp_path: Path) -> None:
    new = write_images(tmp_path / "new", {"stripes": 2}, seed=70)
    image = new / "stripes" / "000.png"
    done = headstart_cli("search", model, image, shapes, new, "--count", "5", "--json")
    assert (done.code, done.json["images"]) == (0, 38)
    classifier = hs.load(model)
    paths = [str(path) for path in [*shapes.rglob("*.png"), *new.rglob("*.png")] if path != image]
    vectors = classifier.embed(paths).astype(np.float64)
    asked = classifier.embed(image).astype(np.float64)
    cosines = vectors @ asked / np.linalg.norm(vectors, axis=1) / np.linalg.norm(asked)
    best = np.argsort(-cosines)[:5]
    assert [one["path"] for one in done.json["matches"]] == [paths[i] for i in best]
    assert [one["similarity"] for one in done.json["matches"]] == pytest.approx(cosines[best], abs=1e-5)
    shown = headstart_cli("search", model, image, shapes, new, "--count", "1")
    assert paths[best[0]][-15:] in shown.out.replace("\n", "")


def test_what_is_written_into_a_source_is_left_out(shapes: Path, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    source = tmp_path / "source"
    write_images(source, {"disc": 4, "noise": 4})
    rows = hs.read(source).rows
    for command in (["embed", source, "--out", source / "e.parquet"],
                    ["predict", model, source, "--out", source / "p.parquet"]):  # fmt: skip
        assert headstart_cli(*command).code == 0
        table = hs.read(source)
        assert (table.rows, table.skipped) == (rows, ())
        assert "Written by Headstart" in table.notes[0]
    shutil.copy(source / "e.parquet", tmp_path / "e.parquet")  # but it is a list of images where it is named
    assert hs.read(tmp_path / "e.parquet", columns=hs.Columns(root=source)).rows == rows


def test_search_needs_an_image(shapes: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    done = headstart_cli("search", model, tmp_path / "broken.png", shapes)
    assert (done.code, "broken.png" in done.err) == (2, True)


def test_nearest_over_many_blocks() -> None:
    rng = np.random.default_rng(0)
    vectors, asked = rng.normal(size=(2500, 8)).astype(np.float32), rng.normal(size=(3, 8)).astype(np.float32)
    nearest = Nearest[int](asked, 7)
    for number, vector in enumerate(vectors):
        nearest.add(vector, number)
    cosines = (asked / np.linalg.norm(asked, axis=1)[:, None]) @ (vectors / np.linalg.norm(vectors, axis=1)[:, None]).T
    for row, found in zip(cosines, nearest.found(), strict=True):
        assert [number for _, number in found] == np.argsort(-row)[:7].tolist()
    assert nearest.added == 2500
    assert Nearest[int](asked, 3).found() == [[], [], []]
