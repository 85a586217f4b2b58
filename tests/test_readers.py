"""Folders: each file ends in exactly one of used, skipped with a reason, and ignored; whatever its name."""

# Names that are not UTF-8 are bytes, which Path does not take.
# ruff: noqa: PTH103, PTH118, PTH120, PTH123

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headstart
from headstart.core.errors import SourceError
from headstart.data.inputs import expand
from headstart.data.table import ImageTable
from helpers import draw, headstart_cli, write_images


def put(root: Path, *paths: str | bytes) -> Path:
    """Write a small file at each path."""
    for path in paths:
        full = os.path.join(os.fsencode(root), os.fsencode(path))
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(b"image " + os.fsencode(path))
    return root


def labelled(table: ImageTable) -> dict[str, str | None]:
    return {row.path: row.label for row in table.rows}


def reasons(table: ImageTable) -> dict[str, str]:
    assert len({skip.path for skip in table.skipped}) == len(table.skipped)
    return {skip.path: skip.reason for skip in table.skipped}


def test_class_folders_with_images_nested_at_any_depth(tmp_path: Path) -> None:
    put(tmp_path, "cats/1.jpg", "cats/2024/may/2.jpg", "dogs/1.jpg")
    table = headstart.read(tmp_path)
    assert labelled(table) == {"cats/1.jpg": "cats", "cats/2024/may/2.jpg": "cats", "dogs/1.jpg": "dogs"}
    assert (table.classes, table.splits, table.skipped, table.ignored) == (("cats", "dogs"), (), (), 0)


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("val", ["val", "Valid", "VALIDATION", None])
@pytest.mark.parametrize("test", ["test", "Testing", None])
def test_split_folders(tmp_path: Path, train: str, val: str | None, test: str | None) -> None:
    parts = {name: split for name, split in ((train, "train"), (val, "val"), (test, "test")) if name}
    put(tmp_path, *(f"{name}/{label}/x/1.jpg" for name in parts for label in ("cats", "dogs")))
    table = headstart.read(tmp_path)
    assert {(row.path.split("/")[0], row.split) for row in table.rows} == set(parts.items())
    assert table.splits == tuple(parts.values())
    assert table.classes == ("cats", "dogs")


@pytest.mark.parametrize("around", ["dataset", "download/dataset"])
def test_a_folder_around_the_class_folders_is_looked_through(tmp_path: Path, around: str) -> None:
    plain = headstart.read(put(tmp_path / "plain", "cats/1.jpg", "cats/x/2.jpg", "dogs/1.jpg"))
    table = headstart.read(put(tmp_path / "in", *(f"{around}/{row.path}" for row in plain.rows)))
    assert table.rows == plain.rows
    assert table.storage.read("cats/1.jpg") == f"image {around}/cats/1.jpg".encode()
    assert table.notes[0] == f"All images are inside the folder '{around}', which was read."
    splits = headstart.read(put(tmp_path / "splits", f"{around}/train/cats/1.jpg", f"{around}/val/cats/2.jpg"))
    assert splits.splits == ("train", "val")
    alone = headstart.read(put(tmp_path / "alone", "train/cats/1.jpg", "train/dogs/2.jpg"))
    assert {row.split for row in alone.rows} == {"train"}


def refused(source: Path, *words: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        headstart.train(source, runtime=headstart.Runtime(cache=None))
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint
    return caught.value


def test_ambiguous_folders(tmp_path: Path) -> None:
    refused(put(tmp_path / "a", "train/cats/1.jpg", "dogs/1.jpg"), "split folders ('train')", "other folders ('dogs')")
    refused(put(tmp_path / "b", "train/c/1.jpg", "val/c/1.jpg", "valid/c/1.jpg"), "several folders for one split")
    refused(put(tmp_path / "c", "train/1.jpg", "val/2.jpg"), "no class folders", "train/cats/1.jpg")


def test_too_little_to_learn_from(tmp_path: Path) -> None:
    refused(put(tmp_path / "one", "cats/1.jpg", "cats/2.jpg"), "only the class 'cats'", "at least two classes")
    refused(put(tmp_path / "flat", "1.jpg", "2.jpg"), "2 files not used", "'1.jpg': not inside a class folder")
    refused(put(tmp_path / "hidden", "cats/.a.jpg"), "1 hidden file ignored")
    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", "No labelled image found")
    for count in (1, 2):
        source = write_images(tmp_path / f"few{count}", {"disc": 6, "noise": count})
        refused(source, "fewer than 3 images", f"noise ({count})")
    source = write_images(tmp_path / "split/train", {"disc": 3, "noise": 1}).parent
    write_images(source / "test", {"disc": 2, "noise": 2})
    refused(source, "train split has a single image of 'noise'")


def test_three_images_a_class_are_enough(tmp_path: Path) -> None:
    run = headstart.train(write_images(tmp_path, {"disc": 3, "noise": 3}))
    assert (run.evaluation.split, run.evaluation.n) == ("cross-validation", 6)


@pytest.mark.parametrize("source", ["", "\0", "missing", "x.txt", "pipe.csv", "pipe.zip"])
def test_sources_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "x.txt", "cats/1.jpg", "dogs/1.jpg")
    for name in ("pipe.csv", "pipe.zip"):
        os.mkfifo(name)  # opening one would wait for ever
    with pytest.raises(SourceError) as caught:
        headstart.read(source)
    assert caught.value.hint


