"""Encodings of standard output, widths of 0, a working folder that is gone, places where nothing can be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import headstart as hs
from headstart.core.files import refuse_unwritable
from helpers import draw, headstart_cli, write_images

NAME = "é ж 猫 😀.png"  # of one, two, three and four bytes; the last is a pair of surrogates in JSON
ENCODINGS: dict[str, dict[str, str]] = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "C, UTF-8 mode": {"LC_ALL": "C"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "shift-jis": {"PYTHONIOENCODING": "shift-jis"},
    "utf-8": {"PYTHONIOENCODING": "UTF8"},
}


def run(*arguments: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "headstart", *map(str, arguments)], capture_output=True, check=False,
                          cwd=cwd, env=os.environ | env, stdin=subprocess.DEVNULL, timeout=120)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names")
    draw("disc", 70).save(path / NAME)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODINGS)
def test_json_is_json_in_every_encoding(name: str, model: Path, folder: Path) -> None:
    environment = ENCODINGS[name]
    done = run("predict", model, folder, "--json", **environment)
    assert done.returncode == 0
    assert Path(json.loads(done.stdout)["predictions"][0]["path"]).name == NAME
    lines = run("predict", model, folder, "--format", "jsonl", **environment).stdout.splitlines()
    assert [Path(json.loads(line)["path"]).name for line in lines] == [NAME]
    missing = run("predict", model, folder / f"no {NAME}", "--json", **environment)
    assert missing.returncode == 2
    assert NAME in json.loads(missing.stdout)["error"]
    if "utf-8" in name.lower():
        assert NAME.encode() in done.stdout
    else:
        assert done.stdout.isascii()


@pytest.mark.slow
@pytest.mark.parametrize("width", ["0", "00", "", "-1", "x", "²"])
def test_a_width_of_nothing_is_none(width: str, model: Path, folder: Path) -> None:
    unset = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    plain = subprocess.run([sys.executable, "-m", "headstart", "predict", str(model), str(folder)], env=unset,
                           capture_output=True, check=True, stdin=subprocess.DEVNULL)  # fmt: skip
    assert b"disc" in plain.stdout
    assert run("predict", model, folder, COLUMNS=width).stdout == plain.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [
    ["train", "{source}"], ["train", "{source}", "--out", "run"], ["compare", "{source}"],
    ["compare", "{source}", "--out", "run"], ["check", "{source}", "--html", "check.html"], ["check", "."],
    ["predict", "{model}", "."], ["predict", "{model}", "a.png"],
    ["predict", "{model}", "{source}", "--out", "p.csv"], ["explain", "{model}", "{source}"],
    ["evaluate", "{model}", "."], ["report", "{run}", "--out", "page.html"], ["demo"], ["verify", "model.onnx"],
], ids=" ".join)  # fmt: skip
@pytest.mark.skipif(os.name == "nt", reason="a working folder cannot be deleted there")
def test_a_working_folder_that_is_gone(arguments: list[str], model: Path, shapes: Path, tmp_path: Path) -> None:
    names = {"source": shapes, "model": model, "run": model.parent}
    typed = [one.format(**names) for one in arguments]
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])\nfrom headstart.cli.main import main\nmain(sys.argv[2:])"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code, str(gone), *typed, "--json"], capture_output=True, text=True,
                          check=False, stdin=subprocess.DEVNULL, timeout=120)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "bug in Headstart" not in done.stderr
    assert json.loads(done.stdout)["hint"]
    if arguments[0] in {"train", "compare"}:
        assert "working folder has been deleted" in done.stderr


def _places(folder: Path) -> dict[str, Path]:
    """Folders that cannot be made."""
    (folder / "file").write_text("in the way")
    (folder / "link").symlink_to(folder / "nowhere")
    return {
        "proc": Path("/proc/x/y"), "file": folder / "file" / "run", "link": folder / "link" / "run",
        "long": folder / ("x" * 300), "long parent": folder / ("x" * 300) / "run",
    }  # fmt: skip


PLACES = ["proc", "file", "link", "long", "long parent"]
COMMANDS: dict[str, list[str]] = {
    "train": ["train", "{source}", "--out", "{place}"],
    "train --overwrite": ["train", "{source}", "--out", "{place}", "--overwrite"],
    "compare": ["compare", "{source}", "--strategies", "probe", "--backbones", "lite0,file:x", "--out", "{place}"],
    "explain": ["explain", "{model}", "{source}", "--out", "{place}"],
    "explain --html": ["explain", "{model}", "{source}", "--out", "{folder}/out", "--html", "{place}/page.html"],
    "predict --out": ["predict", "{model}", "{source}", "--out", "{place}/predictions.csv"],
    "predict --sort-into": ["predict", "{model}", "{source}", "--sort-into", "{place}"],
    "report": ["report", "{run}", "--out", "{place}/page.html"],
    "check --html": ["check", "{source}", "--html", "{place}/page.html"],
    "check --fix-list": ["check", "{source}", "--fix-list", "{place}/fix.csv"],
    "demo": ["demo", "--out", "{place}"],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_out_is_refused_before_the_work(command: str, place: str, model: Path, tmp_path: Path, cache: Path) -> None:
    if place == "proc" and not Path("/proc").is_dir():
        pytest.skip("no /proc")
    if place not in {"proc", "file"} and command not in {"train", "report"}:
        pytest.skip("the same function")
    names: dict[str, Any] = {
        "source": write_images(tmp_path / "images", {"a": 3, "b": 3}), "model": model, "run": model.parent,
        "folder": tmp_path, "place": _places(tmp_path)[place],
    }  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    done = headstart_cli(*(one.format(**names) for one in COMMANDS[command]), "--json")
    assert done.code == 2, done.err
    assert done.json["error"]
    assert done.json["hint"]
    assert "Traceback" not in done.err
    assert not list(cache.rglob("*"))  # no image was embedded
    left = [one for one in sorted(tmp_path.rglob("*")) if one not in before]
    assert left in ([], [tmp_path / "out"])


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(hs.StorageError, match="No permission"):
        refuse_unwritable(tmp_path / "run")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("out", ["s3://bucket/out", "gs://bucket/a/out", "memory://out"])
def test_results_are_not_written_to_a_url(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (("embed", shapes, "--out", out), ("check", shapes, "--fix-list", f"{out}.csv")):
        done = headstart_cli(*command)
        assert (done.code, f"'{out}" in done.err, "is a URL: results are written to a disk." in done.err) == (
            2,
            True,
            True,
        )
    assert not list(tmp_path.iterdir())
    Path("s3:").mkdir()  # a name like any other, where it is there
    refuse_unwritable(Path("s3:/bucket/out"))


def test_trying_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("kept")
    for folder in (tmp_path / "a" / "b" / "c", tmp_path / "there", tmp_path / "there" / "d"):
        refuse_unwritable(folder)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "there", tmp_path / "there" / "file"]


def test_many_may_try_at_once(tmp_path: Path) -> None:
    """As trainings that are begun together do, below a folder that none of them finds."""
    code = (
        "import sys, pathlib\nfrom headstart.core.files import refuse_unwritable\n"
        "for _ in range(300): refuse_unwritable(pathlib.Path(sys.argv[1], 'runs', sys.argv[2]))"
    )
    tasks = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(number)]) for number in range(3)]
    assert [task.wait() for task in tasks] == [0, 0, 0]
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "runs"])  # which none of them could remove under another


def test_from_python(shapes: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for call in (
        lambda: hs.compare(shapes, strategies=["probe", "scratch"], folder=tmp_path / "file" / "x"),
        lambda: hs.train(shapes, runtime=hs.Runtime(folder=tmp_path / "file" / "x")),
    ):
        with pytest.raises(hs.StorageError, match="is a file"):
            call()
    assert not list(cache.rglob("*"))


def test_the_page_of_a_report_may_lie_in_a_new_folder(model: Path, tmp_path: Path) -> None:
    drawn = hs.draw_report(model.parent, out=tmp_path / "new" / "page.html")
    assert drawn.path.read_text("utf-8").startswith("<!")
    with pytest.raises(hs.StorageError, match="is a folder"):
        hs.draw_report(model.parent, out=tmp_path / "new")
