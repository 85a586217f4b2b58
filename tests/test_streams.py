"""Standard error: our own words come out, those of C libraries do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.cli import streams
from helpers import draw, headstart_process


def noisy_tiff(path: Path) -> None:
    """A TIFF file whose compressed pixels are damaged in many places, of which libtiff speaks."""
    draw("noise", 0, (64, 64)).save(path, "TIFF", compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    with Image.open(path) as image:
        start, length = image.tag_v2[273][0], image.tag_v2[279][0]  # type: ignore[attr-defined]
    places = np.random.default_rng(0).integers(start + 4, start + length, 40)
    for place in places:
        data[place] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.slow
def test_predict_prints_nothing_of_libtiff(model: Path, tmp_path: Path) -> None:
    noisy_tiff(tmp_path / "damaged.tif")
    draw("disc", 0).save(tmp_path / "good.png")
    loud = headstart_process("predict", model, tmp_path, "--format", "jsonl", HEADSTART_SHOW_LIBRARY_MESSAGES="1")
    assert "tempfile.tif" in loud.err, "the file no longer makes libtiff speak: this test shows nothing"
    done = headstart_process("predict", model, tmp_path, "--format", "jsonl", "--quiet")
    assert done.code == 3
    assert done.err == ""
    first, second = map(json.loads, done.out.splitlines())
    assert "damaged TIFF" in first["error"] or "ends early" in first["error"]
    assert "label" in second


RUNNER = """
import ctypes, faulthandler, logging, os, sys, threading, traceback, warnings
{before}
from headstart.cli import main, streams
def work(arguments):
    os.write(2, b"a library speaks\\n")
    ctypes.CDLL(None).perror(b"a C library speaks")
    print("printed", file=sys.stderr)
    warnings.warn("warned")
    logging.warning("logged")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start(); thread.join()
    {inside}
    return 0
main.run = work
main.main([])
"""


def run(before: str = "", inside: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    code = RUNNER.format(before=before, inside=inside)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.skipif(sys.platform == "win32", reason="names the C library as Unix does")
def test_our_words_come_out_and_those_of_libraries_do_not() -> None:
    done = run()
    assert done.returncode == 0
    assert "a library speaks" not in done.stderr
    assert "a C library speaks" not in done.stderr
    for words in ("printed", "warned", "logged", "ZeroDivisionError"):
        assert words in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="names the C library as Unix does")
def test_an_environment_variable_lets_libraries_speak() -> None:
    done = run(before=f"os.environ[{streams.SHOW_ALL!r}] = '1'")
    assert "a library speaks" in done.stderr
    assert "printed" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="names the C library as Unix does")
def test_crashes_are_still_told_where_faulthandler_is_on() -> None:
    done = run(before="faulthandler.enable()", inside="sys.stderr.flush(); ctypes.string_at(0)")
    assert done.returncode < 0
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_the_end_without_unwinding_is_still_told() -> None:
    done = run(inside="from headstart.cli import signals; signals._end(15)")
    assert done.returncode == 143
    assert "Error: Asked to stop (SIGTERM)." in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="closes a descriptor as a shell does")
def test_a_closed_standard_error_is_left_alone() -> None:
    program = [sys.executable, "-m", "headstart", "--version"]
    done = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *program], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("headstart ")


def test_another_stream_in_the_place_of_standard_error_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr
    with streams.own_words_only():
        assert sys.stderr is before
        assert streams.descriptor() == 2


def test_all_is_as_it_was_afterwards() -> None:
    code = (
        "import os, sys\nfrom headstart.cli import streams\nbefore = sys.stderr\n"
        "open_before = os.listdir('/proc/self/fd')\n"
        "with streams.own_words_only():\n    os.write(2, b'lost'); assert sys.stderr is not before\n"
        "assert sys.stderr is before and os.listdir('/proc/self/fd') == open_before\nos.write(2, b'heard')\n"
    )
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("counts open descriptors as Linux lists them")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "heard"
