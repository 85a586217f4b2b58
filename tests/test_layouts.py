"""What a tree of files means: the same as a folder, as a zip file, as a tar file; what could be another is asked."""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headstart
from headstart.core.errors import OptionError, SourceError
from headstart.data.readers import Columns
from headstart.data.table import ImageTable
from helpers import draw, headstart_cli, write_images

Files = Mapping[str, bytes]


def put(root: Path, files: Files) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for folder in sorted({str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}):
            file.mkdir(folder)
        for name, content in files.items():
            file.writestr(name, content)
    return path


def tarred(path: Path, files: Files) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as file:
        for folder in sorted({str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            file.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def images(*paths: str) -> dict[str, bytes]:
    return {path: f"image {path}".encode() for path in paths}


def read(tmp_path: Path, files: Files, **columns: Any) -> ImageTable:
    """The table of a folder; that of a zip file and of tar files is seen to be the same."""
    tables = []
    for source in (
        put(tmp_path / "folder", files),
        zipped(tmp_path / "photos.zip", files),
        tarred(tmp_path / "photos.tar", files),
        tarred(tmp_path / "photos.tar.gz", files),
    ):
        tables.append(headstart.read(source, columns=Columns(**columns)))
    first, *others = tables
    for other in others:
        assert other.rows == first.rows
        assert other.skipped == first.skipped
        assert other.ignored == first.ignored
        assert other.notes == first.notes
        assert [other.storage.read(row.path) for row in other.rows] == [first.storage.read(r.path) for r in first.rows]
    return first


def labelled(table: ImageTable) -> dict[str, str | None]:
    return {row.path: row.label for row in table.rows}


def refused(tmp_path: Path, files: Files, **columns: Any) -> SourceError:
    """The error of a folder; that of the zip file is the same but for what it was called."""
    said = []
    for source in (put(tmp_path / "folder", files), zipped(tmp_path / "photos.zip", files)):
        with pytest.raises(SourceError) as caught:
            headstart.read(source, columns=Columns(**columns))
        said.append(caught.value)
    assert said[0].message == said[1].message.replace("photos.zip", "folder")
    return said[0]


def typed(error: SourceError) -> list[list[str]]:
    """The options of the commands that an error proposes."""
    assert error.hint
    return [
        shlex.split(command)
        for command in re.findall(r"headstart train (.*?)(?= or headstart|;|[.]$|[.] Or|$)", error.hint)
    ]


# --- one rule for a folder and an archive -----------------------------------------------------------------------------

LIST = b"path,label\nimages/1.jpg,cat\nimages/2.jpg,dog\n"
IN_ONE = images("images/1.jpg", "images/2.jpg")


def test_a_list_beside_its_images(tmp_path: Path) -> None:
    table = read(tmp_path, {**IN_ONE, "labels.csv": LIST})
    assert labelled(table) == {"images/1.jpg": "cat", "images/2.jpg": "dog"}
    assert (table.skipped, table.notes) == ((), ("The images are those of the list 'labels.csv'.",))


def test_kaggles_layout(tmp_path: Path) -> None:
    files = {**images("train/a1.jpg", "train/b2.jpg", "test/c3.jpg"), "train.csv": b"id,breed\na1,pug\nb2,husky\n"}
    table = read(tmp_path, files)
    assert labelled(table) == {"train/a1.jpg": "pug", "train/b2.jpg": "husky"}
    assert {skip.path: skip.reason for skip in table.skipped} == {"test/c3.jpg": "not in the list"}
    assert any("'a1' is 'train/a1.jpg'" in note for note in table.notes)
    error = refused(tmp_path / "two", {**files, "sample_submission.csv": b"id,breed\nc3,pug\n"})
    assert "several lists of images: 'sample_submission.csv', 'train.csv'" in error.message
    folder = tmp_path / "two/folder"
    assert typed(error) == [[f"{folder}/sample_submission.csv"], [f"{folder}/train.csv"]]
    assert labelled(headstart.read(folder / "train.csv")) == labelled(table)


def test_hugging_faces_image_folder(tmp_path: Path) -> None:
    lines = b'{"file_name": "1.jpg", "label": "cat"}\n{"file_name": "2.jpg", "label": "dog"}\n'
    table = read(
        tmp_path,
        {**images("train/1.jpg", "train/2.jpg", "test/1.jpg"), "train/metadata.jsonl": lines,
         "test/metadata.jsonl": lines.splitlines(keepends=True)[0]},
    )  # fmt: skip
    assert [(row.path, row.label, row.split) for row in table.rows] == [
        ("test/1.jpg", "cat", "test"), ("train/1.jpg", "cat", "train"), ("train/2.jpg", "dog", "train"),
    ]  # fmt: skip
    assert not table.skipped


def test_captions_beside_class_folders_are_no_list(tmp_path: Path) -> None:
    table = read(tmp_path, {**images("cat/1.jpg", "dog/1.jpg"), "info.csv": b"file_name,words,size\ncat/1.jpg,a,3\n"})
    assert labelled(table) == {"cat/1.jpg": "cat", "dog/1.jpg": "dog"}
    assert [skip.path for skip in table.skipped] == ["info.csv"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("annotations.xml", b"<annotations/>", "is XML, as CVAT and Pascal VOC write it"),
        ("instances.json", b'{"images": [], "annotations": [], "categories": []}', "is a COCO file"),
        ("labels.json", b'{"images/1.jpg": "ant", "images/2.jpg": "bee"}', "is a list of its images"),
    ],
)
def test_annotations_beside_images_without_class_folders(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    error = refused(tmp_path, {name: content, **images("images/1.jpg", "images/2.jpg")})
    assert words in error.message
    if name == "labels.json":
        (line,) = typed(error)
        assert {row.label for row in headstart.read(line[-1]).rows} == {"ant", "bee"}


def test_json_that_lists_no_image_is_passed_over(tmp_path: Path) -> None:
    table = read(tmp_path, {"info.json": b'{"version": "1"}', **images("images/1.jpg", "images/2.jpg")})
    assert table.classes == ("images",)


def test_a_list_that_says_what_the_folders_say(tmp_path: Path) -> None:
    files = images("cat/1.jpg", "dog/1.jpg")
    same = b"path,label\ncat/1.jpg,cat\ndog/1.jpg,dog\n"
    table = read(tmp_path / "same", {**files, "info.csv": same})
    assert labelled(table) == {"cat/1.jpg": "cat", "dog/1.jpg": "dog"}
    more = b"path,label,split\ncat/1.jpg,cat,train\ndog/1.jpg,dog,test\n"
    assert [row.split for row in read(tmp_path / "more", {**files, "info.csv": more}).rows] == ["train", "test"]


@pytest.mark.parametrize(
    "content",
    [
        b"path,label\ncat/1.jpg,tabby\ndog/1.jpg,pug\n",  # other classes
        b"path,label,split\ncat/1.jpg,cat,train\n",  # splits, of a part
    ],
)
def test_a_list_that_contradicts_the_folders(tmp_path: Path, content: bytes) -> None:
    files = {**images("cat/1.jpg", "dog/1.jpg"), "info.csv": content}
    error = refused(tmp_path, files)
    assert "can be read in two ways: by the list 'info.csv'" in error.message
    folder = tmp_path / "folder"
    assert typed(error) == [[f"{folder}/info.csv"], [str(folder), "--class-level", "1"]]
    by_folders = read(tmp_path / "folders", files, class_level=1)
    assert labelled(by_folders) == {"cat/1.jpg": "cat", "dog/1.jpg": "dog"}
    by_list = read(tmp_path / "list", files, label="label")
    assert by_list.rows == headstart.read(folder / "info.csv").rows


NAMES = ["a", "b", "cats", "train", "test", ".hidden", "Thumbs.db", "1.jpg", "2.jpg", "x.csv", "photos"]


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    paths=st.sets(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(tuple), max_size=10),
    content=st.sampled_from([b"path,label\na/1.jpg,a\nb/1.jpg,b\n", b"nothing", b"1.jpg,x\n2.jpg,y\n"]),
)
def test_any_tree_is_the_same_as_a_folder_and_as_an_archive(
    tmp_path_factory: pytest.TempPathFactory, paths: set[tuple[str, ...]], content: bytes
) -> None:
    root = tmp_path_factory.mktemp("tree")
    plain = [path for path in paths if not any(other[: len(path)] == path for other in paths - {path})]
    files = {"/".join(path): content if path[-1] == "x.csv" else b"image" for path in plain}
    found = []
    (root / "source").mkdir()
    for source in (put(root / "source", files), zipped(root / "source.zip", files), tarred(root / "source.tar", files)):
        try:
            table = headstart.read(source)
            found.append((table.rows, table.skipped, table.ignored, table.notes))
        except SourceError as error:
            found.append(re.sub(r"source\.(zip|tar)", "source", error.message))
    assert found[0] == found[1] == found[2]


# --- one level off ----------------------------------------------------------------------------------------------------


def test_splits_that_are_called_otherwise(tmp_path: Path) -> None:
    files = images(
        *(f"{top}/{top}/{label}/{i}.jpg" for top in ("seg_train", "seg_test") for label in ("sea", "street")
          for i in range(2)),
        "seg_pred/seg_pred/1.jpg",
    )  # fmt: skip
    error = refused(tmp_path, files)
    assert "hold the same folders each: 'sea', 'street'" in error.message
    first, second = typed(error)
    assert first[1:] == ["--split-folders", "train=seg_train,test=seg_test"]
    assert second[1:] == ["--class-level", "1"]
    table = read(tmp_path / "splits", files, split_folders="train=seg_train,test=seg_test")
    assert {(row.path, row.label, row.split) for row in table.rows} == {
        (path, path.split("/")[2], path[4 : path.index("/")]) for path in files if "pred" not in path
    }
    assert [skip.path for skip in table.unusable] == []
    assert "Left out, since --split-folders does not name them: 'seg_pred'." in table.notes
    as_told = read(tmp_path / "told", files, class_level=1)
    assert as_told.classes == ("seg_pred", "seg_test", "seg_train")


@pytest.mark.parametrize("tops", [("2023", "2024"), ("color", "grayscale")])
def test_folders_of_years_or_colours(tmp_path: Path, tops: tuple[str, str]) -> None:
    files = images(*(f"{top}/{label}/{top}.jpg" for top in tops for label in ("cat", "dog")))
    error = refused(tmp_path, files)
    assert [command[1:] for command in typed(error)] == [["--class-level", "2"], ["--class-level", "1"]]
    table = read(tmp_path / "second", files, class_level=2)
    assert labelled(table) == {path: path.split("/")[1] for path in files}
    assert read(tmp_path / "first", files, class_level=1).classes == tops


def test_folders_inside_classes_that_differ_are_no_fault(tmp_path: Path) -> None:
    table = read(tmp_path, images("cat/a/1.jpg", "cat/b/1.jpg", "dog/c/1.jpg", "dog/a/1.jpg", "dog/d/1.jpg"))
    assert table.classes == ("cat", "dog")
    flat = read(
        tmp_path / "flat", images("cat/in/1.jpg", "cat/out/1.jpg", "dog/in/1.jpg", "dog/out/1.jpg", "cow/1.jpg")
    )
    assert flat.classes == ("cat", "cow", "dog")
    one = read(tmp_path / "one", images("cat/images/1.jpg", "dog/images/1.jpg"))
    assert one.classes == ("cat", "dog")


def test_images_beside_their_annotations(tmp_path: Path) -> None:
    files = images("images/cat_1.jpg", "images/dog_2.jpg", "annotations/trimaps/cat_1.png", "annotations/list.txt")
    error = refused(tmp_path, files)
    assert "do not look like classes: 'annotations', 'images'" in error.message
    assert typed(error)[0] == [f"{tmp_path / 'folder'}/images"]
    assert read(tmp_path / "told", files, class_level=1).classes == ("annotations", "images")


def test_a_split_folder_inside_itself(tmp_path: Path) -> None:
    files = images("train/train/cat/1.jpg", "train/train/dog/1.jpg", "test/test/cat/2.jpg")
    table = read(tmp_path, files)
    assert [(row.label, row.split) for row in table.rows] == [("cat", "test"), ("cat", "train"), ("dog", "train")]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"split_folders": "train=a,test=gone"}, "holds no folder 'gone'"),
        ({"split_folders": "a"}, "--split-folders has 'a'"),
        ({"split_folders": "train=a,train=b"}, "names 'train' twice"),
        ({"split_folders": "train=a,test=a"}, "names 'a' twice"),
        ({"label_pattern": "("}, "not a valid regular expression"),
        ({"label_pattern": ".+"}, "has no group"),
        ({"label_pattern": "(x)"}, "No file name matches"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, columns: dict[str, str], words: str) -> None:
    assert words in refused(tmp_path, images("a/x/1.jpg", "b/x/1.jpg", "b/y/2.jpg"), **columns).message


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(OptionError, match="class level of 0"):
        Columns(class_level=0)
    with pytest.raises(OptionError, match="not from both"):
        Columns(class_level=1, label_pattern="(.)")


