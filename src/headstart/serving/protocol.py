"""uvicorn's HTTP protocol with deadlines and limits, which it lacks for headers, bodies and idle readers."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headstart.serving.limits import HEADER_BYTES, HEADER_SECONDS
from headstart.serving.problems import PROBLEM_TYPE, Problem
from headstart.serving.turns import Turns, is_probe

_HELD_BYTES = 65_536  # more is left to the system until the request has its turn
_PIPELINED = 16  # requests that a client may send without waiting for the answer to the first


class _RefusedError(Exception):
    """A request that is not HTTP as we accept it; the parser makes a fault of its own of it."""


class _Joined:
    """A transport that sends what is written within one turn of the event loop at once.

    uvicorn writes the head of a response and its body apart, and to send costs a tenth of all that is done for a
    request besides the image.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._held.clear()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + sum(map(len, self._held))

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._transport.write(b"".join(held))


class Protocol(HttpToolsProtocol):
    """One connection.

    At any time one of three deadlines applies: until the headers have arrived, until the request is answered, until
    the response has been sent. Connections that are idle between requests are closed by uvicorn.
    """

    # Of the server that makes the connections; see `protocol_of`.
    request_seconds: float
    turns: Turns

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._due = 0.0  # in the time of the loop
        self._timer: asyncio.TimerHandle | None = None  # not later than that
        self._in_headers = True
        self._parsing, self._header_bytes = False, 0  # the address and headers of a request
        self._has_turn = False  # for the request that has begun or begins next
        self._probes = False  # the request that has begun is one
        self._held = bytearray()  # of a request that waits for its turn
        self._lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]
        self._arm(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has disconnected."""
        self._lost = True
        self._probe(begins=False)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived; those that begin a request wait for its turn."""
        if not self._has_turn and not self._held and is_probe(data):
            self._has_turn = True
            self._probe(begins=data.endswith(b"\r\n\r\n"))  # else it takes as long as the client likes
        if self._has_turn:
            self._receive(data)
            return
        first = not self._held
        self._held += data
        if first:
            self._unset_keepalive_if_required()
            self.turns.take(self._take_turn)
        if len(self._held) > _HELD_BYTES:
            self.flow.pause_reading()

    def _probe(self, *, begins: bool) -> None:
        self.turns.probes += begins - self._probes
        self._probes = begins

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
        self._parse(data)
        if self.cycle is not before:
            self._begin()
        elif self._parsing and not self.transport.is_closing():
            self._header_bytes += len(data)  # of an address, or a header, that has not ended and can have any length
            if self._header_bytes > HEADER_BYTES:
                self.send_400_response("The headers of the request are too large.")

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            (end,) = offer.args  # of the headers
            self._decline(data[end:])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _decline(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 where the client offers another protocol, as Java's client does with every request.

        The parser takes such an offer as accepted, and what follows the headers for something else than their body.
        """
        version = self.parser.get_http_version().encode()
        head = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        head += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._parse(b"\r\n".join([*head, b"", b""]) + rest)

    def on_message_begin(self) -> None:
        """A request begins, which may be behind others that are not answered."""
        if len(self.pipeline) >= _PIPELINED:
            self.transport.abort()
            raise _RefusedError
        self._parsing, self._header_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is there."""
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES:
            raise _RefusedError

    def on_headers_complete(self) -> None:
        """All headers are there. The parser leaves it to us that there must be one Host."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise _RefusedError
        if not self.parser.should_upgrade():
            self._parsing = False
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The response is in the buffer of the connection."""
        goes_on = bool(self.pipeline)  # the next request was in the same bytes
        self._has_turn = False
        self._probe(begins=False)
        self._arm(HEADER_SECONDS)  # for the client to take it
        super().on_response_complete()
        if goes_on:
            self._begin()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP, or whose headers are too large."""
        answers = False
        if self.cycle is not None and not self.cycle.response_complete:  # it was the body that is not HTTP
            answers = self.cycle.response_started or bool(self.pipeline)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not answers:
            body = Problem(400, msg).response().body
            self.transport.write(
                f"HTTP/1.1 400 Bad Request\r\ncontent-type: {PROBLEM_TYPE}\r\ncontent-length: {len(body)}\r\n"
                "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n".encode()
                + bytes(body)
            )
        self.transport.close()

    def _begin(self) -> None:
        self._in_headers, self._has_turn = False, True
        if not self.cycle.response_complete:
            self._arm(self.request_seconds)

    def _arm(self, seconds: float) -> None:
        """Set the deadline. The timer is left where it comes first: most requests end long before, and set another."""
        self._due = self.loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self.loop.call_at(self._due, self._late)

    def _late(self) -> None:
        self._timer = None
        if self.loop.time() < self._due:
            self._timer = self.loop.call_at(self._due, self._late)
            return
        idle = self.cycle is not None and self.cycle.response_complete and not self._in_headers
        if not idle or self.transport.get_write_buffer_size():
            self.transport.abort()


def protocol_of(seconds: float, turns: Turns) -> type[Protocol]:
    """The protocol class for a server with a limit on the time of a request, whose requests begin in turns."""
    return type("Protocol", (Protocol,), {"request_seconds": seconds, "turns": turns})
