"""Lists of images as people have them: other names of columns, other formats, paths in their own way.

Each layout gives the images, classes and splits that the plain one gives; where two readings are possible the error
says what to type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart.core.errors import SourceError
from headstart.data.readers import Columns
from headstart.data.table import ImageTable, Row
from helpers import headstart_cli, write_images

FILES = ("disc/000.png", "disc/001.png", "noise/000.png", "noise/001.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with `disc/000.png` and three more; lists are written into it."""
    return write_images(tmp_path / "photos", {"disc": 2, "noise": 2})


def read(folder: Path, content: str | bytes, name: str = "list.csv", **columns: Any) -> ImageTable:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return headstart.read(path, columns=Columns(**columns))


def labelled(table: ImageTable) -> dict[str, str | None]:
    return {row.path: row.label for row in table.rows}


PLAIN = {path: path.split("/")[0] for path in FILES}
LINES = "".join(f"{path},{label}\n" for path, label in PLAIN.items())


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["filename", "file_name", "image", "image_path", "img", "Path", "File Name", "id"])
@pytest.mark.parametrize("label", ["class", "category", "target", "species", "Label", "y", "breed"])
def test_names_that_people_use_are_known(photos: Path, path: str, label: str) -> None:
    table = read(photos, f"{path},{label}\n{LINES}")
    assert labelled(table) == PLAIN
    assert not table.skipped
    assert table.notes == (f"The path was read from the column '{path}', the class from '{label}'.",)


def test_a_known_name_is_believed_before_another_one(photos: Path) -> None:
    rows = "".join(f"{number},{path},x,{label}\n" for number, (path, label) in enumerate(PLAIN.items()))
    assert labelled(read(photos, f"id,filename,note,class\n{rows}")) == PLAIN
    assert labelled(read(photos, f",file,target,label\n{rows}")) == PLAIN  # as pandas writes an index


@pytest.mark.parametrize(
    ("header", "typed"),
    [
        ("filename,file_path,label", "--path-column filename or headstart train .*list.csv --path-column file_path"),
        ("path,class,category", "--label-column class or headstart train .*list.csv --label-column category"),
        ("path,one,two", "headstart train .*list.csv --label-column NAME"),
        ("one,two,label", "headstart train .*list.csv --path-column NAME"),
    ],
)
def test_what_could_be_either_is_asked_for(photos: Path, header: str, typed: str) -> None:
    with pytest.raises(SourceError, match=typed):
        read(photos, f"{header}\na,b,c\n")


def test_a_list_without_a_header(photos: Path) -> None:
    table = read(photos, LINES)
    assert labelled(table) == PLAIN
    assert "names no columns" in table.notes[0]
    missing = "gone.png,disc\n" + LINES  # it looks like an image, though it is not there
    assert len(read(photos, missing).rows) == 5
    with pytest.raises(SourceError, match=r"line 1 names no columns: it begins with 'disc/000.png'.*path,label,split"):
        read(photos, LINES.replace("\n", ",train\n"))


def test_a_column_for_each_class(photos: Path) -> None:
    content = "image,disc,noise\n" + "".join(
        f"{p},{int(c == 'disc')},{float(c == 'noise')}\n" for p, c in PLAIN.items()
    )
    table = read(photos, content)
    assert labelled(table) == PLAIN
    assert table.notes == ("The path was read from the column 'image', the class from the 1 among 'disc', 'noise'.",)
    both = read(photos, content + "a.png,1,1\nb.png,0,0\n")
    assert labelled(both) == PLAIN
    reasons = {skip.path: skip.reason for skip in both.skipped}
    assert reasons == {
        "a.png": "of 2 classes at once: 'disc', 'noise', and with --task classes an image has one (line 6)",
        "b.png": "no label (line 7)",
    }


# --- splits and groups ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("Split", ("train", "val", "Train", "Validation")), ("set", ("training", "valid", "train", "test")),
        ("fold", ("train", "test", "train", "test")), ("is_valid", ("False", "True", "0", "1")),
    ],
)  # fmt: skip
def test_splits_under_any_known_name_are_taken_and_said(photos: Path, column: str, values: tuple[str, ...]) -> None:
    rows = "".join(f"{path},{label},{value}\n" for (path, label), value in zip(PLAIN.items(), values, strict=True))
    table = read(photos, f"path,label,{column}\n{rows}")
    assert labelled(table) == PLAIN
    known = {"train": "train", "training": "train", "false": "train", "0": "train", "test": "test"}
    assert [row.split for row in table.rows] == [known.get(value.lower(), "val") for value in values]
    assert f"the split from '{column}'" in table.notes[0]


def test_of_several_splits_none_is_guessed(photos: Path) -> None:
    rows = "".join(f"{path},{label},train,val\n" for path, label in PLAIN.items())
    with pytest.raises(SourceError, match=r"could be the split: 'set', 'fold'.*--split-column fold"):
        read(photos, f"path,label,set,fold\n{rows}")
    assert {row.split for row in read(photos, f"path,label,set,fold\n{rows}", split="fold").rows} == {"val"}
    assert {row.split for row in read(photos, f"path,label,set,split\n{rows}").rows} == {"val"}