def test_how_a_source_was_read_is_remembered(tmp_path: Path) -> None:
    asked = Columns(split_folders="train=a b,test=c", class_level=2)
    files = images("a b/x/cat/1.jpg", "a b/x/dog/1.jpg", "c/y/cat/1.jpg")
    table = headstart.read(put(tmp_path, files), columns=asked)
    again = Columns.of(dict(table.columns))
    assert again == asked
    assert headstart.read(tmp_path, columns=again).rows == table.rows


# --- classes in the names of files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("{0}_{1}.jpg", r"(.+)_\d+\.jpg"),
        ("{0}.{1}.jpg", r"(.+)\.\d+\.jpg"),
        ("{0} ({1}).png", r"(.+?) ?\(\d+\)\.png"),
        ("{0}{1}.JPG", r"([^\W\d_]+)\d+\.JPG"),
    ],
)
@pytest.mark.parametrize("folder", ["", "images/"])
def test_a_flat_folder_proposes_its_pattern(tmp_path: Path, name: str, pattern: str, folder: str) -> None:
    files = images(*(folder + name.format(label, i) for label in ("cat", "Abyssinian") for i in range(4)))
    error = refused(tmp_path, files)
    assert "'Abyssinian' 4, 'cat' 4" in (error.hint or "")
    (command,) = typed(error)
    assert command[1:] == ["--label-pattern", pattern]
    table = read(tmp_path / "again", files, label_pattern=pattern)
    assert {row.label for row in table.rows} == {"cat", "Abyssinian"}
    assert len(table) == 8
    assert table.notes == ("The classes were read from the file names: 'Abyssinian' 4, 'cat' 4.",)


