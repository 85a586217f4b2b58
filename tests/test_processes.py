"""Several processes train together: the result is that of one with the same batches, and one of them speaks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

import forked
from headstart.cli.main import main
from headstart.training import loop
from headstart.training.batch_norm import count_batch, synced
from helpers import Result, free_port, headstart_cli, write_images

SMALL = (
    "--recipe",
    "own.toml",
    "--backbone",
    "timm:test_resnet",
    "--no-pretrained",
    "--workers",
    "1",
)
# As a file: torchrun takes the option --start for one of its own, and says that it is ambiguous.
RECIPE = 'strategy = "finetune"\nstart = "random"\n'


# --- batch norms ----------------------------------------------------------------------------------------------------

WORLD = 3


def share(rank: int, folder: Path) -> None:
    """One of several processes: it takes its share of the batches; what it computes goes to a file."""
    warnings.simplefilter("error")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    told, results = torch.load(folder / "told.pt", weights_only=False), {}
    for name, module in told["modules"].items():
        synced(module, torch.device("cpu"))
        results[name] = [], module.state_dict()
        for pixels in told["batches"]:
            own = pixels[rank::WORLD]
            counts = len(own) > 0
            x = (own if counts else pixels[:1]).clone().requires_grad_()
            count_batch(counts)
            module.zero_grad()
            y = module(x)
            (y**3).sum().mul(1.0 if counts else 0.0).backward()
            grads = [p.grad.clone() for p in module.parameters()]
            for grad in grads:
                dist.all_reduce(grad)
            results[name][0].append((y.detach(), x.grad, grads))
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


def batch_norms() -> dict[str, nn.Module]:
    """Modules in training mode, with the kinds of batch norm that backbones have; smooth, for the gradients' sake."""
    from timm.layers import BatchNormAct2d

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = {
            "plain": nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
            ),
            "cumulative": nn.BatchNorm2d(3, momentum=None),
            "flat": nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(3)),
            "timm": nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4, act_layer=nn.SiLU)),
            "without-weights": nn.BatchNorm2d(3, affine=False),
        }  # fmt: skip
    return {name: module.train() for name, module in modules.items()}


@pytest.mark.slow
def test_batch_norms_see_the_whole_batch(tmp_path: Path) -> None:
    """Forward, backward, and the statistics that are kept; in the last batch one process has no image."""
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(count, 3, 8, 8, generator=generator) * 2 + 1 for count in (6, 5, 2)]
    torch.save({"modules": batch_norms(), "batches": batches}, tmp_path / "told.pt")
    said = [tmp_path / f"{rank}.err" for rank in range(WORLD)]
    processes = [forked.start(share, rank, tmp_path, err=said[rank]) for rank in range(WORLD)]
    for process, path in zip(processes, said, strict=True):
        process.join(60)
        assert process.exitcode == 0, path.read_text()
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]
    for name, module in batch_norms().items():
        for number, pixels in enumerate(batches):
            x = pixels.clone().requires_grad_()
            module.zero_grad()
            y = module(x)
            (y**3).sum().backward()
            for rank in range(WORLD):
                got, gradient, grads = parts[rank][name][0][number]
                if len(pixels[rank::WORLD]):
                    torch.testing.assert_close(got, y.detach()[rank::WORLD], atol=1e-4, rtol=1e-4)
                    expected = x.grad[rank::WORLD]
                    torch.testing.assert_close(gradient, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)
                for one, expected in zip(grads, [p.grad for p in module.parameters()], strict=True):
                    torch.testing.assert_close(one, expected, atol=1e-3, rtol=1e-3)
        for rank in range(WORLD):
            for key, value in module.state_dict().items():
                torch.testing.assert_close(parts[rank][name][1][key], value, atol=1e-5, rtol=1e-4, msg=f"{name} {key}")


@pytest.mark.slow
def test_batch_norms_predict_as_before() -> None:
    """Without a group of processes, and with the names of their weights."""
    module = batch_norms()["plain"].train()
    module(torch.randn(4, 3, 8, 8))
    module.eval()
    pixels, names = torch.randn(2, 3, 8, 8), list(module.state_dict())
    before = module(pixels)
    synced(module, torch.device("cpu"))
    synced(module, torch.device("cpu"))  # a second time changes nothing
    assert torch.equal(module(pixels), before)
    assert list(module.state_dict()) == names
    assert sum(isinstance(one, nn.BatchNorm2d) for one in module.modules()) == 2


