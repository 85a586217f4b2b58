"""What a server meets on a bad day: garbage, bombs, slow and vanished clients, too many of them, workers that die."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import signal
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.serving.limits import HEADER_SECONDS
from headstart.serving.problems import RETRY_SECONDS
from helpers import draw
from serving import Answer, Server, form, read, serving

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")

PREDICT = "/v1/models/shapes/predict"
LIMIT_MB, SECONDS = 4, 2
WAITS = 3  # seconds for headers, in place of the program's `HEADER_SECONDS`
# What is promised is 100 ms; tests share their machine with others.
QUICK = 5.0
CLEAN = {200, 400, 404, 405, 408, 413, 415, 421, 422, 503}


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    options = ("--max-mb", str(LIMIT_MB), "--max-seconds", str(SECONDS), "--max-files", "8", "--queue", "16")
    with serving(model.parent, "--workers", "2", *options, header_seconds=WAITS) as one:
        yield one


@pytest.fixture
def whole(server: Server) -> Iterator[Server]:
    """The server, which must answer as ever when the test is over."""
    yield server
    server.wait("/readyz", 200)
    assert server.ask(PREDICT, png("disc")).json["predictions"][0]["label"] == "disc"


def png(label: str, seed: int = 90, size: tuple[int, int] = (80, 64)) -> bytes:
    file = io.BytesIO()
    draw(label, seed, size).save(file, "PNG")
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A small PNG file of any size: black, one bit a pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes(width // 8 + 2) * height if width * height < 10**8 else bytes(10**7), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def quick(server: Server) -> None:
    begun = time.monotonic()
    assert server.ask("/healthz").status == 200
    assert time.monotonic() - begun < QUICK


def raw(server: Server, content: bytes, seconds: float = 30) -> bytes:
    """Send bytes, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), seconds) as client:
        client.settimeout(seconds)
        with contextlib.suppress(ConnectionError):
            client.sendall(content)
        return everything(client)


