"""Files are whole at any moment: faults at each call, a full disk, `kill -9` at each call, locks."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import forked
import headstart
import stopping
from headstart.core import files
from headstart.core.appending import GrowingFile
from headstart.core.errors import StorageError
from headstart.core.files import durable_write, durable_write_all, folder_lock, leftovers
from helpers import headstart_cli, headstart_process, write_images

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
FAULTS = (
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"),
    KeyboardInterrupt(),
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class FaultAt:
    """Lets the n-th of some calls fail, before or after it did its work."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, fault: BaseException, *, after: bool) -> None:
        self.left, self.fault, self.after = number, fault, after
        for name in ("open", "fdopen", "fsync", "replace", "close"):
            patch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, call: Callable[..., object]) -> Callable[..., object]:
        def faulty(*arguments: object, **named: object) -> object:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise self.fault
            result = call(*arguments, **named)
            if self.left == 0:
                if call.__name__ in {"open", "fdopen"}:  # the descriptor is closed, as by the garbage collector
                    os.close(result) if isinstance(result, int) else result.close()  # type: ignore[attr-defined]
                raise self.fault
            return result

        return faulty


@pytest.fixture(scope="module", autouse=True)
def nothing_left_over() -> None:
    """What other tests have left to the garbage collector closes no file at a call that is to fail."""
    gc.collect()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("fault", FAULTS, ids=["full", "broken", "interrupt"])
@pytest.mark.parametrize("old", [None, b"old content"], ids=["new", "replaced"])
def test_fault_at_each_call_leaves_old_or_new(
    tmp_path: Path, fault: BaseException, old: bytes | None, after: bool
) -> None:
    path, new = tmp_path / "file", b"new content" * 10_000
    outcomes = []
    for number in range(1, 50):
        path.unlink(missing_ok=True)
        if old is not None:
            path.write_bytes(old)
        with pytest.MonkeyPatch.context() as patch:
            injected = FaultAt(patch, number, fault, after=after)
            try:
                durable_write(path, new)
                raised: BaseException | None = None
            except (StorageError, KeyboardInterrupt) as error:
                raised = error
        content = path.read_bytes() if path.exists() else None
        assert content in {old, new}
        assert sorted(file.name for file in tmp_path.iterdir()) in ([], ["file"])  # no temporary file
        if injected.left > 0:
            break
        assert raised is not None
        assert isinstance(raised, StorageError) == isinstance(fault, OSError)
        outcomes.append(content)
    else:
        pytest.fail("it never succeeded")
    assert content == new
    assert outcomes[0] == old  # the first call opens the temporary file
    assert len(outcomes) >= 4


def test_fault_while_writing_leaves_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`write` is a method of the file: a full disk at it, in earnest, by the limit on a file's size."""
    import resource
    import signal

    path = tmp_path / "file"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(StorageError, match="could not be written"):
            durable_write(path, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_several_files_are_replaced_together(tmp_path: Path) -> None:
    """A fault before the first replacement leaves all as they were; the order is kept."""
    paths = [tmp_path / name for name in ("a", "b", "c")]
    seen, messages = set(), set()
    for number in range(1, 100):
        for path in paths:
            path.write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patch:
            injected = FaultAt(patch, number, OSError(errno.ENOSPC, "full"), after=False)
            try:
                durable_write_all(dict.fromkeys(paths, "new"))
            except StorageError as error:
                messages.add(str(error))
        contents = tuple(path.read_bytes() for path in paths)
        seen.add(contents)
        assert not leftovers(tmp_path)
        if injected.left > 0:
            break
    assert len(messages) == 3
    assert all("is full" in message and "half-written" in message for message in messages)
    old, new = b"old", b"new"
    assert seen == {(old, old, old), (new, old, old), (new, new, old), (new, new, new)}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EROFS, "No permission"),
        (errno.EIO, "EIO"),
    ],
)
def test_words(number: int, words: str) -> None:
    error = files.storage_error(OSError(number, errno.errorcode[number]), Path("place"))
    assert words in error.message
    assert "'place'" in error.message
    assert error.hint


def test_long_and_odd_names(tmp_path: Path) -> None:
    for name in ("\N{SNOWMAN}" * 85, "x" * 255, "a\nb", ".hidden", "caf\udce9"):
        durable_write(tmp_path / name, name.encode("utf-8", "surrogateescape"))
        assert (tmp_path / name).read_bytes() == os.fsencode(name)
    assert not leftovers(tmp_path)


def test_folder_in_the_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(StorageError, match=r"'.*file' could not be written"):
        durable_write(tmp_path / "file", b"")
    assert not leftovers(tmp_path)


# --- locks ---------------------------------------------------------------------------------------------------------

HOLDER = """
    import sys
    from pathlib import Path
    from headstart.core.files import folder_lock
    with folder_lock(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
"""