# --- whole trainings ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of which 25 train: with batches of 8, the last one holds a single image."""
    return write_images(tmp_path_factory.mktemp("odd"), {"disc": 14, "stripes": 12, "noise": 13})


def program(folder: Path, arguments: list[str], leaves: bool = False) -> None:
    """The program in a folder; or one that leaves without a word after its first epoch."""
    os.chdir(folder)
    if leaves:
        plain = loop.Session.finish_epoch

        def finish(self: loop.Session, epoch: Any) -> None:
            plain(self, epoch)
            if epoch.epoch == 1:
                os._exit(9)

        loop.Session.finish_epoch = finish
    main(arguments)


def train(folder: Path, *arguments: str | Path, leaves: bool = False) -> Result:
    """Run the program in two processes; the exit code is the larger, and they must not both speak."""
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    streams = [{kind: folder / f"{rank}.{kind}" for kind in ("out", "err")} for rank in range(2)]
    processes = [
        forked.start(
            program, folder, ["train", *map(str, arguments)], leaves, **streams[rank], **world,
            RANK=str(rank), LOCAL_RANK=str(rank),
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        process.join(120)
    out, err = ("".join(one[kind].read_text() for one in streams) for kind in ("out", "err"))
    return Result(max(process.exitcode for process in processes), out, err)


def train_by_torchrun(folder: Path, *arguments: str | Path) -> Result:
    """As a person starts it."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "headstart", "train", *map(str, arguments)], cwd=folder,
        capture_output=True, text=True, timeout=120, env=os.environ | forked.ONE_THREAD, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def same(one: Path, other: Path) -> None:
    """The weights of two runs agree, and so do their histories."""
    first, second = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    for name, value in first.items():
        torch.testing.assert_close(
            second[name], value, atol=1e-4, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    histories = [json.loads((run / "metrics.json").read_text())["details"]["history"] for run in (one, other)]
    for row, again in zip(*histories, strict=True):
        assert {k: v for k, v in again.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in row.items() if k != "seconds"}, rel=1e-3, abs=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train_in_two", "settings"),
    [
        (train_by_torchrun, ["--unfreeze", "all", "--views", "0", "--epochs", "2", "--batch-size", "8"]),
        (train, ["--unfreeze", "last", "--views", "2", "--epochs", "2", "--batch-size", "4", "--accumulate", "2"]),
    ],
    ids=["all-loop", "last-views-accumulated"],
)
def test_two_processes_train_as_one(
    odd: Path, tmp_path: Path, train_in_two: Callable[..., Result], settings: list[str]
) -> None:
    # SGD: AdamW divides by the size of the gradient, so that a rounding of a tiny one becomes a whole step.
    common = [odd, *SMALL, *settings, "--optimizer", "sgd", "--lr", "0.02", "--batch-norm", "train"]
    (tmp_path / "own.toml").write_text(RECIPE)
    one = headstart_cli("train", *common, "--out", "one", "--quiet", cwd=tmp_path, **forked.ONE_THREAD)
    two = train_in_two(tmp_path, *common, "--out", "two", "--json")
    assert one.code == 0, one.err
    assert two.code == 0, two.err
    same(tmp_path / "one", tmp_path / "two")
    assert two.json["details"]["processes"] == 2  # one document: one process speaks
    assert len(re.findall(r"^Epoch 1/2: ", two.err, re.MULTILINE)) == 1
    assert "Warning" not in two.err
    assert not (tmp_path / "two" / "checkpoints").exists()


@pytest.mark.slow
def test_two_processes_go_on(odd: Path, tmp_path: Path) -> None:
    """To the bit; and one process alone is refused."""
    common = [odd, *SMALL, "--epochs", "2", "--batch-size", "8", "--head", "mlp", "--tracker", "none", "--quiet"]
    (tmp_path / "own.toml").write_text(RECIPE)
    assert train(tmp_path, *common, "--out", "whole").code == 0
    stopped = train(tmp_path, *common, "--out", "run", leaves=True)
    assert stopped.code == 9, stopped.err
    assert [path.name for path in (tmp_path / "run").glob("checkpoints/epoch-*")] == ["epoch-000001"]
    alone = headstart_cli("train", "--resume", "run", cwd=tmp_path)
    assert alone.code == 2
    assert "it is of 2 processes, not 1" in alone.err
    assert "with as many as before" in alone.err
    resumed = train(tmp_path, "--resume", "run", "--quiet")
    assert resumed.code == 0, resumed.err
    for name in ("weights.safetensors", "model.onnx"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
