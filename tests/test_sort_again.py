"""`predict --sort-into` a second time, after an interruption, beside --out; and where it is refused."""

from __future__ import annotations

import csv
import errno
import json
import os
from itertools import islice
from pathlib import Path

import pytest

from headstart.prediction.record import Wanted
from headstart.prediction.sorting import journal, placing, sorter
from headstart.prediction.sorting.journal import UNDO_FILE
from helpers import headstart_cli, write_images

WAYS = placing.WAYS


@pytest.fixture
def new(tmp_path: Path) -> Path:
    folder = write_images(tmp_path / "new", {"disc": 2, "stripes": 1}, seed=60)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def paths(file: Path) -> list[str]:
    with file.open(newline="", encoding="utf-8") as opened:
        return [row["path"] for row in csv.DictReader(opened)]


def test_what_is_dropped_again_is_moved_again(new: Path, model: Path, tmp_path: Path) -> None:
    out, image = tmp_path / "out", new / "disc" / "000.png"
    content = image.read_bytes()
    for count in (1, 2):
        image.write_bytes(content)
        done = headstart_cli("predict", model, image, "--sort-into", out, "--sort-by", "move", "--json")
        assert (done.code, done.json["sorted"]["left"], image.exists()) == (0, [], False)
        assert [one.read_bytes() for one in images(out)] == [content] * count


def test_what_comes_to_the_place_of_a_half_moved_image_is_another_one(new: Path, model: Path, tmp_path: Path) -> None:
    """Killed after the old name was gone and before that was written, and then the same image comes once more."""
    out, image = tmp_path / "out", new / "disc" / "000.png"
    content = image.read_bytes()
    command = ["predict", model, image, "--sort-into", out, "--sort-by", "move", "--json"]
    headstart_cli(*command)
    undo_file = out / UNDO_FILE
    lines = undo_file.read_text().splitlines(keepends=True)
    assert ["moved" in line for line in lines] == [False, True]
    undo_file.write_text(lines[0])
    headstart_cli("predict", model, new / "stripes", "--sort-into", out)
    image.write_bytes(content)
    assert headstart_cli(*command).json["sorted"]["folders"] == {"disc": 1}
    assert [one.read_bytes() for one in images(out / "disc")] == [content] * 2


def test_the_only_copy_of_a_half_moved_image_is_not_deleted(new: Path, model: Path, tmp_path: Path) -> None:
    """The folder of images is the class folder, by another path: both names are of one file."""
    out, image = tmp_path / "out", new / "disc" / "000.png"
    headstart_cli("predict", model, image, "--sort-into", out, "--sort-by", "move")
    undo_file = out / UNDO_FILE
    undo_file.write_text(undo_file.read_text().splitlines(keepends=True)[0])
    (new / "disc" / "001.png").unlink()
    (new / "disc").rmdir()
    (new / "disc").symlink_to(out / "disc")
    step = journal.Step(**json.loads(undo_file.read_text()))
    with sorter.Sorter(out, "move", ("disc",), Wanted(top=5)) as one:
        assert not one._is_half_moved(step)
    assert image.is_file()


