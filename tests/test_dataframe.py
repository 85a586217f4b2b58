"""A DataFrame is read as the CSV file that it would write of itself."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import headstart as hs
from headstart import Columns, SourceError

pandas = pytest.importorskip("pandas")


def frame(shapes: Path, **columns: Any) -> Any:
    files = sorted(shapes.rglob("*.png"))
    paths = [str(file.relative_to(shapes)) for file in files]
    return pandas.DataFrame({"path": paths, "label": [file.parent.name for file in files]} | columns)


def _frames(shapes: Path) -> dict[str, Any]:
    plain = frame(shapes)
    count = len(plain)
    numbers = plain["label"].map({"disc": 0, "noise": 1, "stripes": 2})
    one_hot = pandas.get_dummies(plain["label"])
    splits = ["train", "val", "test"] * (count // 3)
    return {
        "plain": plain,
        "other names": plain.rename(columns={"path": "filename", "label": "Class"}),
        "integers": plain.assign(label=numbers),
        "floats": plain.assign(label=numbers.astype(float)),
        "with a missing label": plain.assign(label=numbers.where(numbers.index != 5)),
        "nullable": plain.assign(label=numbers.astype("Int64").where(numbers.index != 5)),
        "None": plain.assign(label=[None, *plain["label"][1:]]),
        "categories": plain.assign(label=plain["label"].astype("category")),
        "one hot": pandas.concat([plain[["path"]], one_hot.astype(int)], axis=1),
        "one hot, bool": pandas.concat([plain[["path"]], one_hot], axis=1),
        "splits and groups": plain.assign(split=splits, group=[number // 2 for number in range(count)]),
        "is_valid": plain.assign(is_valid=[number % 2 == 0 for number in range(count)]),
        "shuffled": plain.sample(frac=1, random_state=3),
        "twice": pandas.concat([plain, plain[:3]]),
        "contradicting": pandas.concat([plain, plain[:1].assign(label="noise")]),
        "missing files": pandas.concat([plain, plain[:1].assign(path="none.png")]),
        "outside": pandas.concat([plain, plain[:1].assign(path="../none.png")]),
        "odd labels": plain.assign(label=plain["label"].map({"disc": '=1,"2"', "noise": " a\nb ", "stripes": "ж"})),
        "absolute": plain.assign(path=[str(shapes / path) for path in plain["path"]]),
        "other columns": plain.assign(patient="x", note=1.5),
    }


NAMES = ["plain", "other names", "integers", "floats", "with a missing label", "nullable", "None", "categories",
         "one hot", "one hot, bool", "splits and groups", "is_valid", "shuffled", "twice", "contradicting",
         "missing files", "outside", "odd labels", "absolute", "other columns"]  # fmt: skip


def _unlined(skipped: Any) -> list[tuple[str, str]]:
    return [(one.path, one.reason.split(" (")[0]) for one in skipped]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_its_csv(name: str, shapes: Path, tmp_path: Path) -> None:
    one = _frames(shapes)[name]
    one.to_csv(tmp_path / "list.csv", index=False)
    expected = hs.read(tmp_path / "list.csv", columns=Columns(root=shapes))
    found = hs.read(one, columns=Columns(root=shapes))
    assert found.rows == expected.rows
    assert _unlined(found.skipped) == _unlined(expected.skipped)
    assert found.notes == expected.notes
    assert found == expected  # the same rows of the same place
    assert repr(found).startswith("ImageTable('DataFrame': ")


def test_all_names_are_tested(shapes: Path) -> None:
    assert list(_frames(shapes)) == NAMES


def test_paths_are_relative_to_the_working_folder(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shapes)
    table = hs.read(frame(shapes))
    assert table.storage.read(table.rows[0].path) == (shapes / table.rows[0].path).read_bytes()
    monkeypatch.chdir("/")  # and stay there
    assert table.storage.read(table.rows[0].path) == (shapes / table.rows[0].path).read_bytes()


def test_an_index_with_a_name_is_a_column(shapes: Path) -> None:
    columns = Columns(root=shapes)
    assert hs.read(frame(shapes).set_index("path"), columns=columns) == hs.read(frame(shapes), columns=columns)
    several = frame(shapes, split="train").set_index(["path", "split"])
    assert hs.read(several, columns=columns).splits == ("train",)


def test_it_is_not_changed(shapes: Path) -> None:
    one = _frames(shapes)["nullable"]
    before = one.copy()
    hs.read(one, columns=Columns(root=shapes))
    pandas.testing.assert_frame_equal(one, before)


def test_columns_by_name(shapes: Path) -> None:
    one = frame(shapes).rename(columns={"path": "where is it", "label": "what"}).assign(species="one", kind="two")
    with pytest.raises(SourceError, match=r"Name the column: columns=headstart\.Columns"):
        hs.read(one)
    named = hs.read(one, columns=Columns(path="where is it", label="what", root=shapes))
    assert named.rows == hs.read(frame(shapes), columns=Columns(root=shapes)).rows
    assert hs.read(one, columns=dataclasses.replace(Columns.of(dict(named.columns)))).rows == named.rows


@pytest.mark.parametrize(("make", "words", "hint"), [
    (lambda one: one.assign(file=one["path"], filename=one["path"]).drop(columns="path"), "could be the path",
     "Type columns=headstart.Columns(path='file') or columns=headstart.Columns(path='filename')."),
    (lambda one: one.assign(**{"class": 1, "my class": 2, "category": 3}).drop(columns="label"), "could be the label",
     "columns=headstart.Columns(label='category')"),
    (lambda one: one.drop(columns="path"), "has no column 'path'", "columns=headstart.Columns(path='NAME')"),
    (lambda one: one.rename(columns={"path": 0, "label": 1}), "found '0', '1'", "columns=headstart.Columns("),
    (lambda one: one[[]], "empty", ""),
    (lambda one: one.iloc[:0], "No labelled image", "each row"),
    (lambda one: one.set_axis(["path", "path"], axis=1), "'path' more than once", "name of its own"),
])  # fmt: skip
def test_errors_speak_python(make: Any, words: str, hint: str, shapes: Path) -> None:
    with pytest.raises(SourceError) as caught:
        hs.read(make(frame(shapes)), columns=Columns(root=shapes))
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert "headstart train" not in str(caught.value)
    assert " line " not in str(caught.value)


@pytest.mark.slow
def test_it_trains(shapes: Path, tmp_path: Path) -> None:
    one = frame(shapes)
    table = hs.read(one, columns=Columns(root=shapes))
    run = hs.train(table)
    run.save(tmp_path / "run")
    one.to_csv(tmp_path / "list.csv", index=False)
    assert run.fitted.model == hs.train(hs.read(tmp_path / "list.csv", columns=Columns(root=shapes))).fitted.model
    assert "data:image/jpeg" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_every_verb_takes_one(shapes: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shapes)
    assert hs.evaluate(hs.load(model), frame(shapes))[0].n == 36
    assert hs.check(frame(shapes)).counts["images"] == 36
    explained = hs.explain(hs.load(model), shapes / "disc" / "000.png", source=frame(shapes))
    assert explained.neighbours[0].path == "disc/000.png"


def test_pandas_is_not_imported(shapes: Path) -> None:
    code = f"import sys, headstart; headstart.read({str(shapes)!r}); assert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
