"""uvicorn's HTTP with deadlines: it has none for headers, for bodies, and for clients that do not read the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from headstart.serving.limits import HEADER_SECONDS
from headstart.serving.problems import PROBLEM_TYPE, Problem


class Protocol(H11Protocol):
    """One connection.

    At any time one of three deadlines runs: until the headers are there, until a request is answered, until its answer
    has left. A connection that is idle between requests is uvicorn's to close.
    """

    request_seconds: float = 100  # of the server that makes the connections; see `with_deadline`

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._arm(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has gone."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        before = self.cycle
        if (before is None or before.response_complete) and not self._in_headers:
            self._in_headers = True
            self._arm(HEADER_SECONDS)
        super().data_received(data)
        if self.cycle is not before:
            self._begin()

    def on_response_complete(self) -> None:
        """The answer is in the buffer of the connection."""
        before = self.cycle
        self._arm(HEADER_SECONDS)  # for the client to take it
        super().on_response_complete()
        if self.cycle is not before:  # the next request was in the same bytes
            self._begin()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or has headers beyond all measure."""
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
        self._in_headers = False
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


def with_deadline(seconds: float) -> type[Protocol]:
    """The protocol of a server whose requests take at most so long."""
    return type("Protocol", (Protocol,), {"request_seconds": seconds})
