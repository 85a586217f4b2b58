"""The seconds that are printed are those of the process."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import headstart_process, write_images

BEGIN = "from headstart.cli import clock; clock.begin(); print(clock.seconds())\n"


def said(code: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells when a process began")
def test_the_first_command_counts_from_the_start_of_the_process() -> None:
    start = time.monotonic()
    first, second = said(f"import time; time.sleep(1.5)\n{BEGIN}clock.begin(); print(clock.seconds())")
    assert 1.5 <= first <= time.monotonic() - start + 0.02
    assert second < 0.5


@pytest.mark.slow
def test_a_program_that_began_long_ago_did_not_begin_for_the_command() -> None:
    (first,) = said(f"import time; time.sleep(1.2)\nfrom headstart.cli import clock\nclock._STARTS_WITHIN = 1\n{BEGIN}")
    assert first < 0.5


@pytest.mark.parametrize("wrong", ["", "1 (a) b", "1 (x) S 1 2", "pid (\udcff) " + "x " * 30])
def test_where_the_system_does_not_tell_it_counts_from_the_import(wrong: str) -> None:
    code = (
        "import pathlib, time; from headstart.cli import clock\n"
        f"pathlib.Path.read_text = lambda *_: {wrong!r}\n"
        f"time.sleep(0.3)\n{BEGIN}"
    )
    (seconds,) = said(code)
    assert 0.3 <= seconds < 5


@pytest.mark.slow
def test_train_tells_the_seconds_of_the_process(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", {"disc": 12, "stripes": 12})
    start = time.monotonic()
    done = headstart_process("train", "photos", "--json", cwd=tmp_path)
    most = time.monotonic() - start
    seconds = done.json["seconds"]
    printed = float(re.search(r"([0-9.]+) s in all", done.err)[1])  # type: ignore[index]
    assert seconds["total"] + 0.1 < seconds["process"] <= most  # with imports and the report
    assert printed == pytest.approx(seconds["process"], abs=0.2)
    assert printed <= most + 0.05