def test_is_valid_in_json(photos: Path) -> None:
    lines = [json.dumps({"image": p, "label": c, "is_valid": i % 2 == 1}) for i, (p, c) in enumerate(PLAIN.items())]
    assert [row.split for row in read(photos, "\n".join(lines), "list.jsonl").rows] == ["train", "val"] * 2


def test_columns_that_look_like_splits_or_groups_are_told(photos: Path) -> None:
    rows = "".join(f"{path},{label},{number},p{number}\n" for number, (path, label) in enumerate(PLAIN.items()))
    table = read(photos, f"path,label,fold,patient_id\n{rows}")
    assert {(row.split, row.group) for row in table.rows} == {(None, None)}
    assert table.notes == (
        "The column 'fold' may name splits, but holds '0', '1', '2', '3': it was not used.",
        "Images that belong together may be marked by 'patient_id', which was not used: --group-column patient_id "
        "keeps each group on one side of every split.",
    )
    named = read(photos, f"path,label,fold,patient_id\n{rows}", group="patient_id")
    assert [row.group for row in named.rows] == ["p0", "p1", "p2", "p3"]


# --- formats and encodings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le-bom", "utf-8-sig", "utf-32"])
def test_encodings_that_are_marked(photos: Path, encoding: str) -> None:
    text = f"path,label\n{LINES}".replace(",noise", ",ñoise")
    content = b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16-le-bom" else text.encode(encoding)
    table = read(photos, content)
    assert table.classes == ("disc", "ñoise")
    assert not table.notes


def test_an_encoding_that_is_named(photos: Path, tmp_path: Path) -> None:
    content = f"path,label\n{LINES}".replace(",noise", ",café").encode("cp1252")
    with pytest.raises(SourceError, match=r"line 4\).*--encoding cp1252 reads that line as 'noise/000.png,café'"):
        read(photos, content)
    assert read(photos, content, encoding="cp1252").classes == ("café", "disc")
    with pytest.raises(SourceError, match="no encoding 'klingon'"):
        read(photos, content, encoding="klingon")
    done = headstart_cli("check", photos / "list.csv", "--encoding", "cp1252", "--json")
    assert done.code in {0, 3}, done.err


@pytest.mark.parametrize(
    "before",
    ["sep=;\n", "sep=;\r\n", "\n\n", "# made by hand\n", "\ufeffsep=;\n"],
    ids=["sep", "crlf", "blank", "#", "bom"],
)
def test_what_stands_before_the_names(photos: Path, before: str) -> None:
    table = read(photos, before + f"path,label\n{LINES},\n".replace(",", ";"))
    assert labelled(table) == PLAIN
    assert not table.skipped


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_and_commas_at_the_end(photos: Path, delimiter: str) -> None:
    content = "path,label,,\n" + LINES.replace("\n", ",,\n") + ",,,\n"
    table = read(photos, content.replace(",", delimiter))
    assert labelled(table) == PLAIN
    assert not table.skipped


@pytest.mark.parametrize(
    "document",
    [
        PLAIN,
        [{"image": path, "label": label} for path, label in PLAIN.items()],
        [
            {
                "data": {"image": f"/data/upload/1/{path}"},
                "annotations": [{"result": [{"value": {"choices": [label]}}], "was_cancelled": False}],
            }
            for path, label in PLAIN.items()
        ],
        [{"image": f"/data/local-files/{path}", "id": 7, "choice": label} for path, label in PLAIN.items()],
    ],
    ids=["map", "list", "label-studio", "label-studio-min"],
)
def test_json(photos: Path, document: object) -> None:
    table = read(photos, json.dumps(document), "list.json")
    assert labelled(table) == PLAIN
    assert not table.skipped


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"images": [], "annotations": [], "categories": []}, "COCO"),
        ({"a": {"b": "c"}}, "not a list of images"),
        (["a.png"], "not a list of images"),
        ([], "No labelled image"),
    ],
)
def test_json_that_is_no_list_of_images(photos: Path, document: object, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        read(photos, json.dumps(document), "list.json")


def test_tasks_without_a_single_choice_are_skipped(photos: Path) -> None:
    tasks = [
        {"data": {"image": path}, "annotations": [{"result": [{"value": {"choices": choices}}]}]}
        for path, choices in zip(FILES, (["disc"], ["disc", "noise"], [], ["noise"]), strict=True)
    ]
    table = read(photos, json.dumps(tasks), "list.json", task="classes")
    assert labelled(table) == {FILES[0]: "disc", FILES[3]: "noise"}
    assert [skip.reason for skip in table.skipped] == [
        "2 labels at once, and with --task classes an image has one (entry 2)", "no label (entry 3)",
    ]  # fmt: skip


def test_a_plain_list(photos: Path) -> None:
    lines = "".join(f"{path}  {label}\n" for path, label in PLAIN.items())
    assert labelled(read(photos, f"# a list\n\n{lines}", "list.txt")) == PLAIN
    with pytest.raises(SourceError, match="no line begins with the path of a file"):
        read(photos, "Licence: see below\nAll rights reserved\n", "list.txt")


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        lambda path: path.replace("/", "\\"),
        lambda path: "C:\\Users\\me\\photos\\" + path.replace("/", "\\"),
        lambda path: f"/Users/me/data/photos/{path}",
        lambda path: path.removesuffix(".png"),
        lambda path: f"photos/{path}",
        lambda path: f"./somewhere/else/{path.removesuffix('.png')}",
    ],
    ids=["backslashes", "drive", "absolute", "no-suffix", "own-folder", "both"],
)
def test_paths_in_their_own_way(photos: Path, written: Any) -> None:
    content = "path,label\n" + "".join(f"{written(path)},{label}\n" for path, label in PLAIN.items())
    table = read(photos, content)
    assert labelled(table) == PLAIN
    assert not table.skipped
    (note,) = table.notes
    assert note.startswith("4 paths were found elsewhere than written: ")
    assert note.endswith("is 'disc/000.png'.")


