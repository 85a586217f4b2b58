"""`watch`: a line for each file that arrives, once it is whole, until it is stopped."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart.core.errors import SourceError
from headstart.data.arrivals import PATIENCE_SECONDS, Arrivals, watched
from helpers import ENDS_WITHIN, draw, headstart_cli

PATIENT = 60  # seconds, on a machine that does other things too


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


class Watching:
    """The program, and the lines that it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        assert process.stderr is not None
        assert "Watching" in process.stderr.readline()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def next(self) -> Any:
        return json.loads(self._lines.get(timeout=PATIENT))

    def silent_for(self, seconds: float) -> bool:
        try:
            self._lines.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def stop(self, number: signal.Signals) -> tuple[int, float]:
        begun = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(PATIENT)
        self._thread.join()
        return code, time.monotonic() - begun


# The program, which waits for a file that cannot be read as long as it is told.
HURRIED = (
    "from headstart.data import arrivals; arrivals.PATIENCE_SECONDS = {}; from headstart.cli.main import main; main()"
)


@contextmanager
def watching(folder: Path, model: Path, *options: str, patience: float = PATIENCE_SECONDS) -> Iterator[Watching]:
    pytest.importorskip("watchfiles")
    command = ["-c", HURRIED.format(patience), "watch", str(folder), "--model", str(model), *options]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        found = Watching(process)
        yield found
    finally:
        process.kill()
        process.wait()
        found._thread.join()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


