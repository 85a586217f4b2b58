"""A fine-tuning that is killed, interrupted or out of disk space goes on, and ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import forked
import stopping
from forked import ONE_THREAD
from headstart.runs import resumption
from headstart.runs.chosen import Changed, Chosen, Evidence, Flips, Scored
from headstart.runs.origin import Origin
from helpers import ENDS_WITHIN, Result, headstart_cli, write_images

SMALL = ("--strategy", "finetune", "--backbone", "timm:test_resnet", "--no-pretrained", "--start", "random",
         "--batch-size", "8", "--device", "cpu")  # fmt: skip
SHORT = (*SMALL, "--epochs", "3", "--tracker", "none")
RUN = {"model.onnx", "weights.safetensors", "recipe.toml", "splits.csv", "predictions.csv", "metrics.json",
       "history.csv", "curves.png", "report.html", "analysis.json"}  # fmt: skip


def told(*arguments: str | Path) -> list[str]:
    return [str(one) for one in arguments]


def cli(*arguments: str | Path, cwd: Path | None = None) -> Result:
    return headstart_cli("train", *arguments, cwd=cwd, **ONE_THREAD)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with 14, 12 and 13 pictures. Do not change it: copy it."""
    return write_images(tmp_path_factory.mktemp("pictures") / "photos", {"disc": 14, "stripes": 12, "noise": 13})


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing has interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = cli(pictures, *SHORT, "--out", run, "--quiet")
    assert done.code == 0, done.err
    return run


def killed(tmp_path: Path, function: Callable[..., None], *arguments: Any) -> None:
    """A process that comes to its end as it is told to."""
    process = forked.start(function, *arguments, err=tmp_path / "said")
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "said").read_text()


