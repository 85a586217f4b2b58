"""Ctrl-C, SIGTERM, a closed pipe: the program ends soon, says what to do, and leaves nothing half-done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import headstart
from headstart.cli import signals
from headstart.core.errors import ImageError
from headstart.core.runtime import Runtime
from headstart.features.passes import each
from helpers import ENDS_WITHIN, headstart_cli, headstart_process, write_images

# The program, with a mark on standard error at the moment of interest: in the pool's third image, or in the fit.
PROGRAM = r"""
    import itertools, os, signal, sys, threading, time
    from headstart.cli import signals, streams
    from headstart.cli.main import main
    signals.GRACE_SECONDS = float(os.environ.get("GRACE", signals.GRACE_SECONDS))
    stage, *arguments = sys.argv[1:]

    def mark():
        os.write(streams.descriptor(), b"MARK\n")  # whole, whichever threads come

    if stage == "embedding":
        from headstart.modelfile import session
        run, count = session.Session.run, itertools.count(1)
        def marking(self, *inputs):
            number = next(count)  # each thread its own
            if "BEGUN" in os.environ:
                with open(os.environ["BEGUN"], "ab") as file:
                    file.write(b".")
            if number == 3:
                mark()
            if number >= 3:
                time.sleep(0.05)  # few images are enough to be embedding still when the signal comes
            return run(self, *inputs)
        session.Session.run = marking
    if stage in {"fitting", "solving"}:
        from headstart.heads import linear, penalty
        module, name = (linear, "fit") if stage == "fitting" else (penalty, "fit_temperature")
        plain = getattr(module, name)
        def marking(*values, **named):
            mark()
            while stage == "fitting":  # a fit that would take long
                plain(*values, **named)
            return plain(*values, **named)
        setattr(module, name, marking)
    if stage == "stuck":  # work that cannot be interrupted
        from headstart.modelfile import session
        def marking(self, *inputs):
            mark()
            time.sleep(1000)
        session.Session.run = marking
    if stage == "waiting":  # the signal comes between letting a lock go and waiting for the fits of the folds
        from headstart.heads import penalty
        search, made = penalty.choose, threading.Condition.__init__
        def marking(*values, **named):
            threading.Condition.__init__ = making
            return search(*values, **named)
        def making(self, lock=None):
            made(self, lock)
            plain = self._release_save
            def letting_go():
                state = plain()
                if threading.current_thread() is threading.main_thread():
                    mark()
                    os.kill(os.getpid(), signal.SIGINT)
                return state
            self._release_save = letting_go
        penalty.choose = marking
    main(arguments)
"""


# The tests themselves may run under `nohup`, which what they start would inherit.
NO_NOHUP = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More pictures than are embedded before a signal arrives."""
    return write_images(tmp_path_factory.mktemp("many"), {"disc": 40, "noise": 40})


@contextmanager
def program(stage: str, *arguments: str | Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The program in a session of its own, at its mark."""
    command = [sys.executable, "-c", NO_NOHUP + textwrap.dedent(PROGRAM), stage, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | env,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = []
        while line := process.stderr.readline():
            said.append(line)
            if line == "MARK\n":
                break
        else:
            pytest.fail(f"it ended before its mark: {''.join(said)}")
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str], number: signal.Signals, within: float = 30) -> tuple[str, float]:
    """Send a signal; what the program still said on standard error, and how long it took to end."""
    start = time.perf_counter()
    process.send_signal(number)
    _, err = process.communicate(timeout=within)
    return err, time.perf_counter() - start


def orphans(group: int) -> list[str]:
    """Processes of a process group that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(str(status))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["embedding", "fitting", "solving"])
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "Interrupted."),
        (signal.SIGTERM, 143, "Asked to stop"),
        (signal.SIGHUP, 129, "The terminal was closed"),
    ],
)
def test_signal(
    many: Path, shapes: Path, tmp_path: Path, cache: Path, stage: str, number: signal.Signals, code: int, words: str
) -> None:
    out = tmp_path / "run"
    source = many if stage == "embedding" else shapes
    with program(stage, "train", source, "--out", out) as process:
        err, seconds = end(process, number)
        assert process.returncode == code, err
        assert seconds < ENDS_WITHIN
        assert f"Error: {words}" in err
        assert "Run the same command again" in err
        assert "Traceback" not in err
        assert "Exception ignored" not in err
        if Path("/proc").is_dir():
            assert not orphans(process.pid)
    assert not out.exists() or list(out.iterdir()) == []
    assert not list(cache.rglob("*.tmp"))
    if stage != "embedding":
        again = headstart_cli("train", source, "--out", out, "--json")
        assert again.code == 0
        assert again.json["details"]["from_cache"] == 36