def everything(client: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


# --- bodies ---------------------------------------------------------------------------------------------------------


def mutations(rng: random.Random, count: int) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Images and forms with bytes changed, left out, doubled and cut; each with the headers that it is sent with."""
    images = [png("disc"), png("noise", size=(17, 40))]
    for kind in ("JPEG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"):
        file = io.BytesIO()
        draw("stripes", 91).save(file, kind)
        images.append(file.getvalue())
    for _ in range(count):
        content, headers = rng.choice(images), {"Content-Type": "image/jpeg"}
        if rng.random() < 0.3:
            content, kind = form({rng.choice(["a", "<b>", "é", ""]): content for _ in range(rng.randint(0, 3))})
            headers = {"Content-Type": kind}
        changed = bytearray(content)
        for _ in range(rng.randint(1, 6)):
            at, size = rng.randrange(len(changed) + 1), rng.choice([1, 1, 2, 4, 60])
            change = rng.randrange(5)
            if change == 0:
                changed[at : at + size] = rng.randbytes(size)
            elif change == 1:
                del changed[at : at + size]
            elif change == 2:
                changed[at:at] = changed[at : at + size]
            elif change == 3:
                changed[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff"])
            else:
                del changed[at:]
        if rng.random() < 0.1:
            headers["Content-Type"] = rng.choice(["", "image/png; =", "multipart/form-data; boundary=é", "x" * 3000])
        yield bytes(changed), headers


def garbage(server: Server, count: int, seed: int) -> Counter[int]:
    found: Counter[int] = Counter()
    connection = server.connect()
    paths = [PREDICT, PREDICT + "?top=2&coverage=0.9", "/v2/models/shapes/infer", "/v1/models/%00/predict"]
    rng = random.Random(seed)
    for body, headers in mutations(rng, count):
        connection.request("POST", rng.choice(paths[:1] * 9 + paths), body, {k: v.encode() for k, v in headers.items()})
        answer = read(connection)
        found[answer.status] += 1
        if answer.status != 200:
            assert answer.is_problem, answer
    connection.close()
    return found


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_garbage_is_answered_in_words_and_nothing_dies(whole: Server, count: int) -> None:
    workers = sorted(whole.workers())
    with ThreadPoolExecutor(4) as pool:
        found = sum(pool.map(lambda seed: garbage(whole, count // 4, seed), range(4)), Counter[int]())
    assert found.total() == count
    assert set(found) <= CLEAN - {503}, found
    assert found[422] > count / 10
    assert sorted(whole.workers()) == workers


@pytest.mark.parametrize(
    "content",
    [
        bomb(100_000, 100_000),
        bomb(20_000, 1),
        bomb(1, 20_000),
        bomb(9_000, 9_000),
        bomb(0, 5),
        b"\x89PNG\r\n\x1a\n",
        b"",
    ],
    ids=["giant", "wide", "tall", "81-megapixels", "nothing", "head", "empty"],
)
def test_bombs_are_refused_or_small(whole: Server, content: bytes) -> None:
    before = whole.resident_mb()
    begun = time.monotonic()
    answer = whole.ask(PREDICT, content, headers={"Content-Type": "image/png"})
    assert time.monotonic() - begun < QUICK
    assert answer.status in {200, 422}
    assert whole.resident_mb() < before + 100


def chunked(size: int) -> Iterator[bytes]:
    for _ in range(size // 65536):
        yield bytes(65536)


@pytest.mark.parametrize("way", ["declared", "chunked", "form", "kserve"])
def test_what_is_too_large_is_refused_at_the_limit(whole: Server, way: str) -> None:
    before, size = whole.resident_mb(), 20 * LIMIT_MB * 10**6
    written = written_bytes(whole)
    if way == "declared":  # not a byte of the body is needed
        connection = whole.connect()
        connection.putrequest("POST", PREDICT)
        connection.putheader("Content-Length", str(10**10))
        connection.endheaders()
        answer = read(connection)
        connection.close()
    else:
        headers = {"Content-Type": "multipart/form-data; boundary=a" if way == "form" else "image/png"}
        path = "/v2/models/shapes/infer" if way == "kserve" else PREDICT
        answer = whole.ask(path, chunked(size), headers=headers, encode_chunked=True)
    assert (answer.status, answer.is_problem) == (413, True)
    assert whole.resident_mb() < before + 10 * LIMIT_MB
    assert written_bytes(whole) == written  # nothing goes to a disk


def written_bytes(server: Server) -> int:
    """What a server and its workers have had written to storage."""
    files = [Path(f"/proc/{process}/io").read_text() for process in (server.process.pid, *server.workers())]
    return sum(int(text.split("\nwrite_bytes: ")[1].split("\n")[0]) for text in files)


def test_a_length_that_lies(whole: Server) -> None:
    content = png("disc")
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: "
    said = raw(whole, f"{head}{len(content) - 50}\r\n\r\n".encode() + content)  # the rest is no request
    assert said.startswith((b"HTTP/1.1 422", b"HTTP/1.1 400")), said[:100]
    with socket.create_connection(("127.0.0.1", whole.port)) as client:
        client.sendall(f"{head}{len(content) + 50}\r\n\r\n".encode() + content)
        client.shutdown(socket.SHUT_WR)  # what is missing will not come
        client.settimeout(SECONDS + 10)
        assert not everything(client).startswith(b"HTTP/1.1 200")


def test_a_hundred_thousand_parts_and_headers(whole: Server) -> None:
    begun = time.monotonic()
    parts = b"--a\r\n\r\n\r\n" * 100_000 + b"--a--\r\n"
    answer = whole.ask(PREDICT, parts, headers={"Content-Type": "multipart/form-data; boundary=a"})
    assert (answer.status, answer.is_problem) == (422, True)  # the first part has no name
    named = b'--a\r\nContent-Disposition: form-data; name="files"\r\n\r\n\r\n' * 60_000 + b"--a--\r\n"
    answer = whole.ask(PREDICT, named, headers={"Content-Type": "multipart/form-data; boundary=a"})
    assert (answer.status, answer.is_problem) == (413, True)
    long = b"--a\r\n" + b"X: " + b"y" * 10**6 + b"\r\n\r\n\r\n--a--\r\n"
    assert whole.ask(PREDICT, long, headers={"Content-Type": "multipart/form-data; boundary=a"}).status == 400
    said = raw(whole, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100_000 + b"\r\n")
    assert said.startswith(b"HTTP/1.1 4") or not said
    assert time.monotonic() - begun < 10 * QUICK


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a browser that tries https
        b"GET / HTTP/x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",  # without a Host
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"A" * 100_000,
        bytes(1000),
    ],
    ids=range(9),
)
def test_what_is_not_http_is_refused(whole: Server, content: bytes) -> None:
    said = raw(whole, content)
    assert said.startswith(b"HTTP/1.1 400"), said
    assert b"application/problem+json" in said
    assert b"uvicorn" not in said.lower()


def test_requests_that_do_not_wait_for_answers_are_answered_in_order_up_to_a_number(whole: Server) -> None:
    paths = ["/healthz", "/v1/models", "/none", "/readyz"]
    several = "".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths[:-1])
    last = f"GET {paths[-1]} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    said = raw(whole, (several + last).encode())
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"200", b"404", b"200"]
    places = [said.index(text) for text in (b'"ok"', b'"models"', b"no page", b'"ready"')]
    assert places == sorted(places)
    before = whole.resident_mb()
    many = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100_000  # each would be kept until its turn
    assert raw(whole, many).count(b"HTTP/1.1 200") < 100
    assert whole.resident_mb() < before + 30


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000,
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: yyyy\r\n" * 20_000,
        b"GET /" + b"y" * 70_000,
    ],
    ids=["one header", "many headers", "address"],
)
@pytest.mark.parametrize("ends", [True, False])
def test_headers_have_a_limit_also_where_they_come_at_once(whole: Server, head: bytes, ends: bool) -> None:
    rest = b" HTTP/1.1\r\nHost: localhost\r\n\r\n" if head.startswith(b"GET /y") else b"\r\n\r\n"
    said = raw(whole, head + (rest if ends else b""))
    assert said.startswith(b"HTTP/1.1 400"), said[:100]
    assert b"application/problem+json" in said


def test_what_asks_for_another_protocol_is_answered_in_this_one(whole: Server) -> None:
    """As Java's client asks with every request, and `curl --http2`."""
    content = png("disc")
    for upgrade in ("h2c", "websocket"):
        headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": upgrade, "HTTP2-Settings": "AAMAAABkAAQAAP__"}
        connection = whole.connect()
        for method, path, body in (("POST", PREDICT, content), ("GET", "/healthz", None), ("POST", PREDICT, content)):
            connection.request(method, path, body, headers)
            answer = read(connection)
            assert answer.status == 200
        connection.close()
        assert answer.json["predictions"][0]["label"] == "disc"
        answer = whole.ask(PREDICT, iter([content[:100], content[100:]]), headers=headers, encode_chunked=True)
        assert (answer.status, answer.json["predictions"][0]["label"]) == (200, "disc")


# --- clients --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_body_that_comes_too_slowly(whole: Server) -> None:
    connection = whole.connect()
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"x")
    begun = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - begun < SECONDS + 1:
            connection.send(b"x")
            quick(whole)
            time.sleep(0.2)
    answer = read(connection)
    connection.close()
    assert (answer.status, answer.is_problem) == (408, True)