def test_flat_split_folders_propose_what_the_train_images_tell(tmp_path: Path) -> None:
    files = images(
        *(f"train/{label}.{i}.jpg" for label in ("cat", "dog") for i in range(4)), "test/1.jpg", "test/2.jpg"
    )
    (command,) = typed(refused(tmp_path, files))
    assert command[1:] == ["--label-pattern", r"(.+)\.\d+\.jpg"]
    table = read(tmp_path / "again", files, label_pattern=command[-1])
    assert (len(table), table.splits, table.classes) == (8, ("train",), ("cat", "dog"))
    assert [skip.path for skip in table.skipped] == ["test/1.jpg", "test/2.jpg"]


def test_names_that_tell_no_class_propose_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not inside a class folder"):
        headstart.read(put(tmp_path, images(*(f"IMG_{i:04}.jpg" for i in range(20)))))


def test_a_single_class_is_a_class_whatever_its_images_are_called(tmp_path: Path) -> None:
    files = images(*(f"cats/{kind}_{i}.jpg" for kind in ("siamese", "persian") for i in range(4)))
    assert read(tmp_path, files).classes == ("cats",)  # as `evaluate` may want it


def test_a_named_group_and_splits(tmp_path: Path) -> None:
    files = images("train/7_cat.jpg", "train/8_dog.jpg", "test/9_cat.jpg", "test/readme.jpg")
    table = read(tmp_path, files, label_pattern=r"(\d+)_(?P<label>\w+)\.jpg")
    assert [(row.path, row.label, row.split) for row in table.rows] == [
        ("test/9_cat.jpg", "cat", "test"), ("train/7_cat.jpg", "cat", "train"), ("train/8_dog.jpg", "dog", "train"),
    ]  # fmt: skip
    assert {skip.path: skip.reason for skip in table.skipped} == {
        "test/readme.jpg": "its name does not match --label-pattern"
    }