@pytest.mark.slow
def test_a_closed_terminal(many: Path, tmp_path: Path, cache: Path) -> None:
    """The embeddings are kept, though there is nobody to tell."""
    master, terminal = os.openpty()
    own = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # the terminal becomes the session's own
    command = [sys.executable, "-c", NO_NOHUP + own + textwrap.dedent(PROGRAM), "embedding", "train", str(many)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    said = b""
    while b"MARK" not in said:
        said += os.read(master, 1000)
    os.close(master)
    try:
        assert process.wait(timeout=30) == 129
    finally:
        process.kill()
    assert headstart.train(many).fitted.details.as_dict()["from_cache"] >= 3


@pytest.mark.slow
def test_under_nohup_a_closed_terminal_is_nothing(shapes: Path, tmp_path: Path) -> None:
    command = ["nohup", sys.executable, "-c", textwrap.dedent(PROGRAM), "solving", "train", str(shapes)]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while process.stderr.readline() != "MARK\n":
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert (tmp_path / "run" / "model.onnx").exists()


@pytest.mark.slow
def test_interrupted_and_resumed_equals_uninterrupted(many: Path, tmp_path: Path, cache: Path) -> None:
    """Every image that was under way is kept, however long the machine takes to end it."""
    begun = tmp_path / "begun"
    with program("embedding", "train", many, "--out", tmp_path / "run", BEGUN=str(begun), GRACE="60") as process:
        end(process, signal.SIGINT, within=60)
    resumed = headstart.train(many)
    assert 3 <= begun.stat().st_size < 80
    assert resumed.fitted.details.as_dict()["from_cache"] == begun.stat().st_size
    assert resumed.fitted.model == headstart.train(many, runtime=Runtime(cache=None)).fitted.model


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_work_that_cannot_be_interrupted(many: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    """A decoder that hangs does not keep the program: it ends soon all the same."""
    assert signals.GRACE_SECONDS < 2
    with program("stuck", "train", many, "--out", tmp_path / "run") as process:
        err, seconds = end(process, number)
        assert process.returncode == code
        assert seconds < ENDS_WITHIN
        assert err.count("Error: ") == 1
        assert "Run the same command again" in err
        assert "Traceback" not in err


@pytest.mark.slow
def test_signal_between_letting_a_lock_go_and_waiting(shapes: Path, tmp_path: Path) -> None:
    """Python's own `Condition` then lets the lock go a second time, which is an error of its own."""
    with program("waiting", "train", shapes, "--out", tmp_path / "run", "--workers", "2") as process:
        assert process.stderr is not None
        err = process.stderr.read()  # the rest: some of it may have come with the mark
        process.wait(timeout=30)
    assert process.returncode == 130, err
    assert "Error: Interrupted." in err
    assert "Traceback" not in err


@pytest.mark.parametrize("module", ["a", "b"])
def test_signal_inside_an_import(tmp_path: Path, module: str) -> None:
    """An exception there would leave the import's lock behind, and threads would wait for ever."""
    (tmp_path / "slow_a.py").write_text("import time\nprint('MARK', flush=True)\ntime.sleep(100)\n")
    (tmp_path / "slow_b.py").write_text("class Slow:\n def __del__(self): import slow_a\nSlow()\n")
    code = f"from headstart.cli import signals; signals.install(); import slow_{module}"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "MARK\n"
        err, seconds = end(process, signal.SIGTERM)
    assert process.returncode == 143
    assert seconds < ENDS_WITHIN
    assert err.startswith("Error: Asked to stop (SIGTERM).\n")
    assert "Traceback" not in err


def test_signal_inside_a_destructor() -> None:
    """Python drops the exception; the program ends all the same."""
    code = (
        "import time; from headstart.cli import signals; signals.install()\n"
        "class Slow:\n def __del__(self): print('MARK', flush=True); time.sleep(100)\n"
        "Slow()\ntime.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "MARK\n"
        err, seconds = end(process, signal.SIGINT)
    assert process.returncode == 130
    assert seconds < ENDS_WITHIN
    assert err.startswith("Error: Interrupted.\n")
    assert "Traceback" not in err


@pytest.mark.slow
def test_error_while_modules_are_still_imported(tmp_path: Path) -> None:
    """A training that fails soon ends while scikit-learn is imported in a thread; Python would crash at its exit."""
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "x.jpg").write_bytes(b"no picture")
    for _ in range(5):
        done = headstart_process("train", tmp_path / "photos", "--out", tmp_path / "run")
        assert done.code == 2, done.err
        assert "Fatal" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_at_once(many: Path, tmp_path: Path, first: signal.Signals, second: signal.Signals) -> None:
    """Even while the first one waits for work that does not end."""
    with program("stuck", "train", many, "--out", tmp_path / "run", "--workers", "1") as process:
        process.send_signal(first)
        deadline = time.monotonic() + 10
        while pending(process.pid, first) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)  # no proof needs it: the handler has a line to run
        assert process.poll() is None
        _, seconds = end(process, second)
        assert process.returncode == 128 + second
        assert seconds < signals.GRACE_SECONDS - 0.2
    assert not (tmp_path / "run").exists()


def pending(pid: int, number: signal.Signals) -> bool:
    """Whether a signal has not been delivered yet."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("SigPnd:", "ShdPnd:")) and int(line.split()[1], 16) >> (number - 1) & 1:
            return True
    return False


@pytest.mark.slow
def test_signal_at_any_moment(shapes: Path, tmp_path: Path) -> None:
    """Also while modules are imported and threads begin: always 130, never a traceback or a hang."""
    started = "import headstart.cli.main as m; print('MARK', flush=True); m.main()"
    for number, delay in enumerate((0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)):
        command = [sys.executable, "-c", started, "train", str(shapes), "--out", str(tmp_path / f"run-{number}")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "MARK\n"
            time.sleep(0.01 + delay)  # the moments differ on purpose
            err, seconds = end(process, signal.SIGINT)
            assert process.returncode in {130, 0}, err
            assert seconds < ENDS_WITHIN
            if process.returncode == 130:
                assert "Traceback" not in err, err
                assert "Fatal" not in err
                assert "Interrupted." in err


# --- pipes and streams ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("form", ["table", "csv", "jsonl", "json"])
def test_closed_pipe_is_quiet(model: Path, shapes: Path, form: str) -> None:
    """As in `headstart predict ... | head -1`."""
    options = ["--json"] if form == "json" else ["--format", form]
    command = [sys.executable, "-m", "headstart", "predict", str(model), str(shapes), *options]
    reader, writer = os.pipe()
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        os.close(reader)
        _, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode in {1, 141}


def test_head(model: Path, shapes: Path) -> None:
    """In a shell, with a reader that takes one line."""
    line = f'"{sys.executable}" -m headstart predict "{model}" "{shapes}" "{shapes}/disc" --format jsonl | head -1'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_output_that_cannot_show_a_name(model: Path, shapes: Path, tmp_path: Path) -> None:
    path = tmp_path / "snow-\N{SNOWMAN}.png"
    path.write_bytes((shapes / "disc" / "000.png").read_bytes())
    done = headstart_process("predict", model, path, "--format", "csv", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.code == 0, done.err
    assert "snow-\\u2603.png" in done.out


# --- threads -------------------------------------------------------------------------------------------------------


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]


@pytest.mark.slow
def test_no_thread_is_left(shapes: Path, model: Path) -> None:
    before = ours()
    headstart.train(shapes, runtime=Runtime(cache=None, workers=4))
    headstart.load(model).predict([shapes / "disc" / "000.png"] * 20)
    assert ours() == before


def test_pool_ends_with_its_reader() -> None:
    """Whoever stops reading, or fails, stops the work: what has not begun never runs."""
    before = ours()
    begun: list[int] = []

    def work(index: int) -> int:
        begun.append(index)
        return index

    results = each(work, range(10_000), Runtime(cache=None, workers=2), "")
    assert next(results) == (0, 0)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 10
    assert ours() == before


def test_pool_gives_results_in_order_and_errors_in_place() -> None:
    def work(index: int) -> int:
        time.sleep(0.01 * (index % 3 == 0))  # some are slower than those behind them
        if index % 5 == 0:
            raise ImageError(str(index))
        return index

    got = list(each(work, range(40), Runtime(cache=None, workers=4), ""))
    assert [index for index, _ in got] == list(range(40))
    for index, result in got:
        assert (str(result) if isinstance(result, ImageError) else result) == (str(index) if index % 5 == 0 else index)


def test_pool_raises_other_errors() -> None:
    before = ours()

    def work(index: int) -> int:
        if index == 17:
            raise ZeroDivisionError
        return index

    results = []
    with pytest.raises(ZeroDivisionError):
        results.extend(each(work, range(1000), Runtime(cache=None, workers=3), ""))
    assert ours() == before


def test_pool_holds_few_results() -> None:
    """Memory does not grow with the number of images: at most four a worker are in flight."""
    lock, done, most = threading.Lock(), [0], [0]

    def work(index: int) -> int:
        with lock:
            done[0] += 1
            most[0] = max(most[0], done[0])
        return index

    for _ in each(work, range(500), Runtime(cache=None, workers=2), ""):
        with lock:
            done[0] -= 1
    assert most[0] <= 4 * 2 + 2