@pytest.mark.parametrize("by", ["copy", "link"])
def test_images_whose_class_has_changed_are_named(
    by: str, new: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["predict", model, new / "disc", "--sort-into", tmp_path / "out", "--sort-by", by, "--json"]
    headstart_cli(*command)
    before = images(tmp_path / "out")
    monkeypatch.setattr(sorter.Sorter, "_folder_of", lambda self, prediction: "stripes")
    done = headstart_cli(*command)
    assert (done.code, done.json["sorted"]["folders"]) == (3, {})
    assert [one["reason"] for one in done.json["sorted"]["left"]] == [
        "in 'disc' from an earlier run; it would now go to 'stripes'"
    ] * 2
    assert images(tmp_path / "out") == before


@pytest.mark.parametrize("by", WAYS)
def test_what_was_predicted_before_is_sorted(by: str, new: Path, model: Path, tmp_path: Path) -> None:
    """The file lies in the folder of images, and is none of them."""
    file, out = new / "p.csv", tmp_path / "out"
    headstart_cli("predict", model, new, "--out", file)
    before = file.read_bytes()
    command = ["predict", model, new, "--out", file, "--resume", "--sort-into", out, "--sort-by", by, "--json"]
    done = headstart_cli(*command)
    assert (done.code, done.json["added"], done.json["sorted"]["folders"]) == (3, 0, {"disc": 2, "stripes": 1})
    assert [one["path"] for one in done.json["sorted"]["left"]] == [str(new / "broken.jpg")]
    assert (len(images(out)), len(images(new))) == (3, 0 if by == "move" else 3)
    again = headstart_cli(*command)
    assert again.json["sorted"]["folders"] == ({} if by == "move" else {"disc": 2, "stripes": 1})
    assert file.read_bytes() == before


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("by", WAYS)
def test_the_file_and_the_folders_agree_after_a_failure(
    by: str, moment: str, new: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "p.csv", tmp_path / "out"
    command = ["predict", model, new, "--out", file, "--sort-into", out, "--sort-by", by]

    def failing(source: Path, target: Path, by: placing.By) -> None:
        if moment == "after":
            placing.place(source, target, by)
        raise OSError(errno.EIO, "failed")

    with monkeypatch.context() as patch:
        patch.setattr(sorter, "place", failing)
        assert headstart_cli(*command).code == 2
    assert headstart_cli(*command, "--resume").code == 3
    assert (len(paths(file)), len(set(paths(file)))) == (4, 4)
    assert (len(images(out)), len(images(new))) == (3, 0 if by == "move" else 3)


def test_a_folder_that_is_in_use_leaves_the_file(new: Path, model: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "p.csv", tmp_path / "out"
    headstart_cli("predict", model, new, "--out", file)
    before = file.read_bytes()
    out.mkdir()
    with sorter.GrowingFile(out / UNDO_FILE):
        done = headstart_cli("predict", model, new, "--out", file, "--overwrite", "--sort-into", out)
    assert (done.code, "Another process" in done.err) == (2, True)
    assert file.read_bytes() == before


def test_lines_for_programs_are_nothing_else(new: Path, model: Path, tmp_path: Path) -> None:
    for format in ("csv", "jsonl"):
        command = ["predict", model, new, "--format", format]
        done = headstart_cli(*command, "--sort-into", tmp_path / format)
        assert done.out == headstart_cli(*command).out
        assert "disc: 2" in done.err
        assert "headstart unsort" in done.err


def test_files_that_may_not_be_written_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("content")
    source.chmod(0o444)
    flush, modes = os.fsync, []

    def flushing(descriptor: int) -> None:  # which needs a file that may be written; root may write any
        modes.append(os.fstat(descriptor).st_mode & 0o200)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", flushing)
    placing.place(source, target, "copy")
    assert modes == [0o200]
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("content", 0o444)
    assert target.stat().st_mtime_ns == source.stat().st_mtime_ns


def test_undo_keeps_what_the_original_links_to(new: Path, model: Path, tmp_path: Path) -> None:
    out, image = tmp_path / "out", new / "disc" / "000.png"
    headstart_cli("predict", model, image, "--sort-into", out)
    image.unlink()
    image.symlink_to(out / "disc" / "000.png")
    done = headstart_cli("unsort", out, "--json")
    assert (done.code, done.json["undone"]) == (3, 0)
    assert "is now a link to it" in done.json["kept"][0]["reason"]
    assert image.is_file()


def test_one_file_of_two_names(tmp_path: Path) -> None:
    first, second, copy, link = (tmp_path / name for name in ("first", "second", "copy", "link"))
    (tmp_path / "seen").symlink_to(tmp_path)
    for path in (first, copy):
        path.write_text("content")
    link.symlink_to(first)
    assert not any(placing.is_same_file(first, one) for one in (tmp_path / "seen" / "first", copy, link, second))
    second.hardlink_to(first)
    assert placing.is_same_file(first, second)


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "\u00e9" * 125 + ".jpeg"])
def test_numbers_fit_into_long_names(name: str, tmp_path: Path) -> None:
    found = [one.name for one in islice(placing.free_names(tmp_path, name, 0), 12)]
    assert found[0] == name
    assert len(set(found)) == 12
    for number, one in enumerate(found[1:], 2):
        assert one.endswith(f" ({number}){Path(name).suffix}")
        assert 250 < len(os.fsencode(one)) <= 255


def test_a_folder_among_the_images_is_refused_at_once(new: Path, model: Path, tmp_path: Path) -> None:
    for given, cwd in ((str(new), tmp_path), (".", new)):
        done = headstart_cli("predict", model, given, "--sort-into", new / "sorted", cwd=cwd)
        assert (done.code, "is inside" in done.err) == (2, True)
        assert not (new / "sorted").exists()
    hidden = ["predict", model, new, "--sort-into", new / ".sorted"]
    assert [headstart_cli(*hidden).code for _ in range(2)] == [3, 3]
    assert headstart_cli("predict", model, *images(new), "--sort-into", new / "sorted").code == 0