def test_a_misspelled_source_names_its_neighbour(tmp_path: Path) -> None:
    put(tmp_path, "photos/cats/1.jpg")
    with pytest.raises(SourceError, match="Did you mean 'photos'"):
        headstart.read(tmp_path / "photo")


def test_litter_is_ignored_and_counted(tmp_path: Path) -> None:
    litter = (".DS_Store", "cats/Thumbs.db", "cats/._1.jpg", "__MACOSX/cats/._1.jpg", ".git/a/b", ".git/c",
              "cats/desktop.ini", ".cats/1.jpg", "dogs/.hidden/1.jpg", "dogs/.hidden/deep/2.jpg")  # fmt: skip
    put(tmp_path, "cats/1.jpg", "dogs/1.jpg", "notes.txt", *litter)
    table = headstart.read(tmp_path)
    assert labelled(table) == {"cats/1.jpg": "cats", "dogs/1.jpg": "dogs"}
    assert table.ignored == len(litter)
    assert reasons(table) == {"notes.txt": "not inside a class folder"}


def test_empty_class_folders_are_named(tmp_path: Path) -> None:
    put(tmp_path, "cats/1.jpg", "dogs/1.jpg")
    (tmp_path / "birds" / "deep").mkdir(parents=True)
    assert headstart.read(tmp_path).notes == ("Empty class folders, left out: 'birds'.",)