def test_the_program_reads_as_it_is_told(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", {"disc": 6, "noise": 6})
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in folder.rglob("*.png"):
        path.rename(flat / f"{path.parent.name}_{path.name}")
    refused = headstart_cli("train", flat, "--json")
    assert refused.code == 2
    command = re.search(r"headstart train (.+ --label-pattern \S+)", refused.json["hint"])[1]  # type: ignore[index]
    done = headstart_cli("train", *shlex.split(command.rstrip(".")), "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    assert done.json["classes"] == ["disc", "noise"]
    evaluated = headstart_cli(
        "evaluate", tmp_path / "run/model.onnx", flat, "--label-pattern", r"(.+)_\d+\.png", "--json"
    )
    assert evaluated.json["evaluation"]["n"] == 12


# --- what is no source ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.xlsx", "CSV"), ("x.rar", "Unpack"), ("x.npz", "PNG"), ("annotations.xml", "CVAT"), ("x.tfrecord", "Export"),
        ("train-images-idx3-ubyte.gz", "its folder"),
    ],
)  # fmt: skip
def test_other_files_are_told_what_to_do(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SourceError, match="not a source of labelled images") as caught:
        headstart.read(tmp_path / name)
    assert words in (caught.value.hint or "")


def test_archives_inside_an_archive(tmp_path: Path) -> None:
    error = refused(tmp_path, {"a/one.zip": b"PK", "a/two.tar.gz": b"x"})
    assert "holds 2 archives, not images: 'a/one.zip', 'a/two.tar.gz'" in error.message