@pytest.fixture(scope="module")
def stopped(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose training was killed after its first epoch. Do not change it: copy it."""
    folder = tmp_path_factory.mktemp("stopped")
    run = folder / "run"
    killed(folder, stopping.after, 1, told("train", pictures, *SHORT, "--out", run, "--quiet"))
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["epoch-000001", "training.json"]
    return run


def copied(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def check_same(run: Path, whole: Path) -> None:
    """The run is the uninterrupted one to the bit, and nothing else is in its folder."""
    for name in ("weights.safetensors", "model.onnx", "splits.csv", "predictions.csv", "recipe.toml"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert {path.name for path in run.iterdir()} - {"logs"} == RUN
    rows = [(folder / "history.csv").read_text().splitlines() for folder in (run, whole)]
    assert [row.rsplit(",", 1)[0] for row in rows[0]] == [row.rsplit(",", 1)[0] for row in rows[1]]


# --- killed ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_in_a_finished_run(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == RUN
    history = (whole / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in history] == ["epoch", "1", "2", "3"]
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_killed_again_and_again(pictures: Path, whole: Path, tmp_path: Path) -> None:
    """In the middle of the first checkpoint, and of the second, and while the checkpoints of a finished run go."""
    run = tmp_path / "run"
    killed(tmp_path, stopping.inside, 1, told("train", pictures, *SHORT, "--out", run))
    killed(tmp_path, stopping.inside, 2, told("train", "--resume", run))
    assert (run / "checkpoints" / "epoch-000001").is_dir()
    assert (run / "checkpoints" / ".epoch-000002.tmp").is_dir()
    killed(tmp_path, stopping.removing, told("train", "--resume", run))
    assert {path.name for path in run.iterdir()} - {"logs"} == RUN | {"checkpoints"}
    done = cli("--resume", run)
    assert done.code == 2
    assert "holds a finished run" in done.err
    check_same(run, whole)


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far, which a busy machine does not change; 0 of one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_killed_at_any_time(pictures: Path, whole: Path, tmp_path: Path) -> None:
    """A process that nobody helps: after each kill the same command as a person's goes on, and it ends."""
    run, gets, killed = tmp_path / "run", 0.5, []
    while True:
        begun = resumption.exists(run)
        arguments = ["train", "--resume", run] if begun else ["train", pictures, *SHORT, "--out", run]
        process = forked.start(stopping.whole, told(*arguments, "--quiet"), err=tmp_path / "said")
        while process.exitcode is None and cpu_seconds(process.pid) < gets:
            process.join(0.005)
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            break
        killed.append(begun)
        gets *= 1.5
    assert process.exitcode == 0, (tmp_path / "said").read_text()
    assert set(killed) == {False, True}  # before its first checkpoint, and when it had gone on
    check_same(run, whole)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(("calls", "number"), [("fsync", 9), ("rename,renameat,renameat2", 5), ("unlinkat", 3)])
def test_killed_at_exact_system_calls(
    pictures: Path, whole: Path, stopped: Path, tmp_path: Path, calls: str, number: int
) -> None:
    run, said = copied(stopped, tmp_path), tmp_path / "said"
    code = stopping.killed_at(calls, number, told("train", pictures, "--resume", run, "--quiet"), said)
    assert code == -signal.SIGKILL, said.read_text()
    assert list((run / "checkpoints").glob("epoch-*"))
    after = cli("--resume", run, "--quiet")
    assert after.code == 0, after.err
    check_same(run, whole)


def test_checkpoints_of_a_killed_removal_are_not_gone_on_with(tmp_path: Path) -> None:
    """They have lost their record, and are of another training than the one that begins now."""
    import headstart

    stale = tmp_path / "checkpoints" / "epoch-000009"
    stale.mkdir(parents=True)
    (stale / "state.json").write_text("{}")
    table = headstart.read(write_images(tmp_path / "photos", {"disc": 1, "noise": 1}))
    resumption.write(tmp_path, table, ["0" * 64] * 2, headstart.Recipe(), "")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["training.json"]


def test_an_interrupted_training_keeps_why_its_recipe_is_what_it_is(tmp_path: Path) -> None:
    import headstart

    table = headstart.read(write_images(tmp_path / "photos", {"disc": 1, "noise": 1}))
    scores = {"accuracy": 0.9, "log_loss": 0.25}
    lite0 = Scored(name="lite0", parameters=3, licence="MIT", **scores)
    crop, pad = Scored(name="crop", **scores), Scored(name="pad", p_value=0.5, **scores)
    changed = Changed(verdict="harmful", accuracy=0.5, interval=(0.3, 0.5), p_value=0.01)
    evidence = Evidence(
        backbone=Chosen("lite0", (lite0,), (("resnet18", "no weights"),), ("Backbone lite0.",)),
        fit=Chosen("crop", (crop, pad), (), ("Fit crop.",)),
        flip=Flips(
            images=20, accuracy=0.9, log_loss=None, reason="No flips.",
            transforms={"hflip": changed, "vflip": Changed(verdict="unresolved")},
        ),
    )  # fmt: skip
    origin = Origin(reasons=("Fit crop.",), evidence=evidence, plan=("3 epochs fit.",), began=1.0)
    for one in (origin, Origin(plan=("3 epochs fit.",)), Origin()):
        resumption.write(tmp_path, table, ["0" * 64] * 2, headstart.Recipe(), "", one)
        assert resumption.read(tmp_path).origin == dataclasses.replace(one, began=None)  # another clock goes on
    record = tmp_path / "checkpoints" / "training.json"
    before = {key: value for key, value in json.loads(record.read_text("utf-8")).items() if key != "chosen"}
    record.write_text(json.dumps(before))  # of before this was kept
    assert resumption.read(tmp_path).origin == Origin()


def test_files_of_other_tools_stay(tmp_path: Path) -> None:
    """A folder `checkpoints` may be somebody's own."""
    own = tmp_path / "checkpoints"
    (own / "epoch-000001").mkdir(parents=True)
    (own / "epoch-best.pt").write_text("own")
    (own / "lightning").mkdir()
    resumption.remove(tmp_path)
    assert sorted(path.name for path in own.iterdir()) == ["epoch-best.pt", "lightning"]


# --- signals --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def at_mark(said: Path, *arguments: str | Path) -> Iterator[BaseProcess]:
    here, there = multiprocessing.Pipe(duplex=False)
    process = forked.start(stopping.held, 2, there, told(*arguments), err=said)
    there.close()
    try:
        assert here.recv() == "there"
        yield process
    finally:
        process.kill()
        process.join()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_in_an_epoch(pictures: Path, whole: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    run, said = tmp_path / "a run", tmp_path / "said"
    with at_mark(said, "train", pictures, *SHORT, "--out", run) as process:
        start = time.perf_counter()
        os.kill(process.pid, number)
        process.join(30)
        err = said.read_text()
        assert process.exitcode == code, err
        assert time.perf_counter() - start < ENDS_WITHIN
    assert f"headstart train --resume '{run}'" in err
    assert "Traceback" not in err
    assert not _group(process.pid)
    resumed = cli("--resume", run, "--quiet")
    assert resumed.code == 0, resumed.err
    check_same(run, whole)


def _group(group: int) -> list[str]:
    """Processes of a process group that still run."""
    done = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=False)
    fields = [line.split(None, 2) for line in done.stdout.splitlines()]
    return [one[2] for one in fields if len(one) == 3 and one[0] == str(group) and not one[1].startswith("Z")]


# --- a full disk ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [1500, 3000, 5000])
def test_full_disk(pictures: Path, whole: Path, tmp_path: Path, kilobytes: int) -> None:
    """Inside PyTorch's file, inside the best weights, and beside the checkpoint of the epoch before."""
    disk, out, err = (tmp_path / name for name in ("disk", "out", "err"))
    disk.mkdir()
    may_mount = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(disk)]
    if shutil.which("unshare") is None or subprocess.run(may_mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    arguments = told("train", pictures, *SHORT)
    process = forked.start(stopping.on_full_disk, disk, kilobytes, arguments, tmp_path / "copy", out=out, err=err)
    process.join(120)
    said = err.read_text()
    assert process.exitcode == 0, said
    assert out.read_text().splitlines()[0] == "code 2"  # and no file that is half-written
    assert out.read_text().splitlines()[-1] == "code 0", said
    assert said.count("Error: The disk is full: ") == 1
    assert "Traceback" not in said
    begun = "Epoch 1/3" in said
    assert (f"go on: headstart train --resume {disk / 'run'}" in said) is begun
    assert ("run the same command again" in said) is not begun
    check_same(tmp_path / "copy", whole)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_resume_where_there_is_nothing(tmp_path: Path, whole: Path) -> None:
    done = cli("--resume", tmp_path)
    assert done.code == 2
    assert "holds no unfinished training" in done.err
    done = cli("--resume", whole)
    assert done.code == 2
    assert "holds a finished run" in done.err
    assert f"headstart train SOURCE --from {whole}" in done.err


@pytest.mark.slow
def test_resume_of_something_else(pictures: Path, stopped: Path, tmp_path: Path) -> None:
    """With other settings, of other images, or begun anew: each is refused and leaves the checkpoint as it is."""
    run = copied(stopped, tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = cli("--resume", run, "--epochs", "9", "--lr", "0.5")
    assert done.code == 2
    assert "epochs: 3, then 9; lr: 0.001, then 0.5" in done.err
    moved = Path(shutil.copytree(pictures, tmp_path / "moved"))
    (moved / "disc" / "000.png").write_bytes((pictures / "disc" / "001.png").read_bytes())
    (moved / "disc" / "002.png").rename(moved / "disc" / "new.png")
    done = cli(moved, "--resume", run)
    assert done.code == 2
    assert "3 differences" in done.err
    for words in ("'disc/new.png' is new", "'disc/002.png' is gone", "content of 'disc/000.png' changed"):
        assert words in done.err
    done = cli(pictures, *SHORT, "--out", run)
    assert done.code == 2
    assert f"Resume it: headstart train --resume {run}. Or start over: --overwrite." in done.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_resume_from_a_moved_source(pictures: Path, whole: Path, stopped: Path, tmp_path: Path) -> None:
    run, moved = copied(stopped, tmp_path), Path(shutil.copytree(pictures, tmp_path / "moved" / "photos"))
    record = run / "checkpoints" / "training.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"source": str(tmp_path / "gone")}))
    done = cli("--resume", run)
    assert done.code == 2
    assert "gone" in done.err
    done = cli(moved, "--resume", run, "--quiet")
    assert done.code == 0, done.err
    check_same(run, whole)


@pytest.mark.slow
def test_overwrite_begins_anew(pictures: Path, whole: Path, stopped: Path, tmp_path: Path) -> None:
    run = copied(stopped, tmp_path)
    done = cli(pictures, *SHORT, "--out", run, "--overwrite")
    assert done.code == 0, done.err
    assert "Epoch 1/3" in done.err
    check_same(run, whole)


# --- before any work, and trackers ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tracker", "wandb"), ["wandb, which is not installed", "pip install wandb"]),
        (("--amp", "fp16"), ["fp16 needs a CUDA device", "--amp auto"]),
        (("--batch-size", "500"), ["batch_size = 500 is larger than the 25 training images"]),
    ],
)
def test_what_cannot_work_leaves_no_run(
    pictures: Path, tmp_path: Path, options: tuple[str, ...], words: list[str]
) -> None:
    import importlib.util

    import torch

    if torch.cuda.is_available() or importlib.util.find_spec("wandb"):
        pytest.skip("there is one")
    done = cli(pictures, *SMALL, *options, "--out", tmp_path / "run")
    assert done.code == 2
    assert all(word in done.err for word in words), done.err
    assert not resumption.exists(tmp_path / "run")


@pytest.mark.slow
def test_tensorboard_is_told_without_being_asked(pictures: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    done = cli(pictures, *SMALL, "--epochs", "2", "--out", run, "--quiet")
    assert done.code == 0, done.err
    assert {path.name for path in run.iterdir()} == RUN | {"logs"}
    events = EventAccumulator(str(next((run / "logs").rglob("events*")).parent)).Reload()
    assert {"train_loss", "validation_accuracy", "lr"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train_loss")] == [1, 2]
