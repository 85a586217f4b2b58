# ruff: noqa: F811  fixtures
"""`headstart train --on ray`: the result of one process, and no epoch is lost with a process or a machine."""

from __future__ import annotations

import functools
import io
import json
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headstart.cli import train_on_ray
from headstart.cli.main import run
from headstart.core.errors import StorageError
from headstart.core.files import durable_write
from headstart.scale import trainer
from helpers import write_images

ray = pytest.importorskip("ray")
pytest.importorskip("torch", reason="no PyTorch: pip install '.[torch]'")
from test_processes import same  # noqa: E402
from test_ray import cluster, nodes  # noqa: E402, F401  fixtures

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default::ResourceWarning"),
              pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
              pytest.mark.filterwarnings("default::DeprecationWarning")]  # fmt: skip

RECIPE = 'strategy = "finetune"\nstart = "random"\n'
SMALL = ("--recipe", "own.toml", "--backbone", "timm:test_resnet", "--no-pretrained", "--unfreeze", "all",
         "--views", "0", "--epochs", "2", "--batch-size", "8", "--optimizer", "sgd", "--lr", "0.02",
         "--batch-norm", "train", "--tracker", "none")  # fmt: skip


def wait_after_an_epoch(mark: Path, head: str, asked: Mapping[str, Any], again: bool) -> int:
    """What a process of the training does; the first time it waits after the first epoch, to be killed."""
    from headstart.training import loop

    plain = loop.Session.finish_epoch

    def finish(self: loop.Session, epoch: Any) -> None:
        plain(self, epoch)
        if epoch.epoch == 1 and not again:
            here = ray.get_runtime_context().get_node_id()
            if here != head:
                durable_write(mark, here)
            time.sleep(600)

    loop.Session.finish_epoch = finish  # type: ignore[method-assign]
    return train_on_ray._take_part(asked, again)


def test_a_machine_is_lost_and_the_result_is_that_of_one_process(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, second = nodes
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "odd", {"disc": 14, "stripes": 12, "noise": 13})
    (tmp_path / "own.toml").write_text(RECIPE)
    assert run(["train", "odd", *SMALL, "--workers", "1", "--quiet", "--out", "one"]) == 0
    capsys.readouterr()
    spare = cluster.add_node(num_cpus=1)
    mark = tmp_path / "mark"
    waits = functools.partial(wait_after_an_epoch, mark, cluster.head_node.node_id)
    monkeypatch.setattr(train_on_ray, "_take_part", waits)

    def lose_one() -> None:
        while not mark.exists():
            time.sleep(0.1)
        lost = next(node for node in (second, spare) if node.node_id == mark.read_text())
        cluster.remove_node(lost, allow_graceful=False)

    lost = threading.Thread(target=lose_one, daemon=True)
    lost.start()
    on_ray = ("--on", "ray", "--workers", "2", "--address", cluster.address)
    assert run(["train", "odd", *SMALL, *on_ray, "--json", "--out", "two"]) == 0
    lost.join()
    mark.unlink()
    if spare in cluster.list_all_nodes():
        cluster.remove_node(spare)
    out, err = capsys.readouterr()
    assert json.loads(out)["details"]["processes"] == 2  # one document: one process speaks
    assert "A process of the training was lost; all go on from the last checkpoint." in err
    assert [len(re.findall(rf"^Epoch {number}/2: ", err, re.MULTILINE)) for number in (1, 2)] == [1, 1]
    same(tmp_path / "one", tmp_path / "two")
    folder = sorted(path.name for path in tmp_path.iterdir())
    assert folder == ["odd", "one", "own.toml", "two"]  # nothing of Ray's is left
    assert not (tmp_path / "two" / "checkpoints").exists()


def test_a_machine_without_the_current_folder_is_named(nodes: Any, tmp_path: Path) -> None:
    share = trainer.Share(lambda asked, again: pytest.fail("begun"), {}, tmp_path / "run", tmp_path / "only-here")
    with pytest.raises(StorageError, match=r"The machine '.*' does not have the current folder, '.*only-here'"):
        trainer.train_together(share, 2, nodes[0].address, io.StringIO(), io.StringIO())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--on", "ray"), "--workers N"),
        (("--address", "auto"), "--on ray"),
        (("--on", "ray", "--workers", "2", "--strategy", "probe", "--out", "x"), "headstart embed"),
        (("--on", "ray", "--workers", "2", "--strategy", "finetune"), "--out"),
        (("--on", "ray", "--workers", "2", "--strategy", "finetune", "--out", "x", "--budget", "9m"), "--epochs"),
        (("--on", "ray", "--workers", "2", "--strategy", "finetune", "--out", "x", "--address", "127.0.0.1:1"),
         "no Ray cluster"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_before_anything_runs(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    given: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    ray.shutdown()
    assert run(["train", str(shapes), *given]) == 2
    assert words in capsys.readouterr().err