def python(code: str, *arguments: str | Path, **named: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **named
    )  # type: ignore[call-overload,no-any-return]


def test_second_process_gets_a_clear_error_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    with python(HOLDER, tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="Another process is writing") as caught, folder_lock(tmp_path):
            pytest.fail("held twice")
        assert "--out" in caught.value.hint
        holder.kill()
        holder.communicate()
    with folder_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []  # no lock file either


def test_lock_removes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    durable_write(tmp_path / "model.onnx", b"")
    killed = tmp_path / ".model.onnx.0123456789ab.tmp"
    kept = [tmp_path / name for name in (".x.tmp", "model.onnx.0123456789ab.tmp", ".0123456789ab.tmp.txt", ".env")]
    for path in (killed, *kept):
        path.touch()
    with folder_lock(tmp_path):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "model.onnx", *kept])


def test_lock_of_a_folder_that_is_missing_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing"), folder_lock(tmp_path / "missing"):
        pass


def test_error_inside_the_lock_is_not_changed(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mine"), folder_lock(tmp_path):
        raise OSError(errno.EWOULDBLOCK, "mine")
    with folder_lock(tmp_path):  # and it was released
        pass


@pytest.mark.slow
def test_save_refuses_while_another_process_writes(model: Path, tmp_path: Path, shapes: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with python(HOLDER, out) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        result = train(small(tmp_path), out)
        assert result.code == 2
        assert "Another process is writing" in result.err
        assert list(out.iterdir()) == []
        holder.communicate("")
    assert train(small(tmp_path), out).code == 0


# --- the program, killed and on a full disk ------------------------------------------------------------------------


def small(folder: Path) -> Path:
    """Few pictures with splits of their own: the shortest training that there is."""
    source = folder / "small"
    if not source.exists():
        write_images(source / "train", {"disc": 4, "noise": 4})
        write_images(source / "val", {"disc": 2, "noise": 2}, seed=50)
    return source


def train(source: Path, out: Path, *more: str, **env: str):  # type: ignore[no-untyped-def]
    return headstart_process("train", source, "--out", out, "--workers", "1", *more, **ONE_THREAD, **env)


def check_run(out: Path, source: Path) -> None:
    """All files of a run folder are whole and belong to one training."""
    import json

    tables = ["predictions.csv", "recipe.toml", "report.html", "splits.csv"]
    assert names(out) == ["analysis.json", "metrics.json", "model.onnx", *tables]
    classifier = headstart.load(out / "model.onnx")
    assert json.loads((out / "metrics.json").read_text())["classes"] == list(classifier.classes)
    assert headstart.Recipe.from_toml((out / "recipe.toml").read_text()) == headstart.Recipe(
        **classifier.metadata.recipe
    )
    assert classifier.predict(source / "train" / "disc" / "000.png").label == "disc"


@pytest.fixture(scope="module")
def kept_run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training, to be saved again and again by processes of their own."""
    import pickle

    folder = tmp_path_factory.mktemp("kept")
    run = headstart.train(small(folder), runtime=headstart.Runtime(cache=None))
    path = folder / "run.pickle"
    path.write_bytes(pickle.dumps(run))
    return path


def saved(out: Path, kept: Path, number: int = 0) -> int | None:
    """The exit code of a process that saves the kept run, and is killed at one of its calls."""
    process = forked.start(stopping.saving, number, out, kept)
    process.join(60)
    return process.exitcode


@pytest.mark.slow
def test_killed_at_each_call_of_save(tmp_path: Path, kept_run: Path) -> None:
    source = small(kept_run.parent)
    out = tmp_path / "run"
    assert saved(out, kept_run) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for path in out.iterdir():  # an older run, told apart by a comment or a blank line
        if path.suffix != ".onnx":
            path.write_bytes(path.read_bytes() + b"\n")
    older = {path.name: path.read_bytes() for path in out.iterdir()}
    for number in range(1, 40):
        code = saved(out, kept_run, number)
        for name, content in before.items():
            assert (out / name).read_bytes() in {content, older[name]}
        if code == 0:
            break
        assert code == -signal.SIGKILL
        headstart.load(out / "model.onnx")
    assert number >= 14  # seven files, each flushed and replaced
    check_run(out, source)  # the next run succeeded, and cleared what the killed ones had left


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("calls", ["fsync,fdatasync", "rename,renameat,renameat2", "unlink,unlinkat"])
def test_killed_at_exact_system_calls_of_a_training(tmp_path: Path, calls: str) -> None:
    """SQLite's calls are counted too, which no patch in Python could reach."""
    source, out, cache = small(tmp_path), tmp_path / "run", tmp_path / "cache"
    command = ["train", str(source), "--out", str(out), "--workers=1", "--quiet"]
    killed = 0
    for number in (2, 6):
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)
        code = stopping.killed_at(calls, number, command, tmp_path / "said", HEADSTART_CACHE=str(cache))
        assert code in {-signal.SIGKILL, 0}, (tmp_path / "said").read_text()
        after = headstart_cli(*command, HEADSTART_CACHE=str(cache))
        if (out / "model.onnx").exists() and "already holds a run" in after.err:
            after = headstart_cli(*command, "--overwrite", HEADSTART_CACHE=str(cache))
        assert after.code == 0, after.err
        assert "cache" not in after.err  # no word of damage
        check_run(out, source)
        killed += code != 0
        if code == 0:
            break
    assert killed


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a shell script in which `$DISK` is a full-sized folder of so many kilobytes."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def run(kilobytes: int, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        whole = f'set -e; mount -t tmpfs -o size={kilobytes}k none "$DISK"; {script}'
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", whole],
            env=os.environ | ONE_THREAD | {"DISK": str(disk), "HEADSTART": f"{sys.executable} -m headstart"} | env,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    if shutil.which("unshare") is None or run(64, "true").returncode:
        pytest.skip("needs the right to mount a tmpfs")
    return run


@pytest.mark.slow
def test_full_disk_for_a_run(tmp_path: Path, tiny_disk: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """On 1 MB there is no room for a model: exit code 2, words, and no half of anything."""
    done = tiny_disk(
        1024,
        '$HEADSTART train "$SOURCE" --out "$DISK/run" || code=$?; ls -A "$DISK/run"; exit $code',
        SOURCE=str(small(tmp_path)),
    )
    assert done.returncode == 2
    assert "The disk is full: " in done.stderr
    assert "half-written" in done.stderr
    assert "Traceback" not in done.stderr
    assert "model.onnx" not in done.stdout.splitlines()
    assert ".tmp" not in done.stdout


@pytest.mark.slow
def test_full_disk_keeps_the_old_run(
    tmp_path: Path, tiny_disk: Callable[..., subprocess.CompletedProcess[str]], model: Path
) -> None:
    """Room for one run, not for two: the old one stays; with room, the same command succeeds."""
    old = model.parent
    room = sum(path.stat().st_size for path in old.iterdir()) // 1024 + 200
    done = tiny_disk(
        room,
        'cp -r "$OLD" "$DISK/run"; '
        '$HEADSTART train "$SOURCE" --out "$DISK/run" --overwrite || code=$?; cp -r "$DISK/run" "$COPY"; '
        'mount -o remount,size=64m "$DISK"; '
        '$HEADSTART train "$SOURCE" --out "$DISK/run" --overwrite --quiet; cp -r "$DISK/run" "$COPY.new"; exit $code',
        OLD=str(old),
        COPY=str(tmp_path / "copy"),
        SOURCE=str(small(tmp_path)),
    )
    assert done.returncode == 2
    assert "The disk is full" in done.stderr
    copy = tmp_path / "copy"
    assert names(copy) == names(old)
    assert (copy / "model.onnx").read_bytes() == model.read_bytes()
    headstart.load(copy / "model.onnx")
    check_run(tmp_path / "copy.new", small(tmp_path))


@pytest.mark.slow
def test_full_disk_for_the_cache(tmp_path: Path, tiny_disk: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The cache is not needed: the run succeeds, and says once that it went without."""
    done = tiny_disk(
        40,
        'HEADSTART_CACHE="$DISK/cache" $HEADSTART train "$SOURCE" --out "$OUT"; ls -A "$DISK/cache/embedders"',
        SOURCE=str(small(tmp_path)),
        OUT=str(tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("The feature cache cannot be used") == 1
    assert "full" in done.stderr
    assert ".tmp" not in done.stdout
    check_run(tmp_path / "run", small(tmp_path))


@pytest.mark.slow
def test_full_disk_for_the_output(model: Path) -> None:
    """Words about the disk, not about a fault of ours."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    picture = model.parent / "recipe.toml"
    for arguments in (["verify", str(model)], ["predict", str(model), str(picture), "--format", "csv"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "headstart", *arguments],
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            )  # fmt: skip
        assert done.returncode == 2
        assert "disk is full" in done.stderr
        assert "Traceback" not in done.stderr


class Regions:
    """Locks on bytes as Windows has them, on files of this process: what is tested is the branch, not Windows."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        file, place = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        holder = self.held.setdefault((file, place), descriptor)
        if holder != descriptor:
            raise PermissionError(errno.EACCES, "Permission denied")


def test_the_lock_of_windows_is_on_a_byte_that_no_line_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, regions = tmp_path / "lines", Regions()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", regions)
    with GrowingFile(path) as file:
        file.append("one")
        with pytest.raises(StorageError, match="Another process"):
            GrowingFile(path)
        file.append("two")
        assert list(file.lines()) == ["one", "two"]
    ((_, place),) = regions.held
    assert place > 10**9