def test_ids_of_kaggle(tmp_path: Path) -> None:
    """`labels.csv` with `id,breed`, the images in `train/`, and others in `test/`."""
    write_images(tmp_path / "x", {"disc": 6})
    for part, names in (("train", "abcd"), ("test", "ef")):
        (tmp_path / part).mkdir()
        for name, image in zip(names, sorted((tmp_path / "x" / "disc").iterdir()), strict=False):
            image.rename(tmp_path / part / f"{name}.png")
    table = read(tmp_path, "id,breed\na,pug\nb,pug\nc,husky\nd,husky\n", "labels.csv")
    assert table.rows == (
        Row("train/a.png", "pug"), Row("train/b.png", "pug"), Row("train/c.png", "husky"), Row("train/d.png", "husky"),
    )  # fmt: skip
    assert table.storage.read("train/a.png").startswith(b"\x89PNG")


def test_paths_that_fit_several_files_are_not_guessed(tmp_path: Path) -> None:
    write_images(tmp_path, {"train": 2, "test": 2})
    with pytest.raises(SourceError, match=r"fit several files each: '000' may be .*--root: test or train"):
        read(tmp_path, "id,label\n000,a\n001,b\n")
    assert labelled(read(tmp_path, "id,label\n000,a\n001,b\n", root=tmp_path / "train")) == {
        "000.png": "a",
        "001.png": "b",
    }


def test_a_single_file_that_is_missing_is_not_looked_for(photos: Path) -> None:
    (photos / "elsewhere").mkdir()
    (photos / "noise" / "001.png").rename(photos / "elsewhere" / "001.png")
    table = read(photos, f"path,label\n{LINES}")
    assert labelled(table) == PLAIN  # and one of them will be told to be missing
    assert not table.notes


def test_the_same_in_a_zip(photos: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in FILES:
            archive.write(photos / path, f"images/{path}")
        rows = "".join(f"C:\\\\me\\\\{path},{label}\n".replace("/", "\\") for path, label in PLAIN.items())
        archive.writestr(
            "list.csv", f"File Name,Class,Set\n{rows}".replace("\n", ",train\n").replace("Set,train", "Set")
        )
    table = headstart.read(tmp_path / "all.zip")
    assert labelled(table) == {f"images/{path}": label for path, label in PLAIN.items()}
    assert not table.skipped
    assert {row.split for row in table.rows} == {"train"}


def test_a_list_trains_as_its_folder_does(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", {"disc": 8, "noise": 8})
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    (photos / "list.csv").write_text("id,kind\n" + "".join(f"{name[:-4]},{name.split('/')[0]}\n" for name in names))
    by_list, by_folder = (headstart.train(source) for source in (photos / "list.csv", photos))
    assert by_list.fitted.held_out.probabilities.tolist() == by_folder.fitted.held_out.probabilities.tolist()
    assert [row.label for row in by_list.fitted.data.table.rows] == [
        row.label for row in by_folder.fitted.data.table.rows
    ]
    assert by_list.skipped == ()


@pytest.mark.parametrize(
    ("written", "there"),
    [("cat/1.jpg", "cat/1.JPG"), ("cat/Caf\u00e9 1.jpg", "cat/Cafe\u0301 1.jpg"), ("cat/a%20b.jpg", "cat/a b.jpg")],
)
def test_names_that_a_program_has_changed(tmp_path: Path, written: str, there: str) -> None:
    for name in (there, "dog/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    table = read(tmp_path, f"path,label\n{written},cat\n")
    assert [row.path for row in table.rows] == [there]
    assert "1 path was found elsewhere than written" in table.notes[0]


@pytest.mark.parametrize(
    "header", ["label," + ",".join(f"pixel{i}" for i in range(784)), "emotion,pixels,Usage", "label,1x1,1x2"]
)
def test_a_list_of_pixels_is_told_so(tmp_path: Path, header: str) -> None:
    row = ",".join("0" for _ in header.split(","))
    with pytest.raises(SourceError, match="holds the pixels of images, and no paths"):
        read(tmp_path, f"{header}\n{row}\n")
