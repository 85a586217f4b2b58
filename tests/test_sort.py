"""`predict --sort-into` and `unsort`: nothing is overwritten, nothing is lost, and all of it can be undone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headstart.core.foldernames import folder_names
from headstart.prediction.sorting import placing
from headstart.prediction.sorting.journal import UNDO_FILE
from helpers import draw, headstart_cli, write_images

WAYS = placing.WAYS


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Images of one name in several folders, one that cannot be read and one like no training image."""
    folder = write_images(tmp_path / "new", {"disc": 3, "stripes": 2}, seed=60)
    (folder / "broken.jpg").write_bytes(b"no image")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "black.png")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != UNDO_FILE
    }


@pytest.mark.parametrize("by", WAYS)
def test_images_are_sorted_and_put_back(by: str, new: Path, model: Path, tmp_path: Path) -> None:
    before = files(new)
    out = tmp_path / "out"
    done = headstart_cli("predict", model, new, "--sort-into", out, "--sort-by", by, "--json")
    assert done.code == 3
    told = done.json["sorted"]
    assert (told["by"], sum(told["folders"].values())) == (by, 6)
    assert [one["path"] for one in told["left"]] == [str(new / "broken.jpg")]
    labels = {one["path"]: one for one in done.json["predictions"]}
    after = files(out)
    assert len(after) == 6
    assert sorted(after.values()) == sorted(content for name, content in before.items() if name != "broken.jpg")
    for name, content in after.items():
        paths = [str(new / path) for path, known in before.items() if known == content]
        expected = {labels[path]["label"] if labels[path]["familiar"] else "_unfamiliar" for path in paths}
        assert name.split("/")[0] in expected
    assert files(new) == ({"broken.jpg": b"no image"} if by == "move" else before)
    assert all(path.is_symlink() == (by == "link") for path in out.rglob("*.png"))
    undone = headstart_cli("unsort", out, "--json")
    assert (undone.code, undone.json) == (0, {"undone": 6, "kept": []})
    assert files(new) == before
    assert not out.exists()


@pytest.mark.parametrize("by", WAYS)
def test_nothing_is_overwritten(by: str, new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "disc").mkdir(parents=True)
    (out / "disc" / "000.png").write_text("mine")
    headstart_cli("predict", model, new / "disc", "--sort-into", out, "--sort-by", by)
    assert (out / "disc" / "000.png").read_text() == "mine"
    assert len(files(out)) == 4
    assert headstart_cli("unsort", out).code == 0
    assert files(out) == {"disc/000.png": b"mine"}