names = st.sampled_from(["cats", "dogs", ".git", "__MACOSX", "Thumbs.db", "a b", "é", "e\u0301", "-x", "=1", "1.jpg"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(paths=st.sets(st.lists(names, min_size=1, max_size=4).map("/".join), max_size=12), splits=st.booleans())
def test_every_file_ends_once(tmp_path: Path, paths: set[str], splits: bool) -> None:
    """Promise P3, on any tree."""
    root = tmp_path / "tree"
    shutil.rmtree(root, ignore_errors=True)
    files = {f"{'train/' if splits else ''}{one}" for one in paths}
    files = {one for one in files if not any(other.startswith(f"{one}/") for other in files)}
    put(root, "train/z/0.jpg" if splits else "z/0.jpg", *files)
    table = headstart.read(root)
    used, skipped = {row.path for row in table.rows}, set(reasons(table))
    assert not used & skipped
    assert len(used) + len(skipped) + table.ignored == len(files) + 1
    assert used | skipped <= files | {"train/z/0.jpg", "z/0.jpg"}


def test_strict_makes_a_skip_an_error(tmp_path: Path) -> None:
    source = write_images(tmp_path / "in", {"disc": 4, "noise": 4})
    put(source, "disc/broken.jpg")
    done = headstart_cli("train", source, "--out", tmp_path / "out", "--json")
    assert done.code == 3
    assert [skip["path"] for skip in done.json["skipped"]] == ["disc/broken.jpg"]
    assert done.json["counts"]["images"] == 8
    done = headstart_cli("train", source, "--out", tmp_path / "strict", "--strict")
    assert done.code == 2
    assert "'disc/broken.jpg'" in done.err
    assert not (tmp_path / "strict").exists()


NAMES = (b"caf\xe9.png", b"new\nline.png", b"tab\t.png", b"<b>bold<b>.png", b"[red]x[", "\u202ertl\u202c.png".encode(),
         b"-rf.png", b"=1+1.png", b"esc\x1b[31m.png", b"cr\r.png", "csi\x9b31m.png".encode(), b"quote\".png", b"'.png",
         "caf\u00e9.png".encode(), "cafe\u0301.png".encode(), b"UP.png", b"up.png", b"\\x.png")  # fmt: skip
CLASSES = (b"=cmd|'calc'!A0", b"\xff\xfe", b"[bold]a\n\x1b]0;title\x07", "\u202ecab".encode())
# Raw control and bidirectional characters; a newline ends a line.
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
)


@pytest.mark.slow
def test_any_name_is_used_and_shown_without_harm(tmp_path: Path) -> None:
    picture, source = tmp_path / "picture.png", tmp_path / "in"
    kinds = ("disc", "noise", "stripes", "disc")
    for number, label in enumerate(CLASSES):
        folder = os.path.join(os.fsencode(source), label)
        os.makedirs(folder)
        for seed, name in enumerate(NAMES):
            draw(kinds[number], 100 * number + seed).save(picture)
            shutil.copy(os.fsencode(picture), os.path.join(folder, name))
        with open(os.path.join(folder, b"\x1b[2J\xffbroken"), "wb"):
            pass
    done = headstart_cli("train", source, "--out", tmp_path / "out")
    assert done.code == 3, done.err
    assert not UNSAFE.search(done.out + done.err)
    assert "Traceback" not in done.err
    assert "\\x1b[2J\\xffbroken: empty" in done.err

    metrics = json.loads((tmp_path / "out/metrics.json").read_bytes().decode("utf-8"))
    assert metrics["counts"]["images"] == len(NAMES) * len(CLASSES)
    assert metrics["counts"]["skipped"] == len(CLASSES)
    assert metrics["classes"] == ["=cmd|'calc'!A0", "[bold]a\n\x1b]0;title\x07", "\\xff\\xfe", "\u202ecab"]
    for name in ("predictions.csv", "splits.csv"):
        text = (tmp_path / "out" / name).read_bytes().decode("utf-8")
        assert len(text.splitlines()) == len(NAMES) * len(CLASSES) + 1
        for row in csv.reader(io.StringIO(text, newline=""), strict=True):
            assert not [cell for cell in row if cell[:1] in {"=", "+", "-", "@", "\t", "\r"}]

    # The labels of the model are those of the folders: nothing is renamed on the way.
    model = tmp_path / "out/model.onnx"
    done = headstart_cli("evaluate", model, source, "--json")
    assert done.code == 3
    assert not UNSAFE.search(done.out + done.err)
    assert [one["label"] for one in done.json["evaluation"]["classes"]] == metrics["classes"]
    for form in ("table", "csv", "jsonl"):
        done = headstart_cli("predict", model, source, "--format", form)
        assert done.code == 3
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.out + done.err)
    done = headstart_cli("predict", model, source, "--json")
    assert len(done.json["predictions"]) == (len(NAMES) + 1) * len(CLASSES)
    done = headstart_cli("train", os.fsdecode(os.path.join(os.fsencode(source), CLASSES[2])), "--out", tmp_path / "no")
    assert done.code == 2
    assert not UNSAFE.search(done.out + done.err)


def test_twins_are_used_and_named(tmp_path: Path) -> None:
    put(tmp_path, "caf\u00e9/1.jpg", "cafe\u0301/1.jpg", "Dogs/1.jpg", "dogs/1.jpg", "dogs/A.jpg", "dogs/a.jpg")
    table = headstart.read(tmp_path)
    assert len(table.classes) == 4
    assert len(table) == 6
    assert len(table.notes) == 2
    assert "'Dogs' and 'dogs'" in table.notes[0] + table.notes[1]


def test_links(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", "birds/1.jpg", "x.jpg")
    root = put(tmp_path / "in", "cats/1.jpg", "dogs/1.jpg")
    (root / "birds").symlink_to(outside / "birds")
    (root / "cats" / "x.jpg").symlink_to(outside / "x.jpg")
    (root / "cats" / "loop").symlink_to(root)
    (root / "cats" / "self").symlink_to("self")
    (root / "dogs" / "nothing.jpg").symlink_to(tmp_path / "nothing")
    (root / "animals").symlink_to(root / "dogs")  # sorts before what it leads to
    table = headstart.read(root)
    assert labelled(table) == {
        "birds/1.jpg": "birds", "cats/1.jpg": "cats", "cats/x.jpg": "cats", "dogs/1.jpg": "dogs",
    }  # fmt: skip
    assert reasons(table) == {
        "animals": "a link to a folder that was already read",
        "cats/loop": "a link to a folder that was already read",
        "cats/self": "a broken link",
        "dogs/nothing.jpg": "a broken link",
    }
    assert table.notes == ("2 links lead out of the folder; the files there were read.",)
    assert expand([str(root)]).notes == table.notes


def test_pipes_and_sockets_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "cats/1.jpg", "dogs/1.jpg")
    os.mkfifo(tmp_path / "cats" / "pipe.jpg")
    monkeypatch.chdir(tmp_path / "cats")  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket.jpg")
        table = headstart.read(tmp_path)
    assert set(reasons(table)) == {"cats/pipe.jpg", "cats/socket.jpg"}
    assert set(reasons(table).values()) == {"not a regular file (a pipe, socket or device)"}
    with pytest.raises(headstart.ImageError, match="not a regular file"):
        table.storage.read("cats/pipe.jpg")
    with pytest.raises(headstart.ImageError, match="not a regular file"):
        expand(["pipe.jpg"]).storage.read("pipe.jpg")