def test_a_class_whose_images_cannot_be_read_is_not_hidden(tmp_path: Path) -> None:
    write_images(tmp_path, {"disc": 4})
    (tmp_path / "noise").mkdir()
    for number in range(4):
        (tmp_path / "noise" / f"{number}.jpg").write_bytes(b"nothing")
    with pytest.raises(SourceError, match=r"only the class 'disc'; 4 files not used, the first 'noise/0.jpg'"):
        headstart.train(tmp_path)


# --- tar files --------------------------------------------------------------------------------------------------------


def test_hostile_entries_of_a_tar_file(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as file:
        for name in ("./cats/1.jpg", "./dogs/1.jpg", "../x.jpg", "/etc/x.jpg", "cats/1.jpg"):
            entry = tarfile.TarInfo(name)
            entry.size = 3
            file.addfile(entry, io.BytesIO(b"one"))
        for name, kind in (("cats/link.jpg", tarfile.SYMTYPE), ("cats/pipe.jpg", tarfile.FIFOTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            file.addfile(entry)
    table = headstart.read(path)
    assert labelled(table) == {"cats/1.jpg": "cats", "dogs/1.jpg": "dogs"}
    assert table.storage.read("cats/1.jpg") == b"one"
    assert {skip.path: skip.reason for skip in table.skipped} == {
        "../x.jpg": "its path leaves the tar file",
        "/etc/x.jpg": "its path leaves the tar file",
        "cats/1.jpg": "a second entry of the same name",
        "cats/link.jpg": "a link inside the tar file",
        "cats/pipe.jpg": "not a regular file (a pipe, socket or device)",
    }


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_damaged_tar_files(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"empty{suffix}").write_bytes(b"")
    (tmp_path / f"noise{suffix}").write_bytes(bytes(range(256)) * 8)
    good = tarred(tmp_path / "good.tar.gz", images("a/1.jpg", "b/1.jpg")).read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(good[: len(good) // 2])
    for name in ("empty", "noise", "cut"):
        with pytest.raises(SourceError, match=r"not a readable tar file|No labelled image"):
            headstart.read(tmp_path / f"{name}{suffix}")


def test_a_packed_bomb_is_noticed(tmp_path: Path) -> None:
    path = tarred(tmp_path / "x.tar.gz", {"a/1.jpg": bytes(64 * 2**20), "b/1.jpg": b"x"})
    with pytest.raises(SourceError, match="expands more than 200 times"):
        headstart.read(path)


# --- what Headstart writes --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_headstart_writes_is_left_out_by_name(tmp_path: Path) -> None:
    source = write_images(tmp_path / "photos", {"disc": 6, "noise": 6})
    before = headstart.read(source)
    new = write_images(tmp_path / "new", {"disc": 2})
    run, recipe = tmp_path / "run", tmp_path / "squashed.toml"
    recipe.write_text('strategy = "probe"\nfit = "squash"\n')
    assert headstart_cli("train", ".", "--out", run, cwd=source).code == 0
    model = run / "model.onnx"
    for arguments in (
        ("train", ".", "--out", "runs/own"),
        ("compare", ".", "--strategies", "probe", "--recipes", recipe, "--out", "compared"),
        ("check", ".", "--html", "check.html", "--fix-list", "fixes.csv"),
        ("explain", model, new, "--out", "why"),
        ("explain", model, new, "--out", "disc"),  # among the images of a class
        ("report", run, "--out", "page.html"),
    ):
        done = headstart_cli(*arguments, cwd=source)
        assert done.code == 0, done.err
        assert headstart.read(source).rows == before.rows, arguments
    for format in ("csv", "jsonl"):
        done = headstart_cli("predict", model, new, "--format", format, cwd=source)
        (source / f"said.{format}").write_text(done.out)
    table = headstart.read(source)
    assert table.rows == before.rows
    assert not table.skipped
    (note,) = table.notes
    pictures = ["disc/" + path.name for path in (tmp_path / "new").rglob("*.png")]
    written = ["compared", "runs", "why", "check.html", "fixes.csv", "page.html", "said.csv", "said.jsonl"]
    assert note.startswith("Written by Headstart, and left out: 'compared', 'runs', 'why', 'check.html', 'disc/")
    assert note.endswith(f" and {len(written) + len(pictures) + 1 - 8} more.")
    assert table.ignored == sum(path.is_file() for path in source.rglob("*")) - len(before)
    # The same in an archive, and for what is predicted.
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    packed = headstart.read(zipped(tmp_path / "photos.zip", files))
    assert (packed.rows, packed.skipped, packed.ignored, packed.notes) == (
        table.rows, table.skipped, table.ignored, table.notes,
    )  # fmt: skip
    predicted = headstart_cli("predict", model, source, "--json")
    assert len(predicted.json["predictions"]) == len(before)
    assert any("Written by Headstart" in note for note in predicted.json["notes"])


def test_a_run_is_no_source_and_its_splits_are(tmp_path: Path) -> None:
    source = write_images(tmp_path / "photos", {"disc": 6, "noise": 6})
    run = tmp_path / "run"
    assert headstart_cli("train", source, "--out", run).code == 0
    with pytest.raises(SourceError, match="a folder that Headstart wrote"):
        headstart.read(run)
    with (run / "splits.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12


ODD = [
    b"-1",
    b"'-1",
    b"=1+1",
    b"@x",
    b"+",
    b"a ",
    b" a",
    b"a",
    b"tab\tin",
    b"two\nlines",
    b'"q"',
    b"caf\xe9",
    b"a,b",
    b"1.0",
]


def test_splits_of_a_run_read_back_whatever_the_names(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for place, label in enumerate(map(os.fsdecode, ODD)):
        (source / label).mkdir(parents=True)
        for number, name in enumerate((f"{label}.png", "=b.png", "c\nd.png")):
            draw("noise", 10 * place + number).save(source / label / "x.png")
            (source / label / "x.png").rename(source / label / name)
    table = headstart.read(source)
    assert len(table) == 3 * len(ODD)
    run = headstart.train(table, headstart.Recipe(measure_by="holdout", holdout=0.4))
    folder = run.save(tmp_path / "run", report=False)
    again = headstart.read(folder / "splits.csv", columns=Columns(root=source))
    assert not again.skipped
    assert {(row.path, row.label) for row in again.rows} == {(row.path, row.label) for row in table.rows}
    assert again.splits == ("train", "test")
    evaluation, _ = headstart.evaluate(headstart.load(folder / "model.onnx"), again)
    assert (evaluation.n, evaluation.accuracy) == (run.evaluation.n, run.evaluation.accuracy)