@pytest.mark.slow
def test_files_that_arrive(folder: Path, model: Path, tmp_path: Path) -> None:
    draw("disc", 80).save(folder / "before.png")
    draw("disc", 81).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    expected = headstart.load(model).predict(whole)
    with watching(folder, model) as program:
        (folder / "a.png").write_bytes(whole)
        first = program.next()
        assert (first["path"], first["label"]) == (str(folder / "a.png"), expected.label)
        assert first["probability"] == pytest.approx(expected.probability, abs=1e-6)
        with (folder / "half.png").open("wb", buffering=0) as file:  # its writer pauses for longer than the usual time
            file.write(whole[: len(whole) // 2])
            assert program.silent_for(1.5)
            file.write(whole[len(whole) // 2 :])
        assert (half := program.next())["path"] == str(folder / "half.png")
        assert half["label"] == expected.label
        (tmp_path / "whole.png").rename(folder / "renamed.png")
        assert program.next()["path"] == str(folder / "renamed.png")
        (tmp_path / "many").mkdir()
        for name in ("x.png", ".hidden.png"):
            (tmp_path / "many" / name).write_bytes(whole)
        (tmp_path / "many").rename(folder / "many")
        assert program.next()["path"] == str(folder / "many" / "x.png")
        draw("noise", 82).save(folder / "a.png")
        assert (again := program.next())["path"] == str(folder / "a.png")
        assert again["label"] == "noise"
        code, seconds = program.stop(signal.SIGTERM)
        assert (code, seconds < ENDS_WITHIN) == (0, True)


def test_files_that_are_there(folder: Path, model: Path) -> None:
    draw("disc", 80).save(folder / "before.png")
    with watching(folder, model, "--existing", "--top", "1", "--coverage", "0.9") as program:
        record = program.next()
        assert (record["path"], len(record["top"]), "labels" in record) == (str(folder / "before.png"), 1, True)
        code, seconds = program.stop(signal.SIGINT)
        assert (code, seconds < ENDS_WITHIN) == (0, True)


@pytest.mark.slow
def test_a_file_that_stays_broken_is_told(folder: Path, model: Path) -> None:
    with watching(folder, model, patience=4) as program:
        (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
        assert program.silent_for(2.5)  # where whole files are told of within one
        record = program.next()
        assert (record["path"], "error" in record) == (str(folder / "broken.jpg"), True)


def test_a_folder_that_is_gone_ends_it(folder: Path, model: Path) -> None:
    with watching(folder, model) as program:
        folder.rmdir()
        assert program.process.wait(PATIENT) == 2
        assert program.process.stderr is not None
        assert "is gone" in program.process.stderr.read()


def test_there_must_be_a_folder(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    done = headstart_cli("watch", tmp_path / "no", "--model", model)
    assert (done.code, "There is no folder" in done.err) == (2, True)


def test_a_file_is_due_once_it_has_stayed_as_it_is(tmp_path: Path) -> None:
    arrivals = Arrivals(1.0)
    path = tmp_path / "file"
    path.write_text("a")
    arrivals.see(str(path), 0.0)
    assert arrivals.due(0.9) == []
    path.write_text("ab")  # nobody has told of it yet
    assert arrivals.due(1.0) == []
    assert arrivals.due(1.9) == []
    assert arrivals.due(2.0) == [(str(path), False)]
    arrivals.see(str(path), 3.0)  # its state has not changed
    assert arrivals.due(9.0) == []
    arrivals.again(str(path), 10.0)
    arrivals.see(str(path), 11.0)
    assert arrivals.due(10.0 + PATIENCE_SECONDS - 0.1) == []
    assert arrivals.due(10.0 + PATIENCE_SECONDS) == [(str(path), True)]
    arrivals.again(str(path), 30.0)
    path.write_text("abc")
    arrivals.see(str(path), 31.0)
    assert arrivals.due(32.0) == [(str(path), False)]
    path.write_text("abcd")
    arrivals.see(str(path), 40.0)
    path.unlink()
    assert arrivals.due(50.0) == []
    arrivals.see(str(tmp_path), 60.0)
    arrivals.see(os.fspath(tmp_path / "\0"), 60.0)
    assert arrivals.due(70.0) == []


@pytest.mark.parametrize("settle", [1.0, PATIENCE_SECONDS, 60.0])
def test_a_broken_file_is_told_however_long_files_settle(settle: float, tmp_path: Path) -> None:
    arrivals = Arrivals(settle)
    path = str(tmp_path / "file")
    Path(path).write_text("a")
    arrivals.see(path, 0.0)
    assert arrivals.due(settle) == [(path, False)]
    arrivals.again(path, settle)
    later = settle + max(settle, PATIENCE_SECONDS)
    assert arrivals.due(later - 0.1) == []
    assert arrivals.due(later) == [(path, True)]


def test_rights_and_times_are_no_arrivals(folder: Path) -> None:
    pytest.importorskip("watchfiles")
    (folder / "sub").mkdir()
    old = [folder / "old.png", folder / "sub" / "old.png"]
    for path in old:
        path.write_text("old")
    arrivals = Arrivals(0.1)
    seen: list[str] = []
    watch = watched(folder, arrivals, existing=False)
    next(watch)

    def until(path: Path) -> list[str]:
        """What has arrived, up to a file that is written now."""
        path.write_text("new")
        end = time.monotonic() + PATIENT
        while str(path) not in seen and time.monotonic() < end:
            next(watch)
            seen.extend(found for found, _ in arrivals.due(time.monotonic()))
        return seen

    (folder / "sub").chmod(0o750)
    os.utime(folder / "sub")
    for path in old:
        path.chmod(0o600)
    assert until(folder / "a.png") == [str(folder / "a.png")]
    assert set(until(old[1])) == {str(folder / "a.png"), str(old[1])}
    watch.close()


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    odd = tmp_path / os.fsdecode(b"in\xff")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("a file system of UTF-8 alone")
    with pytest.raises(SourceError, match="is not UTF-8"):
        next(watched(odd, Arrivals(0.1), existing=False))


def test_the_loop_of_python_gives_what_arrives(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("watchfiles")
    monkeypatch.setattr("headstart.data.arrivals.PATIENCE_SECONDS", 0.5)  # the program is held to it above
    classifier = headstart.load(model)
    draw("disc", 5).save(folder / "there.png")
    begun: list[str] = []

    def started() -> None:
        draw("stripes", 6).save(folder / "new.png")
        (folder / "broken.png").write_text("no image")
        begun.append("started")

    found = {}
    for path, result in headstart.watch(
        classifier, folder, top=2, coverage=0.9, existing=True, settle_seconds=0.1, started=started
    ):
        found[Path(path).name] = result
        if isinstance(result, headstart.ImageError):  # it is waited for longest
            break
    assert (begun, set(found)) == (["started"], {"there.png", "new.png", "broken.png"})
    prediction = found["there.png"]
    assert isinstance(prediction, headstart.Prediction)
    assert prediction == classifier.predict(folder / "there.png", top=2, coverage=0.9)
    assert prediction.label == "disc"


def test_what_cannot_be_watched_is_refused_before_the_loop(folder: Path, model: Path) -> None:
    pytest.importorskip("watchfiles")
    classifier = headstart.load(model)
    with pytest.raises(headstart.SourceError, match="There is no folder"):
        headstart.watch(classifier, folder / "none")
    with pytest.raises(headstart.OptionError, match="settle_seconds"):
        headstart.watch(classifier, folder, settle_seconds=0)
    with pytest.raises(headstart.OptionError, match="folder"):
        headstart.watch(classifier, 3)  # type: ignore[arg-type]
