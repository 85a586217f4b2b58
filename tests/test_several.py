"""Sources of several labels an image: lists, columns of 0 and 1, class folders, Label Studio; what is not known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headstart
from headstart.core.errors import OptionError, SourceError
from headstart.data.readers import Columns
from headstart.data.several import Said
from headstart.data.table import ImageTable
from helpers import draw

NAMES = ("a.png", "b.png", "c.png", "d.png", "e.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("several")
    for number, name in enumerate(NAMES):
        draw("noise", number, (24, 24)).save(path / name)
    return path


def read(folder: Path, content: str, name: str = "list.csv", **columns: Any) -> ImageTable:
    (folder / name).write_text(content, encoding="utf-8")
    try:
        return headstart.read(folder / name, columns=Columns(**columns))
    finally:
        (folder / name).unlink()


def said(table: ImageTable) -> dict[str, str | None]:
    return {row.path: row.label for row in table.rows}


@pytest.mark.parametrize("sign", ["|", ";", ",", " ", "; "])
def test_a_column_of_labels_is_separated_by_the_sign_that_occurs(folder: Path, sign: str) -> None:
    labels = (f"cat{sign}dog", "dog", "", "cat", f"bird{sign}cat{sign}dog")
    lines = "".join(f'{path},"{label}"\n' for path, label in zip(NAMES, labels, strict=True))
    table = read(folder, f"path,labels\n{lines}", task="multi-label")
    assert table.task == "multi-label"
    assert list(said(table).values()) == ["cat|dog", "dog", "", "cat", "bird|cat|dog"]
    assert table.classes == ("bird", "cat", "dog")
    assert repr(table).endswith("5 images, 3 labels)")


def test_a_list_of_several_labels_is_recognised_and_said(folder: Path) -> None:
    table = read(folder, "path,labels\na.png,hot dog|cat\nb.png,\nc.png,cat\n")
    assert said(table) == {"a.png": "cat|hot dog", "b.png": "", "c.png": "cat"}
    assert table.notes[-1] == (
        "An image can have several labels here (multi-label), separated by '|'; --task classes reads it as one class "
        "an image."
    )
    assert read(folder, "path,labels\na.png,hot dog|cat\nb.png,cat\n", task="classes").task == "classes"
    # A class may be called so; only columns that are called labels or tags are recognised.
    assert read(folder, "path,label\na.png,red|blue\nb.png,cat\n").task == "classes"
    assert read(folder, "path,labels\na.png,cat\nb.png,dog\n").task == "classes"


def test_a_sign_of_your_own(folder: Path) -> None:
    table = read(folder, "path,tags\na.png,cat + dog\nb.png,dog\n", task="multi-label", separator="+")
    assert said(table) == {"a.png": "cat|dog", "b.png": "dog"}
    with pytest.raises(OptionError, match="separator of labels is empty"):
        Columns(separator="")
    with pytest.raises(OptionError, match="no task 'multilabel'") as caught:
        Columns(task="multilabel")
    assert "multi-label" in caught.value.hint


@pytest.mark.parametrize("name", ["list.jsonl", "list.json"])
def test_lists_of_names_in_json_and_what_is_not_known(folder: Path, name: str) -> None:
    entries: list[dict[str, Any]] = [
        {"path": "a.png", "labels": ["cat", "hot dog"]}, {"path": "b.png", "labels": []},
        {"path": "c.png", "labels": None}, {"path": "d.png", "labels": ["cat", "?dog"]},
    ]  # fmt: skip
    content = json.dumps(entries) if name == "list.json" else "\n".join(map(json.dumps, entries))
    table = read(folder, content, name)
    assert said(table) == {"a.png": "cat|hot dog", "b.png": "", "d.png": "cat|?dog"}
    assert [one.reason.partition(" (")[0] for one in table.skipped] == ["its labels are not known"]


def test_names_that_cannot_be_told_apart_are_refused(folder: Path) -> None:
    table = read(folder, '{"path": "a.png", "labels": ["x|y"]}\n{"path": "b.png", "labels": ["x"]}\n', "list.jsonl")
    assert said(table) == {"b.png": "x"}
    assert "hold no |" in table.skipped[0].reason


def test_lists_of_names_in_parquet(folder: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    labels = [["cat", "dog"], [], None, ["cat"], ["dog"]]
    pq.write_table(pa.table({"path": list(NAMES), "labels": labels}), folder / "list.parquet")
    table = headstart.read(folder / "list.parquet")
    (folder / "list.parquet").unlink()
    assert said(table) == {"a.png": "cat|dog", "b.png": "", "d.png": "cat", "e.png": "dog"}
    assert len(table.skipped) == 1


def test_a_column_for_each_label(folder: Path) -> None:
    rows = ["a.png,1,1", "b.png,0,0", "c.png,1,", "d.png,0,1", "e.png,,"]
    table = read(folder, "\n".join(["path,cat,dog", *rows]), task="multi-label")
    assert said(table) == {"a.png": "cat|dog", "b.png": "", "c.png": "cat|?dog", "d.png": "dog"}
    assert table.skipped[0].reason == "its labels are not known (line 6)"
    assert "the labels from the 1 among 'cat', 'dog'" in table.notes[0]
    seen = "path,cat,dog\n" + "".join(f"{name},1,1\n" for name in NAMES[:3]) + "d.png,0,1\n"
    assert read(folder, seen).task == "multi-label"  # three images with two: that is no mistake
    assert read(folder, seen, task="classes").task == "classes"
    # A column of other numbers is none of them.
    table = read(folder, "path,width,cat,dog\na.png,640,1,1\nb.png,480,0,1\n", task="multi-label")
    assert table.classes == ("cat", "dog")


def test_a_row_for_each_label_of_an_image(folder: Path) -> None:
    table = read(folder, "path,label\na.png,cat\na.png,dog\nb.png,dog\nb.png,dog\n", task="multi-label")
    assert said(table) == {"a.png": "cat|dog", "b.png": "dog"}
    assert "1 row names more labels of an image of an earlier row." in table.notes


def test_label_studio_gives_multiple_choices_and_what_people_disagree_on(folder: Path) -> None:
    def task(path: str, *people: list[str]) -> dict[str, Any]:
        given = [{"result": [{"value": {"choices": one}}] if one else []} for one in people]
        return {"data": {"image": path}, "annotations": given}

    tasks = [
        task("a.png", ["cat", "hot dog"]), task("b.png", []), task("c.png", ["cat"], ["cat", "hot dog"]),
        task("d.png"), task("e.png", ["hot dog"]),
    ]  # fmt: skip
    table = read(folder, json.dumps(tasks), "list.json")
    assert said(table) == {"a.png": "cat|hot dog", "b.png": "", "c.png": "cat|?hot dog", "e.png": "hot dog"}


def test_the_same_image_in_several_class_folders(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(4):
            draw("noise", number + (label == "dog") * 10, (24, 24)).save(tmp_path / label / f"{label}{number}.png")
    shutil.copy(tmp_path / "cat" / "cat0.png", tmp_path / "dog" / "other.png")
    assert headstart.read(tmp_path).task == "classes"
    table = headstart.read(tmp_path, columns=Columns(task="multi-label"))
    assert said(table)["cat/cat0.png"] == "cat|dog"
    assert len(table) == 8
    assert [(one.path, one.decided) for one in table.skipped] == [("dog/other.png", True)]
    assert not table.unusable
    assert "1 file is in more than one class folder" in table.notes[-1]


def test_a_contradiction_of_splits_is_no_label(folder: Path) -> None:
    table = read(folder, "path,labels,split\na.png,x,train\na.png,y,test\nb.png,x|y,train\n", task="multi-label")
    assert said(table) == {"b.png": "x|y"}


names = (
    st.text(st.characters(codec="utf-8", exclude_characters="|?\0"), min_size=1, max_size=5).map(str.strip).filter(bool)
)


@pytest.mark.slow
@given(st.frozensets(names, max_size=4), st.frozensets(names, max_size=4))
def test_what_is_said_is_read_back(true: frozenset[str], unknown: frozenset[str]) -> None:
    one = Said(true, unknown - true)
    assert Said.of(one.text) == one


def test_no_label_that_can_be_learnt(folder: Path) -> None:
    from headstart import targets

    table = read(folder, "path,labels\na.png,cat|dog\nb.png,\nc.png,\nd.png,\ne.png,\n")
    with pytest.raises(SourceError, match=r"only the labels 'cat', 'dog'.*at least 3 images have it") as caught:
        targets.read(table)
    assert "with and without" in caught.value.hint


def test_a_stray_cell_among_columns_of_labels_is_named(folder: Path) -> None:
    """Else the column would be no label, and its label be lost."""
    content = "path,cat,dog,bird\na.png,1,0,1\nb.png,0,1,2\nc.png,1,1,0\n"
    for task in ("multi-label", None):
        with pytest.raises(SourceError, match=r"the column 'bird' holds '2' \(line 3\) beside 0 and 1"):
            read(folder, content, task=task)
    # Other columns are no labels.
    table = read(folder, content.replace(",bird", ",camera").replace(",2", ",Canon").replace(",0\n", ",Nikon\n"),
                 task="multi-label")  # fmt: skip
    assert table.classes == ("cat", "dog")


def test_commas_in_a_column_that_is_called_labels_are_pointed_out(folder: Path) -> None:
    content = 'path,tags\na.png,"cat, dog"\nb.png,dog\nc.png,cat\n'
    table = read(folder, content)
    assert table.task == "classes"
    assert table.notes[-1] == (
        "Cells of 'tags' hold commas, and each is one class; --task multi-label reads several labels."
    )
    assert not any("commas" in note for note in read(folder, content, task="classes").notes)
    assert read(folder, content, task="multi-label").classes == ("cat", "dog")


def test_where_an_image_has_a_line_for_each_label_a_blank_is_part_of_a_name(folder: Path) -> None:
    content = "path,labels\na.png,hot dog\na.png,cat\nb.png,\nc.png,cat\n"
    assert said(read(folder, content, task="multi-label")) == {"a.png": "cat|hot dog", "b.png": "", "c.png": "cat"}
