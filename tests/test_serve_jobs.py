"""Jobs and workers: what is sent ahead outlives its worker, its model and a slow image before it; nothing is lost."""

from __future__ import annotations

import io
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.core.errors import ImageError
from helpers import draw, write_images

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")

from headstart.serving import exchange, keeper
from headstart.serving.jobs import BusyError, Job, Jobs
from headstart.serving.models import Models, Served, load
from headstart.serving.pool import Pool


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


# --- the queue ------------------------------------------------------------------------------------------------------


class Holder:
    skips = 0

    def skip(self) -> None:
        self.skips += 1


def some(count: int, seconds: float = 60) -> list[Job]:
    return [Job(None, exchange.Verify(str(number)), time.monotonic() + seconds) for number in range(count)]  # type: ignore[arg-type]


def any_job(_: Job) -> bool:
    return True


def test_jobs_come_in_their_order_and_all_or_none_are_accepted() -> None:
    jobs, four = Jobs(3), some(4)
    with pytest.raises(BusyError):
        jobs.add(four)
    assert (len(jobs), jobs.room) == (0, 3)
    jobs.add(four[:3])
    with pytest.raises(BusyError):
        jobs.add(four[3:])
    assert jobs.next(0) is four[0]
    jobs.put_back(four[0])
    assert [jobs.next(0) for _ in range(4)] == [*four[:3], None]


def test_a_free_worker_takes_what_was_sent_ahead_to_a_busy_one() -> None:
    jobs, busy, two = Jobs(9), Holder(), some(2)
    jobs.add(two)
    assert jobs.send_ahead(busy, lambda _: False) is None
    assert len(jobs) == 2
    assert jobs.send_ahead(busy, any_job) is two[0]
    assert jobs.next(0) is two[1]  # what waits goes first
    assert busy.skips == 0
    assert jobs.next(0) is two[0]
    assert busy.skips == 1
    assert jobs.begin(busy) is None
    assert jobs.next(0) is None


def test_what_has_begun_is_nobody_elses() -> None:
    jobs, busy, (one,) = Jobs(9), Holder(), some(1)
    jobs.add([one])
    assert jobs.send_ahead(busy, any_job) is one
    assert jobs.begin(busy) is one
    assert jobs.next(0) is None
    assert busy.skips == 0


def test_nothing_is_sent_ahead_while_a_worker_waits_for_a_job() -> None:
    jobs, busy, (one,) = Jobs(9), Holder(), some(1)
    found: list[Job | None] = []
    waiting = threading.Thread(target=lambda: found.append(jobs.next(30)))
    waiting.start()
    until(lambda: jobs._free == 1)
    with jobs._change:  # before the one that waits has noticed
        jobs._queue.append(one)
        jobs._change.notify()
        assert jobs._free == 1
        ahead = threading.Thread(target=lambda: found.append(jobs.send_ahead(busy, any_job)))
        ahead.start()
    waiting.join(30)
    ahead.join(30)
    assert sorted(found, key=bool) == [None, one]
    assert jobs.begin(busy) is None or busy.skips == 0


def test_who_waits_too_long_is_told_wherever_the_job_is() -> None:
    jobs, busy = Jobs(9), Holder()
    late, late_too, (in_time,) = *some(2, seconds=-1), some(1)
    jobs.add([late, late_too, in_time])
    assert jobs.send_ahead(busy, any_job) is late
    jobs.refuse_late()
    for one in (late, late_too):
        assert isinstance(one.done.exception(0), BusyError)
    assert busy.skips == 1
    assert jobs.begin(busy) is None
    assert jobs.next(0) is in_time
    assert in_time.begins()
    assert not late.begins()


def test_what_is_left_at_the_end_is_told() -> None:
    jobs, three = Jobs(9), some(3)
    jobs.add(three[:2])
    jobs.send_ahead(Holder(), any_job)
    jobs.close()
    jobs.put_back(three[2])
    for one in three:
        assert isinstance(one.done.exception(0), BusyError)
    with pytest.raises(BusyError):
        jobs.add(some(1))


def test_who_has_gone_costs_nothing_and_a_result_is_given_once() -> None:
    gone, given = some(2)
    gone.done.cancel()
    assert not gone.begins()
    gone.settle(None)
    given.settle(None)
    given.settle(BusyError())
    assert given.done.result(0) is None
    assert not given.begins()


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow() -> bytes:
    """An image that takes a second to decode."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)).save(file, "JPEG2000")
    return file.getvalue()


@pytest.fixture(scope="module")
def served(model: Path) -> Served:
    return load(model, "shapes", None)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A model of two of the classes."""
    folder = write_images(tmp_path_factory.mktemp("two"), {"disc": 12, "noise": 12})
    run = headstart.train(folder)
    return load(run.save(tmp_path_factory.mktemp("other") / "run") / "model.onnx", "two", None)


@pytest.fixture
def one_worker(served: Served) -> Iterator[Pool]:
    yield from pool_of(1, served)


@pytest.fixture
def two_workers(served: Served) -> Iterator[Pool]:
    yield from pool_of(2, served)


def pool_of(count: int, served: Served) -> Iterator[Pool]:
    """Workers that have loaded the model."""
    workers = Pool(count, 64, 20, Models([served]).keys)
    try:
        until(lambda: workers.alive == count)
        for _ in range(20):
            for done in workers.submit(served, [exchange.Verify(served.key)] * count):
                done.result(60)
            if all(one._loaded for one in workers._keepers):
                break
        yield workers
    finally:
        workers.close()


def image(served: Served, label: str = "disc", seed: int = 90) -> exchange.Image:
    return exchange.Image(served.key, np.asarray(draw(label, seed, (80, 64))).tobytes(), (64, 80, 3))


