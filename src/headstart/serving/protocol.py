"""uvicorn's HTTP protocol with deadlines, which it lacks for headers, bodies, and clients that do not read."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from headstart.serving.limits import HEADER_SECONDS
from headstart.serving.problems import PROBLEM_TYPE, Problem
from headstart.serving.turns import Turns, is_probe

_HELD_BYTES = 65_536  # more is left to the system until the request has its turn


class Protocol(H11Protocol):
    """One connection.

    At any time one of three deadlines applies: until the headers have arrived, until the request is answered, until
    the response has been sent. Connections that are idle between requests are closed by uvicorn.
    """

    # Of the server that makes the connections; see `protocol_of`.
    request_seconds: float
    turns: Turns

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_headers = True
        self._has_turn = False  # for the request that has begun or begins next
        self._held = bytearray()  # of a request that waits for its turn
        self._lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._arm(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has disconnected."""
        self._lost = True
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived; those that begin a request wait for its turn."""
        if self._has_turn or (not self._held and is_probe(data)):
            self._has_turn = True
            self._receive(data)
            return
        first = not self._held
        self._held += data
        if len(self._held) > _HELD_BYTES:
            self.flow.pause_reading()
        if first:
            self._unset_keepalive_if_required()
            self.turns.take(self._take_turn)

    def _take_turn(self) -> None:
        if self._lost:
            return
        self._has_turn = True
        data, self._held = bytes(self._held), bytearray()
        self.flow.resume_reading()
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        before = self.cycle
        if (before is None or before.response_complete) and not self._in_headers:
            self._in_headers = True
            self._arm(HEADER_SECONDS)
        super().data_received(data)
        if self.cycle is not before:
            self._begin()

    def on_response_complete(self) -> None:
        """The response is in the buffer of the connection."""
        before = self.cycle
        self._has_turn = False
        self._arm(HEADER_SECONDS)  # for the client to take it
        super().on_response_complete()
        if self.cycle is not before:  # the next request was in the same bytes
            self._begin()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP, or whose headers are too large."""
        if self.cycle is not None and not self.cycle.response_complete:  # it was the body that is not HTTP
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        problem = Problem(400, msg).response()
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(problem.body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(problem.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _begin(self) -> None:
        self._in_headers, self._has_turn = False, True
        if not self.cycle.response_complete:
            self._arm(self.request_seconds)

    def _arm(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        idle = self.cycle is not None and self.cycle.response_complete and not self._in_headers
        if not idle or self.transport.get_write_buffer_size():
            self.transport.abort()


def protocol_of(seconds: float, turns: Turns) -> type[Protocol]:
    """The protocol class for a server with a limit on the time of a request, whose requests begin in turns."""
    return type("Protocol", (Protocol,), {"request_seconds": seconds, "turns": turns})
