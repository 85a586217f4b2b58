"""Whose request begins when: what is promised of health during a flood, in rounds of the loop and not in seconds."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")

from headstart.serving import protocol, server, turns
from headstart.serving.limits import Limits
from headstart.serving.turns import Turns, is_probe
from serving import run

MANY = 200
LARGE = 30_000_000  # more than the system takes for a client that does not read
POST = b"POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
PROBE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_few_begin_in_each_round_and_all_in_their_order() -> None:
    begun: list[tuple[int, int]] = []  # who, in which round
    now = 0

    async def rounds() -> None:
        nonlocal now
        line = Turns()
        for who in range(20):
            line.take(lambda who=who: begun.append((who, now)))
        while len(begun) < 20:
            now += 1
            await asyncio.sleep(0)
        line.take(lambda: begun.append((20, now)))  # nobody waits any more

    run(rounds())
    assert [who for who, _ in begun] == list(range(21))
    counts = [sum(one == number for _, one in begun[:20]) for number in range(begun[19][1] + 1)]
    assert max(counts) <= turns._A_ROUND
    assert begun[20][1] == now


def test_while_a_probe_is_under_way_nobody_else_begins_for_some_rounds() -> None:
    begun: list[int] = []

    async def rounds() -> list[int]:
        line = Turns()
        counts: list[int] = []
        for who in range(20):
            line.take(lambda who=who: begun.append(who))
        line.probes = 1
        for number in range(2 * turns._HELD_ROUNDS + 6):
            await asyncio.sleep(0)
            counts.append(len(begun))
            line.probes = number < 2 * turns._HELD_ROUNDS
        return counts

    counts = run(rounds())
    assert counts[0] == counts[turns._HELD_ROUNDS - 2] <= turns._A_ROUND
    assert counts[turns._HELD_ROUNDS + 1] == counts[0] + turns._A_ROUND  # many probes do not keep all others waiting
    assert counts[-1] >= counts[0] + 4 * turns._A_ROUND
    assert begun == sorted(begun)


def test_probes_are_counted_until_they_are_answered_or_gone() -> None:
    loaded = Loaded()
    with loaded.running(), contextlib.ExitStack() as clients:
        kept = clients.enter_context(loaded.connect())
        for _ in range(3):
            kept.sendall(PROBE)
            assert answer(kept).startswith(b"HTTP/1.1 200")
        with loaded.standing():
            for content in (PROBE, PROBE[:-2], PROBE + POST, POST):
                with loaded.connect() as gone:
                    gone.sendall(content)
        kept.sendall(POST)
        assert answer(kept).startswith(b"HTTP/1.1 200")
        until = time.monotonic() + 30
        while loaded.turns.probes:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("data", "expected"),
    [(PROBE, True), (b"HEAD /readyz HTTP/1.1\r\n", True), (POST, False), (b"GET /", False), (b"POST /healthz", False)],
)
def test_a_probe_is_known_by_its_first_bytes(data: bytes, expected: bool) -> None:
    assert is_probe(data) == expected


class Loaded:
    """A server with an application that notes who asks.

    It begins when all clients have sent: until then a gate keeps the event loop busy.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.connections: set[Any] = set()  # of the server, where they have been let in
        self.let_in = 0  # before the probe
        self.turns = Turns()
        self.port = 0
        self._listening, self._full, self._go = threading.Event(), threading.Event(), threading.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        if scope["path"] == "/healthz":
            self.let_in = len(self.connections)
        if scope["path"] == "/full":
            self._full.set()
            self._go.wait(30)  # the loop stands still, as it does when it has much to do
        while (await receive())["more_body"]:
            pass
        body = bytes(LARGE if scope["path"] == "/large" else 0)
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """The loop stands still; what is sent meanwhile is there when it goes on."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        client.request("GET", "/full")
        assert self._full.wait(30)
        yield
        self._go.set()
        assert client.getresponse().status == 200
        client.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        line = self.turns
        config = server._config(self, Limits(), line)  # type: ignore[arg-type]
        one = server._Server(config, line, self._listening.set)
        self.connections = one.server_state.connections
        one.capture_signals = contextlib.nullcontext  # type: ignore[assignment]  # it is not in the main thread
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            thread = threading.Thread(target=one.run, args=([listener],))
            thread.start()
            assert self._listening.wait(30)
            try:
                yield
            finally:
                one.should_exit = True
                thread.join(30)
        assert not thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)


def answer(client: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65536)
    return received


@pytest.mark.parametrize("kept", [False, True], ids=["new connections", "connections that are kept"])
def test_health_goes_before_a_flood(kept: bool) -> None:
    loaded = Loaded()
    with loaded.running(), contextlib.ExitStack() as clients:
        flood: list[socket.socket] = []
        if kept:
            flood = [clients.enter_context(loaded.connect()) for _ in range(MANY)]
            probe = clients.enter_context(loaded.connect())
            for client in (*flood, probe):
                client.sendall(PROBE)
                assert answer(client).startswith(b"HTTP/1.1 200")
            loaded.asked.clear()
        with loaded.standing():
            flood = flood or [clients.enter_context(loaded.connect()) for _ in range(MANY)]
            for client in flood:
                client.sendall(POST)
            probe = probe if kept else clients.enter_context(loaded.connect())
            probe.sendall(PROBE)
        for client in (probe, *flood):
            assert answer(client).startswith(b"HTTP/1.1 200")
    assert loaded.asked.count("/work") == MANY
    assert loaded.asked.index("/healthz") < MANY / 4  # the last to ask
    assert kept or loaded.let_in < MANY / 4


def test_who_takes_no_answer_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.5)
    loaded = Loaded()
    with loaded.running(), loaded.connect() as client:
        client.sendall(POST.replace(b"/work", b"/large"))
        until = time.monotonic() + 30
        while not loaded.connections or not loaded.asked:
            assert time.monotonic() < until
            time.sleep(0.01)
        while loaded.connections:  # nothing is read
            assert time.monotonic() < until
            time.sleep(0.05)
        received = 0
        with contextlib.suppress(ConnectionError):
            while part := client.recv(1 << 20):
                received += len(part)
        assert 0 < received < LARGE


def test_what_waits_for_its_turn_is_answered_when_the_server_ends() -> None:
    loaded = Loaded()
    with contextlib.ExitStack() as clients:
        with loaded.running(), loaded.standing():
            flood = [clients.enter_context(loaded.connect()) for _ in range(20)]
            for client in flood:
                client.sendall(POST)
        for client in flood:
            assert answer(client).startswith(b"HTTP/1.1 200")