def says(served: Served, done: Future[Any]) -> str:
    result = done.result(60)
    assert len(result.probabilities) == len(served.classifier.classes)
    return served.classifier.classes[int(result.probabilities.argmax())]


def process_of(workers: Pool, number: int = 0) -> int:
    process = workers._keepers[number]._process
    assert process is not None
    assert process.pid is not None
    return process.pid


def test_the_next_image_is_with_the_worker_before_the_last_one_is_answered(
    one_worker: Pool, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = []
    send = keeper.Keeper._send_ahead

    def noting(one: keeper.Keeper, pipe: Any) -> None:
        send(one, pipe)
        ahead.append(one._ahead is not None)

    monkeypatch.setattr(keeper.Keeper, "_send_ahead", noting)
    os.kill(process_of(one_worker), signal.SIGSTOP)  # until all are there
    labels = ["disc", "noise", "stripes"]
    sent = one_worker.submit(served, [image(served, label) for label in labels])
    os.kill(process_of(one_worker), signal.SIGCONT)
    assert [says(served, done) for done in sent] == labels
    assert ahead == [True, True, False]
    assert one_worker.waiting == 0


@pytest.mark.slow
def test_what_was_sent_ahead_outlives_the_worker(one_worker: Pool, served: Served, slow: bytes) -> None:
    """The image that a worker dies over is to blame, the one behind it goes to the next worker."""
    os.kill(process_of(one_worker), signal.SIGSTOP)
    first, second = one_worker.submit(served, [exchange.Image(served.key, slow), image(served)])
    os.kill(process_of(one_worker), signal.SIGCONT)
    until(lambda: one_worker._keepers[0]._ahead is not None)
    os.kill(process_of(one_worker), signal.SIGKILL)
    with pytest.raises(ImageError, match="ended"):
        first.result(60)
    assert says(served, second) == "disc"
    assert one_worker.restarts == 1


@pytest.mark.slow
def test_what_was_sent_ahead_to_a_worker_that_hangs_is_done_by_the_next(
    served: Served, slow: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Pool(1, 8, 20, Models([served]).keys)
    try:
        workers.submit(served, [exchange.Verify(served.key)])[0].result(60)
        workers._keepers[0]._seconds = 0.5  # for an image; it may wait for 20 seconds
        first, second = workers.submit(served, [exchange.Image(served.key, slow), image(served)])
        until(lambda: workers._keepers[0]._ahead is not None)
        os.kill(process_of(workers), signal.SIGSTOP)
        with pytest.raises(ImageError, match=r"more than 0\.5 seconds"):
            first.result(60)
        workers._keepers[0]._seconds = 20
        assert says(served, second) == "disc"
    finally:
        workers.close()


@pytest.mark.slow
def test_no_image_waits_behind_a_slow_one_while_a_worker_is_free(
    two_workers: Pool, served: Served, slow: bytes
) -> None:
    processes = [process_of(two_workers, number) for number in (0, 1)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    slow_ones = two_workers.submit(served, [exchange.Image(served.key, slow)] * 2)
    until(lambda: two_workers.waiting == 0)
    quick = two_workers.submit(served, [image(served)] * 2)
    os.kill(processes[0], signal.SIGCONT)
    until(lambda: any(done.done() for done in slow_ones))
    assert [says(served, done) for done in quick] == ["disc"] * 2
    assert sum(done.done() for done in slow_ones) == 1  # the other worker stands still
    os.kill(processes[1], signal.SIGCONT)
    for done in slow_ones:
        assert done.exception(60) is None
    assert two_workers.restarts == 0


@pytest.mark.slow
def test_a_worker_leaves_out_what_was_taken_back(one_worker: Pool, served: Served, slow: bytes) -> None:
    first, second = one_worker.submit(served, [exchange.Image(served.key, slow)] * 2)
    kept = one_worker._keepers[0]
    until(lambda: kept._ahead is not None)
    taken = one_worker._jobs.next(0)  # as the thread of another worker does
    assert taken is not None
    assert taken.done is second
    begun = time.monotonic()
    assert first.exception(60) is None
    first_seconds = time.monotonic() - begun
    begun = time.monotonic()
    assert says(served, one_worker.submit(served, [image(served)])[0]) == "disc"
    assert time.monotonic() - begun < max(first_seconds, 1)  # the second was not decoded
    assert not second.done()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_models_are_replaced_and_workers_killed_and_every_image_has_its_answer(
    served: Served, other: Served, seed: int
) -> None:
    """Of its own model, or that a worker died over it; whatever is in the pipes at the time."""
    rng, table = random.Random(seed), Models([served])
    workers = Pool(2, 64, 60, table.keys)
    labels = {served: ["disc", "noise", "stripes"], other: ["disc", "noise"]}
    blamed = killed = 0
    try:
        until(lambda: workers.alive == 2)
        for turn in range(30):
            table._served = {"x": rng.choice([served, other])}  # others are to be dropped by the workers
            wanted = [(one := rng.choice([served, other]), rng.choice(labels[one])) for _ in range(rng.randint(1, 12))]
            sent = [workers.submit(one, [image(one, label)])[0] for one, label in wanted]
            if turn % 10 == 5:
                time.sleep(rng.random() / 50)
                number = rng.randrange(2)
                if workers._keepers[number]._process is not None:
                    os.kill(process_of(workers, number), signal.SIGKILL)
                    killed += 1
            for (one, label), done in zip(wanted, sent, strict=True):
                if isinstance(done.exception(60), ImageError):
                    blamed += 1
                else:
                    assert says(one, done) == label
        assert blamed <= killed
        assert workers.waiting == 0
    finally:
        workers.close()
