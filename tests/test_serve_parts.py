"""Parts of the server by themselves: what no client can bring about at will, or only in minutes."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing.context
import os
import shutil
import signal
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.core.errors import ImageError, ModelError, StorageError
from helpers import draw
from serving import run

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")

from starlette.requests import Request

from headstart.features.thumbnails import Thumbnails
from headstart.serving import bodies, exchange, keeper, server, tensors, training_images
from headstart.serving.counters import Metrics
from headstart.serving.desk import Desk
from headstart.serving.limits import Limits
from headstart.serving.models import Models, Served, load
from headstart.serving.pool import Pool
from headstart.serving.problems import Problem
from headstart.serving.training_images import TrainingImages
from headstart.serving.turns import Turns
from headstart.serving.watched import Watcher


@pytest.fixture
def served(model: Path) -> Served:
    return load(model, "shapes", None)


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- memory ---------------------------------------------------------------------------------------------------------


def peak_mb(call: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def body_of(tensor: dict[str, Any], rest: bytes = b"") -> tuple[bytes, str]:
    if rest:
        tensor = {**tensor, "parameters": {"binary_data_size": len(rest)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + rest, str(len(head))


TEXTS = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": ["x" * 100_000] + [""] * 200}
DOTS = {"name": "image", "datatype": "UINT8", "shape": [1_000_000, 1, 1, 3]}
FILES = {"name": "file", "datatype": "BYTES", "shape": [1_000_000]}


@pytest.mark.parametrize(
    ("tensor", "rest", "status"),
    [(TEXTS, b"", 400), (DOTS, bytes(3_000_000), 413), (FILES, struct.pack("<I", 0) * 1_000_000, 413)],
    ids=["texts", "dots", "files"],
)
def test_a_small_tensor_takes_little_memory(tensor: dict[str, Any], rest: bytes, status: int) -> None:
    body, length = body_of(tensor, rest)

    def read() -> None:
        with pytest.raises(Problem) as refused:
            tensors.read(body, length, ["label"], 64)
        assert refused.value.status == status

    assert peak_mb(read) < 10  # 80 MB and more where the elements are made first


def test_a_body_is_gone_when_whoever_asked_lets_go_of_it() -> None:
    async def held() -> float:
        left = 16

        async def receive() -> dict[str, Any]:
            nonlocal left
            left -= 1
            return {"type": "http.request", "body": os.urandom(1_000_000), "more_body": left > 0}

        request = Request({"type": "http", "method": "POST", "headers": [], "path": "/"}, receive)
        async with bodies.body(request, Limits(), bodies.Budget(10**9)) as content:
            assert len(content) == 16_000_000
            del content
            return tracemalloc.get_traced_memory()[0] / 1e6

    tracemalloc.start()
    try:
        assert run(held()) < 8
    finally:
        tracemalloc.stop()


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_worker(served: Served) -> Iterator[Pool]:
    workers = Pool(1, 8, 2, Models([served]).keys)
    until(lambda: workers.alive == 1)
    yield workers
    workers.close()


def process_of(workers: Pool) -> int:
    process = workers._keepers[0]._process
    assert process is not None
    assert process.pid is not None
    return process.pid


def image(served: Served) -> exchange.Image:
    return exchange.Image(served.key, np.asarray(draw("disc", 90, (80, 64))).tobytes(), (64, 80, 3))


@pytest.mark.slow
def test_a_worker_comes_back_when_files_may_be_opened_again(one_worker: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def none(*_: object) -> None:
        asked.set()
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(multiprocessing.context.SpawnContext, "Pipe", none)
        os.kill(process_of(one_worker), signal.SIGKILL)
        assert asked.wait(30)
    until(lambda: one_worker.alive == 1)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no such signal")
def test_a_closed_terminal_is_the_servers_business(one_worker: Pool, served: Served) -> None:
    worker = process_of(one_worker)
    os.kill(worker, signal.SIGHUP)
    (done,) = one_worker.submit(served, [exchange.Verify(served.key)])
    assert done.result(60) is None
    assert (process_of(one_worker), one_worker.restarts) == (worker, 0)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no such signal")
@pytest.mark.parametrize("ignored", [True, False])
def test_nohup_is_heeded(ignored: bool) -> None:
    async def nothing(*_: object) -> None:
        """Answer nobody."""

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        turns = Turns()
        one = server._Server(server._config(nothing, Limits(), turns), turns, lambda: None)
        with one.capture_signals():
            signal.raise_signal(signal.SIGHUP)
        assert one.should_exit == (not ignored)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_model_that_takes_long_to_load_is_no_fault_of_the_image(one_worker: Pool, served: Served) -> None:
    worker = process_of(one_worker)
    os.kill(worker, signal.SIGSTOP)  # it has two seconds for an image, and needs more for the model
    (done,) = one_worker.submit(served, [image(served)])
    time.sleep(2.5)
    os.kill(worker, signal.SIGCONT)
    result = done.result(60)
    assert result is not None
    assert served.classifier.classes[int(result.probabilities.argmax())] == "disc"


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_told_as_such(
    one_worker: Pool, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_START_SECONDS", 0.1)
    os.kill(process_of(one_worker), signal.SIGSTOP)
    (done,) = one_worker.submit(served, [image(served)])
    with pytest.raises(ModelError, match="2 seconds"):
        done.result(60)


@pytest.mark.slow
def test_a_worker_that_stops_reading_is_replaced(one_worker: Pool, served: Served) -> None:
    (done,) = one_worker.submit(served, [image(served)])
    assert done.result(60) is not None  # the model is loaded
    os.kill(process_of(one_worker), signal.SIGSTOP)
    pixels = np.zeros((2000, 2000, 3), np.uint8)  # more than any pipe holds: sending it would never end
    (late,) = one_worker.submit(served, [exchange.Image(served.key, pixels.tobytes(), pixels.shape)])
    with pytest.raises(ImageError, match="more than 2 seconds"):
        late.result(30)
    (done,) = one_worker.submit(served, [image(served)])
    assert done.result(60) is not None
    assert one_worker.restarts == 1


@pytest.mark.parametrize("seconds", [1, 30, 3600])
def test_a_late_answer_still_has_a_connection(seconds: int) -> None:
    limits = Limits(seconds=seconds)
    assert limits.seconds + limits.run_seconds < limits.request_seconds
    assert limits.run_seconds > 2 * limits.seconds  # in the queue, and in the model


def test_without_a_worker_the_client_is_told_to_come_again(served: Served) -> None:
    class Short(Limits):
        run_seconds = 0.05

    nobody = Pool(0, 64, 30, Models([served]).keys)
    desk = Desk(Models([served]), nobody, Short(), Metrics())
    with pytest.raises(Problem, match="No worker") as refused:
        run(desk.run(served, [image(served)]))
    assert refused.value.status == 503
    nobody.close()


# --- training images ------------------------------------------------------------------------------------------------


class Counted(Thumbnails):
    """Thumbnails, of which is counted how many are open."""

    opened = 0
    options: dict[str, Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        Counted.options = named

    def __enter__(self) -> Thumbnails:
        Counted.opened += 1
        return super().__enter__()

    def __exit__(self, *arguments: Any) -> None:
        Counted.opened -= 1
        super().__exit__(*arguments)


def test_the_training_images_of_a_replaced_model_are_forgotten(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_images, "Thumbnails", Counted)
    Counted.opened = 0
    notes: list[str] = []
    images = TrainingImages(notes.append)
    embedding = served.classifier.embed(draw("disc", 90))
    first, second = served, dataclasses.replace(served, key="second")
    for one in (first, second):
        images.find(one)
        until(lambda one=one: images.knows(one))
    until(lambda: not images.knows(first))
    assert Counted.opened == 1
    assert images.nearest(first, embedding, 3) == []
    (record,) = images.nearest(second, embedding, 1)
    assert record["picture"] is not None
    images._find(first)  # one that took so long that its model had been replaced meanwhile
    assert (images.knows(first), images.knows(second), Counted.opened) == (False, True, 1)
    images.close()
    assert (images.knows(second), Counted.opened, notes) == (False, 0, [])


def test_thumbnails_are_looked_up_as_the_training_kept_them(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_images, "Thumbnails", Counted)
    own = dataclasses.replace(served.classifier.metadata.preprocess, white_level=4095)
    served.classifier.metadata = dataclasses.replace(served.classifier.metadata, preprocess=own)
    images = TrainingImages(pytest.fail)
    images._find(served)
    assert Counted.options == {"enough_px": own.enough_px, "white_level": 4095}


# --- a folder that is watched ---------------------------------------------------------------------------------------


def test_what_passes_is_no_reason_to_refuse_a_model(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(model, tmp_path / name)
    notes: list[str] = []
    failures = {
        "a": [StorageError("The worker processes cannot be started.", "Try fewer --workers.")] * 2,
        "b": [RuntimeError("a fault of ours")],
    }

    def prove(one: Served) -> None:
        if failures[one.name]:
            raise failures[one.name].pop()

    models = Models()
    watcher = Watcher(tmp_path, models, prove, None, notes.append)
    for _ in range(3):
        watcher.look()
    assert [one.name for one in models.all()] == ["a"]
    assert [("not served yet" in note, "a fault of ours" in note) for note in notes] == [
        (True, False),  # told once
        (False, True),
        (False, False),  # it is served
    ]
    (tmp_path / "b" / "model.onnx").touch()
    watcher.look()
    assert models.find("b") is not None