@pytest.mark.parametrize("by", ["copy", "link"])
def test_a_second_time_changes_nothing(by: str, new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["predict", model, new, "--sort-into", out, "--sort-by", by, "--json"]
    first = headstart_cli(*command)
    before = files(out)
    again = headstart_cli(*command)
    assert files(out) == before
    assert again.json["sorted"] == first.json["sorted"]


def test_abstaining_sorts_apart(new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = headstart_cli(
        "predict", model, new, "--sort-into", out, "--abstain", "--coverage", "0.99", "--allow-empty", "--json"
    )
    reasons = [one.get("abstained") for one in done.json["predictions"]]
    told = done.json["sorted"]["folders"]
    for reason in ("unfamiliar", "ambiguous"):
        assert told.get(f"_{reason}", 0) == reasons.count(reason)
    assert "unfamiliar" in reasons


def test_undo_never_deletes_the_last_copy_or_what_changed(new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    headstart_cli("predict", model, new / "disc", "--sort-into", out)
    (new / "disc" / "000.png").unlink()
    draw("noise", 3).save(out / "disc" / "001.png")
    kept = files(out)
    done = headstart_cli("unsort", out, "--json")
    assert (done.code, done.json["undone"]) == (3, 1)
    reasons = {one["path"]: one["reason"] for one in done.json["kept"]}
    assert "the original is gone" in reasons["disc/000.png"]
    assert "changed since" in reasons["disc/001.png"]
    assert files(out) == {name: kept[name] for name in ("disc/000.png", "disc/001.png")}
    shutil.copy(out / "disc" / "000.png", new / "disc" / "000.png")
    again = headstart_cli("unsort", out, "--json")
    assert [one["path"] for one in again.json["kept"]] == ["disc/001.png"]


def test_undo_of_a_move_replaces_nothing(new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    headstart_cli("predict", model, new / "disc", "--sort-into", out, "--sort-by", "move")
    (new / "disc" / "000.png").write_text("another")
    done = headstart_cli("unsort", out, "--json")
    assert (done.json["undone"], [one["path"] for one in done.json["kept"]]) == (2, ["disc/000.png"])
    assert (new / "disc" / "000.png").read_text() == "another"
    assert (out / "disc" / "000.png").exists()


@pytest.mark.parametrize("line", ["{", '{"by": "move", "source": "/a", "target": "../x", "digest": "0"}', "[1]"])
def test_a_foreign_undo_file_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / UNDO_FILE).write_text(f"{line}\n")
    done = headstart_cli("unsort", tmp_path)
    assert (done.code, "Line 1 of" in done.err) == (2, True)
    assert (tmp_path / UNDO_FILE).read_text() == f"{line}\n"


def test_what_cannot_be_sorted_is_refused(new: Path, model: Path, tmp_path: Path) -> None:
    done = headstart_cli("predict", model, new, "--sort-into", new)
    assert (done.code, "is inside" in done.err) == (2, True)
    assert not (new / UNDO_FILE).exists()
    done = headstart_cli("unsort", new)
    assert (done.code, "nothing was sorted into it" in done.err) == (2, True)


def test_links_are_not_moved(new: Path, model: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to("new/disc/000.png")
    done = headstart_cli("predict", model, link, "--sort-into", tmp_path / "out", "--sort-by", "move", "--json")
    assert (done.code, done.json["sorted"]["left"][0]["reason"]) == (3, "a link; links are not moved")
    assert link.is_symlink()


def test_other_disks_and_disks_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes the place of a link there: the file is copied whole, and nothing is replaced."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(placing.errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    source, target, taken = (tmp_path / name for name in ("source", "target", "taken"))
    source.write_text("content")
    taken.write_text("mine")
    with pytest.raises(FileExistsError):
        placing.place(source, taken, "move")
    placing.place(source, target, "move")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"target": "content", "taken": "mine"}


# Killed at the call of a function of `os` that places files, the n-th of the run.
KILLED = """
    import errno, os, signal, sys
    from headstart.cli.main import main
    name, at = sys.argv[1], int(sys.argv[2])
    link = os.link
    def to_another_disk(source, target, **named):
        if str(source).endswith(".png"):
            raise OSError(errno.EXDEV, "another disk")
        return link(source, target, **named)
    if os.environ.get("DISKS") == "2":
        os.link = to_another_disk
    plain, count = getattr(os, name), 0
    def killing(*inputs, **named):
        global count
        count += "out" in str(inputs) or (name == "unlink" and str(inputs[0]).endswith(".png"))
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*inputs, **named)
    setattr(os, name, killing)
    main(sys.argv[3:])
"""


@pytest.mark.parametrize(("by", "disks"), [("copy", "1"), ("move", "1"), ("move", "2")])
@pytest.mark.parametrize("call", ["link", "unlink"])
def test_killed_in_the_middle_loses_no_file(
    call: str, by: str, disks: str, new: Path, model: Path, tmp_path: Path
) -> None:
    before = files(new)
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), call, "2", "predict", str(model), str(new), "--sort-into",
         str(out), "--sort-by", by],
        capture_output=True, check=False, timeout=120, env=os.environ | {"DISKS": disks},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert set(before.values()) == {*files(new).values(), *files(out).values()}
    assert headstart_cli("predict", model, new, "--sort-into", out, "--sort-by", by).code == 3
    assert not list(out.rglob("*.tmp"))
    assert len(files(out)) == 6
    assert by == "copy" or files(new) == {"broken.jpg": b"no image"}
    assert headstart_cli("unsort", out).code == 0
    assert files(new) == before
    assert not out.exists()


@pytest.mark.slow
@given(st.lists(st.text(max_size=12) | st.sampled_from(["Cat", "cat", "a/b", "..", "CON", "x" * 300, "\udcff", "é"])))
def test_every_class_has_a_folder_of_its_own(names: list[str]) -> None:
    folders = folder_names(names)
    assert set(folders) == set(names)
    assert len({placing.os.path.normcase(one).casefold() for one in folders.values()}) == len(folders)
    for one in folders.values():
        assert one not in {"", ".", ".."}
        assert not one.startswith(("_", ".", "-", " "))
        assert not set(one) & set('/\\:*?"<>|\0\n')
        assert len(one.encode()) <= 255
        assert one.partition(".")[0].casefold() not in {"con", "nul", "com1"}


def test_plain_names_stay_as_they_are() -> None:
    names = ["ants", "bees", "Große Ähre", "猫", "a b", "x.y", "0"]
    assert folder_names(names) == {name: name for name in names}
    assert folder_names(["a/b"]) == {"a/b": "a%2Fb"}
