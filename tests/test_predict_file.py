"""`predict --out`: results as they come, kept whatever happens, gone on with, in every form."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from headstart.core.appending import GrowingFile
from headstart.core.errors import StorageError
from headstart.core.files import durable_file
from headstart.prediction.resultfiles import FORMS
from headstart.prediction.resultfiles.lines import CsvLines
from headstart.prediction.resultfiles.made import Made
from helpers import draw, headstart_cli, write_images

WANTED = ("--coverage", "0.9", "--abstain")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, of which one cannot be read and one has a name that no cell holds as it is."""
    folder = write_images(tmp_path_factory.mktemp("new"), {"disc": 2, "noise": 2}, seed=40)
    (folder / "broken.jpg").write_bytes(b"no image")
    draw("stripes", 41).save(folder / "=1,\n.png")
    return folder


def records(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_file_is_what_would_be_printed(format: str, new: Path, model: Path, tmp_path: Path) -> None:
    printed = headstart_cli("predict", model, new, "--format", format, *WANTED)
    done = headstart_cli("predict", model, new, "--out", tmp_path / f"p.{format}", *WANTED)
    assert printed.code == done.code == 3
    assert (tmp_path / f"p.{format}").read_text("utf-8") == printed.out
    assert done.out.endswith("6 images; 1 could not be read.\n")


def test_parquet_holds_the_records(new: Path, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    printed = headstart_cli("predict", model, new, "--format", "jsonl", *WANTED)
    headstart_cli("predict", model, new, "--out", tmp_path / "p.parquet", *WANTED)
    expected = [json.loads(line) for line in printed.out.splitlines()]
    keys = {key for record in expected for key in record}
    assert records(tmp_path / "p.parquet") == [{key: record.get(key) for key in keys} for record in expected]
    assert sorted(one.name for one in tmp_path.iterdir()) == [".p.parquet.headstart", "p.parquet"]


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_gone_on_with(form: str, new: Path, model: Path, tmp_path: Path) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"p{FORMS[form].suffix}"
    first = headstart_cli("predict", model, new / "disc", new / "broken.jpg", "--out", out, "--json")
    assert first.json == {"out": str(out), "format": form, "images": 3, "added": 3, "unread": 1, "notes": []}
    second = headstart_cli("predict", model, new / "disc", new / "broken.jpg", new, "--out", out, "--resume", "--json")
    assert (second.code, second.json["images"], second.json["added"], second.json["unread"]) == (3, 6, 3, 1)
    whole = headstart_cli("predict", model, new / "disc", new / "broken.jpg", new, "--out", tmp_path / f"q{out.suffix}")
    assert whole.code == 3
    assert records(out) == records(tmp_path / f"q{out.suffix}")
    again = headstart_cli("predict", model, new, "--out", out, "--resume", "--json")
    assert (again.json["images"], again.json["added"]) == (6, 0)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_half_written_last_line_is_cut_off(format: str, new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / f"p.{format}"
    headstart_cli("predict", model, new, "--out", out)
    whole = out.read_bytes()
    second = whole.index(b"\n") + 1
    for length in (0, 1, second - 1, second, second + 1, len(whole) - 1, len(whole)):
        out.write_bytes(whole[:length])
        headstart_cli("predict", model, new, "--out", out, "--resume")
        assert out.read_bytes() == whole, length


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        (["--top", "2"], "--top (3, now 2)"),
        (["--coverage", "0.9"], "--coverage (None, now 0.9)"),
        (["--abstain"], "--abstain (False, now True)"),
        (["--max-megapixels", "3"], "--max-megapixels (64, now 3)"),
        (["--format", "jsonl"], "format (csv, now jsonl)"),
    ],
)
def test_what_was_made_otherwise_is_not_mixed(
    options: list[str], differs: str, new: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.csv"
    headstart_cli("predict", model, new / "disc", "--out", out)
    before = out.read_bytes()
    done = headstart_cli("predict", model, new, "--out", out, "--resume", *options)
    assert done.code == 2
    assert differs in done.err
    assert out.read_bytes() == before
    assert headstart_cli("predict", model, new / "disc", "--out", out, "--overwrite", *options).code == 0


def test_another_model_is_not_mixed(new: Path, model: Path, tmp_path: Path, shapes: Path) -> None:
    import headstart

    out = tmp_path / "p.csv"
    headstart_cli("predict", model, new / "disc", "--out", out)
    other = headstart.train(shapes, headstart.Recipe(seed=1)).save(tmp_path / "other") / "model.onnx"
    done = headstart_cli("predict", other, new, "--out", out, "--resume")
    assert (done.code, "made with another model file" in done.err) == (2, True)


def test_what_is_there_is_not_replaced(new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    out.write_text("mine\n")
    done = headstart_cli("predict", model, new, "--out", out)
    assert (done.code, "already exists" in done.err) == (2, True)
    done = headstart_cli("predict", model, new, "--out", out, "--resume")
    assert (done.code, "the record of how it was made" in done.err) == (2, True)
    assert out.read_text() == "mine\n"


def test_a_foreign_line_is_named(new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    headstart_cli("predict", model, new / "disc", "--out", out)
    text = out.read_text() + "a,b\n"
    out.write_text(text)
    done = headstart_cli("predict", model, new, "--out", out, "--resume")
    assert (done.code, "Line 4 of" in done.err) == (2, True)
    assert out.read_text() == text


def test_the_file_is_no_image_of_its_own_folder(model: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "new", {"disc": 2}, seed=50)
    for name in ("p.csv", "p.jsonl"):
        for option in ("--overwrite", "--resume"):
            done = headstart_cli("predict", model, folder, "--out", folder / name, option, "--json")
            assert (done.code, done.json["images"], done.json["unread"]) == (0, 2, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--resume"], "--out"),
        (["--overwrite"], "--out"),
        (["--format", "parquet"], "--out"),
        (["--out", "p.txt"], "does not tell the format"),
        (["--out", "p.csv", "--format", "table"], "cannot be written to a file"),
        (["--out", "p.csv", "--resume", "--overwrite"], "Choose one"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], says: str, new: Path, model: Path, tmp_path: Path) -> None:
    done = headstart_cli("predict", model, new, *options, cwd=tmp_path)
    assert (done.code, says in done.err) == (2, True), done.err
    assert not any(tmp_path.iterdir())


# Killed in its fourth image.
KILLED = """
    import os, signal, sys
    from headstart.cli.main import main
    from headstart.modelfile import session
    run, count = session.Session.run, 0
    def killing(self, *inputs):
        global count
        count += 1
        if count == 4:
            os.kill(os.getpid(), int(sys.argv[1]))
        return run(self, *inputs)
    session.Session.run = killing
    main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_predicted_outlives_the_process(
    form: str, number: signal.Signals, new: Path, model: Path, tmp_path: Path
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"p{FORMS[form].suffix}"
    arguments = ["predict", str(model), str(new), "--out", str(out), "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(int(number)), *arguments],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == (-9 if number is signal.SIGKILL else 143)
    if number is signal.SIGTERM:
        assert "--resume" in done.stderr
    again = headstart_cli(*arguments, "--resume", "--json")
    assert again.json["images"] == 6
    assert 0 < again.json["added"] < 6
    headstart_cli("predict", model, new, "--out", tmp_path / f"q{out.suffix}")
    assert records(out) == records(tmp_path / f"q{out.suffix}")
    assert not out.with_name(f".{out.name}.part").exists()


def test_a_parquet_file_loses_nothing_where_going_on_with_it_was_killed(new: Path, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out, part = tmp_path / "p.parquet", tmp_path / ".p.parquet.part"
    headstart_cli("predict", model, new / "disc", new / "broken.jpg", "--out", out)
    held = [json.dumps({k: v for k, v in one.items() if v is not None}) for one in records(out)]
    headstart_cli("predict", model, new, "--out", tmp_path / "q.parquet")
    for count in range(len(held) + 1):
        part.write_text("".join(f"{line}\n" for line in held[:count]))
        done = headstart_cli("predict", model, new / "disc", new / "broken.jpg", "--out", out, "--resume", "--json")
        assert (done.json["images"], done.json["added"], done.json["unread"]) == (3, 0, 1)
    done = headstart_cli("predict", model, new, "--out", out, "--resume", "--json")
    assert (done.json["images"], done.json["added"]) == (6, 3)
    by_path = [sorted(records(one), key=lambda record: record["path"]) for one in (out, tmp_path / "q.parquet")]
    assert by_path[0] == by_path[1]


def test_nothing_old_stands_under_a_new_record(
    new: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "p.parquet"
    headstart_cli("predict", model, new / "disc", "--out", out)
    write, there = Made.write, []

    def writing(made: Made, path: Path) -> None:
        there.append(path.exists())
        write(made, path)

    monkeypatch.setattr(Made, "write", writing)
    assert headstart_cli("predict", model, new / "disc", "--out", out, "--overwrite", "--top", "1").code == 0
    assert there == [False]


@pytest.mark.parametrize("form", FORMS)
def test_folders_are_made_whatever_they_are_called(form: str, new: Path, model: Path, tmp_path: Path) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    folder = tmp_path / "a" / os.fsdecode(b"b\xff")
    try:
        folder.mkdir(parents=True)
    except OSError:  # a file system of UTF-8 alone
        folder = tmp_path / "c"
    else:
        shutil.rmtree(tmp_path / "a")
    out = folder / f"p{FORMS[form].suffix}"
    assert headstart_cli("predict", model, new / "disc", "--out", out).code == 0
    done = headstart_cli("predict", model, new, "--out", out, "--resume", "--json")
    assert (done.json["images"], done.json["added"]) == (6, 4)


def test_cells_may_be_long() -> None:
    lines = CsvLines(["path", "labels", "error"])
    before = csv.field_size_limit()
    line = lines.line("a.jpg", {"labels": [f"class {number:06}" for number in range(20_000)]})
    assert len(line) > before
    assert lines.held(line) == ("a.jpg", False)
    assert csv.field_size_limit() == before


def test_two_processes_do_not_mix_their_lines(new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    headstart_cli("predict", model, new / "disc", "--out", out)
    before = out.read_bytes()
    with GrowingFile(out):
        done = headstart_cli("predict", model, new, "--out", out, "--resume")
        assert (done.code, "Another process" in done.err) == (2, True)
        done = headstart_cli("predict", model, new, "--out", out, "--overwrite")
        assert (done.code, "Another process" in done.err) == (2, True)
    assert out.read_bytes() == before


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    write = os.write
    with GrowingFile(path) as file:
        file.append("one")

        def full(descriptor: int, content: bytes) -> int:
            if len(content) < 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, content[:2])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="disk is full"):
            file.append("two")
        assert path.read_bytes() == b"one\n"
        monkeypatch.undo()
        file.append("three")
        assert list(file.lines()) == ["one", "three"]


def test_a_file_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with durable_file(path) as temporary:
            temporary.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert (path.read_text(), len(list(tmp_path.iterdir()))) == ("old", 1)
    with durable_file(path) as temporary:
        temporary.write_text("new")
    assert (path.read_text(), len(list(tmp_path.iterdir()))) == ("new", 1)
