"""What `predict` is pointed at: an image on standard input, the paths in a list, and all of it together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import headstart
from headstart.core.errors import SourceError
from headstart.data.inputs import expand
from helpers import write_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    photos = write_images(folder / "photos", {"disc": 6, "noise": 6})
    headstart.train(photos).save(folder / "run", report=False)
    return folder


def predict(folder: Path, *paths: str, given: bytes = b"") -> tuple[int, list[dict[str, object]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "headstart", "predict", "run/model.onnx", *paths, "--format", "jsonl"],
        input=given, capture_output=True, cwd=folder, check=False,
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


@pytest.mark.slow
def test_an_image_on_standard_input(folder: Path) -> None:
    path = "photos/disc/000.png"
    code, (piped, named), _ = predict(folder, "-", path, given=(folder / path).read_bytes())
    assert (code, piped["path"], named["path"]) == (0, "-", path)
    assert {**piped, "path": path} == named
    code, (record,), _ = predict(folder, "-", given=b"no image")
    assert (code, record["path"]) == (3, "-")
    assert record["error"]
    code, records, said = predict(folder, "-", "@-", given=b"x")
    assert (code, records) == (2, [])
    assert "Standard input is named twice" in said


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
@pytest.mark.parametrize("piped", [False, True])
def test_a_list_of_paths(folder: Path, end: bytes, piped: bool) -> None:
    paths = ["photos/noise/001.png", "photos/disc", "gone.png", "photos/noise/001.png"]
    listed = end.join(os.fsencode(path) for path in ["", *paths, ""])
    (folder / "paths.txt").write_bytes(listed)
    code, records, _ = predict(folder, *(["@-"] if piped else ["@paths.txt"]), given=listed if piped else b"")
    assert code == 3
    assert [record["path"] for record in records] == [
        "photos/noise/001.png", *(f"photos/disc/{number:03}.png" for number in range(6)), "gone.png",
    ]  # fmt: skip
    assert records[-1]["error"] == "file not found"
    assert not any("error" in record for record in records[:-1])


def test_names_that_only_look_so(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "@me.png").write_bytes((folder / "photos/disc/000.png").read_bytes())
    assert [row.path for row in expand(["@me.png"]).rows] == ["@me.png"]
    (tmp_path / "odd.txt").write_bytes(b"caf\xe9.png\n  two blanks.png\n*.png\n")
    assert [row.path for row in expand(["@odd.txt"]).rows] == ["caf\udce9.png", "  two blanks.png", "*.png"]
    for paths, words in (
        (["@gone.txt"], "file not found"), (["@."], "a folder"), ([""], "no file, folder"), (["@"], "file not found"),
    ):  # fmt: skip
        with pytest.raises(SourceError, match=words):
            expand(paths)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(SourceError, match="no file to predict"):
        expand(["@empty.txt"])


def test_no_standard_input(folder: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m headstart predict run/model.onnx - <&-"],
        capture_output=True, text=True, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Standard input is empty" in done.stderr