def test_files_that_vanish_after_the_scan(tmp_path: Path) -> None:
    source = write_images(tmp_path, {"disc": 4, "noise": 4, "stripes": 3})
    table = headstart.read(source)
    (source / "disc" / "000.png").unlink()
    shutil.rmtree(source / "stripes")
    (source / "noise" / "001.png").unlink()
    os.mkfifo(source / "noise" / "001.png")
    run = headstart.train(table)
    assert {skip.path: skip.reason for skip in run.skipped} == {
        "disc/000.png": "file not found", "noise/001.png": "not a regular file",
        **{f"stripes/00{i}.png": "file not found" for i in range(3)},
    }  # fmt: skip
    assert len(run.fitted.data.table) == 6
    assert "No image of the class 'stripes' can be used: the class is left out." in run.fitted.notes


UNPRIVILEGED = textwrap.dedent("""
    import os, sys, json
    import headstart
    from headstart.data.readers import class_folders, idx, manifest, parquet, webdataset, zipped
    headstart.read, headstart.ImageError, headstart.SourceError  # imported by name, while Python's own files are open
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    table = headstart.read(sys.argv[1])
    seen = {row.path: "used" for row in table.rows} | {skip.path: skip.reason for skip in table.skipped}
    for row in table.rows:
        try:
            table.storage.read(row.path)
        except headstart.ImageError as error:
            seen[row.path] = str(error)
    errors = []
    for path in sys.argv[2:]:
        try:
            headstart.read(path)
        except headstart.SourceError as error:
            errors.append(str(error))
    print(json.dumps([seen, errors]))
""")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_what_may_not_be_read_is_skipped() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folders are closed to others
        root = put(Path(name) / "in", "cats/1.jpg", "cats/closed.jpg", "dogs/1.jpg", "birds/1.jpg", "fish/1.jpg")
        put(Path(name), "closed.zip", "closed.csv", "closed/cats/1.jpg", "blind/cats/1.jpg")
        Path(name).chmod(0o755)
        for closed in ("in/cats/closed.jpg", "in/birds", "closed.zip", "closed.csv", "closed"):
            (Path(name) / closed).chmod(0)
        (root / "fish").chmod(0o444)  # names can be read, files cannot
        (Path(name) / "blind").chmod(0o444)
        sources = [str(Path(name) / one) for one in ("closed.zip", "closed.csv", "closed", "blind/cats")]
        done = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, str(root), *sources], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        seen, errors = json.loads(done.stdout)
        assert seen == {
            "cats/1.jpg": "used",
            "cats/closed.jpg": "no permission to read",
            "dogs/1.jpg": "used",
            "birds": "folder cannot be read: Permission denied",
            "fish/1.jpg": "cannot be read: Permission denied",
        }
        assert len(errors) == 4
        assert all(re.search("permission|Permission", error) and name in error for error in errors), errors


def test_predict_inputs_count_every_file(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "a/.DS_Store", "a/b/2.jpg", "[x].jpg", "-y.jpg")
    table = expand([str(tmp_path / "a"), str(tmp_path / "[x].jpg"), str(tmp_path / "-*.jpg")])
    assert [row.path for row in table.rows] == [
        str(tmp_path / one) for one in ("a/1.jpg", "a/b/2.jpg", "[x].jpg", "-y.jpg")
    ]
    assert table.ignored == 1
    assert len(expand([str(tmp_path / "a"), str(tmp_path / "a/1.jpg")])) == 2
    with pytest.raises(SourceError, match="no file, folder or match"):
        expand([str(tmp_path / "*.gif")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "to").symlink_to("nothing")
    with pytest.raises(SourceError, match="to': a broken link"):
        expand([str(tmp_path / "empty")])
