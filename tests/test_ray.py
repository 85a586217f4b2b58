"""Shards on a Ray cluster of two nodes: the bytes of one process, whatever dies; each image in exactly one row."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import clusters
import headstart as hs
from clusters import Verb, contents, on
from headstart.api import predicting, sharding
from headstart.api.sharding import Shape
from headstart.core.errors import ImageError, OptionError, SourceError, StorageError, TrainingError
from headstart.features.sharded.folder import ShardFolder
from headstart.scale import cluster as scale_cluster
from headstart.scale import ray_pool
from headstart.scale.isolation import Isolation
from helpers import headstart_cli, write_images
from s3server import VARIABLES, Server, serving

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")
# Ray itself leaves sockets and processes to the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default::ResourceWarning"),
              pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")]  # fmt: skip
cluster, nodes, verb = clusters.cluster, clusters.nodes, clusters.verb  # fixtures
SMALL = Shape(shard_rows=4)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty images, of which one cannot be read."""
    folder = write_images(tmp_path / "source", {"disc": 10, "noise": 10})
    (folder / "disc" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return folder


def rows(out: Path, kind: Any = "embeddings") -> list[dict[str, Any]]:
    folder = ShardFolder.open(out, kind)
    folder.refuse_unfinished()
    return [row for batch in folder.batches(["path", "error"]) for row in batch.to_pylist()]


def test_a_cluster_gives_the_very_bytes_of_this_process(nodes: Any, source: Path, tmp_path: Path) -> None:
    hs.embed_into(source, tmp_path / "here", shape=SMALL)
    written = hs.embed_into(source, tmp_path / "there", shape=SMALL, runtime=on(nodes[0]))
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert (written.errors, written.computed) == (1, 20)
    assert hs.embed_into(source, tmp_path / "there", shape=SMALL, runtime=on(nodes[0])).computed == 0
    strict = hs.Runtime(on=on(nodes[0]).on, strict=True)
    with pytest.raises(hs.SourceError, match=r"disc/003\.png"):
        hs.embed_into(source, tmp_path / "strict", runtime=strict)


@dataclass(frozen=True)
class Slow:
    """What looks at an image as `EmbedRow` does, and is slow; and dies of some images."""

    ask: Any
    seconds: float = 0.0
    deadly: tuple[str, ...] = ()

    @property
    def storage(self) -> Any:
        return self.ask.storage

    def reading(self, storage: Any) -> Any:
        return replace(self, ask=self.ask.reading(storage))

    def __call__(self, reference: Any) -> Any:
        if reference.path in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        return self.ask(reference)


@pytest.fixture
def made_slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has images looked at otherwise."""

    def make(**given: Any) -> None:
        for module, name in ((sharding, "EmbedRow"), (predicting, "Predict")):
            original = getattr(module, name)
            slow = lambda *asked, original=original: Slow(original(*asked), **given)  # noqa: E731
            monkeypatch.setattr(module, name, slow)

    return make


def test_images_that_end_processes_are_rows(
    nodes: Any, verb: Verb, source: Path, tmp_path: Path, made_slow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "RETRIES", 1)
    table = hs.read(source)
    verb(table, tmp_path / "here")
    deadly = ("disc/005.png", "noise/009.png")[: 2 if verb.model is None else 1]  # each costs several processes
    made_slow(deadly=deadly)
    out = tmp_path / "out"
    written = verb(table, out, runtime=on(nodes[0]))
    found = {skip.path: skip.reason for skip in written.skipped}
    assert found.keys() == {"disc/003.png", *deadly}
    assert "the process that looked at it ended" in found["disc/005.png"]
    assert [row["path"] for row in rows(out, verb.kind)] == [row["path"] for row in rows(tmp_path / "here", verb.kind)]
    same = [name for name, content in contents(tmp_path / "here").items() if contents(out)[name] == content]
    assert len(same) == 5 - len(deadly)


@pytest.mark.parametrize("verb", ["predictions"], indirect=True)  # whatever is asked, the pool asks again
def test_a_node_that_is_killed_loses_nothing(
    nodes: Any, verb: Verb, source: Path, tmp_path: Path, made_slow: Any
) -> None:
    cluster, second = nodes
    verb(source, tmp_path / "here")
    made_slow(seconds=0.25)
    out = tmp_path / "out"

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not contents(out) and time.monotonic() < deadline:
            time.sleep(0.02)
        cluster.remove_node(second, allow_graceful=False)

    killer = Thread(target=kill)
    killer.start()
    verb(source, out, runtime=on(cluster))
    killer.join()
    assert second not in cluster.list_all_nodes()
    assert contents(out) == contents(tmp_path / "here")


def test_a_driver_that_is_killed_is_started_again(nodes: Any, verb: Verb, source: Path, tmp_path: Path) -> None:
    cluster, out = nodes[0], tmp_path / "out"
    command = [sys.executable, "-m", "headstart", *verb.command, str(source), "--out", str(out), "--shard-rows", "1",
               "--on", "ray", "--address", cluster.address]  # fmt: skip
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while not contents(out) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # the folder is held as long as its process is there
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert (second.returncode, f"is being written by process {first.pid}" in second.stderr) == (2, True), second.stderr
    first.kill()
    assert first.communicate()[1] is not None
    before = contents(out)
    assert before
    third = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=120)
    assert third.returncode == 3, third.stderr
    verb(source, tmp_path / "here", rows=1)
    assert contents(out) == contents(tmp_path / "here")
    assert before.items() <= contents(out).items()


@dataclass(frozen=True)
class Work:
    """A unit of work on numbers."""

    def __call__(self, item: int) -> int:
        if item == 3:
            raise ImageError("three")
        if item == 5:
            raise StorageError("the disk is full")
        if item == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item


def test_a_pool_keeps_to_the_seam(nodes: Any) -> None:
    pool = on(nodes[0]).pool
    seen: list[int] = []
    found = list(pool.run(Work(), [1, 2, 3, 4], seen.append))
    assert [str(one) if isinstance(one, ImageError) else one for one in found] == [1, 4, "three", 16]
    assert sorted(seen) == [1, 4, 16]
    with pytest.raises(StorageError, match="the disk is full"):
        list(pool.run(Work(), [4, 5, 6]))
    with pytest.raises(TrainingError, match="whatever they work on"):
        list(pool.run(Work(), [7]))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "somewhere"])
def test_no_cluster_at_the_address(address: str, source: Path, tmp_path: Path) -> None:
    ray.shutdown()
    done = headstart_cli("embed", source, "--out", tmp_path / "out", "--on", "ray", "--address", address)
    assert (done.code, f"no Ray cluster at the address '{address}'" in done.err) == (2, True), done.err


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_something_else_at_the_address(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def reply() -> None:
            with server.accept()[0] as client:
                client.recv(100)
                client.sendall(answer)

        thread = Thread(target=reply)
        thread.start()
        ray.shutdown()
        with pytest.raises(OptionError, match=f"There is no Ray cluster at the address '{address}'"):
            scale_cluster.connect(address, None)
        thread.join()


def test_nodes_that_differ_are_named(nodes: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("class Work:\n    def __call__(self, item):\n        return item\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("only_here")
    with pytest.raises(OptionError, match=r"The node '.*' of the Ray cluster cannot import 'only_here'"):
        list(on(nodes[0]).pool.run(module.Work(), [1]))
    found = dict.fromkeys(scale_cluster._versions(), "99")
    monkeypatch.setattr(scale_cluster, "_versions", lambda: found)  # the nodes ask their own
    with pytest.raises(
        OptionError, match=rf"The node '.*' of the Ray cluster has headstart {hs.__version__} \(here 99\)"
    ):
        hs.embed_into(source, tmp_path / "out", runtime=on(nodes[0]))
    assert not list((tmp_path / "out").glob("part-*"))


def test_a_cluster_of_another_version_is_refused(nodes: Any, source: Path, tmp_path: Path) -> None:
    from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY as KEY
    from ray._raylet import GcsClient

    client = GcsClient(address=nodes[0].address)
    before = client.internal_kv_get(KEY, namespace=b"cluster")
    other = json.dumps({**json.loads(before), "ray_version": "2.9.0", "python_version": "3.8.1"}).encode()
    client.internal_kv_put(KEY, other, True, namespace=b"cluster")
    try:
        ray.shutdown()
        address = ("--on", "ray", "--address", nodes[0].address)
        done = headstart_cli("embed", source, "--out", tmp_path / "out", *address)
    finally:
        client.internal_kv_put(KEY, before, True, namespace=b"cluster")
    assert (done.code, "Ray: 2.9.0 Python: 3.8.1" in done.err) == (2, True), done.err
    assert f"here are Ray {ray.__version__}" in done.err


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with serving() as server:
        for name, value in {**VARIABLES, "AWS_ENDPOINT_URL": server.endpoint}.items():
            monkeypatch.setenv(name, value)
        yield server


def test_workers_read_object_storage(nodes: Any, s3: Server, source: Path, tmp_path: Path) -> None:
    cluster = nodes[0]
    s3.put_folder("photos", source)
    with pytest.raises(SourceError, match=r"On the node '.*' of the Ray cluster: 's3://photos': no credentials found"):
        hs.embed_into("s3://photos", tmp_path / "none", runtime=on(cluster))
    ray.shutdown()
    from ray.cluster_utils import Cluster

    with_keys = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "include_dashboard": False, "env_vars": dict(os.environ)},
    )
    try:
        s3.faults.fail_every, s3.faults.cut_every, s3.faults.seconds = 10, 7, 0.01
        written = hs.embed_into("s3://photos", tmp_path / "there", shape=SMALL, runtime=on(with_keys))
    finally:
        ray.shutdown()
        with_keys.shutdown()
    hs.embed_into(source, tmp_path / "here", shape=SMALL)
    assert (written.errors, s3.faults.injected > 2) == (1, True)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@dataclass(frozen=True)
class Part:
    references: tuple[int, ...]

    def between(self, begin: int, end: int) -> Part:
        return Part(self.references[begin:end])

    def condemned(self, reasons: dict[int, str]) -> Part:
        return self


@pytest.mark.parametrize("deadly", [set(), {0}, {12}, {3, 4, 11}, set(range(13))])
def test_bisection_finds_all_and_no_other(deadly: set[int]) -> None:
    search, tries = Isolation(Part(tuple(range(13)))), 0
    while not search.over:
        begin, end = search.taken()
        tries += 1
        search.told(begin, end, "it died" if deadly & set(range(begin, end)) else None)
    assert set(search.reasons) == deadly
    assert tries <= 2 + 2 * 4 * max(1, len(deadly))