@pytest.mark.slow
def test_headers_that_never_end_and_connections_that_say_nothing(whole: Server) -> None:
    assert HEADER_SECONDS <= 10
    clients = [socket.create_connection(("127.0.0.1", whole.port)) for _ in range(1000)]
    try:
        for number, client in enumerate(clients):
            if number % 2:
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
        quick(whole)
        begun = time.monotonic()
        clients[1].settimeout(60)
        while time.monotonic() - begun < 30:  # a byte now and then does not help
            try:
                clients[1].sendall(b"h")
            except OSError:
                break
            quick(whole)
            time.sleep(0.25)
        assert time.monotonic() - begun < WAITS + 5
        for client in clients:
            client.settimeout(30)
            assert everything(client) == b""
    finally:
        for client in clients:
            client.close()


def test_clients_that_leave_or_do_not_read(whole: Server) -> None:
    body, kind = form({"a.png": png("disc")})
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    for sent in (head.encode()[:50], head.encode() + body[:50], head.encode() + body):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", whole.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset at the end
                client.sendall(sent)
    clients = []
    for _ in range(10):  # requests one after the other, whose answers nobody takes
        client = socket.create_connection(("127.0.0.1", whole.port))
        client.sendall(b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        clients.append(client)
    quick(whole)
    for client in clients:
        client.close()


@pytest.mark.slow
def test_many_clients_at_once_are_answered_or_told_to_come_again(whole: Server) -> None:
    before, answers, told = whole.resident_mb(), Counter[int](), Counter[str]()
    lock = threading.Lock()
    body, kind = form({"a.png": png("disc", size=(200, 150))})

    def one(_: int) -> None:
        answer: Answer | None = None
        with contextlib.suppress(ConnectionError):
            answer = whole.ask(PREDICT, body, headers={"Content-Type": kind})
        if answer is not None and answer.status == 503:
            assert answer.is_problem
        with lock:
            answers[0 if answer is None else answer.status] += 1
            if answer is not None and answer.status == 503:
                told[answer.headers["retry-after"]] += 1

    with ThreadPoolExecutor(250) as pool:
        sent = [pool.submit(one, number) for number in range(500)]
        time.sleep(0.2)
        waits = []
        while not all(done.done() for done in sent):
            begun = time.monotonic()
            assert whole.ask("/healthz").status == 200
            waits.append(time.monotonic() - begun)
        # In a flood it was 1 to 2 seconds where health had no turn before others; see also test_serve_turns.
        assert sorted(waits)[len(waits) // 2] < QUICK / 10
        for done in sent:
            done.result()
    assert set(answers) == {200, 503}, answers
    assert answers[200] >= 16
    assert set(told) == {str(seconds) for seconds in RETRY_SECONDS}  # they do not come back all together
    assert min(told.values()) > sum(told.values()) / 8
    assert whole.resident_mb() < before + 150
    begun = time.monotonic()
    assert whole.ask(PREDICT, body, headers={"Content-Type": kind}).status == 200
    assert time.monotonic() - begun < 10


@pytest.mark.slow
def test_memory_is_flat(whole: Server) -> None:
    contents = [form({"a.png": png(label, seed, (300, 200))}) for label in ("disc", "noise") for seed in range(5)]
    connection = whole.connect()

    def many(count: int) -> float:
        for number in range(count):
            body, kind = contents[number % len(contents)]
            connection.request("POST", PREDICT, body, {"Content-Type": kind})
            assert read(connection).status == 200
        return whole.resident_mb()

    many(150)
    before = many(50)
    after = many(300)
    connection.close()
    assert after < before + 8  # an image's pixels are 0.2 MB


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow() -> bytes:
    """An image that takes a second to decode."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)).save(file, "JPEG2000")
    return file.getvalue()


def cpu_seconds(process: int) -> float:
    """Processor time that a process has used."""
    values = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def in_background(call: Callable[[], Answer]) -> tuple[threading.Thread, list[Answer]]:
    found: list[Answer] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    return thread, found


@pytest.fixture(scope="module")
def lone(model: Path) -> Iterator[Server]:
    """A server with one worker, that may take its time."""
    with serving(model.parent, "--workers", "1", "--max-seconds", "20") as one:
        yield one


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_that_dies_over_an_image_takes_nothing_with_it(lone: Server, slow: bytes, number: int) -> None:
    lone.wait("/readyz", 200)
    (worker,) = lone.workers()
    before = cpu_seconds(worker)
    thread, found = in_background(lambda: lone.ask(PREDICT, slow))
    while cpu_seconds(worker) < before + 0.3:  # it has the image in hand
        time.sleep(0.01)
    quick(lone)
    os.kill(worker, number)
    thread.join(30)
    assert (found[0].status, found[0].is_problem) == (422, True)
    assert "ended" in found[0].json["detail"]
    lone.wait("/readyz", 200)
    assert lone.ask(PREDICT, png("disc")).status == 200
    assert lone.workers() != [worker]


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(whole: Server) -> None:
    stopped = whole.workers()
    for worker in stopped:
        os.kill(worker, signal.SIGSTOP)
    answer = whole.ask(PREDICT, png("disc"))
    assert (answer.status, answer.is_problem) == (422, True)
    assert f"more than {SECONDS} seconds" in answer.json["detail"]
    for worker in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)


@pytest.mark.slow
def test_a_worker_that_dies_in_between_is_replaced_and_nobody_notices(lone: Server) -> None:
    lone.wait("/readyz", 200)
    (worker,) = lone.workers()
    os.kill(worker, signal.SIGKILL)
    lone.wait("/readyz", 503, 10)
    assert lone.ask("/healthz").status == 200
    lone.wait("/readyz", 200)
    (worker,) = lone.workers()
    os.kill(worker, signal.SIGKILL)
    assert lone.ask(PREDICT, png("disc")).status == 200  # at once: it waits for the new one


@pytest.mark.slow
def test_workers_end_with_the_server(model: Path) -> None:
    with serving(model.parent, "--workers", "2", killed=True) as one:
        workers = one.workers()
        one.process.kill()
    end = time.monotonic() + 10
    assert len(workers) == 2
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
